"""Pickle, torch.save and other processes: the same logits, live hooks, or one clear line."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch

import neolens
import tiny


@pytest.fixture(params=["gpt2", "gpt-neo", "pythia", "neox-sequential"])
def family(request):
    return request.param


@pytest.fixture
def model(family, tmp_path):
    tiny.model(family, dropout=0.1).save_pretrained(tmp_path)
    return neolens.load(tmp_path, device="cpu")


def by_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("way", [by_pickle, by_torch, copy.deepcopy], ids=["pickle", "torch.save", "deepcopy"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_is_read_back_has_the_same_logits_and_weights_of_its_own(model, way, dtype):
    model = model.to(getattr(torch, dtype))
    tokens = tiny.tokens()
    expected = model(tokens)
    other = way(model)
    assert torch.equal(other(tokens), expected)
    assert neolens.anatomy(other) == neolens.anatomy(model)
    assert neolens.fingerprint(other) == neolens.fingerprint(model)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert torch.equal(model(tokens), expected)


def test_hooks_of_a_model_that_is_read_back_work(model):
    other, tokens = by_pickle(model), tiny.tokens()
    for name in ("blocks.1.attn.hook_z", "blocks.1.attn.hook_pattern", "blocks.0.hook_resid_post"):
        halved = [(name, lambda value, hook: value * 0.5)]
        expected = model.run_with_hooks(tokens, fwd_hooks=halved)
        assert torch.equal(other.run_with_hooks(tokens, fwd_hooks=halved), expected)
        assert not torch.equal(expected, model(tokens))
    with neolens.what_if(other, windows=2), neolens.what_if(model, windows=2):
        assert torch.equal(other(tokens), model(tokens))
    assert torch.equal(by_pickle(other)(tokens), model(tokens))


def test_settings_of_a_model_go_with_it(model):
    model.set_use_attn_result(True)
    model.train()
    model.embed.weight.requires_grad_(False)
    other = by_pickle(model)
    assert other.switches == {"use_attn_result"}
    assert other.training
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert [name for name, weight in other.named_parameters() if not weight.requires_grad] == frozen != []


def test_a_tokenizer_goes_with_its_model():
    model = neolens.load("lab/gpt-neo", device="cpu")
    assert torch.equal(by_pickle(model)("farmer sells corn"), model("farmer sells corn"))


def test_a_model_with_hooks_or_folded_weights_is_refused_in_one_line(model):
    model.add_hook("blocks.0.hook_resid_post", lambda value, hook: value)
    with pytest.raises(ValueError, match=r"has a hook at .*: pickle it after model\.reset_hooks\(\)"):
        pickle.dumps(model)
    model.reset_hooks()
    model.enable_compatibility_mode()
    with pytest.raises(ValueError, match="has weights folded"):
        pickle.dumps(model)


def test_another_process_computes_the_same_logits():
    model, tokens = neolens.load("lab/gpt2", device="cpu"), torch.arange(12)[None]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(final_logits, (model, tokens)), final_logits(model, tokens))


def final_logits(model, tokens):
    torch.set_num_threads(1)
    with torch.no_grad():
        return model(tokens)[:, -1]
