"""`neolens check`: true models pass, and each fault of plain TransformerLens is caught."""

import random

import pytest
import torch

import neolens
import oracles
import tiny
from neolens import checking
from neolens.checking import edits
from neolens.models import loading
from neolens.sites import hook_name


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_loaded_by_neolens_passes_every_line(name, dtype, tiny_folders):
    lines = checking.check(tiny_folders[name], dtype=dtype, every_layer=True)
    assert [line.what for line in lines if not line.holds] == []
    assert lines[0].figure == "0"


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("gpt2", {"resid_mid", "pos_embed"}),
        ("gpt-neo", {"resid_mid", "pos_embed", "attn_scores", "pattern", "result"}),
        ("pythia", {"rot_q", "rot_k"}),
        ("neox-sequential", {"resid_mid", "rot_q", "rot_k"}),
    ],
)
def test_the_faults_of_plain_transformer_lens_are_caught(name, broken, tiny_folders, monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    def boot(folder, **options):
        model = TransformerBridge.boot_transformers(str(folder), device="cpu")
        model.__dict__["anatomy"] = loading.anatomy(folder)
        return model

    monkeypatch.setattr(checking, "load", boot)
    lines = checking.check(tiny_folders[name])
    failed = {line.what.partition(":")[0] for line in lines if not line.holds and "Hugging Face" not in line.what}
    assert failed >= broken


def test_a_published_loss_is_set_beside_the_measured_one(monkeypatch):
    monkeypatch.setitem(checking.PUBLISHED_LOSS, "lab/gpt2", 1.0)
    line = checking.check("lab/gpt2")[-1]
    # "Hello world!" is two unknown words to the lab: BOS, <unk>, <unk>
    assert line.what == 'loss on "Hello world!" in nats'
    assert not line.holds
    assert "published 1.000000" in line.bound


def test_the_model_is_left_as_it_was(tiny_folders, monkeypatch):
    kept = []
    monkeypatch.setattr(checking, "load", lambda *a, **k: kept.append(neolens.load(*a, **k)) or kept[-1])
    checking.check(tiny_folders["gpt2"])
    assert not any(point.has_hooks() for point in kept[0].hook_dict.values())
    assert not kept[0].cfg.use_attn_result


def test_logits_that_differ_from_hugging_faces_are_a_mismatch(tiny_folders, monkeypatch):
    def shifted(*arguments, **options):
        model = neolens.load(*arguments, **options)
        with torch.no_grad():
            model.unembed.original_component.bias[0] += 1e-3
        return model

    monkeypatch.setattr(checking, "load", shifted)
    line = checking.check(tiny_folders["pythia"])[0]
    assert not line.holds
    assert float(line.figure) == pytest.approx(1e-3, rel=0.1)


def test_hooks_that_give_nan_are_a_mismatch(tiny_folders, monkeypatch):
    monkeypatch.setattr(checking, "_hooked", lambda model, tokens, *rest: model(tokens) * float("nan"))
    assert not any(line.holds for line in checking.check(tiny_folders["gpt2"])[1:])


SILENCED = {
    "nothing": (),
    "positions": ("wpe.weight",),
    "heads": ("attn.c_proj.weight", "out_proj.weight", "attention.dense.weight"),
    "MLP": ("mlp.c_proj.weight", "mlp.c_proj.bias", "dense_4h_to_h.weight", "dense_4h_to_h.bias"),
    "block": (
        *("c_proj.weight", "c_proj.bias", "out_proj.weight", "out_proj.bias"),
        *("dense.weight", "dense.bias", "dense_4h_to_h.weight", "dense_4h_to_h.bias"),
    ),
    "layer norms": ("ln_1.weight", "ln_2.weight", "input_layernorm.weight", "post_attention_layernorm.weight"),
    "logits": ("wte.weight", "embed_out.weight"),
}
"""What is 0 in the last layer (or in the whole model, where it belongs to no layer) -> the ends of the names of its
parameters."""


def drawn_model(seed, *, name=None, silenced=None, window=None, context=None):
    """A random model with random sizes, a part of which is 0: the Hugging Face model and the name of that part."""
    draw = random.Random(seed)
    name = name or tiny.NAMES[seed % len(tiny.NAMES)]
    width = (2, 4, 8, 10, 16, 32, 64)[seed // len(tiny.NAMES) % 7]
    layers = draw.choice((1, 2, 3))
    heads = draw.choice([heads for heads in (1, 2, 4) if width % (2 * heads) == 0])
    context = context or draw.choice((1, 24, 24, 24))
    sizes = {
        "gpt2": dict(n_layer=layers, n_head=heads, n_embd=width, n_positions=context),
        "gpt-neo": dict(num_layers=layers, num_heads=heads, hidden_size=width, max_position_embeddings=context)
        | dict(attention_types=[[["local", "global", "local"][:layers], 1]], window_size=window or draw.choice((1, 4))),
    }
    rotary = dict(num_hidden_layers=layers, num_attention_heads=heads, hidden_size=width, rotary_pct=1.0)
    model = tiny.model(name, seed, **sizes.get(name, rotary | dict(max_position_embeddings=context)))
    silenced = silenced or draw.choice(list(SILENCED))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            layer = [int(part) for part in parameter_name.split(".") if part.isdecimal()]
            if layer in ([], [layers - 1]) and parameter_name.endswith(SILENCED[silenced] or "none"):
                parameter.zero_()
    return model, silenced


@pytest.mark.parametrize("seed", range(56))
def test_no_right_model_is_a_mismatch_however_small_or_silent(seed, tmp_path):
    model, silenced = drawn_model(seed)
    model.save_pretrained(tmp_path)
    dtype = ("float32", "float32", "bfloat16", "float16", "float64")[seed % 5]
    lines = checking.check(tmp_path, dtype=dtype)
    assert [line.what for line in lines if not line.holds] == [], (model.config, silenced)


DEGENERATE = [
    dict(name="gpt-neo", window=1, silenced="nothing"),
    dict(name="gpt2", silenced="positions", context=24),
    dict(name="gpt2", silenced="heads", context=24),
    dict(name="gpt-neo", silenced="MLP", window=4, context=24),
    dict(name="pythia", silenced="block", context=24),
    dict(name="neox-sequential", silenced="layer norms", context=24),
    dict(name="pythia", silenced="nothing", context=1),
    dict(name="neox-sequential", silenced="logits", context=24),
]


@pytest.mark.parametrize("case", DEGENERATE, ids=lambda case: f"{case['name']}, {case['silenced']}")
@pytest.mark.parametrize("seed", [16, 20])
def test_a_dead_hook_is_found_wherever_an_edit_has_an_effect_and_no_effect_is_reported_elsewhere(
    seed, case, tmp_path, monkeypatch
):
    model, _ = drawn_model(seed, **case)
    model.save_pretrained(tmp_path)
    hooked = neolens.load(tmp_path)
    tokens = edits.random_tokens(hooked, 8)
    network = oracles.network(model)
    plain = oracles.forward(network, tokens).logits
    monkeypatch.setattr(checking, "_hooked", lambda model, tokens, *rest: model(tokens).detach().float())
    lines = {line.what.partition(":")[0]: line for line in checking.check(tmp_path, every_layer=True)[1:]}
    for site, line in lines.items():
        layers = [None] if "embed" in site else range(hooked.anatomy.layers)
        edited = [oracles.forward(network, tokens, {hook_name(site, layer): edits.returned}).logits for layer in layers]
        effect = max((logits - plain).abs().max().item() for logits in edited)
        span = (plain.max() - plain.min()).item()
        assert effect > 1e-4 * span or effect <= 1e-7 * span, "the case would be undecided"
        assert line.holds == (effect <= 1e-7 * span), (line, effect / span)
        assert line.holds == line.what.endswith(": no effect")


def test_the_layers_without_effect_are_named_beside_those_with_one(tmp_path):
    model, _ = drawn_model(16, name="gpt2", silenced="heads", context=24)
    model.save_pretrained(tmp_path)
    last = model.config.n_layer - 1
    lines = {line.what.partition(":")[0]: line for line in checking.check(tmp_path, every_layer=True)}
    assert last > 0
    for site in ("q", "k", "v", "attn_scores", "pattern", "z"):
        assert lines[site].what == f"{site}: error of an edit over its effect; no effect in layer {last}"
    assert lines["result"].what == "result: error of an edit over its effect"


def test_an_effect_where_there_should_be_none_is_a_mismatch(tmp_path, monkeypatch):
    model, _ = drawn_model(20, name="gpt2", silenced="nothing", context=1)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(checking, "_hooked", lambda model, tokens, *rest: model(tokens).detach() + 1e-3)
    lines = {line.what.partition(":")[0]: line for line in checking.check(tmp_path)}
    assert lines["q"].what == "q: effect of an edit that should have none"
    assert not lines["q"].holds


def test_where_the_layers_that_are_tried_have_no_effect_the_others_are(tmp_path, monkeypatch):
    model = tiny.model("gpt2")
    with torch.no_grad():
        for layer in (0, 2):
            model.transformer.h[layer].attn.c_proj.weight.zero_()
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(checking, "_hooked", lambda model, tokens, *rest: model(tokens).detach())
    lines = {line.what.partition(":")[0]: line for line in checking.check(tmp_path)}
    assert not lines["z"].holds
