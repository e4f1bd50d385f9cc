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
from neolens.studies.finding import read_findings
from neolens.studies.inputs import source
from neolens.studies.local_vs_global import measure as local_measure
from neolens.studies.local_vs_global import study as job
from neolens.studies.local_vs_global import tables as attention_tables
from neolens.studies.local_vs_global.findings import (
    ATTEND,
    COPIED,
    findings,
    warnings,
    what_is_copied,
    where_layers_attend,
)
from neolens.wording import percent


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
    files = ["findings.csv", "networks", "record.json", "report.html", "result.nc"]
    assert sorted(file.name for file in done.iterdir()) == files


def test_the_result_holds_every_model_on_one_axis(done):
    result = results.load(done / "result.nc")
    assert result["model"].values.tolist() == ["lab/gpt2", "lab/gpt-neo", "lab/pythia"]
    neo = result.sel(model="lab/gpt-neo")
    assert neo["attention_kind"].values.tolist() == ["global", "local"] * 2
    np.testing.assert_array_equal(neo["window"], [np.nan, 16, np.nan, 16])
    far = neo["mass_by_distance"].sel(distance=slice(16, None))
    assert (far.isel(layer=[1, 3]) == 0).all()
    assert (far.isel(layer=[0, 2]) > 0).any()


def test_the_findings_are_what_the_numbers_say(done):
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    record = json.loads((done / "record.json").read_text())
    by_claim = {one.claim: one for one in read_findings(done) if one.subject == "lab/gpt-neo"}
    back = result["mean_distance"].values
    farther = by_claim["global layers attend farther back than local layers on average"]
    assert farther.estimate == pytest.approx(np.mean(back[:, [0, 2]]) - np.mean(back[:, [1, 3]]))
    cells = np.clip(128 - result["distance"].values, 0, None)
    far = (result["mass_by_distance"].values * cells)[..., 16:].sum(-1) / 128
    most = by_claim["most attention of global layers lies beyond the window"]
    assert most.estimate == pytest.approx(np.mean(far[:, [0, 2]]))
    assert (most.n, most.sample, most.verdict) == (2, "prompts", "supported")
    none = by_claim["no attention of local layers lies beyond the window"]
    assert (none.verdict, none.estimate) == ("exact", 0)
    assert none.headline == (
        f"In lab/gpt-neo, local layers put 0% and global layers {percent(float(np.mean(far[:, [0, 2]])))} of attention "
        f"beyond the window of 16 tokens (mean distance: {np.mean(back[:, [1, 3]]):.1f} and "
        f"{np.mean(back[:, [0, 2]]):.1f} tokens)."
    )
    copied = float(result["copied_beyond"].mean())
    share = by_claim["copies 90% or more of a sequence repeated after 32 tokens, beyond the window"]
    assert share.estimate == pytest.approx(copied)
    assert share.headline == (
        f"lab/gpt-neo copies {percent(copied)} of a sequence repeated after 32 tokens, beyond the window; 0% with "
        "every layer restricted to the window of 16 tokens."
    )
    assert by_claim["no local head attends to the token to copy beyond the window"].verdict == "exact"
    assert record["checks_pass"] is True
    assert record["fingerprints"].keys() == {"lab/gpt2", "lab/gpt-neo", "lab/pythia"}


def test_the_best_induction_heads_are_in_a_table(done):
    scores = {name: results.load(done / "result.nc").sel(model=name, drop=True) for name in ("lab/gpt2", "lab/gpt-neo")}
    header, rows = attention_tables.copy_table(scores, (8, 32))
    assert header[:4] == ["copied", "after 8 tokens", "after 32 tokens", "after 32 tokens, every layer restricted"]
    best = scores["lab/gpt-neo"]["induction_beyond"].mean("prompt")
    layer, head = np.unravel_index(best.values.argmax(), best.shape)
    assert rows[1][5] == f"{layer}.{head} (global, {float(best.max()):.2f})"


def test_the_report_carries_findings_checks_confounds_and_what_to_repeat(done):
    page = (done / "report.html").read_text()
    for finding in read_findings(done):
        assert finding.claim in page
        assert finding.headline in page
    assert "4 of 4 exact checks passed" in page
    assert "position: absolute (lab/gpt2, lab/gpt-neo); rotary" in page
    assert "layer 1 (local 16)" in page or "layer 3 (local 16)" in page
    assert "1.0 local 16" in page or "3.0 local 16" in page


# Findings of made results -----------------------------------------------------------------------------------------


def made(name="lab/gpt-neo", *, local_far=0.0, global_far=0.7, back=(5.0, 30.0), copied=0.95, alone=0.0, prompts=8,
         length=40, reach=0.0):  # fmt: skip
    """Scores of a model: the share of attention beyond 16 tokens of each kind, the mean distances of local and global
    layers, and the shares copied. Prompts differ by up to 0.02 around global share and copied share."""
    facts, heads = anatomy(name), 4
    local = np.array([span.kind == "local" for span in facts.attention])
    jitter = np.linspace(-0.02, 0.02, prompts) if prompts > 1 else np.zeros(1)
    share = np.where(local[None, :], local_far, global_far + jitter[:, None])
    mass = np.zeros((prompts, facts.layers, heads, length))
    mass[..., min(20, length - 1)] = (share * length / (length - min(20, length - 1)))[..., None]
    mean = np.where(local[None, :], back[0], back[1] + jitter[:, None])
    variables = {
        "mass_by_distance": (("prompt", "layer", "head", "distance"), mass),
        "mean_distance": (("prompt", "layer", "head"), np.repeat(mean[..., None], heads, 2)),
        "induction_beyond": (
            ("prompt", "layer", "head"),
            np.broadcast_to(np.where(local, reach, 0.5)[None, :, None], (prompts, facts.layers, heads)).copy(),
        ),
        "copied_beyond": ("prompt", copied + jitter),
    }
    if local.any():
        variables["copied_beyond_all_local"] = "prompt", np.full(prompts, alone)
    coords = {"distance": range(length), "length": ("prompt", [length] * prompts)}
    return results.build(variables, facts, coords=coords)


def told(finding):
    return finding.verdict, finding.reason


@pytest.mark.parametrize(
    ("settings", "claim", "verdict"),
    [
        ({}, "no attention of local layers lies beyond the window", "exact"),
        ({"local_far": 1e-9}, "no attention of local layers lies beyond the window", "contradicted"),
        ({"global_far": 0.53}, "most attention of global layers lies beyond the window", "supported"),
        ({"global_far": 0.5}, "most attention of global layers lies beyond the window", "not significant"),
        ({"global_far": 0.47}, "most attention of global layers lies beyond the window", "contradicted"),
        ({}, "global layers attend farther back than local layers on average", "supported"),
        ({"back": (30.0, 5.0)}, "global layers attend farther back than local layers on average", "contradicted"),
        ({"back": (5.0, 5.0)}, "global layers attend farther back than local layers on average", "not significant"),
        ({"prompts": 1}, "global layers attend farther back than local layers on average", "not measured"),
        ({"prompts": 1}, "most attention of global layers lies beyond the window", "not measured"),
        ({"copied": 0.93}, "copies 90% or more of a sequence repeated after 32 tokens, beyond the window", "supported"),
        (
            {"copied": 0.9},
            "copies 90% or more of a sequence repeated after 32 tokens, beyond the window",
            "not significant",
        ),
        (
            {"copied": 0.87},
            "copies 90% or more of a sequence repeated after 32 tokens, beyond the window",
            "contradicted",
        ),
        ({}, "copies less with every layer restricted to the window", "supported"),
        ({"alone": 0.95}, "copies less with every layer restricted to the window", "not significant"),
        ({"alone": 1.0}, "copies less with every layer restricted to the window", "contradicted"),
        ({}, "no local head attends to the token to copy beyond the window", "exact"),
        ({"reach": 1e-6}, "no local head attends to the token to copy beyond the window", "contradicted"),
    ],
)
def test_a_verdict_follows_from_the_numbers(settings, claim, verdict):
    listed = findings({"lab/gpt-neo": made(**settings)}, 16, (8, 32))
    (one,) = (one for one in listed if one.claim == claim)
    assert one.verdict == verdict


def test_models_with_local_layers_come_first_and_each_question_has_one_headline():
    listed = findings({"lab/gpt2": made("lab/gpt2"), "lab/gpt-neo": made()}, 16, (8, 32))
    assert [(one.question, one.subject) for one in listed if one.headline] == [
        (ATTEND, "lab/gpt-neo"),
        (COPIED, "lab/gpt-neo"),
    ]
    assert [one.subject for one in listed if one.question == ATTEND] == ["lab/gpt-neo"] * 3 + ["lab/gpt2"]
    assert all(len(one.headline.split()) <= 25 for one in listed)
    assert [one.claim for one in listed if one.subject == "lab/gpt2"] == [
        "most attention of global layers lies beyond the window of lab/gpt-neo",
        "copies 90% or more of a sequence repeated after 32 tokens, beyond the window of lab/gpt-neo",
    ]


def test_p_is_corrected_for_all_tests_of_the_report():
    alone = findings({"a": made()}, 16, (8, 32))
    tested = [one for one in alone if np.isfinite(one.p)]
    assert [(one.p, one.comparisons) for one in tested] == [(2 / 2**8, 2)] * 2
    unequal = findings({"a": made(alone=0.95)}, 16, (8, 32))
    farther, less = (one for one in unequal if np.isfinite(one.p))
    assert farther.p == pytest.approx(2 * 2 / 2**8)  # the smaller of two p is doubled
    assert less.p == 1


def test_without_local_layers_no_window_and_no_restriction_is_spoken_of():
    attend, copied = findings({"lab/gpt2": made("lab/gpt2")}, 16, (8, 32))
    assert (
        attend.headline
        == "In lab/gpt2, global layers put 70.0% of attention 16 or more tokens back (mean distance: 30.0 tokens)."
    )
    assert copied.headline == "lab/gpt2 copies 95.0% of a sequence repeated after 32 tokens, 16 or more tokens back."
    assert not any("window" in text for one in (attend, copied) for text in (one.claim, one.headline))


def test_on_a_text_that_does_not_cross_the_window_nothing_is_claimed_about_what_lies_beyond():
    short = made(length=16)
    listed = [one for one in findings({"lab/gpt-neo": short}, 16, (8, 32)) if one.question == ATTEND]
    assert {told(one) for one in listed} == {("not measured", "no text is longer than the window")}
    assert all(np.isnan(one.estimate) and np.isnan(one.p) for one in listed)
    assert listed[0].headline == "Not measured: no text of lab/gpt-neo is longer than the window of 16 tokens."
    (warning,) = warnings({"lab/gpt-neo": short}, 16)
    assert (warning.subject, warning.kind) == ("lab/gpt-neo", "short text")
    assert warnings({"lab/gpt-neo": made()}, 16) == []


def test_a_broken_law_is_the_headline():
    first = findings({"lab/gpt-neo": made(local_far=0.25)}, 16, (8, 32))[0]
    assert first.headline == (
        "An exact check failed: local layers of lab/gpt-neo put 25.0% of attention beyond the window of 16 tokens, "
        "expected exactly 0."
    )


def test_local_layers_that_see_farther_than_the_window_are_not_said_to_see_nothing_there():
    listed = findings({"lab/gpt-neo": made()}, 8, (4, 12))
    assert not any("local" in one.claim and one.verdict == "exact" for one in listed)


def test_of_several_networks_seeds_are_the_sample():
    networks = [made(global_far=share, copied=share) for share in (0.7, 0.72, 0.74)]
    split = attention_tables.split_of({"lab/gpt-neo": networks[0]}, 16)
    none, farther, most = where_layers_attend("lab/gpt-neo", networks, 16, split)
    assert (none.verdict, none.sample, none.n) == ("exact", "seeds", 3)
    assert (most.estimate, most.n, most.sample) == (pytest.approx(0.72), 3, "seeds")
    # Student's t(0.975, 2) = 4.303, standard error 0.02 / sqrt(3)
    assert most.high - most.estimate == pytest.approx(4.303 * 0.02 / 3**0.5, rel=1e-3)
    assert farther.verdict == "supported"
    copied = what_is_copied("lab/gpt-neo", networks, 32, split)[0]
    assert (copied.verdict, copied.estimate, copied.n) == ("contradicted", pytest.approx(0.72), 3)


def test_a_law_that_is_broken_is_said_and_ends_with_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laws, "mass_out_of_reach", lambda result: 1e-9)
    assert call("--models", "lab/gpt-neo", "--prompts", "1", "--out", tmp_path) == 1
    broken = "lab/gpt-neo: largest attention of a local head at the window or beyond: 1e-09, expected 0"
    assert broken in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    assert page.index(broken) < page.index("Attention of every head on text")
    assert "FAILED" in page
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
    assert findings({}, 16, (8, 32)) == []
    assert attention_tables.exact_checks({}) == []


def test_a_context_that_does_not_cross_the_window_is_refused_before_anything_is_loaded(capsys, tmp_path):
    assert call("--models", "gpt-neo-125M", "lab/gpt2", "--out", tmp_path) == 2
    assert "lab/gpt2 sees 128 tokens, too few to cross the window of 256 tokens" in capsys.readouterr().err


def test_a_text_that_does_not_cross_the_window_is_warned_about(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("farmer sells corn near river today .")
    assert call("--models", "lab/gpt-neo", "--text", text, "--prompts", "1", "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "lab/gpt-neo has text of 8 tokens per prompt, which does not cross the window of 16 tokens" in page
    assert "3 of 3 exact checks passed" in page


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
    monkeypatch.setattr(local_measure, "LONG", 64)  # and the sequence has 65 tokens
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
