"""`neolens.attention` on the model itself: beside the streamed pass, on other bridges and other architectures."""

import copy
import hashlib
import json
from importlib import import_module

import numpy as np
import pytest
import torch
import transformers
from transformer_lens.model_bridge.sources import build_bridge_from_module

import neolens
import oracles
import tiny
from neolens.models.other_architectures import facts_of
from neolens.prompts import repeated
from test_scores import naive

measure = import_module("neolens.scores.attention")


SMALL = dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, intermediate_size=48)
SIZES = dict(vocab_size=tiny.VOCAB, max_position_embeddings=tiny.CONTEXT, initializer_range=0.5, pad_token_id=0)

# Config and the window of each layer, None where it is global.
FOREIGN = {
    "llama": (transformers.LlamaConfig(**SMALL, **SIZES), [None, None, None]),
    "mistral": (transformers.MistralConfig(**SMALL, **SIZES, sliding_window=4), [4, 4, 4]),
    "gemma2": (transformers.Gemma2Config(**SMALL, **SIZES, head_dim=8, sliding_window=5), [5, None, 5]),
    "qwen2": (
        transformers.Qwen2Config(**SMALL, **SIZES, sliding_window=3, use_sliding_window=True, max_window_layers=2),
        [None, None, 3],
    ),
    "qwen2 without its window": (
        transformers.Qwen2Config(**SMALL, **SIZES, sliding_window=3, use_sliding_window=False),
        [None, None, None],
    ),
    "opt": (
        transformers.OPTConfig(
            hidden_size=32, num_attention_heads=4, num_hidden_layers=2, ffn_dim=48, word_embed_proj_dim=32,
            vocab_size=tiny.VOCAB, max_position_embeddings=tiny.CONTEXT, init_std=0.5,
        ),
        [None, None],
    ),
}  # fmt: skip


def upstream(model):
    """TransformerLens's own bridge of a Hugging Face model, whose submodules it replaces."""
    return build_bridge_from_module(
        model, type(model).__name__, hf_config=model.config, tokenizer=None, dtype=model.dtype, device="cpu"
    )


def foreign(name, attention="eager", dtype=torch.float64, auto=transformers.AutoModelForCausalLM):
    """A random model of another architecture, of this dtype."""
    config = copy.deepcopy(FOREIGN[name][0])
    return auto.from_config(config, attn_implementation=attention).to(dtype).eval()


def standing(model):
    """The names of the hook points that hold a hook."""
    return sorted(name for name, point in model.hook_dict.items() if point.has_hooks())


def assert_is_naive(result, layer, patterns, window, n=None):
    """One layer's scores of every prompt and head are those of plain loops over its patterns."""
    for prompt, heads in enumerate(patterns):
        for head, pattern in enumerate(heads):
            cell, expected = result.sel(prompt=prompt, layer=layer, head=head), naive(pattern, window, n)
            assert {str(name) for name in result.data_vars} == {*expected, "mass_by_distance"}
            for score, value in expected.items():
                assert float(cell[score]) == pytest.approx(value, abs=1e-6), score
            np.testing.assert_allclose(cell["mass_by_distance"], oracles.mass_by_distance(pattern), atol=1e-6)


PROMPTS = {
    "plain": tiny.tokens(length=17),
    "repeats": repeated(range(1, tiny.VOCAB), 6, bos=0, prompts=2),
    "lengths": [tiny.tokens(0, 1, 9)[0], repeated(range(1, 60), 3, bos=0)[0], tiny.tokens(1, 1, 13)[0]],
    "longer than a block": repeated(range(1, tiny.VOCAB), 30, bos=0),
}


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_model_itself_gives_what_the_streamed_pass_gives(name, prompts, bridges, monkeypatch):
    monkeypatch.setattr("neolens.scores.hooked.BLOCK", 16)
    hooked = neolens.attention(bridges[name], PROMPTS[prompts], engine="hooks")
    streamed = neolens.attention(bridges[name], PROMPTS[prompts], engine="stream")
    assert list(hooked.data_vars) == list(streamed.data_vars)
    for score in streamed.data_vars:
        np.testing.assert_allclose(hooked[score], streamed[score], atol=1e-6, err_msg=str(score))
    assert (hooked.attrs["engine"], streamed.attrs["engine"]) == ("hooks", "stream")
    assert hooked.attrs["fingerprint"] == streamed.attrs["fingerprint"]


@pytest.mark.parametrize("n", [None, 6])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_transformer_lenss_own_bridges_give_the_loops_over_the_oracles_patterns(name, n, tiny_models, networks):
    tokens = tiny.tokens() if n is None else repeated(range(1, tiny.VOCAB), n, bos=0, prompts=2)
    model = upstream(copy.deepcopy(tiny_models[name]).double())

    got = neolens.attention(model, tokens)

    assert got.attrs["engine"] == "hooks"
    activations = oracles.forward(networks[name], tokens).after
    for layer, window in enumerate(networks[name].windows):
        assert_is_naive(got, layer, activations[f"blocks.{layer}.attn.hook_pattern"], window, n)


@pytest.mark.parametrize("name", FOREIGN)
def test_another_architecture_gives_the_loops_over_hugging_faces_attentions(name):
    tokens, model = repeated(range(1, tiny.VOCAB), 6, bos=0, prompts=2), foreign(name)
    attentions = model(tokens, output_attentions=True).attentions

    got = neolens.attention(upstream(model), tokens)

    windows = FOREIGN[name][1]
    assert len(attentions) == len(windows)
    for layer, (patterns, window) in enumerate(zip(attentions, windows)):
        assert_is_naive(got, layer, patterns, window, 6)
    assert got["attention_kind"].values.tolist() == ["global" if window is None else "local" for window in windows]
    np.testing.assert_array_equal(got["window"], [np.nan if window is None else window for window in windows])


def test_the_result_of_another_architecture_says_what_is_known_of_it():
    got = neolens.attention(upstream(foreign("mistral")), tiny.tokens(), sink_key=2)
    assert json.loads(got.attrs["anatomy"]) == {
        "name": "MistralForCausalLM",
        "architecture": "MistralForCausalLM",
        "layers": 3,
        "heads": 4,
        "d_vocab": tiny.VOCAB,
        "context": tiny.CONTEXT,
        "attention": [{"kind": "local", "window": 4}] * 3,
    }
    assert (got.attrs["engine"], got.attrs["sink_key"]) == ("hooks", 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_patterns_give_the_scores_of_their_own_numbers(dtype):
    tokens, model = repeated(range(1, tiny.VOCAB), 30, bos=0), foreign("gemma2", dtype=dtype)
    attentions = model(tokens, output_attentions=True).attentions

    got = neolens.attention(upstream(model), tokens)

    assert got.attrs["dtype"] == str(dtype).removeprefix("torch.")
    for layer, window in enumerate(FOREIGN["gemma2"][1]):
        assert_is_naive(got, layer, attentions[layer].double(), window, 30)


def test_a_hook_that_edits_a_pattern_acts_and_stays(bridges, networks):
    model, tokens = bridges["gpt-neo"], tiny.tokens()
    site = "blocks.1.attn.hook_pattern"

    def halve_the_distant(pattern):
        return pattern * (1 - 0.5 * torch.ones_like(pattern).tril(-2))

    model.add_hook(site, lambda pattern, hook: halve_the_distant(pattern))
    try:
        got = neolens.attention(model, tokens, engine="hooks")
        assert standing(model) == standing_at(model, site)
        assert site in got.attrs["hooks"].split(", ")
    finally:
        model.reset_hooks()

    assert "hooks" not in neolens.attention(model, tokens, engine="hooks").attrs
    activations = oracles.forward(networks["gpt-neo"], tokens, {site: halve_the_distant}).after
    for layer, window in enumerate(networks["gpt-neo"].windows):
        assert_is_naive(got, layer, activations[f"blocks.{layer}.attn.hook_pattern"], window)


def standing_at(model, site):
    """All names of one hook point."""
    point = model.hook_dict[site]
    return sorted(name for name, its in model.hook_dict.items() if its is point)


@pytest.mark.parametrize("window", ["global", 2])
def test_windows_in_force_are_in_force_with_hooks(window, bridges):
    tokens = tiny.tokens()
    with neolens.what_if(bridges["gpt-neo"], windows=window):
        hooked, streamed = (neolens.attention(bridges["gpt-neo"], tokens, engine=its) for its in ("hooks", "stream"))
    assert set(hooked["attention_kind"].values) == {"global" if window == "global" else "local"}
    for score in streamed.data_vars:
        np.testing.assert_allclose(hooked[score], streamed[score], atol=1e-6, err_msg=str(score))


def test_the_streamed_pass_refuses_standing_hooks_and_names_the_way_out(bridges):
    model = bridges["gpt2"]
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z)
    try:
        with pytest.raises(ValueError, match=r"hooks at blocks.0.attn.*or take engine='hooks'"):
            neolens.attention(model, tiny.tokens())
    finally:
        model.reset_hooks()


@pytest.mark.parametrize("name", ["gpt-neo", "pythia"])
def test_the_pass_ends_at_the_last_pattern_and_leaves_the_model_as_it_was(name, bridges):
    model, tokens = bridges[name], tiny.tokens()
    before = model(tokens)
    ended = model.unembed.register_forward_hook(lambda *_: pytest.fail("logits were computed"))
    try:
        neolens.attention(model, tokens, engine="hooks")
    finally:
        ended.remove()
    assert standing(model) == []
    assert torch.is_grad_enabled()
    assert torch.equal(model(tokens), before)
    assert model(tokens).requires_grad


def test_hooks_are_gone_after_an_error(bridges, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("neolens.scores.sums.Sums.add", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        neolens.attention(bridges["gpt-neo"], tiny.tokens(), engine="hooks")
    assert standing(bridges["gpt-neo"]) == []
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize("engine", ["stream", "hooks"])
def test_the_sink_is_about_the_asked_for_key(k, engine, bridges, networks):
    tokens = tiny.tokens()
    got = neolens.attention(bridges["gpt-neo"], tokens, sink_key=k, engine=engine)
    plain = neolens.attention(bridges["gpt-neo"], tokens)
    activations = oracles.forward(networks["gpt-neo"], tokens).after
    for layer in range(4):
        for head in range(4):
            pattern = activations[f"blocks.{layer}.attn.hook_pattern"][1, head]
            cell = got["sink"].sel(prompt=1, layer=layer, head=head)
            assert float(cell) == pytest.approx(oracles.sink(pattern, k), abs=1e-6)
    for score in plain.drop_vars("sink").data_vars:
        np.testing.assert_allclose(got[score], plain[score], atol=1e-6)


@pytest.mark.parametrize("engine", ["stream", "hooks"])
@pytest.mark.parametrize(
    ("tokens", "arguments", "error", "message"),
    [
        (
            tiny.tokens(length=4),
            {"scores": ["induction"]},
            ValueError,
            r"induction .* prompt 0, which has 4 tokens: .* 5",
        ),
        (
            [repeated(range(1, 60), 3, bos=0)[0], tiny.tokens(length=3)[0]],
            {"scores": ["duplicate_token"]},
            ValueError,
            r"duplicate_token .* prompt 1, which has 3 tokens: it needs at least 5, \[BOS, r_1, r_2, r_1, r_2\]",
        ),
        (tiny.tokens(length=9), {"scores": ["induction"]}, ValueError, "one sequence twice"),
        (
            [tiny.tokens()[0], tiny.tokens(length=5)[0]],
            {"sink_key": 5},
            ValueError,
            "prompt 1 has 5 tokens and no key 5: expected at least 6 tokens",
        ),
        (tiny.tokens(), {"sink_key": -1}, ValueError, "sink_key -1: expected a whole number of at least 0"),
        (tiny.tokens(), {"sink_key": True}, TypeError, "sink_key True: expected a whole number of at least 0"),
        (tiny.tokens(length=1), {}, ValueError, "prompt 0 has 1 tokens"),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(engine, tokens, arguments, error, message, bridges, monkeypatch):
    model = bridges["gpt-neo"]
    monkeypatch.setattr(
        import_module("neolens.scores.attention"), "residual", lambda *a, **k: pytest.fail("the model ran")
    )
    monkeypatch.setattr(type(model), "run_with_hooks", lambda *a, **k: pytest.fail("the model ran"))
    with pytest.raises(error, match=message):
        neolens.attention(model, tokens, engine=engine, **arguments)


def test_an_engine_that_there_is_not_is_refused(bridges):
    with pytest.raises(ValueError, match="no engine 'hook': did you mean hooks"):
        neolens.attention(bridges["gpt2"], tiny.tokens(), engine="hook")


def test_the_streamed_pass_refuses_other_bridges():
    with pytest.raises(ValueError, match="stream engine takes models of neolens.load: .* engine='hooks'"):
        neolens.attention(upstream(foreign("llama")), tiny.tokens(), engine="stream")


@pytest.mark.parametrize("model", ["gpt2", None, tiny.model("gpt2")], ids=["name", "nothing", "hugging face"])
def test_what_is_no_bridge_is_refused(model):
    with pytest.raises(TypeError, match="expected a TransformerBridge, such as a model from neolens.load, got"):
        measure.attention(model, tiny.tokens())


def test_a_model_without_eager_attention_is_refused():
    with pytest.raises(ValueError, match='layer 0 of OPTForCausalLM shows no pattern.*attn_implementation="eager"'):
        neolens.attention(upstream(foreign("opt", attention="sdpa")), tiny.tokens())


def test_a_model_that_looks_ahead_is_refused():
    sizes = {name: size for name, size in SMALL.items() if name != "num_key_value_heads"}
    config = transformers.BertConfig(**sizes, **SIZES)
    model = transformers.AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    bridge = upstream(model)
    own = standing(bridge)
    with pytest.raises(ValueError, match=r"layer 0 of BertForMaskedLM puts attention .* outside its span \(global\)"):
        neolens.attention(bridge, tiny.tokens())
    assert standing(bridge) == own


def test_a_hook_that_looks_ahead_is_refused(bridges):
    model = bridges["gpt-neo"]
    model.add_hook("blocks.1.attn.hook_pattern", lambda pattern, hook: torch.ones_like(pattern))
    try:
        with pytest.raises(ValueError, match=r"layer 1 .* outside its span \(local 4\).* no hook that edits"):
            neolens.attention(model, tiny.tokens(), engine="hooks")
    finally:
        model.reset_hooks()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sliding_window", 2, r"layer 0 of LlamaForCausalLM puts attention .* outside its span \(local 2\)"),
        (
            "num_attention_heads",
            8,
            r"layer 0 .* shows a pattern, of shape \(2, 4, 14, 14\): expected .*\(2, 8, 14, 14\)",
        ),
        ("num_hidden_layers", 4, r"LlamaForCausalLM has no blocks.3.attn.hook_pattern"),
        ("vocab_size", 0, "config field vocab_size is 0: expected a whole number that holds for every layer"),
        ("layer_types", ["full_attention"] * 2, "layer_types names 2 layers: expected all 3"),
        ("layer_types", ["full_attention", "chunked_attention", "conv"], "layer 1 is 'chunked_attention'"),
        ("layer_types", ["sliding_attention"] * 3, "config field sliding_window is None"),
        ("attention_window_size", 4, "config field attention_window_size = 4 is not handled"),
        ("is_encoder_decoder", True, "an encoder with a decoder: expected a causal language model"),
    ],
)
def test_a_config_that_does_not_say_what_is_seen_or_says_otherwise_is_refused(field, value, message):
    bridge = upstream(foreign("llama"))
    setattr(bridge.original_model.config, field, value)
    with pytest.raises(ValueError, match=message):
        neolens.attention(bridge, tiny.tokens())


def test_a_supported_family_with_a_field_that_neolens_refuses_is_measured_by_its_config(tiny_models, networks):
    model = copy.deepcopy(tiny_models["gpt2"])
    model.config.logit_multiplier = 2.0  # of the arithmetic, not of what is seen
    bridge = upstream(model)
    with pytest.raises(ValueError, match="logit_multiplier"):
        neolens.anatomy(bridge)
    assert [str(span) for span in facts_of(bridge).attention] == ["global"] * 3


def test_the_fingerprint_of_another_architecture_is_of_its_parameters_by_name():
    model = foreign("llama")
    bridge = upstream(model)
    digest = hashlib.blake2b(digest_size=8)
    for _, weight in sorted(bridge.named_parameters(), key=lambda named: named[0]):
        digest.update(f"{tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().numpy().tobytes())

    assert neolens.fingerprint(bridge) == digest.hexdigest()
    assert neolens.attention(bridge, tiny.tokens()).attrs["fingerprint"] == digest.hexdigest()

    with torch.no_grad():
        bridge.blocks[1].attn.q.weight[0, 0] += 1
    assert neolens.fingerprint(bridge) != digest.hexdigest()
