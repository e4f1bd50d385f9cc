"""Training: resumed without a trace, the same texts for every arm, nothing half-written taken for a model."""

import json
import math

import numpy as np
import pytest
import torch
import typer
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from neolens.lab import keeping, training
from neolens.lab.arms import ARMS, Size
from neolens.lab.keeping import STATE, State, save_state, saved_state
from neolens.lab.language import repeated
from neolens.lab.recipe import NEAR_MIX, Recipe, Stage, batch, learning_rate
from neolens.lab.start import fresh_model, parameter_groups

SIZE = Size(layers=2, heads=2, width=8, context=24, window=4)
TINY = Recipe(size=SIZE, steps=8, tokens=64, warm=2, curriculum=(Stage(8, 0.5, NEAR_MIX), Stage(16, 1.0, NEAR_MIX)))


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def killed_at(step, monkeypatch):
    """From here on a training is cut off before this step, until the patch is undone."""

    def cut(recipe, seed, at):
        if at == step:
            raise KeyboardInterrupt
        return batch(recipe, seed, at)

    monkeypatch.setattr(training, "batch", cut)


def trained_with_a_kill(name, out, monkeypatch, step=5):
    with monkeypatch.context() as patch:
        killed_at(step, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(name, out, recipe=TINY, every=3)
    return out / f"{name}.unfinished"


@pytest.mark.parametrize("name", ARMS)
def test_a_training_that_was_killed_and_resumed_ends_in_the_same_bits(name, tmp_path, monkeypatch):
    whole = training.train(name, tmp_path / "whole", recipe=TINY, every=3)
    unfinished = trained_with_a_kill(name, tmp_path / "cut", monkeypatch)
    assert torch.load(unfinished / STATE, weights_only=True)["step"] == 3
    resumed = training.train(name, tmp_path / "cut", recipe=TINY, every=3)
    assert not unfinished.exists()
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    first, second = (json.loads((folder / "card.json").read_text())["curve"] for folder in (whole, resumed))
    assert first == second


def test_another_seed_gives_other_texts_and_other_starting_values():
    assert not np.array_equal(batch(TINY, 0, 0).tokens, batch(TINY, 1, 0).tokens)
    one, two = (fresh_model(ARMS["gpt2"], SIZE, seed).transformer.wte.weight for seed in (0, 1))
    assert not torch.equal(one, two)


def test_every_arm_reads_the_same_tokens_in_the_same_order(tmp_path, monkeypatch):
    read = {}
    descend = training.descend

    def recorded(model, optimizer, texts, clip):
        read.setdefault(model.config.model_type, []).append((texts.tokens, texts.positions))
        return descend(model, optimizer, texts, clip)

    monkeypatch.setattr(training, "descend", recorded)
    for name in ARMS:
        training.train(name, tmp_path, recipe=TINY)
    first, *others = read.values()
    assert len(first) == TINY.steps
    assert len(others) == len(ARMS) - 1
    for steps in others:
        for (tokens, positions), (same_tokens, same_positions) in zip(first, steps, strict=True):
            assert np.array_equal(tokens, same_tokens)
            assert np.array_equal(positions, same_positions)


def test_a_step_holds_its_tokens_in_documents_of_the_stage_anywhere_in_the_context():
    for step, (documents, length) in {0: (8, 8), 3: (8, 8), 4: (4, 16), 7: (4, 16)}.items():
        texts = batch(TINY, 0, step)
        assert texts.tokens.shape == (documents, length + 1)
        assert texts.positions.shape == (documents, length)
        assert (np.diff(texts.positions, axis=1) == 1).all()
    starts = np.concatenate([batch(TINY, seed, 0).positions[:, 0] for seed in range(60)])
    assert set(starts.tolist()) == set(range(24 - 8 + 1))


def test_the_learning_rate_rises_stays_and_falls():
    recipe = Recipe(steps=1000, warm=100, cool=0.25)
    # up by a hundredth a step; high until a quarter is left; half of that left at 875; never under a fiftieth
    by_hand = {0: 0.01, 49: 0.5, 99: 1.0, 750: 1.0, 875: 0.5, 999: 0.02}
    assert {step: pytest.approx(learning_rate(recipe, step)) for step in by_hand} == by_hand


def test_the_arms_start_as_the_same_network_within_the_window():
    wide = Size(layers=2, heads=2, width=8, context=24, window=24)
    tokens = torch.from_numpy(repeated(11, prompts=3))
    gpt2, neo = (fresh_model(ARMS[name], wide, 0)(tokens).logits for name in ("gpt2", "gpt-neo"))
    torch.testing.assert_close(gpt2, neo, atol=1e-5, rtol=0)
    narrow = fresh_model(ARMS["gpt-neo"], SIZE, 0)(tokens).logits
    torch.testing.assert_close(gpt2[:, :4], narrow[:, :4], atol=1e-5, rtol=0)
    assert (gpt2[:, 4:] - narrow[:, 4:]).abs().max() > 1e-4


def test_pythia_starts_with_the_queries_of_gpt2_head_by_head():
    gpt2, pythia = (fresh_model(ARMS[name], SIZE, 0) for name in ("gpt2", "pythia"))
    fused = gpt2.transformer.h[1].attn.c_attn.weight.T  # queries of all heads, then keys, then values
    by_head = pythia.gpt_neox.layers[1].attention.query_key_value.weight  # head by head: query, key, value
    width = SIZE.width // SIZE.heads
    for head in range(SIZE.heads):
        for part in range(3):
            expected = fused[part * SIZE.width + head * width :][:width]
            assert torch.equal(by_head[(3 * head + part) * width :][:width], expected)


def test_unscaled_queries_and_keys_learn_as_if_scaled():
    model = fresh_model(ARMS["gpt-neo"], SIZE, 0)
    rest, slow = parameter_groups(model, ARMS["gpt-neo"], SIZE, 1e-2)
    assert len(slow["params"]) == 2 * SIZE.layers
    assert rest["highest"] == 1e-2
    assert slow["highest"] ** 2 == pytest.approx(1e-4 / math.sqrt(SIZE.width // SIZE.heads))


def test_an_unfinished_folder_is_not_a_model(tmp_path, monkeypatch):
    unfinished = trained_with_a_kill("gpt2", tmp_path, monkeypatch)
    assert not (tmp_path / "gpt2").exists()
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(unfinished)


def test_a_network_that_cannot_be_written_whole_is_not_written(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "tokenizer", full)
        with pytest.raises(OSError, match="No space left"):
            training.train("gpt2", tmp_path, recipe=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2.unfinished"]
    assert training.train("gpt2", tmp_path, recipe=TINY).is_dir()


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    terms = {"arm": "gpt2"}
    save_state(tmp_path, State(terms, step=3))

    def half(value, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match=r"cannot write .*state\.pt"):
        save_state(tmp_path, State(terms, step=4))
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert saved_state(tmp_path, terms).step == 3


def test_a_broken_state_is_refused(tmp_path):
    (tmp_path / STATE).write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"is not a training state .*remove .* to start anew"):
        saved_state(tmp_path, {})


def test_a_training_on_other_terms_is_refused(tmp_path, monkeypatch):
    trained_with_a_kill("gpt2", tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="holds a training with another seed"):
        training.train("gpt2", tmp_path, recipe=TINY, seed=1)
    training.train("gpt2", tmp_path, recipe=TINY)
    with pytest.raises(ValueError, match="is there already and is not this training"):
        training.train("gpt2", tmp_path, recipe=Recipe(size=SIZE, steps=3, curriculum=TINY.curriculum))


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    folder = training.train("gpt2", tmp_path, recipe=TINY)
    killed_at(0, monkeypatch)
    assert training.train("gpt2", tmp_path, recipe=TINY) == folder


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [
        ("gptneo", 0, "no arm 'gptneo': did you mean gpt-neo"),
        ("xyzzy", 0, "no arm 'xyzzy': arms are gpt2, gpt-neo, pythia"),
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


def test_the_command_tells_an_error_in_one_line(tmp_path):
    app = typer.Typer()
    app.command()(training.main)
    result = CliRunner().invoke(app, ["--arm", "gptneo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no arm 'gptneo': did you mean gpt-neo")
    assert result.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        training.train("gpt2", tmp_path / "file", recipe=TINY)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device 'cuda': torch sees no GPU here"):
        training.train("gpt2", tmp_path, recipe=TINY, device="cuda")
