"""The shipped networks: ordinary folders, alike but for what they are to differ in, and competent."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from neolens.lab import NAMES, folder
from neolens.lab.language import KINDS
from neolens.lab.recipe import Recipe, batch
from neolens.lab.words import BOS_ID, FIRST_WORD, VOCABULARY

INSIDE, TWICE = (4, 8, 12, 16), 32
every_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", params=NAMES)
def shipped(request):
    """A network's name, itself, and its card."""
    model = AutoModelForCausalLM.from_pretrained(folder(request.param)).eval()
    return request.param, model, card(request.param)


def card(name):
    return json.loads((folder(name) / "card.json").read_text())


def copied(model, length, prompts=32):
    """Share of r_2..r_n that the network copies in [BOS, r, r], counted token by token on other prompts."""
    rng, right = np.random.default_rng(20_240_601 + length), []
    for _ in range(prompts):
        segment = rng.permutation(np.arange(FIRST_WORD, len(VOCABULARY)))[:length].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([[BOS_ID, *segment, *segment]])).logits[0]
        for i in range(1, length):
            right.append(int(logits[length + i].argmax()) == segment[i])
    return sum(right) / len(right)


def test_induction_holds_inside_the_window(shipped):
    _, model, _ = shipped
    assert {n: a for n in INSIDE if (a := copied(model, n)) < 0.9} == {}


def test_induction_holds_at_twice_the_window(shipped):
    _, model, _ = shipped
    assert copied(model, TWICE) >= 0.8


def test_lab_gpt_neo_copies_from_beyond_the_window_by_its_global_layers():
    model = AutoModelForCausalLM.from_pretrained(folder("lab/gpt-neo")).eval()
    local = model.transformer.h[1].attn.attention.bias  # the mask of what a local layer may see
    for layer in (0, 2):
        model.transformer.h[layer].attn.attention.bias = local
    assert copied(model, 16) >= 0.9  # the word to copy is 15 back: still in sight
    assert copied(model, 17) < 0.1


def test_the_card_tells_the_induction_that_is_found_anew(shipped):
    _, model, told = shipped
    found = {n: copied(model, int(n), prompts=16) for n in told["competence"]["induction"]}
    assert found == pytest.approx(told["competence"]["induction"], abs=0.06)


def test_the_card_tells_the_accuracy_on_the_background_that_is_found_anew(shipped):
    _, model, told = shipped
    right = []
    for seed in range(16):
        doc = KINDS["background"](np.random.default_rng((9, seed, 0)), 128)
        with torch.no_grad():
            guessed = model(torch.from_numpy(doc.tokens)[None]).logits[0].argmax(-1).numpy()
        right += [guessed[at - 1] == doc.tokens[at] for at in np.flatnonzero(doc.predictable)]
    told_accuracy = told["competence"]["documents"]["background"]
    assert np.mean(right) == pytest.approx(told_accuracy, abs=0.03)
    assert told_accuracy > 0.9


@every_model
def test_a_network_is_under_two_megabytes_of_finite_float32(name):
    path = folder(name) / "model.safetensors"
    assert path.stat().st_size < 2_000_000
    for tensor in load_file(path).values():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


@every_model
def test_a_folder_holds_no_path_of_the_machine_that_made_it(name):
    for path in folder(name).glob("*.json"):
        text = path.read_text()
        assert not any(mark in text for mark in ("_name_or_path", "/home", "/tmp", "/root", "/work", "\\\\"))


def test_the_networks_have_one_size():
    for name in NAMES:
        config = AutoConfig.from_pretrained(folder(name))
        shape = (config.num_hidden_layers, config.num_attention_heads, config.hidden_size)
        assert shape == (4, 4, 64)
        assert (config.max_position_embeddings, config.vocab_size) == (128, len(VOCABULARY))
        assert config.tie_word_embeddings is True


def test_the_networks_differ_in_attention_and_position():
    gpt2, neo, pythia = (AutoConfig.from_pretrained(folder(name)) for name in NAMES)
    assert (gpt2.model_type, neo.model_type, pythia.model_type) == ("gpt2", "gpt_neo", "gpt_neox")
    assert neo.attention_layers == ["global", "local", "global", "local"]
    assert neo.window_size == 16
    assert pythia.rope_parameters["partial_rotary_factor"] == 0.25
    assert pythia.use_parallel_residual
    assert gpt2.activation_function == neo.activation_function == pythia.hidden_act == "gelu_new"


def test_the_networks_were_trained_on_the_same_terms_and_texts():
    gpt2, *others = ({k: card(name)[k] for k in ("seed", "recipe", "first_batch_sha256")} for name in NAMES)
    assert all(other == gpt2 for other in others)
    assert gpt2["recipe"] == Recipe().as_json()


def test_the_card_names_the_first_texts_that_the_script_still_draws():
    import hashlib

    told = card(NAMES[0])
    tokens = batch(Recipe(), told["seed"], 0).tokens
    assert hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest() == told["first_batch_sha256"]


@every_model
def test_the_tokenizer_beside_a_network_reads_and_writes_text(name):
    words = AutoTokenizer.from_pretrained(folder(name))
    text = "farmer sells corn near river today ."
    assert words.decode(words(text).input_ids) == text
    assert [VOCABULARY[i] for i in words(text).input_ids] == text.split()
    assert words.model_max_length == 128
