"""Linear maps by the fastest product: the same numbers whatever the layout, the size and the way they are computed."""

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
import tiny
from neolens.network import logits, products, residual, weights_of
from neolens.network.products import ACTIVATIONS, apply
from neolens.network.weights import Linear

LAYOUTS = ("rows", "columns", "slice of columns")
"""How [d_out, d_in] lies in memory: Hugging Face's Linear, GPT-2's Conv1D, and GPT-2's q, k and v in one Conv1D."""


def weight(layout, d_out, d_in):
    if layout == "rows":
        return torch.randn(d_out, d_in)
    if layout == "columns":
        return torch.randn(d_in, d_out).T
    return torch.randn(d_in, 3 * d_out)[:, d_out : 2 * d_out].T


@settings(max_examples=60, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    activation=st.sampled_from([None, *ACTIVATIONS]),
    rows=st.sampled_from([0, 1, 7, 16, 127, 128, 300, 1100]),
    d_in=st.integers(1, 200),
    d_out=st.integers(1, 200),
    bias=st.booleans(),
    apart=st.booleans(),
    worth=st.sampled_from([0, products._WORTH]),
)
def test_the_product_is_that_of_float64(layout, activation, rows, d_in, d_out, bias, apart, worth):
    x = torch.randn(rows, 2 * d_in)[:, ::2] if apart else torch.randn(rows, d_in)
    linear = Linear(weight(layout, d_out, d_in), torch.randn(d_out) if bias else None)
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setattr(products, "_WORTH", worth)
        got = apply(linear, x, activation)

    exact = x.double() @ linear.weight.double().T + (linear.bias.double() if bias else 0)
    expected = exact if activation is None else ACTIVATIONS[activation](exact)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-6 * d_in**0.5 * max(4, d_in**0.5))


@given(rows=st.integers(0, 10_000))
def test_blocks_are_all_the_rows_in_few_sizes(rows):
    sizes = products.blocks(rows)
    assert sum(sizes) == rows
    assert set(sizes) <= {1024, 512, 256, 128, 64, 32, 16, rows % 16} - {0}


def test_memory_does_not_grow_with_every_new_number_of_rows(monkeypatch):
    # oneDNN keeps as much as the result takes for every shape that it meets: here 200 results of 4 MB and more
    process, linear, x = psutil.Process(), Linear(torch.randn(1024, 64), None), torch.randn(1400, 64)
    monkeypatch.setattr(products, "_WORTH", 0)
    apply(linear, x[:1400])
    apply(linear, x[:1008])
    before = process.memory_info().rss
    for rows in range(1001, 1400, 2):
        apply(linear, x[:rows])
    assert process.memory_info().rss - before < 200 * 2**20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_the_input_and_the_weights(layout, monkeypatch):
    monkeypatch.setattr(products, "_WORTH", 0)
    x, matrix = torch.randn(200, 6, requires_grad=True), weight(layout, 5, 6).requires_grad_()
    with torch.enable_grad():
        apply(Linear(matrix, None), x).sum().backward()
    torch.testing.assert_close(x.grad, matrix.detach().sum(0).expand(200, 6))
    torch.testing.assert_close(matrix.grad, x.detach().sum(0).expand(5, 6))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_whole_network_agrees_with_the_oracle_by_the_fast_products(name, bridges, networks, monkeypatch):
    monkeypatch.setattr(products, "_WORTH", 0)
    monkeypatch.setattr(products, "_WORTH_A_COPY", 0)
    tokens, weights = tiny.tokens(length=40), weights_of(bridges[name])
    with torch.no_grad():
        got = logits(weights, residual(weights, tokens))
    expected = oracles.forward(networks[name], tokens).logits
    assert (got - expected).abs().max() <= 1e-5 * (expected.max() - expected.min())
