"""Laws 1 to 3 on networks of any shape: windows, what lies out of their reach, and shifts, in every family."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import neolens
import tiny
from neolens.models.building import build_bridge
from neolens.models.config_facts import from_config
from neolens.network import logits, residual, weights_of
from neolens.prompts import repeated
from neolens.scores import induction_out_of_reach, mass_out_of_reach, window_difference

checked = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_FIELDS = {
    "gpt2": {"layers": "n_layer", "heads": "n_head", "width": "n_embd"},
    "gpt-neo": {"layers": "num_layers", "heads": "num_heads", "width": "hidden_size"},
}
_NEOX = {"layers": "num_hidden_layers", "heads": "num_attention_heads", "width": "hidden_size"}


@dataclass(frozen=True)
class Shape:
    """A random network, not built yet."""

    name: str
    seed: int
    changes: dict

    def build(self):
        model = tiny.model(self.name, seed=self.seed, **self.changes)
        return build_bridge(model, from_config(model.config, self.name))


@st.composite
def shapes(draw, names=tiny.NAMES):
    """A network of some family: layers, heads, width of a head, windows or rotation."""
    name = draw(st.sampled_from(names))
    layers, heads, d_head = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.sampled_from([4, 6, 8, 16]))
    size = {"layers": layers, "heads": heads, "width": heads * d_head}
    changes = {field: size[what] for what, field in _FIELDS.get(name, _NEOX).items()}
    if name == "gpt-neo":
        kinds = draw(st.lists(st.sampled_from(["global", "local"]), min_size=layers, max_size=layers))
        changes |= {"attention_types": [[kinds, 1]], "window_size": draw(st.integers(1, 12))}
    if name in tiny.ROTARY:
        share = draw(st.sampled_from([0.25, 0.5, 1.0]))
        assume(int(d_head * share) >= 2 and int(d_head * share) % 2 == 0)
        changes |= {"rotary_pct": share, "rotary_emb_base": draw(st.sampled_from([100, 10000]))}
    return Shape(name, draw(st.integers(0, 2**16)), changes)


def logits_of(model, tokens):
    weights = weights_of(model)
    with torch.no_grad():
        return logits(weights, residual(weights, tokens))


@checked
@given(shapes(("gpt-neo",)), st.integers(1, 16), st.integers(0, 2**16))
def test_up_to_its_window_a_local_layer_computes_exactly_what_a_global_one_would(shape, length, seed):
    model = shape.build()
    windows = model.anatomy.windows
    difference = window_difference(model, tiny.tokens(seed, length=length))
    if not windows or length <= min(windows):
        assert difference == 0.0
    else:
        assert difference > 0.0


@checked
@given(shapes(), st.integers(1, 12), st.integers(0, 2**16), st.data())
def test_in_every_family_a_window_given_by_hand_changes_nothing_up_to_it_and_something_beyond(
    shape, window, seed, data
):
    model = shape.build()
    assume(not model.anatomy.windows)
    length = data.draw(st.integers(1, 20))
    tokens = tiny.tokens(seed, length=length)
    before = logits_of(model, tokens)
    with neolens.what_if(model, windows=window):
        after = logits_of(model, tokens)
    assert torch.equal(before, after) is (length <= window)


@checked
@given(shapes(), st.integers(1, 12), st.integers(2, 20), st.integers(0, 2**16))
def test_a_local_layer_has_no_mass_at_its_window_and_no_induction_beyond_it(shape, window, n, seed):
    model = shape.build()
    tokens = repeated(range(1, tiny.VOCAB), n, bos=0, prompts=2, seed=seed)
    with neolens.what_if(model, windows=window):
        result = neolens.attention(model, tokens)
    far = result["mass_by_distance"].sel(distance=slice(window, None))
    assert (far.values == 0.0).all()
    assert not far.size or mass_out_of_reach(result) == 0.0
    if n - 1 >= window:
        assert induction_out_of_reach(result) == 0.0
    else:
        assert (result["induction"].values > 0).all()


@checked
@given(shapes(tiny.ROTARY), st.integers(2, 24), st.integers(-5000, 5000), st.integers(0, 2**16))
def test_moving_every_index_leaves_a_rotary_network_where_it_is(shape, length, by, seed):
    model = shape.build()
    assume(by)
    moved = neolens.shift(model, tiny.tokens(seed, length=length), by, progress=False)
    assert (moved["logits_exact"] <= 1e-9 * moved["spread"]).all()
    assert (moved["pattern"] <= 1e-3).all()  # float32 angles of 5,000 turns are 3e-4 radians coarse


@checked
@given(shapes(tiny.ABSOLUTE), st.integers(2, 24), st.integers(1, 40), st.integers(0, 2**16))
def test_moving_every_index_moves_an_absolute_network_far_beyond_rounding(shape, length, by, seed):
    model = shape.build()
    moved = neolens.shift(model, tiny.tokens(seed, length=length), by, progress=False)
    assert (moved["logits"] > 100 * moved["rounding"].where(moved["rounding"] > 0, 1e-9)).all()
    np.testing.assert_allclose(moved["logits"], moved["logits_exact"], rtol=1e-3)
