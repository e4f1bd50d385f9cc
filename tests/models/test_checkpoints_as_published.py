"""Checkpoints with more than the language model in them, models in memory, and fine-tuned models saved as folders."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2Model,
    GPTNeoForSequenceClassification,
    GPTNeoXForSequenceClassification,
)

import neolens
import tiny
from neolens import models

FAMILIES = ["gpt2", "gpt-neo", "pythia", "neox-sequential"]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def eager(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()


def changed_keys(folder, change):
    """Rewrite the weights of a folder under other names, or with more of them."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


HEADS = {
    "v_head.summary.weight": torch.ones(1, 32),
    "v_head.summary.bias": torch.ones(1),
    "multiple_choice_head.summary.weight": torch.ones(1, 32),
    "score.weight": torch.ones(2, 32),
}


def test_other_heads_are_left_out_with_one_warning_that_lists_them(family, tmp_path):
    tiny.model(family).save_pretrained(tmp_path)
    changed_keys(tmp_path, lambda weights: weights | HEADS)
    with pytest.warns(UserWarning, match="are left out") as caught:
        model = neolens.load(tmp_path, device="cpu")
    assert [all(key in str(warning.message) for key in HEADS) for warning in caught] == [True]
    assert torch.equal(model(tiny.tokens()), tiny.model(family)(tiny.tokens()).logits)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "model."])
def test_prefixes_of_wrappers_are_stripped(family, prefix, tmp_path):
    tiny.model(family).save_pretrained(tmp_path)
    changed_keys(tmp_path, lambda weights: {prefix + key: weight for key, weight in weights.items()})
    assert torch.equal(neolens.load(tmp_path, device="cpu")(tiny.tokens()), tiny.model(family)(tiny.tokens()).logits)


@pytest.mark.parametrize("key", ["transformer.h.0.attn.lora_A.weight", "head.weight", "my_score.weight"])
def test_any_other_weight_is_refused(key, tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    changed_keys(tmp_path, lambda weights: weights | {key: torch.ones(2)})
    with pytest.raises(ValueError, match=f"unexpected weight {key}"):
        neolens.load(tmp_path)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside the weights", "instead of them"])
def test_an_adapter_is_refused_by_name(file, beside, tmp_path):
    if beside:
        tiny.model("gpt2").save_pretrained(tmp_path)
    (tmp_path / file).write_text("{}")
    with pytest.raises(ValueError, match=f"{file} is an adapter: merge it into the weights first .merge_and_unload"):
        neolens.load(tmp_path)


def test_a_model_with_two_heads_loads_as_its_language_model(tmp_path):
    GPT2DoubleHeadsModel(tiny.config("gpt2", num_labels=1)).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"multiple_choice_head\.summary\.weight"):
        model = neolens.load(tmp_path, device="cpu")
    assert torch.equal(model(tiny.tokens()), eager(tmp_path)(tiny.tokens()).logits)


@pytest.mark.parametrize(
    ("architecture", "family"), [(GPT2ForSequenceClassification, "gpt2"), (GPTNeoForSequenceClassification, "gpt-neo")]
)
def test_a_classifier_loads_where_the_token_embedding_is_the_head(architecture, family, tmp_path):
    architecture(tiny.config(family)).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"score\.weight"):
        model = neolens.load(tmp_path, device="cpu")
    assert torch.equal(model(tiny.tokens()), eager(tmp_path)(tiny.tokens()).logits)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        (GPTNeoXForSequenceClassification, tiny.config("pythia"), "it has no language-model head"),
        (GPT2ForSequenceClassification, tiny.config("gpt2", tie_word_embeddings=False), "no language-model head"),
        (GPT2Model, tiny.config("gpt2", tie_word_embeddings=False), "missing weight lm_head.weight"),
    ],
)
def test_a_model_without_a_head_is_refused_and_none_is_made_up(architecture, config, message, tmp_path):
    architecture(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        neolens.load(tmp_path)


# A model in memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_in_memory_is_copied(family, attention):
    theirs, tokens = tiny.model(family), tiny.tokens()
    expected = theirs(tokens).logits
    theirs.set_attn_implementation(attention)
    theirs.train()
    before = theirs.config._attn_implementation  # GPT-Neo has no sdpa
    ours = neolens.load(theirs)
    assert torch.equal(ours(tokens), expected)
    assert neolens.anatomy(ours) == neolens.anatomy(theirs)
    assert (theirs.training, theirs.config._attn_implementation) == (True, before)
    with torch.no_grad():
        theirs.get_input_embeddings().weight.zero_()
    assert torch.equal(ours(tokens), expected)


def test_a_model_in_memory_keeps_its_dtype_and_takes_a_tokenizer():
    from neolens.lab import folder

    tokenizer = AutoTokenizer.from_pretrained(folder("gpt2"))
    theirs = AutoModelForCausalLM.from_pretrained(folder("gpt2"), dtype=torch.bfloat16, attn_implementation="eager")
    ours = neolens.load(theirs, tokenizer=tokenizer)
    assert ours.cfg.dtype == torch.bfloat16
    assert torch.equal(
        ours("farmer sells corn"), neolens.load("lab/gpt2", dtype="bfloat16", device="cpu")("farmer sells corn")
    )
    assert neolens.load(theirs, dtype="float32").cfg.dtype == torch.float32
    assert neolens.load(theirs).tokenizer is None


def test_other_models_in_memory_are_refused():
    hooked, changed, other = tiny.model("gpt2"), tiny.model("gpt2"), tiny.model("gpt2")
    hooked.transformer.h[1].mlp.register_forward_hook(lambda *_: None)
    changed.transformer.h[1].mlp.act = torch.nn.SiLU()
    other.config.line_of_thought = 3
    for model, message in [
        (hooked, "has torch hooks"),
        (changed, "modules or weights are not those of its config"),
        (GPT2Model(tiny.config("gpt2")), "a GPT2Model is not handled: expected one of GPT2LMHeadModel"),
        (other, "line_of_thought = 3 is not handled"),
    ]:
        with pytest.raises(ValueError, match=message):
            neolens.load(model)
    assert neolens.load(other, ignore_fields="line_of_thought").anatomy.ignored_fields == ("line_of_thought",)
    with pytest.raises(TypeError, match="got Linear"):
        neolens.load(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="a model in memory has no revision 'main'"):
        neolens.load(other, revision="main")


# Saved models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fine_tuned_model_is_read_back_to_the_bit(family, tied, dtype, tmp_path):
    tiny.model(family, tie_word_embeddings=tied).save_pretrained(tmp_path / "before")
    model, tokens = neolens.load(tmp_path / "before", dtype=dtype, device="cpu"), tiny.tokens()
    before = model(tokens)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(tokens).float().square().mean().backward()
    optimizer.step()
    after = model(tokens)
    assert not torch.equal(after, before)
    assert models.save(model, tmp_path / "after") == tmp_path / "after"
    with torch.no_grad():
        assert torch.equal(eager(tmp_path / "after", dtype)(tokens).logits, after)
    again = neolens.load(tmp_path / "after", dtype=dtype, device="cpu")
    assert torch.equal(again(tokens), after)
    assert again.anatomy.tied_embedding is tied
    assert neolens.fingerprint(again) == neolens.fingerprint(model)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_unchanged_model_is_saved_with_the_files_weights_config_and_tokenizer(family, tmp_path):
    from neolens.lab import folder

    before, after = tmp_path / "before", tmp_path / "after"
    tiny.model(family).save_pretrained(before)
    tokenizer = AutoTokenizer.from_pretrained(folder("gpt2"))
    tokenizer.save_pretrained(before)
    models.save(neolens.load(before, device="cpu"), after)
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)
    saved, config = (json.loads((path / "config.json").read_text()) for path in (before, after))
    assert saved == config
    read = AutoTokenizer.from_pretrained(after)
    assert (read.get_vocab(), read.special_tokens_map) == (tokenizer.get_vocab(), tokenizer.special_tokens_map)


def test_what_no_folder_can_hold_is_not_saved(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path / "before")
    model = neolens.load(tmp_path / "before", device="cpu")
    with pytest.raises(ValueError, match="exists and is not empty"):
        models.save(model, tmp_path)
    with pytest.raises(TypeError, match="takes a model from neolens.load"):
        models.save(tiny.model("gpt2"), tmp_path / "after")
    with neolens.what_if(model, windows=4), pytest.raises(ValueError, match=r"within neolens\.what_if"):
        models.save(model, tmp_path / "after")
    torch.nn.utils.parametrize.register_parametrization(
        model.blocks[0].attn.o.original_component, "weight", torch.nn.Identity()
    )
    with pytest.raises(ValueError, match="has a changed module"):
        models.save(model, tmp_path / "after")
    assert not (tmp_path / "after").exists()


def test_folded_weights_are_not_saved(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path / "before")
    model = neolens.load(tmp_path / "before", device="cpu")
    model.enable_compatibility_mode()
    with pytest.raises(ValueError, match="has weights folded by TransformerLens"):
        models.save(model, tmp_path / "after")


def test_a_disk_that_fails_leaves_nothing(tmp_path, monkeypatch):
    tiny.model("gpt2").save_pretrained(tmp_path / "before")
    model = neolens.load(tmp_path / "before", device="cpu")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("neolens.models.saving.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        models.save(model, tmp_path / "after")
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_a_copy_of_a_model_is_saved_with_its_own_weights(tmp_path):
    tiny.model("pythia").save_pretrained(tmp_path / "before")
    model = neolens.load(tmp_path / "before", device="cpu")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[0].attn.q.weight.mul_(2)
    models.save(other, tmp_path / "other")
    assert torch.equal(neolens.load(tmp_path / "other", device="cpu")(tiny.tokens()), other(tiny.tokens()))
    shutil.rmtree(tmp_path / "other")
    models.save(model, tmp_path / "other")
    assert torch.equal(neolens.load(tmp_path / "other", device="cpu")(tiny.tokens()), model(tiny.tokens()))
