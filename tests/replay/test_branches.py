"""Branches of recorded runs, and attention in blocks: against loops over single cells, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import neolens
import oracles
import tiny
from neolens.models import AttentionSpan
from neolens.models.spans import seen
from neolens.network import attend, weights_of
from neolens.network.blockwise import PatternBlock
from neolens.replay import Branches, Heads, Trunk, record, recorded_sites
from test_ablation import prompts

every_family = pytest.mark.parametrize("name", tiny.NAMES)
spans = st.one_of(st.none(), st.integers(1, 9)).map(
    lambda window: AttentionSpan("global") if window is None else AttentionSpan("local", window)
)


# Attention -------------------------------------------------------------------------------------------------------


def cell_by_cell(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, nearest: int) -> Tensor:
    """z [prompt, head, query, d_head]; the queries are those of the last keys."""
    z, before = torch.zeros_like(q), k.shape[2] - q.shape[2]
    for prompt, head, row in np.ndindex(*q.shape[:3]):
        i = before + row
        keys = [j for j in range(i + 1) if i - j >= nearest and (window is None or i - j < window)]
        scores = [scale * float(q[prompt, head, row] @ k[prompt, head, j]) for j in keys]
        shares = [math.exp(score - max(scores)) for score in scores]
        for share, j in zip(shares, keys, strict=True):
            z[prompt, head, row] += share / sum(shares) * v[prompt, head, j]
    return z


def drawn(length: int, queries: int, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 2, n, 3, dtype=torch.float64, generator=draw) for n in (queries, length, length)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), spans, st.integers(0, 13), st.integers(1, 14), st.integers(0, 10**6))
def test_attention_is_that_of_loops_over_its_cells(length, queries, span, nearest, block, seed):
    qkv = drawn(length, min(queries, length), seed)
    truth = cell_by_cell(*qkv, span.window, 0.7, nearest)
    fused = attend(*qkv, span, scale=0.7, nearest=nearest, block=block)
    torch.testing.assert_close(fused, truth, rtol=1e-12, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), spans, st.integers(1, 14), st.integers(0, 10**6))
def test_attention_that_is_looked_at_is_the_same(length, queries, span, block, seed):
    qkv = drawn(length, min(queries, length), seed)
    rows: list[PatternBlock] = []
    plain = attend(*qkv, span, scale=0.7, block=block)
    watched = attend(*qkv, span, scale=0.7, block=block, observer=rows.append)
    through = attend(*qkv, span, scale=0.7, block=block, edit=lambda site, layer, x: x)
    torch.testing.assert_close(watched, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(through, watched, rtol=0, atol=0)
    assert sum(part.queries for part in rows) == min(queries, length)
    for part in rows:
        torch.testing.assert_close(part.pattern.sum(-1), torch.ones_like(part.pattern[..., 0]))


@pytest.mark.parametrize("window", [None, 4])
def test_near_keys_are_left_out_of_a_pattern_that_is_looked_at_too(window):
    qkv, rows = drawn(9, 5), []
    span = AttentionSpan("global") if window is None else AttentionSpan("local", window)
    watched = attend(*qkv, span, nearest=2, block=2, observer=rows.append)
    torch.testing.assert_close(watched, cell_by_cell(*qkv, window, 1.0, 2), rtol=1e-12, atol=1e-12)
    for part in rows:
        for row, column in np.ndindex(part.queries, part.keys):
            back = part.first_query + row - part.first_key - column
            hidden = back < 2 or (window is not None and back >= window)
            assert bool((part.pattern[:, :, row, column] == 0).all()) is hidden


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_query_that_sees_no_key_says_exactly_nothing(dtype):
    q, k, v = (x.to(dtype) for x in drawn(6, 6))
    z = attend(q, k, v, AttentionSpan("global"), nearest=4)
    assert (z[:, :, :4] == 0).all()
    assert (z[:, :, 4:] != 0).all()
    assert (attend(q, k, v, AttentionSpan("local", 3), nearest=3) == 0).all()


def test_a_branchs_own_queries_see_what_their_window_and_order_let_them():
    found = seen(torch.tensor([[5, 3], [2, 6]]), range(2, 7), AttentionSpan("local", 2))
    assert found.int().tolist() == [[[0, 0, 1, 1, 0], [1, 1, 0, 0, 0]], [[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]]
    assert seen(torch.tensor([[4]]), range(2, 7), AttentionSpan("global")).int().tolist() == [[[1, 1, 1, 0, 0]]]


# Branches --------------------------------------------------------------------------------------------------------


def branches(first, prompt=None) -> Branches:
    first = torch.tensor(first)
    return Branches(
        first, torch.zeros_like(first) if prompt is None else torch.tensor(prompt), torch.arange(len(first))
    )


@given(st.integers(1, 30), st.integers(1, 50), st.integers(1, 16), st.integers(1, 10**7))
def test_chunks_are_all_branches_in_order_and_as_small_as_the_budget_or_one(count, vectors, size, budget):
    whole = branches(list(range(count)))
    parts = list(whole.chunks(vectors, size, budget))
    assert torch.cat([part.group for part in parts]).tolist() == list(range(count))
    assert torch.cat([part.first for part in parts]).tolist() == list(range(count))
    for part in parts:
        assert len(part) == 1 or 16 * len(part) * vectors * size <= budget


def test_a_chunk_is_as_large_as_the_budget_lets_it_be():
    # a position takes 16 vectors: 3 branches of 10 positions and vectors of 4 bytes are 3 * 10 * 16 * 4 = 1,920 bytes
    assert [len(part) for part in branches([0] * 7).chunks(10, 4, 1920)] == [3, 3, 1]
    assert [len(part) for part in branches([0] * 7).chunks(10, 4, 1919)] == [2, 2, 2, 1]


@pytest.fixture(scope="module")
def exact(tiny_folders) -> dict:
    """Weights of the tiny models in float64."""
    return {name: weights_of(neolens.load(folder, dtype=torch.float64)) for name, folder in tiny_folders.items()}


def recorded(weights, tokens: Tensor, scores: bool = False):
    facts = weights.anatomy
    return record(weights, tokens, recorded_sites(facts.parallel, scores), facts.attention)


def trunk(weights, tokens: Tensor, change, read=None, scores: bool = False) -> Trunk:
    its = recorded(weights, tokens, scores)
    return Trunk(weights, its, weights.anatomy.attention, change, tokens.shape[1], read)


def halved(its: Heads) -> Tensor:
    """Half of what head 1 computed, and head 2's taken from head 0."""
    z = its.z.clone()
    z[:, 1] = its.z[:, 1] * 0.5
    z[:, 2] = its.z[:, 0]
    return z


def halved_by_hand(z: Tensor) -> Tensor:
    z = z.clone()
    z[:, :, 2] = z[:, :, 0]
    z[:, :, 1] *= 0.5
    return z


@every_family
@torch.no_grad()
def test_a_branch_in_which_nothing_changes_is_the_recorded_run(name, exact):
    weights, tokens = exact[name], tiny.tokens(batch=2, length=9)
    final = recorded(weights, tokens)["resid_post"][weights.anatomy.layers - 1]
    its = trunk(weights, tokens, lambda computed: computed.z)
    found = its.through(branches([0, 1, 1, 2], [1, 0, 1, 0]))
    torch.testing.assert_close(found, final[[1, 0, 1, 0]], rtol=1e-10, atol=1e-10)


@every_family
@torch.no_grad()
def test_a_branch_is_the_run_whose_heads_change_from_a_layer_on(name, exact, networks):
    weights, network, tokens = exact[name], networks[name], tiny.tokens(batch=2, length=9)
    first, prompt = [0, 0, 1, 2], [0, 1, 1, 0]
    found = trunk(weights, tokens, halved).through(branches(first, prompt))
    for row, (begin, number) in enumerate(zip(first, prompt, strict=True)):
        edits = {f"blocks.{layer}.attn.hook_z": halved_by_hand for layer in range(begin, len(network.layers))}
        after = oracles.forward(network, tokens[number][None], edits).after
        truth = after[f"blocks.{len(network.layers) - 1}.hook_resid_post"][0]
        torch.testing.assert_close(found[row], truth, rtol=2e-6, atol=2e-6)  # the rotation's angles are fp32


@every_family
@pytest.mark.parametrize("read", [[[8], [8]], [[2, 7, 2], [5, 0, 8]], [[6, 8], [7, 6]]], ids=str)
@torch.no_grad()
def test_positions_that_are_read_are_those_of_the_whole_run(name, read, exact):
    weights, tokens, read = exact[name], tiny.tokens(batch=2, length=9), torch.tensor(read)
    its = branches([0, 1, 1, 2], [1, 0, 1, 0])
    whole = trunk(weights, tokens, halved).through(its)
    some = trunk(weights, tokens, halved, read).through(its)
    expected = torch.stack([whole[row, read[number]] for row, number in enumerate(its.prompt)])
    torch.testing.assert_close(some, expected, rtol=1e-10, atol=1e-10)


@every_family
@torch.no_grad()
def test_a_change_is_handed_the_queries_keys_and_values_of_the_run(name, exact, networks):
    weights, network, tokens = exact[name], networks[name], tiny.tokens(batch=2, length=9)
    read, found = torch.tensor([[8, 3], [5, 5]]), {}

    def look(computed: Heads) -> Tensor:
        for row, number in enumerate(computed.branches.prompt.tolist()):
            found[computed.layer, row, int(computed.branches.first[row])] = number, row, computed
        return computed.z

    trunk(weights, tokens, look, read, scores=True).through(branches([0, 2], [1, 0]))
    rotated = "rot_" if weights.anatomy.position.kind == "rotary" else ""
    assert {(layer, first) for layer, _, first in found} >= {(0, 0), (1, 0), (2, 0), (2, 2)}
    for (layer, _, _), (number, row, its) in found.items():
        after = oracles.forward(network, tokens[number][None]).after
        truth = [after[f"blocks.{layer}.attn.hook_{part}"][0] for part in (f"{rotated}q", f"{rotated}k", "v", "z")]
        queries = list(its.queries) if isinstance(its.queries, range) else its.queries[row].tolist()
        given = [its.qkv[0], its.qkv[1], its.qkv[2], its.z]
        for whole, part, where in zip(truth, given, [queries, list(its.keys), list(its.keys), queries], strict=True):
            torch.testing.assert_close(part[row], whole[where].transpose(0, 1), rtol=2e-6, atol=2e-6)


@torch.no_grad()
def test_windows_bound_what_is_computed_for_the_last_position(tmp_path):
    # read at 11 alone, windows of 3: the last layer needs keys from 9, the one below its from 7
    tiny.model("gpt-neo", num_layers=3, attention_types=[[["local"], 3]], window_size=3).save_pretrained(tmp_path)
    weights, handed = weights_of(neolens.load(tmp_path, dtype=torch.float64)), {}

    def look(computed: Heads) -> Tensor:
        queries = computed.queries
        handed[computed.layer] = (queries.start if isinstance(queries, range) else queries.tolist(), computed.keys)
        return halved(computed)

    tokens = torch.stack(prompts((12, 12)))
    its = branches([0, 0], [0, 1])
    some = trunk(weights, tokens, look, torch.tensor([[11], [11]])).through(its)
    assert handed == {0: (7, range(12)), 1: (9, range(7, 12)), 2: ([[11], [11]], range(9, 12))}
    whole = trunk(weights, tokens, halved).through(its)
    torch.testing.assert_close(some, whole[:, 11:], rtol=1e-10, atol=1e-10)


def test_what_is_recorded_is_what_branches_begin_from():
    assert recorded_sites(parallel=True, scores=False) == {"resid_pre", "mlp_out", "z"}
    assert recorded_sites(parallel=False, scores=False) == {"resid_pre", "z"}
    assert recorded_sites(parallel=True, scores=True) == {"resid_pre", "mlp_out", "z", "q", "k", "v"}
