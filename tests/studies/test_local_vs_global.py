"""local_vs_global: what it writes, what it finds on the lab models, and how it refuses bad input."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from safetensors.torch import load_file, save_file

import browser
import shell
from neolens import results, views
from neolens.models import anatomy, load
from neolens.network import patterns
from neolens.scores import exact_checks as laws
from neolens.studies import models
from neolens.studies.inputs import source
from neolens.studies.local_vs_global import study as job
from neolens.studies.local_vs_global import text as attention_text


def call(*arguments):
    """Run the study as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


KINDS = {"local": (1, 3), "global": (0, 2)}
SCOPE = job.Scope(source(job.Config(prompts=2), [anatomy("lab/gpt-neo")], 128), window=16, inside=8, beyond=32)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the study wrote with its default models, two prompts each."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert call("--out", out, "--prompts", "2") == 0
    return out


def test_it_writes_a_result_a_record_and_a_report(done):
    assert sorted(file.name for file in done.iterdir()) == ["networks", "record.json", "report.html", "result.nc"]


def test_the_result_holds_every_model_on_one_axis(done):
    result = results.load(done / "result.nc")
    assert result["model"].values.tolist() == ["lab/gpt2", "lab/gpt-neo", "lab/pythia"]
    neo = result.sel(model="lab/gpt-neo")
    assert neo["attention_kind"].values.tolist() == ["global", "local"] * 2
    np.testing.assert_array_equal(neo["window"], [np.nan, 16, np.nan, 16])
    far = neo["mass_by_distance"].sel(distance=slice(16, None))
    assert (far.isel(layer=[1, 3]) == 0).all()
    assert (far.isel(layer=[0, 2]) > 0).any()


def test_the_finding_is_what_the_numbers_say(done):
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    record = json.loads((done / "record.json").read_text())
    local = float(result["mean_distance"].isel(layer=[1, 3]).mean())
    everywhere = float(result["mean_distance"].isel(layer=[0, 2]).mean())
    assert (
        f"a local layer looks {local:.1f} tokens back on average and a global one {everywhere:.1f}"
        in record["findings"][0]
    )
    best = result["induction_beyond"].mean("prompt")
    layer, head = np.unravel_index(best.values.argmax(), best.shape)
    assert f"the best global head is {layer}.{head} (global, {float(best.max()):.2f})" in record["findings"][1]
    assert layer % 2 == 0
    assert "it copies 0%" in record["findings"][1]
    assert record["checks_pass"] is True
    assert record["fingerprints"].keys() == {"lab/gpt2", "lab/gpt-neo", "lab/pythia"}


def test_the_report_carries_findings_laws_confounds_and_what_to_repeat(done):
    page = (done / "report.html").read_text()
    record = json.loads((done / "record.json").read_text())
    for sentence in record["findings"]:
        assert sentence in page
    assert page.count(">holds<") == 4
    assert "position: absolute (lab/gpt2, lab/gpt-neo); rotary" in page
    assert "layer 1 (local 16)" in page or "layer 3 (local 16)" in page
    assert "1.0 local 16" in page or "3.0 local 16" in page


def test_a_law_that_is_broken_is_said_and_ends_with_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laws, "mass_out_of_reach", lambda result: 1e-9)
    assert call("--models", "lab/gpt-neo", "--prompts", "1", "--out", tmp_path) == 1
    broken = "lab/gpt-neo: out of reach: largest mass of a local head at the window or beyond: 1e-09, expected 0"
    assert broken in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    assert page.index(broken) < page.index("GPT-Neo (Black et al. 2021)")
    assert "BROKEN" in page
    assert json.loads((tmp_path / "record.json").read_text())["checks_pass"] is False


def test_models_of_different_depth_stand_in_one_result(done):
    import neolens

    one = results.load(done / "result.nc").sel(model="lab/gpt2", drop=True)
    one = one.assign_attrs(model="deep")
    two = one.isel(layer=slice(0, 2), head=slice(0, 3))
    both = results.stack({"deep": one, "shallow": two})
    assert both["attention_kind"].sel(model="shallow").values.tolist() == ["global", "global", "", ""]
    assert both["sink"].sel(model="shallow").isnull().sum() == 2 * (16 - 6)
    assert neolens.__version__


def test_a_text_of_unknown_words_is_warned_about(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a quick brown fox jumps over a lazy dog " * 40)
    assert call("--models", "lab/gpt2", "--text", text, "--prompts", "1", "--out", tmp_path / "out") == 0
    # 127 words and BOS: 127 of 128 tokens are unknown
    assert "lab/gpt2 does not know 99.2% of the text" in (tmp_path / "out" / "report.html").read_text()


def test_names_after_models_are_models_too(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        models,
        "read_models",
        lambda config, seeds: seen.append(config.models) or (_ for _ in ()).throw(ValueError("stop")),
    )
    assert call("--models", "lab/gpt2", "lab/pythia", "--out", tmp_path) == 2
    assert seen == [("lab/gpt2", "lab/pythia")]


BAD = {
    "unknown model": (["--models", "lab/gpt-noe"], "did you mean lab/gpt-neo"),
    "a model twice": (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
    "no text file": (["--text", "{tmp}/none.txt"], "none.txt' does not exist"),
    "an empty text": (["--text", "{tmp}/empty.txt"], "empty.txt' is empty"),
    "a text that is none": (["--text", "{tmp}/binary.txt"], "is not UTF-8 text"),
    "out is a file": (["--out", "{tmp}/empty.txt"], "cannot be written to"),
    "a folder without config": (["--models", "{tmp}"], "has no config.json"),
    "a truncated file": (["--models", "{tmp}/truncated"], "the weights cannot be read"),
    "NaN weights": (["--models", "{tmp}/nan"], "holds NaN or infinite values"),
    "no prompts": (["--prompts", "0"], "prompts 0: expected a whole number from 1"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments, message, tmp_path, capsys):
    from neolens.lab import folder

    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    for name in ("truncated", "nan"):
        shutil.copytree(folder("lab/gpt2"), tmp_path / name)
    weights = load_file(tmp_path / "nan" / "model.safetensors")
    weights["transformer.wpe.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "nan" / "model.safetensors", metadata={"format": "pt"})
    path = tmp_path / "truncated" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    out = shell.refused(call, arguments, message, tmp_path, capsys)
    assert not out.exists() or list(out.iterdir()) == []


def test_findings_are_silent_about_what_was_not_measured():
    assert attention_text.local_and_global({}, 16, (8, 32)) == []
    assert attention_text.laws_hold({})


def test_a_context_that_does_not_cross_the_window_is_refused_before_anything_is_loaded(capsys, tmp_path):
    assert call("--models", "gpt-neo-125M", "lab/gpt2", "--out", tmp_path) == 2
    assert "lab/gpt2 sees 128 tokens, too few to cross the window of 256 tokens" in capsys.readouterr().err


def test_a_text_that_does_not_cross_the_window_is_warned_about(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("farmer sells corn near river today .")
    assert call("--models", "lab/gpt-neo", "--text", text, "--prompts", "1", "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "was given text of 8 tokens a prompt, which does not cross the window of 16" in page
    assert page.count(">holds<") == 3


def test_the_report_is_drawn_again_without_a_model(done, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "report.html").read_bytes() == (done / "report.html").read_bytes()


def test_resume_measures_only_the_networks_that_are_missing(done, tmp_path, monkeypatch):
    folder, measured = tmp_path / "out", []
    shutil.copytree(done / "networks", folder / "networks")
    (folder / "networks" / "lab-gpt-neo.nc").unlink()
    score_parts = job.score_parts
    monkeypatch.setattr(
        job, "score_parts", lambda model, tokens: measured.append(model.anatomy.name) or score_parts(model, tokens)
    )
    assert call("--resume", "--prompts", "2", "--out", folder) == 0
    assert measured == ["lab/gpt-neo"]
    xr.testing.assert_equal(results.load(folder / "result.nc"), results.load(done / "result.nc"))


def test_patterns_are_those_of_the_most_inductive_layer_of_each_kind(done):
    parts = results.load_parts(done / "networks" / "lab-gpt-neo.nc")
    induction = parts["beyond"]["induction_beyond"].mean("prompt").transpose("layer", "head").values
    best = {kind: max(layers, key=lambda layer: induction[layer].max()) for kind, layers in KINDS.items()}
    shown = parts["patterns"]
    assert shown["layer"].values.tolist() == [best["local"]] * 4 + [best["global"]] * 4
    model = load("lab/gpt-neo")
    prompt = job.tokenize(model, job.Config(prompts=2), SCOPE).beyond[0]
    for layer, rows in ((best["local"], slice(0, 4)), (best["global"], slice(4, 8))):
        np.testing.assert_array_equal(shown["pattern"][rows], patterns(model, prompt, layer))


def test_patterns_of_a_long_sequence_are_kept_in_16_bits_and_no_attention_becomes_0(tmp_path, monkeypatch):
    model = load("lab/gpt-neo")
    tokens = job.tokenize(model, job.Config(prompts=1), SCOPE)
    beyond = dict(job.score_parts(model, tokens))["beyond"]
    exact = job.inductive_patterns(model, beyond, tokens)
    monkeypatch.setattr(views, "SHORT", 64)  # and the sequence has 65 tokens
    kept = job.inductive_patterns(model, beyond, tokens)
    assert kept["group"].values.tolist() == exact["group"].values.tolist()
    one, other = exact["pattern"].values, kept["pattern"].values
    np.testing.assert_allclose(other, one, rtol=2**-11, atol=6e-8)  # of 16 bits, 11 are digits
    np.testing.assert_array_equal(other > 0, one > 0)
    sizes = [results.save_parts({"patterns": each}, tmp_path / "one.nc").stat().st_size for each in (exact, kept)]
    assert sizes[1] < sizes[0] / 2
    xr.testing.assert_identical(results.load_parts(tmp_path / "one.nc")["patterns"], kept)


def test_of_a_sequence_too_long_for_a_view_there_are_no_patterns(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "MAX_CELLS", 65 * 66 // 2 - 1)
    assert call("--models", "lab/gpt-neo", "--prompts", "1", "--out", tmp_path) == 0
    assert list(results.load_parts(tmp_path / "networks" / "lab-gpt-neo.nc")) == ["text", "inside", "beyond"]
    page = (tmp_path / "report.html").read_text()
    assert "None: a prompt that crosses the window of 16 tokens is too long for the view." in page


def test_a_lab_name_stands_for_its_first_seed(done):
    assert json.loads((done / "record.json").read_text())["asked"]["networks"]["lab/gpt2"] == ["lab/gpt2"]


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
