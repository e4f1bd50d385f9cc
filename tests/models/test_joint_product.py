"""q, k and v of narrow models and single rows: Hugging Face's bits, and every hook and edit as elsewhere."""

import pytest
import torch

import neolens
import oracles
import tiny

JOINT = ("gpt2", "pythia", "neox-sequential")


def sized(name, width, heads=2):
    sizes = {"gpt2": dict(n_embd=width, n_head=heads), "gpt-neo": dict(hidden_size=width, num_heads=heads)}
    return tiny.model(name, **sizes.get(name, dict(hidden_size=width, num_attention_heads=heads, rotary_pct=1.0)))


@pytest.fixture(params=JOINT)
def narrow(request, tmp_path):
    model = sized(request.param, 8)
    model.save_pretrained(tmp_path)
    return model, neolens.load(tmp_path)


@pytest.mark.parametrize("width", [2, 6, 8, 10, 16, 24, 64, 512])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_logits_are_hugging_faces_to_the_bit_whatever_the_width_and_length(name, width, tmp_path):
    theirs = sized(name, width, heads=1 if width % 4 else 2)
    theirs.save_pretrained(tmp_path)
    ours = neolens.load(tmp_path)
    for prompts, length in ((1, 1), (1, 2), (1, 3), (1, 7), (1, 16), (1, 33), (2, 1), (3, 3), (3, 5)):
        tokens = tiny.tokens(batch=prompts, length=length)
        assert torch.equal(ours(tokens), theirs(tokens).logits), (prompts, length)
        with torch.no_grad():
            assert torch.equal(ours(tokens), theirs(tokens).logits), (prompts, length)
            assert torch.equal(ours.run_with_cache(tokens)[0], theirs(tokens).logits), (prompts, length)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("edit", [tiny.nudged, tiny.nudge_])
def test_an_edit_of_a_parts_output_acts_on_that_part_alone(edit, part, length, narrow):
    theirs, ours = narrow
    tokens, name = tiny.tokens(batch=1, length=length), f"blocks.1.attn.hook_{part}"
    expected = oracles.forward(oracles.network(theirs), tokens, {name: tiny.nudged}).logits
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            logits = ours.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: edit(x))])
        torch.testing.assert_close(logits.double(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_an_edit_of_a_parts_input_acts_on_that_part_alone(part, narrow):
    _, ours = narrow
    tokens, name = tiny.tokens(batch=1, length=5), f"blocks.1.attn.{part}"
    _, plain = ours.run_with_cache(tokens)
    seen = {}
    hooks = [(f"{name}.hook_in", lambda x, hook: x.mul_(2))]
    hooks += [(f"blocks.1.attn.hook_{each}", lambda x, hook, each=each: seen.update({each: x})) for each in "qkv"]
    with torch.no_grad():
        ours.run_with_hooks(tokens, fwd_hooks=hooks)
        linear = getattr(ours.blocks[1].attn, part).original_component
        expected = linear(2 * plain[f"{name}.hook_in"]).view_as(seen[part])
    torch.testing.assert_close(seen[part], expected)
    for each in {"q", "k", "v"} - {part}:
        assert torch.equal(seen[each], plain[f"blocks.1.attn.hook_{each}"])


def test_gradients_reach_the_weights_of_the_parts(narrow):
    theirs, ours = narrow
    tokens = tiny.tokens(batch=1, length=1)
    for model in (ours, theirs):
        logits = model(tokens)
        tiny.weighted_sum(logits if model is ours else logits.logits).backward()
    named = dict(theirs.named_parameters())
    ends = ("h.1.attn.c_attn.bias", "s.1.attention.query_key_value.bias")
    joint = next(weight for name, weight in named.items() if name.endswith(ends))
    parts = [getattr(ours.blocks[1].attn, part).original_component.bias.grad for part in "qkv"]
    torch.testing.assert_close(torch.cat(parts).sort().values, joint.grad.sort().values)


@pytest.mark.parametrize("change", ["weight", "torch hook", "module", "cast"])
def test_a_change_of_a_part_is_seen(change, narrow):
    _, ours = narrow
    tokens = tiny.tokens(batch=1, length=1)
    part = ours.blocks[1].attn.v
    with torch.no_grad():
        bias = part.original_component.bias
        part.original_component.bias = torch.nn.Parameter(bias + 1)
        expected = ours(tokens)
        part.original_component.bias = bias
        if change == "torch hook":
            part.original_component.register_forward_hook(lambda module, inputs, output: output + 1)
        elif change == "module":
            inner = part.original_component
            part._modules["_original_component"] = torch.nn.Sequential(inner, _Plus())
        else:
            bias += 1
        if change == "cast":
            ours.double()
        torch.testing.assert_close(ours(tokens).float(), expected, atol=1e-4, rtol=1e-4)


class _Plus(torch.nn.Module):
    def forward(self, x):
        return x + 1
