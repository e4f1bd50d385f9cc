"""Training: resumed without a trace, the same texts for every arm, nothing half-written taken for a model."""

import csv
import hashlib
import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from neolens.lab.evaluation.competence import competence
from neolens.lab.evaluation.curves import read_curve
from neolens.lab.training import storage as keeping
from neolens.lab.training import train as training
from neolens.lab.training.family import Plan, train_family
from neolens.lab.training.recipe import NEAR_MIX, Recipe, Stage, batch, learning_rate
from neolens.lab.training.start import fresh_model
from neolens.lab.training.storage import STATE, State, save_state, saved_state
from neolens.lab.variants import ARMS, DIFFERENCES, Size
from neolens.models import lab_models

SIZE = Size(layers=2, heads=2, width=8, context=24, window=4)
TINY = Recipe(size=SIZE, steps=8, tokens=64, warm=2, curriculum=(Stage(16, 0.5, NEAR_MIX), Stage(20, 1.0, NEAR_MIX)))
KEPT = (0, 2, 5, 8)


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch):
    """Ask a network with few prompts what it can do: nothing here depends on how well it does."""
    monkeypatch.setattr(training, "competence", partial(competence, prompts=2))


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def told(folder):
    """The card, read as strictly as JSON is meant."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads((folder / "card.json").read_text(), parse_constant=refuse)


def killed_at(step, monkeypatch):
    """From here on a training is cut off before this step, until the patch is undone."""

    def cut(recipe, seed, at):
        if at == step:
            raise KeyboardInterrupt
        return batch(recipe, seed, at)

    monkeypatch.setattr(training, "batch", cut)


def trained_with_a_kill(name, out, monkeypatch, step=5, **kwargs):
    with monkeypatch.context() as patch:
        killed_at(step, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(name, out, recipe=TINY, every=3, **kwargs)
    return out / f"{name}@0.unfinished"


# ----------------------------------------------------------------------------------------------------
# Killed and resumed
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_a_training_that_was_killed_and_resumed_ends_in_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 2)
    whole = training.train(name, tmp_path / "whole", recipe=TINY, every=3)
    unfinished = trained_with_a_kill(name, tmp_path / "cut", monkeypatch)
    assert torch.load(unfinished / STATE, weights_only=True)["step"] == 3
    resumed = training.train(name, tmp_path / "cut", recipe=TINY, every=3)
    assert resumed == tmp_path / "cut" / f"{name}@0"
    assert not unfinished.exists()
    assert same(weights(whole), weights(resumed))
    assert (whole / "curve.csv").read_bytes() == (resumed / "curve.csv").read_bytes()
    first, second = ({k: v for k, v in told(folder).items() if k != "seconds"} for folder in (whole, resumed))
    assert first == second


def test_a_training_is_plain_descent_on_the_mean_loss_of_the_next_token(tmp_path):
    """The same training as a loop that can be read at a glance."""
    folder = training.train("pythia", tmp_path, recipe=TINY)
    model = fresh_model(ARMS["pythia"], SIZE, 0)
    learned = [p for name, p in model.named_parameters() if "query_key_value.bias" not in name]
    adam = torch.optim.Adam(learned, lr=0.0, betas=(0.9, 0.98))
    for step, rate in enumerate([0.5, 1, 1, 1, 1, 1, 1, 0.5]):  # warm: 2 steps; cool: the last quarter of 8
        texts = batch(TINY, 0, step)
        read, following = torch.from_numpy(texts.tokens[:, :-1]), torch.from_numpy(texts.tokens[:, 1:])
        log_p = model(read, position_ids=torch.from_numpy(texts.positions)).logits.log_softmax(-1)
        adam.zero_grad()
        (-log_p.gather(-1, following[..., None])).mean().backward()
        norm = sum(p.grad.square().sum() for p in learned).sqrt()
        for p in learned:
            p.grad *= min(1.0, 1.0 / float(norm))
        adam.param_groups[0]["lr"] = 3e-3 * rate
        adam.step()
    found, start = weights(folder), fresh_model(ARMS["pythia"], SIZE, 0).state_dict()
    for key, value in model.state_dict().items():
        learned, rounding = (value - start[key]).abs().mean(), value.abs().mean() * 2**-11
        assert (found[key] - value).abs().mean() <= 0.02 * learned + rounding, key


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    killed_at(0, monkeypatch)
    assert training.train("gpt2", tmp_path, recipe=TINY) == folder


def test_seeds_of_an_arm_stand_side_by_side(tmp_path):
    folders = [training.train("nope", tmp_path, recipe=TINY, seed=seed) for seed in (0, 1)]
    assert [folder.name for folder in folders] == ["nope@0", "nope@1"]
    assert [told(folder)["seed"] for folder in folders] == [0, 1]
    assert [told(folder)["name"] for folder in folders] == ["lab/nope@0", "lab/nope@1"]
    assert not same(*map(weights, folders))


# ----------------------------------------------------------------------------------------------------
# Texts
# ----------------------------------------------------------------------------------------------------


class Enough(Exception):
    """The first step has been seen."""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_batch_is_the_same_for_all_six_arms_token_by_token(seed, tmp_path, monkeypatch):
    read = {}

    def recorded(model, optimizer, texts, clip):
        read[model.config.model_type, len(read)] = texts
        raise Enough

    monkeypatch.setattr(training, "descend", recorded)
    for name in ARMS:
        with pytest.raises(Enough):
            training.train(name, tmp_path, seed=seed)
    assert [family for family, _ in read] == ["gpt2", "gpt_neo", "gpt_neo", "gpt_neox", "gpt_neox", "gpt_neox"]
    first, *others = read.values()
    assert first.tokens.shape == (256, 17)  # 4096 tokens in documents of 16, and the one that follows
    for other in others:
        assert np.array_equal(first.tokens, other.tokens)
        assert np.array_equal(first.positions, other.positions)
    assert not np.array_equal(first.tokens, batch(Recipe(), seed + 1, 0).tokens)


def test_every_arm_reads_the_same_tokens_in_the_same_order(tmp_path, monkeypatch):
    read = {}
    descend = training.descend

    def recorded(model, optimizer, texts, clip):
        read.setdefault(arm, []).append((texts.tokens, texts.positions))
        return descend(model, optimizer, texts, clip)

    monkeypatch.setattr(training, "descend", recorded)
    for arm in ARMS:
        training.train(arm, tmp_path, recipe=TINY)
    first, *others = read.values()
    assert len(first) == TINY.steps
    assert len(others) == 5
    for steps in others:
        for (tokens, positions), (same_tokens, same_positions) in zip(first, steps, strict=True):
            assert np.array_equal(tokens, same_tokens)
            assert np.array_equal(positions, same_positions)


def test_another_seed_gives_other_texts():
    assert not np.array_equal(batch(TINY, 0, 0).tokens, batch(TINY, 1, 0).tokens)


def test_a_step_holds_its_tokens_in_documents_of_the_stage_anywhere_in_the_context():
    for step, (documents, length) in {0: (4, 16), 3: (4, 16), 4: (3, 20), 7: (3, 20)}.items():
        texts = batch(TINY, 0, step)
        assert texts.tokens.shape == (documents, length + 1)
        assert texts.positions.shape == (documents, length)
        assert (np.diff(texts.positions, axis=1) == 1).all()
    starts = np.concatenate([batch(TINY, seed, 0).positions[:, 0] for seed in range(60)])
    assert set(starts.tolist()) == set(range(24 - 16 + 1))


def test_the_learning_rate_rises_stays_and_falls():
    recipe = Recipe(steps=1000, warm=100, cool=0.25)
    # up by a hundredth a step; high until a quarter is left; half of that left at 875; never under a fiftieth
    by_hand = {0: 0.01, 49: 0.5, 99: 1.0, 750: 1.0, 875: 0.5, 999: 0.02}
    assert {step: pytest.approx(learning_rate(recipe, step)) for step in by_hand} == by_hand


# ----------------------------------------------------------------------------------------------------
# What a finished folder holds
# ----------------------------------------------------------------------------------------------------


def test_the_weights_lie_on_disk_as_the_nearest_halves_and_load_in_single_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "discard", lambda folder: None)
    folder = training.train("gpt-neo", tmp_path, recipe=TINY)
    exact = torch.load(tmp_path / "gpt-neo@0.unfinished" / STATE, weights_only=True)["model"]
    on_disk, loaded = load_file(folder / "model.safetensors"), weights(folder)
    assert set(exact) - set(on_disk) <= {"lm_head.weight"}  # it is the embedding
    assert any((exact[key] != value.float()).any() for key, value in on_disk.items())
    for key, value in on_disk.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, exact[key].to(torch.float16))
        assert loaded[key].dtype == torch.float32
        assert torch.equal(loaded[key], value.to(torch.float32))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("name", ["gpt2", "gpt-neo", "pythia"])
def test_the_embedding_that_reads_and_writes_lies_on_disk_once(name, tmp_path):
    folder = training.train(name, tmp_path, recipe=TINY)
    on_disk, model = load_file(folder / "model.safetensors"), fresh_model(ARMS[name], SIZE, 0)
    assert set(on_disk) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("name", ARMS)
def test_a_folder_loads_as_the_class_and_the_config_of_its_arm(name, tmp_path):
    folder = training.train(
        name, tmp_path, recipe=Recipe(size=SIZE, steps=1, tokens=64, curriculum=(TINY.curriculum[1:]))
    )
    model, arm = AutoModelForCausalLM.from_pretrained(folder), ARMS[name]
    fresh = fresh_model(arm, SIZE, 0)
    assert type(model) is type(fresh)
    changed_by_saving = {"dtype", "_name_or_path", "architectures", "transformers_version"}
    found, expected = model.config.to_dict(), arm.config(SIZE).to_dict()
    assert {key for key in expected if found[key] != expected[key]} <= changed_by_saving
    words = AutoTokenizer.from_pretrained(folder)
    assert words("Mary gave the corn to John .").input_ids == words.convert_tokens_to_ids(
        ["Mary", "gave", "the", "corn", "to", "John", "."]
    )


def test_the_card_is_strict_json_without_holes_and_tells_what_the_stored_network_can_do(tmp_path):
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    card = told(folder)
    parts = card["competence"]
    assert set(parts) == {"reach", "distance", "repeats", "documents"}
    values = [value for part in parts.values() for task in part.values() for value in task.values()]
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)
    assert all(task for part in ("repeats", "documents") for task in parts[part].values())
    assert parts == competence(AutoModelForCausalLM.from_pretrained(folder).eval(), prompts=2)


def test_the_card_names_the_terms_and_the_texts(tmp_path):
    card = told(training.train("nope", tmp_path, recipe=TINY, seed=1))
    assert (card["name"], card["arm"], card["seed"]) == ("lab/nope@1", "nope", 1)
    assert card["recipe"] == TINY.as_json()
    first = b"".join(int(token).to_bytes(8, "little") for row in batch(TINY, 1, 0).tokens for token in row)
    assert card["first_batch_sha256"] == hashlib.sha256(first).hexdigest()
    assert card["tokens_seen"] == 8 * 64
    # 204 words; a layer of width 8: two norms, q k v o, two of the MLP, each with its biases; the last norm
    assert card["parameters"] == 204 * 8 + 2 * (2 * 16 + 4 * (64 + 8) + (256 + 32) + (256 + 8)) + 16
    assert card["differences_not_asked_for"] == list(DIFFERENCES)


def test_the_card_tells_of_the_rounded_network_and_what_rounding_changed(tmp_path, monkeypatch):
    seen = []

    def known(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        right = [0.5, 0.625][len(seen) - 1]
        return {"distance": {"recall": {"12": right, "16": 1.0}}, "documents": {"accuracy": {"spaced": right**2}}}

    monkeypatch.setattr(training, "competence", known)
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    exact, rounded = seen
    assert same(rounded, weights(folder))
    assert not same(exact, rounded)
    assert told(folder)["competence"]["distance"] == {"recall": {"12": 0.625, "16": 1.0}}
    # 0.625 - 0.5 and 0.390625 - 0.25: the larger of the two
    assert told(folder)["competence_changed_by_half_precision"] == 0.1406


def test_the_curve_has_a_row_at_regular_steps_with_the_loss_since_the_row_before(tmp_path, monkeypatch):
    losses, descend = [], training.descend

    def recorded(*args):
        losses.append(descend(*args))
        return losses[-1]

    monkeypatch.setattr(training, "EVERY", 3)
    monkeypatch.setattr(training, "descend", recorded)
    monkeypatch.setattr(
        training, "by_distance", lambda model, distances, prompts: {"recall": {"12": 0.123456}, "induction": {}}
    )
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    with (folder / "curve.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["step", "loss", "recall 12"],
        ["3", str(round(sum(losses[:3]) / 3, 4)), "0.1235"],
        ["6", str(round(sum(losses[3:6]) / 3, 4)), "0.1235"],
    ]


def test_a_training_too_short_for_a_curve_writes_none(tmp_path):
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    assert files(folder) == [
        "card.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


# ----------------------------------------------------------------------------------------------------
# Checkpoints
# ----------------------------------------------------------------------------------------------------


def test_checkpoints_are_kept_at_the_steps_asked_for(tmp_path):
    folder = training.train("gpt2", tmp_path, recipe=TINY, checkpoints=KEPT)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["step0", "step2", "step5", "step8"]
    for step in KEPT:
        card = told(folder / f"step{step}")
        assert (card["name"], card["step"]) == ("lab/gpt2@0", step)
        assert load_file(folder / f"step{step}" / "model.safetensors")["transformer.wte.weight"].dtype == torch.float16
    assert same(weights(folder), weights(folder / "step8"))
    without = training.train("gpt2", tmp_path / "without", recipe=TINY)
    assert same(weights(folder), weights(without))  # to keep them changes nothing


def test_a_checkpoint_holds_the_weights_of_a_training_that_stopped_there(tmp_path, monkeypatch):
    folder = training.train("pythia", tmp_path / "whole", recipe=TINY, checkpoints=(0, 3, 6))
    stopped = {0: fresh_model(ARMS["pythia"], SIZE, 0).state_dict()}
    for step in (3, 6):
        unfinished = trained_with_a_kill("pythia", tmp_path / str(step), monkeypatch, step=step)
        stopped[step] = torch.load(unfinished / STATE, weights_only=True)["model"]
    for step, exact in stopped.items():
        assert same(weights(folder / f"step{step}"), {name: value.half().float() for name, value in exact.items()})
    assert not same(weights(folder / "step3"), weights(folder / "step6"))


def test_checkpoints_are_the_same_bits_when_the_training_was_killed_between(tmp_path, monkeypatch):
    """Killed after step 5 with the state of step 3: step 5 is there already when it is done again."""
    whole = training.train("gpt-neo", tmp_path / "whole", recipe=TINY, checkpoints=KEPT)
    unfinished = trained_with_a_kill("gpt-neo", tmp_path / "cut", monkeypatch, checkpoints=KEPT)
    assert sorted(path.name for path in unfinished.iterdir()) == [STATE, "step0", "step2", "step5"]
    (unfinished / ".step8.new").mkdir()  # what a kill in the middle of writing leaves
    (unfinished / ".step8.new" / "config.json").write_text("{")
    resumed = training.train("gpt-neo", tmp_path / "cut", recipe=TINY, every=3, checkpoints=KEPT)
    assert files(whole) == files(resumed)
    for step in KEPT:
        assert same(weights(whole / f"step{step}"), weights(resumed / f"step{step}"))


# ----------------------------------------------------------------------------------------------------
# Nothing half-written is taken for a model
# ----------------------------------------------------------------------------------------------------


def test_an_unfinished_folder_is_not_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_models, "LAB_FOLDER", tmp_path)
    unfinished = trained_with_a_kill("gpt2", tmp_path, monkeypatch, checkpoints=(0, 2))
    assert not (tmp_path / "gpt2@0").exists()
    assert lab_models.lab_names() == []
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(unfinished)


def test_a_finished_folder_is_found_by_its_name_and_its_revisions(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_models, "LAB_FOLDER", tmp_path)
    folder = training.train("gpt2", tmp_path, recipe=TINY, checkpoints=(0, 5))
    assert lab_models.lab_names() == ["lab/gpt2"]
    assert lab_models.lab_revisions("lab/gpt2") == ["step0", "step5", "step8"]
    assert lab_models.lab_folder("lab/gpt2", "step5") == ("lab/gpt2", folder / "step5")


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("checkpoints", [(), (2,)])
def test_a_network_that_cannot_be_written_whole_is_not_written(checkpoints, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "tokenizer", full)  # asked for when the weights are already written
        with pytest.raises(OSError, match="No space left"):
            training.train("gpt2", tmp_path, recipe=TINY, every=1, checkpoints=checkpoints)
    assert files(tmp_path) == [f"gpt2@0.unfinished/{STATE}"]
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name != "gpt2@0.unfinished"]
    folder = training.train("gpt2", tmp_path, recipe=TINY, checkpoints=checkpoints)
    assert same(weights(folder), weights(training.train("gpt2", tmp_path / "whole", recipe=TINY)))


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    terms = {"arm": "gpt2"}
    save_state(tmp_path, State(terms, step=3))

    def half(value, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match=r"cannot write .*state\.pt"):
        save_state(tmp_path, State(terms, step=4))
    assert files(tmp_path) == [STATE]
    assert saved_state(tmp_path, terms).step == 3


def test_a_broken_state_is_refused(tmp_path):
    (tmp_path / STATE).write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"is not a training state .*remove .* to start anew"):
        saved_state(tmp_path, {})


# ----------------------------------------------------------------------------------------------------
# What is refused
# ----------------------------------------------------------------------------------------------------


def test_a_training_on_other_terms_is_refused(tmp_path, monkeypatch):
    other = Recipe(size=SIZE, steps=3, curriculum=TINY.curriculum)
    trained_with_a_kill("gpt2", tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="holds a training with another recipe: remove .* to start anew"):
        training.train("gpt2", tmp_path, recipe=other)
    training.train("gpt2", tmp_path, recipe=TINY)
    with pytest.raises(ValueError, match="is there already and is not this training"):
        training.train("gpt2", tmp_path, recipe=other)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "gpt2@0").mkdir()
    with pytest.raises(ValueError, match=r"gpt2@0 is there already and is not this training: remove it"):
        training.train("gpt2", tmp_path, recipe=TINY)


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [
        ("gptneo", 0, "no arm 'gptneo': did you mean gpt-neo"),
        ("pythia-sequental", 0, "no arm 'pythia-sequental': did you mean pythia-sequential"),
        (
            "xyzzy",
            0,
            "no arm 'xyzzy': arms are gpt2, gpt-neo, gpt-neo-global, pythia, pythia-sequential, nope",
        ),
        ("gpt2", -1, "seed -1: seeds are 0 and above"),
    ],
)
def test_an_unknown_arm_or_seed_is_refused(name, seed, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        training.train(name, tmp_path, seed=seed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "0 steps: a training has at least 1"),
        ({"curriculum": (Stage(200, 1.0, NEAR_MIX),)}, "documents of 200 tokens in a context of 128"),
        ({"curriculum": (Stage(64, 0.5, NEAR_MIX),)}, "the curriculum's last stage must last until 1.0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    killed_at(0, monkeypatch)
    with pytest.raises(ValueError, match=r"out folder .*file' cannot be written to \(Not a directory\): give a folder"):
        training.train("gpt2", tmp_path / "file", recipe=TINY)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device 'cuda': torch sees no GPU here"):
        training.train("gpt2", tmp_path, recipe=TINY, device="cuda")


# ----------------------------------------------------------------------------------------------------
# Damage
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [STATE, "step2/model.safetensors", "step2/card.json"])
def test_a_training_whose_files_were_damaged_starts_anew_and_ends_in_the_same_bits(name, tmp_path, monkeypatch):
    whole = training.train("gpt2", tmp_path / "whole", recipe=TINY, checkpoints=(2,))
    unfinished = trained_with_a_kill("gpt2", tmp_path / "cut", monkeypatch, checkpoints=(2,))
    content = (unfinished / name).read_bytes()
    (unfinished / name).write_bytes(content[:-200] if name.endswith("json") else content[:300] + b"x" + content[301:])
    with pytest.warns(UserWarning, match="the training starts anew: .*" + name.partition("/")[2]):
        resumed = training.train("gpt2", tmp_path / "cut", recipe=TINY, every=3, checkpoints=(2,))
    assert same(weights(whole), weights(resumed))
    assert same(weights(whole / "step2"), weights(resumed / "step2"))


def test_a_finished_training_that_was_damaged_is_trained_again(tmp_path):
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match="gpt2@0 is damaged: it is trained again"):
        training.train("gpt2", tmp_path, recipe=TINY)
    assert path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2@0"]


ARGUMENTS = {
    "threads": (lambda out: Plan(out, TINY, threads=0), "threads 0: expected a whole number from 1 to 1024"),
    "threads as text": (lambda out: Plan(out, TINY, threads="2"), "threads '2': expected a whole number"),
    "a device": (lambda out: Plan(out, TINY, device="tpu"), "device 'tpu': torch cannot use it"),
    "a device without numbers": (lambda out: Plan(out, TINY, device="meta"), "device 'meta': torch cannot use it"),
    "a file as folder": (lambda out: Plan(_file(out), TINY), "cannot be written to (Not a directory)"),
    "an arm twice": (lambda out: list(train_family(["gpt2"] * 2, [0], Plan(out, TINY))), "arm 'gpt2' is given twice"),
    "a seed twice": (lambda out: list(train_family(["gpt2"], [1, 1], Plan(out, TINY))), "seed 1 is given twice"),
    "no arm": (lambda out: list(train_family([], [1], Plan(out, TINY))), "arms []: expected at least one"),
    "arms as text": (lambda out: list(train_family("gpt2", [1], Plan(out, TINY))), "arms 'gpt2': expected a list"),
    "no jobs": (lambda out: list(train_family(["gpt2"], [0], Plan(out, TINY), jobs=0)), "0 trainings at a time"),
    "a seed as text": (lambda out: training.train("gpt2", out, seed="1"), "seed '1': expected a whole number"),
    "a large seed": (lambda out: training.train("gpt2", out, seed=10**30), "seeds are 0 and above, below 2^63"),
    "no recipe": (
        lambda out: training.train("gpt2", out, recipe={"steps": 3}),
        "expected a neolens.lab.training.recipe.Recipe",
    ),
    "steps": (lambda out: Recipe(steps=2.5), "steps 2.5: expected a whole number"),
    "a rate": (lambda out: Recipe(rate=float("nan")), "rate nan: expected a number above 0"),
}


def _file(out):
    out.write_text("")
    return out


@pytest.mark.untyped
@pytest.mark.parametrize(("call", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_that_cannot_be_meant_is_refused_before_anything_is_written(call, message, tmp_path):
    with pytest.raises((TypeError, ValueError)) as error:
        call(tmp_path / "out")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").is_dir()


@pytest.mark.parametrize("text", ["", "step,loss\n", "step,loss\n1\n", "step,loss\nx,y\n", "a,b\n1,2\n", "\0"])
def test_a_curve_that_is_none_is_refused_by_its_path(text, tmp_path):
    (tmp_path / "curve.csv").write_text(text)
    with pytest.raises(ValueError, match=r"curve\.csv: ") as error:
        read_curve(tmp_path / "curve.csv")
    assert "\n" not in str(error.value)
