"""What a model writes with heads ablated, against decoding by hand with the pure forward pass."""

import copy

import pytest
import torch

import neolens
import tiny
from neolens.ablation import Beyond, Within, ablated, continuations
from neolens.network import logits, residual, weights_of

HEADS = [(0, 1), (2, 3), (2, 0)]


@pytest.fixture(scope="module")
def lab():
    return neolens.load("lab/gpt-neo")


def decoded(model, ids, new_tokens, change=None):
    """Greedy decoding by the pure pass over the whole text each time, z changed by hand."""
    ids, weights = list(ids), weights_of(model)

    def edit(site, layer, x):
        return change(layer, x.clone()) if site == "z" and change else x

    for _ in range(new_tokens):
        with torch.no_grad():
            said = logits(weights, residual(weights, torch.tensor([ids]), edit=edit))
        ids.append(int(said[0, -1].argmax()))
    return ids[-new_tokens:]


def without(heads, value=lambda layer, length, head: 0.0):
    def change(layer, z):
        for its, head in heads:
            if its == layer:
                z[:, :, head] = value(layer, z.shape[1], head)
        return z

    return change


def text(model, tokens):
    return model.tokenizer.decode(tokens)


PROMPT = "the king makes wool . John saws bricks near the bridge ."
REFERENCE = torch.randint(2, 128, (9, 40), generator=torch.Generator().manual_seed(0))


def test_a_continuation_without_heads_is_what_decoding_by_hand_writes(lab):
    ids = [0, *lab.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]]
    found = continuations(lab, PROMPT, {"mine": HEADS}, new_tokens=12)
    assert found.by_group["as it is"] == (text(lab, decoded(lab, ids, 12)),)
    assert found.by_group["mine"] == (text(lab, decoded(lab, ids, 12, without(HEADS))),)
    assert found.by_group["mine"] != found.by_group["as it is"]


def test_a_mean_is_put_in_at_each_tokens_own_position_although_keys_are_cached(lab):
    ids = [0, *lab.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]]
    means = {}
    residual(
        weights_of(lab),
        REFERENCE,
        watch=lambda site, layer, x: means.update({layer: x.mean(0)}) if site == "z" else None,
    )
    change = without(HEADS, lambda layer, length, head: means[layer][:length, head].detach())
    found = continuations(lab, PROMPT, {"mine": HEADS}, how="mean", reference=REFERENCE, new_tokens=12)
    assert found.by_group["mine"] == (text(lab, decoded(lab, ids, 12, change)),)
    assert found.by_group["mine"] != continuations(lab, PROMPT, {"mine": HEADS}, new_tokens=12).by_group["mine"]


def test_a_mean_over_all_positions_is_put_in_at_every_token_however_long_the_text(lab):
    ids = [0, *lab.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]]
    reference = [row[:length] for row, length in zip(REFERENCE, (3, 8, 5, 15, 1, 9, 2, 7, 4))]
    z = {}

    def watch(site, layer, x):
        if site == "z":
            z.setdefault(layer, []).append(x[0])

    for row in reference:
        residual(weights_of(lab), row[None], watch=watch)
    means = {layer: torch.cat(each).mean(0).detach() for layer, each in z.items()}
    change = without(HEADS, lambda layer, length, head: means[layer][head])
    call = {"how": "mean_all_positions", "reference": reference}
    found = continuations(lab, PROMPT, {"mine": HEADS}, new_tokens=12, **call)
    assert found.by_group["mine"] == (text(lab, decoded(lab, ids, 12, change)),)
    assert found.by_group["mine"] != continuations(lab, PROMPT, {"mine": HEADS}, new_tokens=12).by_group["mine"]


def test_a_continuation_without_bos_goes_on_from_the_text_alone(lab):
    ids = lab.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    found = continuations(lab, PROMPT, {"mine": HEADS}, new_tokens=12, prepend_bos=False)
    assert found.by_group["as it is"] == (text(lab, decoded(lab, ids, 12)),)
    assert found.by_group["mine"] == (text(lab, decoded(lab, ids, 12, without(HEADS))),)


def test_how_many_tokens_agree_is_counted(lab):
    found = continuations(lab, [PROMPT, "Mary saws wool ."], {"none of it": [(1, 0)], "all": HEADS}, new_tokens=10)
    for name in ("none of it", "all"):
        for own, its, agreed in zip(found.by_group["as it is"], found.by_group[name], found.agreed[name]):
            words, others = own.split(), its.split()
            assert words[:agreed] == others[:agreed]
            assert agreed == 10 or words[agreed] != others[agreed]
    assert found.agreed["as it is"] == (10, 10)


def test_the_page_holds_every_prompt_and_continuation_side_by_side(lab):
    found = continuations(lab, [PROMPT, "Mary saws wool ."], neolens.by_kind(lab, draws=1), new_tokens=6)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 118
    heading = next(line for line in lines if line.startswith("as it is"))
    assert [name in heading for name in ("local", "global", "random 8 heads 0")] == [True] * 3
    assert sum(line.startswith("> ") for line in lines) == 2


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize("how", ["zero", "mean", "mean_all_positions", Beyond(3), Within(2)], ids=str)
def test_inside_ablated_the_model_says_what_ablate_says(bridges, name, how):
    model, tokens = bridges[name], tiny.tokens(0, 8, 12)
    reference = tokens if str(how).startswith("mean") else None
    with ablated(model, HEADS, how=how, reference=reference) as inside:
        logprobs = inside(tokens).log_softmax(-1)
    losses = -logprobs[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    result = neolens.ablate(model, tokens, {"mine": HEADS}, how=how, progress=False)
    told = torch.from_numpy(result["ablated"].sel(group="mine").values[:, :-1])
    assert (losses - told).abs().max() < 1e-5 * losses.abs().max()


def with_heads_of(model, other, tokens):
    """The logits with the heads' z taken from a run of another prompt."""
    taken = {}
    hooks = [(f"blocks.{n}.attn.hook_z", lambda z, hook, n=n: taken.update({n: z.clone()})) for n in range(3)]
    model.run_with_hooks(other[None], fwd_hooks=hooks)
    change = without(HEADS, lambda layer, _, head: taken[layer][:, :, head])
    hooks = [(f"blocks.{n}.attn.hook_z", lambda z, hook, n=n: change(n, z)) for n in range(3)]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@torch.no_grad()
def test_a_resample_is_what_one_reference_prompt_said(bridges):
    model, tokens = bridges["gpt2"], tiny.tokens(0, 4, 12)
    said = [with_heads_of(model, other, tokens[:1]) for other in tokens]
    with ablated(model, HEADS, how="resample", reference=tokens, seed=3):
        found = model(tokens[:1])
    assert [bool(torch.allclose(found, one, rtol=0, atol=1e-4)) for one in said].count(True) == 1


def test_after_ablated_the_model_is_as_before_also_when_it_was_left_by_an_error(bridges):
    model, tokens = bridges["gpt-neo"], tiny.tokens()
    before = model(tokens)
    with pytest.raises(ValueError, match="holds token 61"), ablated(model, HEADS):
        model(tokens.new_full((1, 3), tiny.VOCAB))
    with ablated(model, HEADS):
        assert not torch.equal(model(tokens), before)
    assert torch.equal(model(tokens), before)
    neolens.attention(model, tokens)  # refuses a model with hooks on it


BAD = [
    ({"groups": {"mine": [(9, 0)]}}, "no layer 9"),
    ({"groups": {"mine": []}}, r"group 'mine': heads \[\]: expected at least one"),
    ({"groups": {"as it is": HEADS}}, "a group is named 'as it is', as is what the model writes unablated"),
    ({"seed": -1, "how": "resample", "reference": REFERENCE}, "seed -1: expected a whole number of at least 0"),
    ({"how": "men"}, "no way to ablate 'men'"),
    ({"how": "mean"}, "how='mean' needs reference prompts as long as what is to be written"),
    ({"how": "mean", "reference": REFERENCE[:1]}, "1 reference prompts of 1 lengths: expected two or more"),
    ({"how": "mean", "reference": [REFERENCE[0], REFERENCE[1, :5]]}, "of 2 lengths: .*how='mean_all_positions'"),
    ({"how": "mean_all_positions"}, "how='mean_all_positions' needs reference prompts: give reference"),
    ({"how": "zero", "reference": REFERENCE}, "leave reference out"),
    ({"new_tokens": 0}, "new_tokens 0: expected a whole number of at least 1"),
    ({"new_tokens": 125}, "prompt 0 has 13 tokens: with 125 more it does not fit the 128"),
    ({"prompts": []}, "there is no prompt"),
    ({"prompts": "zebra"}, "prompt 0 holds 'zebra' that the tokenizer does not know"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_before_the_model_runs(lab, monkeypatch, changes, message):
    monkeypatch.setattr(lab.original_model, "forward", None)
    with pytest.raises(ValueError, match=message):
        continuations(lab, **{"prompts": PROMPT, "groups": {"mine": HEADS}, **changes})


def test_a_text_longer_than_the_reference_is_refused_while_it_is_written(lab):
    short = REFERENCE[:, :15]
    with pytest.raises(ValueError, match="the text has come to 16 tokens and the reference prompts have 15.*'mean_all"):
        continuations(lab, PROMPT, {"mine": HEADS}, how="mean", reference=short, new_tokens=12)


def test_a_mean_over_few_prompts_is_warned_about(lab):
    with pytest.warns(UserWarning, match="the mean is over only 3 reference prompts"):
        continuations(lab, PROMPT, {"mine": HEADS}, how="mean", reference=REFERENCE[:3], new_tokens=2)


def test_reference_prompts_are_refused_on_a_model_with_a_torch_hook(lab):
    """They are run by the pure pass, which does not run the hook."""
    handle = lab.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: output * 2)
    try:
        with pytest.raises(ValueError, match=r"blocks\.1\.mlp is modified, and the reference prompts are run without"):
            continuations(lab, PROMPT, {"mine": HEADS}, how="mean", reference=REFERENCE, new_tokens=2)
        with pytest.raises(ValueError, match="is modified"), ablated(lab, HEADS, how="mean", reference=REFERENCE):
            pass
    finally:
        handle.remove()


def test_a_model_that_drops_activations_at_random_is_refused(lab):
    dropping = copy.deepcopy(lab)
    next(module for module in dropping.modules() if isinstance(module, torch.nn.Dropout)).p = 0.3
    dropping.train()
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        continuations(dropping, PROMPT, {"mine": HEADS}, new_tokens=2)


def test_logits_that_are_not_finite_are_refused(lab):
    overflowing = copy.deepcopy(lab)
    overflowing.blocks[0].ln1.weight.data[0] = torch.inf
    with pytest.raises(ValueError, match="the model's logits are not finite on prompts of 13 tokens"):
        continuations(overflowing, PROMPT, {"mine": HEADS}, new_tokens=2)
