"""What a score is made of: parts that add up to the oracle's scores, each one worked out from the weights with numpy.

For the nine parts of an absolute model the weights are read from the Hugging Face state dict by name, and each score is
a sum of products over one query and one key.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens.position import ABSOLUTE_PARTS, ROTARY_PARTS, part_shares, parts, score_parts
from neolens.whatif import Freeze, OnlyRotated, OnlyUnrotated, Scale, Shift, Shuffle, Unrotated, WithoutBands, what_if

SOURCES = ("content", "position", "bias")
NEAR = dict(rtol=1e-4, atol=2e-5)

every_family = pytest.mark.parametrize("name", tiny.NAMES)
absolute_families = pytest.mark.parametrize("name", tiny.ABSOLUTE)
rotary_families = pytest.mark.parametrize("name", tiny.ROTARY)
LAYERS = [(name, 0) for name in tiny.ABSOLUTE] + [(name, layer) for name in tiny.ROTARY for layer in range(3)]
every_layer = pytest.mark.parametrize(("name", "layer"), LAYERS)


def loaded(model, tmp_path_factory):
    """A Hugging Face model, loaded by neolens."""
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return neolens.load(folder)


def oracle_scores(net, tokens, layer, **told):
    """[prompt, head, query, key], NaN where the query does not see the key."""
    scores = oracles.forward(net, tokens, **told).after[f"blocks.{layer}.attn.hook_attn_scores"]
    return scores.masked_fill(scores == -torch.inf, torch.nan).numpy()


# They add up -----------------------------------------------------------------------------------------------


@every_layer
def test_parts_add_up_to_the_oracles_scores_and_are_nan_where_a_key_is_not_seen(name, layer, bridges, networks):
    (prompt,) = tiny.tokens(batch=1)
    found = score_parts(bridges[name], prompt, layer)["score"]
    expected = oracle_scores(networks[name], prompt[None], layer)[0]
    np.testing.assert_allclose(found.sum("part", skipna=False), expected, **NEAR)
    for part in found:
        np.testing.assert_array_equal(np.isnan(part), np.isnan(expected))


@settings(max_examples=25, deadline=None)
@given(which=st.sampled_from(LAYERS), length=st.integers(1, 20), window=st.integers(1, 22), seed=st.integers(0, 99))
def test_parts_add_up_for_any_length_and_window(which, length, window, seed, bridges, networks):
    (name, layer), (prompt,) = which, tiny.tokens(seed, 1, length)
    with what_if(bridges[name], windows={layer: window}):
        found = score_parts(bridges[name], prompt, layer)["score"]
    windows = [*networks[name].windows[:layer], window, *networks[name].windows[layer + 1 :]]
    expected = oracle_scores(networks[name], prompt[None], layer, windows=windows)[0]
    np.testing.assert_allclose(found.sum("part", skipna=False), expected, **NEAR)


# The nine parts of an absolute model -----------------------------------------------------------------------


def first_layer(model) -> dict[str, np.ndarray]:
    """What is needed of a GPT-2 or GPT-Neo, in float64: matrices are [d_model, (head, d_head)]."""
    state = {name.removeprefix("transformer."): value.double().numpy() for name, value in model.state_dict().items()}
    found = {"tokens": state["wte.weight"], "places": state["wpe.weight"]}
    found |= {"gain": state["h.0.ln_1.weight"], "lift": state["h.0.ln_1.bias"]}
    if model.config.model_type == "gpt2":
        matrix, bias = np.split(state["h.0.attn.c_attn.weight"], 3, 1), np.split(state["h.0.attn.c_attn.bias"], 3)
        return found | {"w_q": matrix[0], "w_k": matrix[1], "b_q": bias[0], "b_k": bias[1], "scale": 8**-0.5}
    w_q, w_k = (state[f"h.0.attn.attention.{part}_proj.weight"].T for part in "qk")
    return found | {"w_q": w_q, "w_k": w_k, "b_q": np.zeros(32), "b_k": np.zeros(32), "scale": 1.0}


def by_hand(model, prompt) -> dict[str, np.ndarray]:
    """Part -> [head, query, key]: what each token, each place and the biases alone put into q and k, multiplied."""
    its, heads, width = first_layer(model), 4, 8
    sources = {part: {source: [] for source in SOURCES} for part in "qk"}
    for place, token in enumerate(prompt.tolist()):
        content, position = its["tokens"][token], its["places"][place]
        whole = content + position
        size = math.sqrt(np.mean((whole - whole.mean()) ** 2) + 1e-5)
        for part in "qk":
            into = {
                "content": its["gain"] * (content - content.mean()) / size @ its[f"w_{part}"],
                "position": its["gain"] * (position - position.mean()) / size @ its[f"w_{part}"],
                "bias": its["lift"] @ its[f"w_{part}"] + its[f"b_{part}"],
            }
            for source, vector in into.items():
                sources[part][source].append(vector.reshape(heads, width))
    length, found = len(prompt), {}
    for query in SOURCES:
        for key in SOURCES:
            score = np.full((heads, length, length), np.nan)
            for head, i, j in np.ndindex(score.shape):
                if j <= i:
                    score[head, i, j] = its["scale"] * sources["q"][query][i][head] @ sources["k"][key][j][head]
            found[f"{query}-{key}"] = score
    return found


@pytest.mark.parametrize("part", ABSOLUTE_PARTS)
@absolute_families
def test_each_of_the_nine_parts_is_what_the_weights_say(name, part, bridges, tiny_models):
    (prompt,) = tiny.tokens(batch=1)
    found = score_parts(bridges[name], prompt)["score"].sel(part=part)
    expected = by_hand(tiny_models[name], prompt)[part]
    np.testing.assert_allclose(found, expected, **NEAR)
    assert np.nanmax(np.abs(expected)) > 0.01


def test_parts_are_named_by_query_and_key(bridges):
    assert score_parts(bridges["gpt2"], tiny.tokens()[0])["part"].values.tolist() == [
        *("content-content", "content-position", "content-bias"),
        *("position-content", "position-position", "position-bias"),
        *("bias-content", "bias-position", "bias-bias"),
    ]
    assert score_parts(bridges["pythia"], tiny.tokens()[0])["part"].values.tolist() == ["rotated", "unrotated"]


def test_where_embeddings_of_positions_are_zero_parts_of_positions_are(bridges, networks):
    (prompt,) = tiny.tokens(batch=1)
    net = networks["gpt2"]
    silent = dataclasses.replace(net, pos_embed=torch.zeros_like(net.pos_embed))
    with what_if(bridges["gpt2"], positions="zero"):
        found = score_parts(bridges["gpt2"], prompt)["score"]
    seen = ~np.isnan(found.sel(part="content-content"))
    for part in ABSOLUTE_PARTS:
        assert bool((found.sel(part=part).where(seen, 0) == 0).all()) is ("position" in part), part
    np.testing.assert_allclose(found.sum("part", skipna=False), oracle_scores(silent, prompt[None], 0)[0], **NEAR)


@pytest.mark.parametrize("treatment", [Shift(9), Freeze(4), Shuffle(3)], ids=str)
def test_parts_follow_the_position_treatment_in_force(treatment, bridges, networks):
    (prompt,) = tiny.tokens(batch=1)
    places = {
        "Shift": torch.arange(14) + 9,
        "Freeze": torch.full((14,), 4),
        "Shuffle": torch.randperm(tiny.CONTEXT, generator=torch.Generator().manual_seed(3))[:14],
    }[type(treatment).__name__]
    with what_if(bridges["gpt-neo"], positions=treatment):
        found = score_parts(bridges["gpt-neo"], prompt)["score"]
    expected = oracle_scores(networks["gpt-neo"], prompt[None], 0, positions=places)[0]
    np.testing.assert_allclose(found.sum("part", skipna=False), expected, **NEAR)


# The two parts of a rotary model ---------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "treatment"), [("rotated", OnlyRotated()), ("unrotated", OnlyUnrotated())])
def test_a_rotary_part_is_the_first_layers_score_with_that_part_alone(part, treatment, bridges, networks):
    (prompt,), model = tiny.tokens(batch=1), bridges["pythia"]
    found = score_parts(model, prompt)["score"].sel(part=part)

    site = "blocks.0.attn.hook_attn_scores"
    with torch.no_grad(), what_if(model, positions=treatment):
        hooked = model.run_with_cache(prompt[None], names_filter=site)[1][site][0]
    dropped = range(4, 8) if part == "rotated" else range(4)  # half of 8 dimensions are rotary
    expected = oracle_scores(networks["pythia"], prompt[None], 0, dropped=dropped)[0]
    np.testing.assert_allclose(found, expected, **NEAR)
    seen = ~np.isnan(expected)
    np.testing.assert_allclose(found.values[seen], hooked.numpy()[seen], **NEAR)


@pytest.mark.parametrize("layer", [1, 2])
def test_in_later_layers_a_rotary_part_is_of_the_q_and_k_that_came_there(layer, bridges, networks):
    (prompt,), net = tiny.tokens(batch=1), networks["pythia"]
    run = oracles.forward(net, prompt[None])
    q, k = (run.after[f"blocks.{layer}.attn.hook_rot_{part}"][0] for part in "qk")
    found = score_parts(bridges["pythia"], prompt, layer)["score"]
    for part, dims in (("rotated", range(4)), ("unrotated", range(4, 8))):
        for head, i, j in np.ndindex(4, 14, 14):
            if j <= i:
                expected = 8**-0.5 * sum(float(q[i, head, m] * k[j, head, m]) for m in dims)
                got = float(found.sel(part=part)[head, i, j])
                assert got == pytest.approx(expected, rel=1e-4, abs=2e-5)


def test_a_model_that_rotates_all_dimensions_has_nothing_unrotated(bridges, networks):
    (prompt,) = tiny.tokens(batch=1)
    found = score_parts(bridges["neox-sequential"], prompt, 1)["score"]
    seen = ~np.isnan(found.sel(part="rotated"))
    assert (found.sel(part="unrotated").where(seen, 0) == 0).all()
    expected = oracle_scores(networks["neox-sequential"], prompt[None], 1)[0]
    np.testing.assert_allclose(found.sel(part="rotated"), expected, **NEAR)
    shares = part_shares(bridges["neox-sequential"], prompt[None])["share"]
    np.testing.assert_allclose(shares.sel(part="rotated"), 1, atol=1e-9)
    np.testing.assert_array_equal(shares.sel(part="unrotated"), 0)


@pytest.mark.parametrize("treatment", [Scale(0.5), Unrotated([0]), WithoutBands([1])], ids=str)
def test_rotary_parts_add_up_under_a_treatment(treatment, bridges, networks):
    (prompt,), model = tiny.tokens(batch=1), bridges["pythia"]
    told = {
        "Scale": {"positions": torch.arange(14).double() * 0.5},
        "Unrotated": {"unrotated": [0]},
        "WithoutBands": {"dropped": [1, 3]},
    }[type(treatment).__name__]
    with what_if(model, positions=treatment):
        found = score_parts(model, prompt, 2)["score"]
    expected = oracle_scores(networks["pythia"], prompt[None], 2, **told)[0]
    np.testing.assert_allclose(found.sum("part", skipna=False), expected, **NEAR)


# Shares ----------------------------------------------------------------------------------------------------


def shares_by_loops(score) -> tuple[list[float], list[float]]:
    """Share and size of each part of one head, from [part, query, key] with NaN where a key is not seen."""
    along, squares, whole, cells = np.zeros(len(score)), np.zeros(len(score)), 0.0, 0
    for i in range(score.shape[1]):
        row = score[:, i][:, ~np.isnan(score[0, i])]
        row = row - row.mean(1, keepdims=True)
        total = row.sum(0)
        for j in range(row.shape[1]):
            cells += 1
            whole += total[j] ** 2
            along += row[:, j] * total[j]
            squares += row[:, j] ** 2
    return list(along / whole), list(np.sqrt(squares / cells))


@every_layer
def test_shares_and_sizes_are_those_of_plain_loops(name, layer, bridges, networks, tiny_models):
    tokens, net = tiny.tokens(), networks[name]
    found = part_shares(bridges[name], tokens)
    for prompt in range(len(tokens)):
        if name in tiny.ABSOLUTE:
            score = np.stack(list(by_hand(tiny_models[name], tokens[prompt]).values()))
        else:
            run = oracles.forward(net, tokens[prompt][None])
            q, k = (run.after[f"blocks.{layer}.attn.hook_rot_{part}"][0].numpy() for part in "qk")
            cut = (slice(0, net.rotary_dims), slice(net.rotary_dims, None))
            score = np.stack([8**-0.5 * np.einsum("ihd,jhd->hij", q[..., at], k[..., at]) for at in cut])
            score[..., ~oracles.visible(14, None).numpy()] = np.nan
        for head in range(4):
            share, size = shares_by_loops(score[:, head])
            cell = dict(prompt=prompt, layer=layer, head=head)
            np.testing.assert_allclose(found["share"].sel(cell), share, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(found["size"].sel(cell), size, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(tiny.NAMES), length=st.integers(2, 20), window=st.integers(2, 22), seed=st.integers(0, 99))
def test_shares_add_up_to_one(name, length, window, seed, bridges):
    with what_if(bridges[name], windows=window):
        shares = part_shares(bridges[name], tiny.tokens(seed, 2, length))["share"]
    np.testing.assert_allclose(shares.sum("part", skipna=False), 1, atol=1e-9)


def test_prompts_of_several_lengths_give_what_each_gives_alone(bridges):
    prompts = [tiny.tokens(0, 1, 9)[0], tiny.tokens(1, 1, 14)[0], tiny.tokens(2, 1, 9)[0]]
    together = part_shares(bridges["pythia"], prompts)
    assert together["length"].values.tolist() == [9, 14, 9]
    for number, prompt in enumerate(prompts):
        alone = part_shares(bridges["pythia"], [prompt])
        for variable in ("share", "size"):
            np.testing.assert_allclose(together[variable][number], alone[variable][0], rtol=1e-4, atol=1e-6)


@every_family
def test_blocks_of_queries_of_any_size_give_the_same(name, bridges, monkeypatch):
    tokens = tiny.tokens()
    with what_if(bridges[name], windows=5):
        whole = part_shares(bridges[name], tokens)
        for queries in (1, 4, 13):
            monkeypatch.setattr(parts, "_BLOCK_CELLS", queries * 2 * 4 * 14)
            cut = part_shares(bridges[name], tokens)
            for variable in ("share", "size"):
                np.testing.assert_allclose(cut[variable], whole[variable], rtol=1e-5, atol=1e-7)


def with_other(model, *, changes: dict[str, float]):
    """A GPT-2 like `model` whose named weights of the first layer are moved by random numbers of that size."""
    twin = tiny.model("gpt2")
    twin.load_state_dict(model.state_dict())
    state = dict(twin.named_parameters())
    with torch.no_grad():
        for name, (size, where) in changes.items():
            state[name][where] += size * torch.randn(
                state[name][where].shape, generator=torch.Generator().manual_seed(9)
            )
    return twin


def test_what_adds_a_constant_to_a_querys_row_changes_no_share(bridges, tiny_models, tmp_path_factory):
    """The bias of k: q_i b_k is the same for every key of a query, and so is each part whose key is the bias."""
    tokens, model = tiny.tokens(), tiny_models["gpt2"]
    other = with_other(model, changes={"transformer.h.0.attn.c_attn.bias": (3.0, slice(32, 64))})
    before, after = part_shares(bridges["gpt2"], tokens), part_shares(loaded(other, tmp_path_factory), tokens)
    for variable in ("share", "size"):
        np.testing.assert_allclose(after[variable], before[variable], rtol=1e-3, atol=1e-5)
        of_bias = before[variable].sel(part=[part for part in ABSOLUTE_PARTS if part.endswith("-bias")])
        np.testing.assert_allclose(of_bias, 0, atol=1e-5)


def test_the_bias_of_q_changes_the_parts_that_it_is_in_and_no_others(bridges, tiny_models, tmp_path_factory):
    tokens, model = tiny.tokens(), tiny_models["gpt2"]
    other = with_other(model, changes={"transformer.h.0.attn.c_attn.bias": (3.0, slice(0, 32))})
    before, after = part_shares(bridges["gpt2"], tokens), part_shares(loaded(other, tmp_path_factory), tokens)
    for part in ABSOLUTE_PARTS:
        same = np.allclose(after["size"].sel(part=part), before["size"].sel(part=part), rtol=1e-4, atol=1e-6)
        assert same is (part not in ("bias-content", "bias-position")), part


def test_a_part_that_works_against_the_others_has_a_share_below_zero():
    """Two parts, 3 and -1 times the same: shares 3 / 2 and -1 / 2."""
    score = np.random.default_rng(0).normal(size=(6, 6))
    share, _ = shares_by_loops(np.stack([3 * score, -score]))
    assert share == pytest.approx([1.5, -0.5])

    x = torch.eye(6, dtype=torch.float64)[None, None]
    made = [
        parts.Part(name, weight * x, torch.tensor(score.T)[None, None])
        for name, weight in (("one", 3.0), ("other", -1.0))
    ]
    facts = dataclasses.replace(neolens.anatomy("gpt2"), scale=1.0)
    found = parts._shares(made, facts, 0)
    np.testing.assert_allclose(found["share"].flatten(), [1.5, -0.5])
    lower = np.where(np.tril(np.ones((6, 6))) > 0, score, np.nan)
    np.testing.assert_allclose(found["size"].flatten(), shares_by_loops(np.stack([3 * lower, -lower]))[1])


def test_where_a_query_sees_one_key_there_is_no_share_and_the_size_is_zero(bridges):
    with what_if(bridges["pythia"], windows={1: 1}):
        found = part_shares(bridges["pythia"], tiny.tokens())
    assert found["share"].sel(layer=1).isnull().all()
    np.testing.assert_allclose(found["size"].sel(layer=1), 0, atol=1e-12)
    assert found["share"].sel(layer=[0, 2]).notnull().all()


@pytest.mark.parametrize(("name", "layers"), [("gpt2", [0]), ("gpt-neo", [0]), ("pythia", [0, 1, 2])])
def test_shares_are_of_the_layers_that_can_be_split(name, layers, bridges):
    found = part_shares(bridges[name], tiny.tokens())
    assert found["layer"].values.tolist() == layers
    assert found["part"].values.tolist() == list(ABSOLUTE_PARTS if name in tiny.ABSOLUTE else ROTARY_PARTS)


# What is refused -------------------------------------------------------------------------------------------

PROMPT = tiny.tokens()[0]
REFUSED = {
    "a later layer of an absolute model": (
        "gpt2",
        PROMPT,
        1,
        ValueError,
        "layer 1 of .*: absolute positions are mixed",
    ),
    "no such layer": ("pythia", PROMPT, 3, ValueError, "no layer 3 in .*: layers are 0 to 2"),
    "a negative layer": ("pythia", PROMPT, -1, ValueError, "no layer -1 in .*: layers are 0 to 2"),
    "a layer that is a float": ("pythia", PROMPT, 1.0, TypeError, "layer 1.0: expected a whole number"),
    "a layer that is a bool": ("pythia", PROMPT, True, TypeError, "layer True: expected a whole number"),
    "a layer in words": ("pythia", PROMPT, "first", TypeError, "layer 'first': expected a whole number"),
    "several prompts": ("pythia", tiny.tokens(), 0, ValueError, r"shape \(2, 14\): expected one prompt"),
    "no tokens": ("pythia", PROMPT.float(), 0, TypeError, "not a one-dimensional integer tensor"),
    "an empty prompt": ("pythia", PROMPT[:0], 0, ValueError, "prompt 0 has 0 tokens: .* takes 1 to 64"),
    "too long": ("gpt2", tiny.tokens(length=65)[0], 0, ValueError, "prompt 0 has 65 tokens: .* takes 1 to 64"),
}


@pytest.fixture
def no_runs(monkeypatch):
    for name in ("residual", "_absolute"):
        monkeypatch.setattr(parts, name, lambda *args, **rest: pytest.fail("the model ran"))


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_the_model_runs(case, bridges, no_runs):
    name, prompt, layer, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        score_parts(bridges[name], prompt, layer)


def test_models_without_positions_hooks_and_other_models_are_refused(bridges, tiny_models, no_runs):
    nope = neolens.load("lab/nope")
    hook = ("blocks.0.attn.hook_q", lambda x, hook: x)
    for function, tokens in ((score_parts, PROMPT), (part_shares, tiny.tokens())):
        with pytest.raises(ValueError, match="no position encoding: a split of scores needs absolute or rotary"):
            function(nope, tokens)
        with pytest.raises(TypeError, match="expected a model from neolens.load, got GPT2LMHeadModel"):
            function(tiny_models["gpt2"], tokens)
        with (
            bridges["gpt2"].hooks(fwd_hooks=[hook]),
            pytest.raises(ValueError, match="the model has hooks at blocks.0"),
        ):
            function(bridges["gpt2"], tokens)


def test_shares_of_one_token_are_refused(bridges, no_runs):
    with pytest.raises(ValueError, match="prompt 0 has 1 tokens: .* takes 2 to 64"):
        part_shares(bridges["gpt2"], tiny.tokens(length=1))
