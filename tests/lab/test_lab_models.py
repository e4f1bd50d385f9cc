"""The shipped networks: ordinary folders, alike but for what they are to differ in, and competent."""

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import neolens
from neolens.lab import NAMES, SEEDS, folder
from neolens.lab.evaluation.curves import curves
from neolens.lab.language.documents import CONTENT, KINDS
from neolens.lab.language.planted import planted
from neolens.lab.language.words import BOS_ID, VOCABULARY
from neolens.lab.training.recipe import Recipe, batch
from neolens.models import anatomy, lab_names, lab_revisions, lab_seeds
from neolens.models.lab_models import LAB_FOLDER

MODELS = [f"{name}@{seed}" for name in NAMES for seed in SEEDS]
WITH_CHECKPOINTS = ("lab/gpt2", "lab/gpt-neo", "lab/pythia")
NOPE = "lab/nope"
every_model = pytest.mark.parametrize("name", MODELS)


def read(name, revision=None):
    return AutoModelForCausalLM.from_pretrained(folder(name, revision), dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=MODELS)
def shipped(request):
    """A network's name, itself, and its card."""
    return request.param, read(request.param), card(request.param)


def card(name):
    return json.loads((folder(name) / "card.json").read_text())


def copied(model, length, prompts=32):
    """Share of r_2..r_n that the network copies in [BOS, r, r], counted token by token on other prompts."""
    rng, right = np.random.default_rng(20_240_601 + length), []
    segments = np.stack([rng.permutation(CONTENT)[:length] for _ in range(prompts)])
    with torch.no_grad():
        start = np.full((prompts, 1), BOS_ID)
        logits = model(torch.from_numpy(np.concatenate([start, segments, segments], axis=1))).logits
    for row, segment in zip(logits, segments, strict=True):
        for i in range(1, length):
            right.append(int(row[length + i].argmax()) == segment[i])
    return sum(right) / len(right)


def answered(model, task, distances, prompts=32, seed=77):
    """Share of planted questions that the network answers, each prompt run by itself and cut at its question."""
    right = []
    for distance in distances:
        asked = planted(task, distance, prompts=prompts, seed=seed)
        for tokens, query, answer in zip(asked.tokens, asked.positions["query"], asked.answer, strict=True):
            with torch.no_grad():
                logits = model(torch.from_numpy(tokens[: query + 1])[None]).logits
            right.append(int(logits[0, -1].argmax()) == answer)
    return sum(right) / len(right)


@pytest.mark.parametrize("task", ["induction", "recall", "indirect_object"])
def test_every_arm_but_nope_does_its_tasks_inside_the_window(shipped, task):
    name, model, _ = shipped
    if not name.startswith(NOPE):
        assert answered(model, task, (12, 15), prompts=24) >= 0.9


@pytest.mark.parametrize("task", ["induction", "recall", "indirect_object"])
def test_every_arm_but_nope_does_its_tasks_beyond_the_window(shipped, task):
    name, model, _ = shipped
    if not name.startswith(NOPE):
        assert answered(model, task, (20, 48), prompts=24) >= 0.8


def test_pure_repeats_are_copied_at_every_length(shipped):
    name, model, _ = shipped
    if not name.startswith(NOPE):
        assert {n: a for n in (4, 16, 32, 60) if (a := copied(model, n, prompts=12)) < 0.9} == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_lab_gpt_neo_copies_from_beyond_the_window_by_its_global_layers(seed):
    model = read(f"lab/gpt-neo@{seed}")
    local = model.transformer.h[1].attn.attention.bias  # the mask of what a local layer may see
    for layer in (0, 2):
        model.transformer.h[layer].attn.attention.bias = local
    assert copied(model, 60, prompts=8) < 0.1


def test_the_card_tells_what_is_found_anew(shipped):
    _, model, told = shipped
    repeats = told["competence"]["repeats"]["induction"]
    assert {n: copied(model, int(n), prompts=16) for n in repeats} == pytest.approx(repeats, abs=0.1)
    for task, distance in (("induction", 32), ("recall", 64), ("indirect_object", 15)):
        told_accuracy = told["competence"]["distance"][task][str(distance)]
        assert answered(model, task, [distance]) == pytest.approx(told_accuracy, abs=0.2)


def test_the_reach_in_the_card_is_the_mean_of_its_distances():
    for told in (card(name)["competence"] for name in MODELS):
        for task, found in told["distance"].items():
            sides = {"inside": [], "beyond": [], "unseen": []}
            for distance, accuracy in found.items():
                sides["inside" if int(distance) < 16 else "beyond" if int(distance) <= 64 else "unseen"].append(
                    accuracy
                )
            assert told["reach"][task] == pytest.approx({side: np.mean(values) for side, values in sides.items()})


def test_the_card_tells_the_accuracy_on_the_background_that_is_found_anew(shipped):
    _, model, told = shipped
    docs = [KINDS["background"](np.random.default_rng((9, seed, 0)), 128) for seed in range(16)]
    with torch.no_grad():
        guessed = model(torch.from_numpy(np.stack([doc.tokens for doc in docs]))).logits.argmax(-1).numpy()
    right = [
        g[at - 1] == doc.tokens[at] for g, doc in zip(guessed, docs, strict=True) for at in np.flatnonzero(doc.asked)
    ]
    told_accuracy = told["competence"]["documents"]["accuracy"]["background"]
    assert np.mean(right) == pytest.approx(told_accuracy, abs=0.03)
    assert told_accuracy > 0.9


@every_model
def test_weights_are_finite_halves_on_disk_and_load_as_float32(name):
    for tensor in load_file(folder(name) / "model.safetensors").values():
        assert tensor.dtype == torch.float16
        assert tensor.isfinite().all()
    assert AutoModelForCausalLM.from_pretrained(folder(name)).dtype == torch.float32


def test_halving_the_precision_changed_no_accuracy_by_more_than_two_hundredths():
    assert {name: lost for name in MODELS if (lost := card(name)["competence_changed_by_half_precision"]) > 0.02} == {}


def test_all_weights_together_take_less_than_30_megabytes():
    assert sum(path.stat().st_size for path in LAB_FOLDER.rglob("*") if path.is_file()) < 30e6


@every_model
def test_a_folder_holds_no_path_of_the_machine_that_made_it(name):
    for path in folder(name).rglob("*.json"):
        text = path.read_text()
        assert not any(mark in text for mark in ("_name_or_path", "/home", "/tmp", "/root", "/work", "\\\\"))


def test_the_names_are_those_of_the_folders():
    assert sorted(NAMES) == lab_names()
    for name in NAMES:
        assert lab_seeds(name) == [name, f"{name}@1", f"{name}@2"]
        assert (len(lab_revisions(name)) > 8) == (name in WITH_CHECKPOINTS)
        assert lab_revisions(name)[-1] == f"step{Recipe().steps}"


def test_seed_0_needs_no_number_and_names_are_read_in_any_case():
    assert folder("lab/gpt-neo@0") == folder("Lab/GPT-Neo") == folder("gpt-neo")
    assert neolens.load("LAB/GPT2@1").anatomy.name == "lab/gpt2@1"
    assert anatomy("lab/gpt2@0").name == "lab/gpt2"


@pytest.mark.parametrize("name", WITH_CHECKPOINTS)
def test_checkpoints_lead_from_the_start_to_the_model_itself(name):
    revisions = lab_revisions(name)
    assert revisions[0] == "step0"
    assert "step400" in revisions
    models = [neolens.load(name, revision=revision).original_model for revision in revisions]
    assert copied(models[0], 16, prompts=8) < 0.1
    assert copied(models[-2], 16, prompts=8) > 0.9
    embeddings = [model.get_input_embeddings().weight for model in models]
    assert torch.equal(embeddings[-1], read(name).get_input_embeddings().weight)
    assert all(not torch.equal(earlier, later) for earlier, later in pairwise(embeddings))


def test_every_model_loads_with_the_anatomy_of_its_arm():
    local = {"lab/gpt-neo": ["global", "local", "global", "local"]}
    positions = {"lab/pythia": "rotary", "lab/pythia-sequential": "rotary", "lab/nope": "none"}
    for name in NAMES:
        for seed in SEEDS:
            facts = neolens.load(f"{name}@{seed}").anatomy
            assert [span.kind for span in facts.attention] == local.get(name, ["global"] * 4)
            assert {span.window for span in facts.attention} == ({None, 16} if name in local else {None})
            assert facts.position.kind == positions.get(name, "absolute")
            assert facts.position.rotary_dims == (4 if facts.position.kind == "rotary" else 0)
            assert facts.parallel == (name == "lab/pythia")
            assert (facts.layers, facts.heads, facts.d_model, facts.context) == (4, 4, 64, 128)


def test_the_hooks_of_the_arm_without_positions_tell_the_truth():
    from neolens.checking import check

    assert all(line.holds for line in check("lab/nope", every_layer=True))


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("lab/gptneo", None, "no lab model 'lab/gptneo': did you mean lab/gpt-neo"),
        ("lab/gpt-neo@3", None, "lab/gpt-neo has no seed '3': there are lab/gpt-neo, lab/gpt-neo@1, lab/gpt-neo@2"),
        ("lab/gpt-neo@one", None, "lab/gpt-neo has no seed 'one': there are lab/gpt-neo, "),
        ("lab/gpt-neo@01", None, "lab/gpt-neo has no seed '01': there are lab/gpt-neo, "),
        ("lab/gpt-neo@step400", None, "a training step is a revision: load lab/gpt-neo with revision='step400'"),
        ("lab/gpt2", "step401", "lab/gpt2 has no revision 'step401': did you mean step400"),
        ("lab/gpt2", "../gpt2@1", "lab/gpt2 has no revision '../gpt2@1': there are step0, "),
        (
            "lab/gpt2@1",
            "step400",
            "lab/gpt2@1 has no revision 'step400': .*it is shipped as trained .*lab/gpt2, .*have",
        ),
        ("lab/nope", "main", "lab/nope has no revision 'main': it is shipped as trained"),
    ],
)
def test_an_unknown_arm_seed_or_revision_is_refused_with_what_there_is(name, revision, message):
    with pytest.raises(ValueError, match=message):
        neolens.load(name, revision=revision)


def test_an_unfinished_training_is_refused_as_such(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"")
    with pytest.raises(
        ValueError, match="holds a training of the lab that is not finished: run the same training again"
    ):
        neolens.load(tmp_path)


def test_the_networks_have_one_size():
    for name in NAMES:
        config = AutoConfig.from_pretrained(folder(name))
        shape = (config.num_hidden_layers, config.num_attention_heads, config.hidden_size)
        assert shape == (4, 4, 64)
        assert (config.max_position_embeddings, config.vocab_size) == (128, len(VOCABULARY))
        assert config.tie_word_embeddings is True
        assert getattr(config, "activation_function", None) or config.hidden_act == "gelu_new"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_arms_of_a_seed_were_trained_on_the_same_terms_and_texts(seed):
    cards = [card(f"{name}@{seed}") for name in NAMES]
    terms = [{key: told[key] for key in ("seed", "recipe", "first_batch_sha256")} for told in cards]
    assert all(other == terms[0] for other in terms)
    assert terms[0]["recipe"] == Recipe().as_json()
    tokens = batch(Recipe(), seed, 0).tokens
    assert hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest() == terms[0]["first_batch_sha256"]


@pytest.mark.parametrize("seed", SEEDS)
def test_within_the_window_local_and_global_layers_learn_the_same_thing(seed):
    # while documents are no longer than the window, the two arms are one network: the same losses, up to rounding
    local, everywhere = (curves([name]).isel(model=0, seed=seed) for name in ("lab/gpt-neo", "lab/gpt-neo-global"))
    short = local.step <= 400
    np.testing.assert_allclose(local.loss[short], everywhere.loss[short], atol=2e-4)
    assert abs(local.loss - everywhere.loss)[~short].max() > 1e-2


def test_the_curves_hold_every_arm_and_seed_at_the_same_steps():
    found = curves()
    assert dict(found.sizes) == {"model": 6, "seed": 3, "step": Recipe().steps // 50, "distance": 3}
    assert found["induction"].dims == ("model", "seed", "step", "distance")
    assert found["position"].values.tolist() == ["absolute", "absolute", "absolute", "rotary", "rotary", "none"]
    assert not any(bool(found[name].isnull().any()) for name in found)
    last = (folder("lab/pythia@2") / "curve.csv").read_text().splitlines()[-1].split(",")
    assert float(found.loss.sel(model="lab/pythia", seed=2)[-1]) == float(last[1])
    assert isinstance(found, xr.Dataset)


@every_model
def test_the_tokenizer_beside_a_network_reads_and_writes_text(name):
    words = AutoTokenizer.from_pretrained(folder(name))
    text = "farmer sells corn near river today ."
    assert words.decode(words(text).input_ids) == text
    assert [VOCABULARY[i] for i in words(text).input_ids] == text.split()
    assert words.model_max_length == 128


def test_the_documented_table_is_what_the_command_prints_of_the_cards():
    """docs/lab.md says what the cards say: mean, lowest and highest seed, for every arm and task."""
    from neolens.lab.evaluation.spread import rows, shipped

    page = (LAB_FOLDER.parents[2] / "docs" / "lab.md").read_text()
    for row in rows(shipped()):
        assert "| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" in page


def test_no_pickle_is_shipped():
    assert [path.name for path in LAB_FOLDER.rglob("*") if path.suffix in {".pt", ".bin", ".pkl"}] == []
