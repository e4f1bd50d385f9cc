"""One small call of every public instrument, for tests of what the results must not depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

import neolens
import tiny
from neolens import network, position, views
from neolens.prompts.pairs import PromptPairs

FAMILIES = ("gpt-neo", "pythia")


@dataclass(frozen=True)
class Call:
    """An instrument with arguments; `families` are those to which it applies."""

    name: str
    measure: Callable[[Any], Any]
    families: tuple[str, ...] = FAMILIES

    def __str__(self) -> str:
        return self.name


TOKENS = tiny.tokens(length=9)
REPEATED = torch.cat([TOKENS[:, :1], TOKENS[:, 1:5], TOKENS[:, 1:5]], dim=1)
LONG = tiny.tokens(batch=1, length=tiny.CONTEXT + 3)
PAIRS = PromptPairs.from_tokens(
    [TOKENS[0]], [torch.cat([TOKENS[0, :3], TOKENS[1, 3:]])], torch.tensor([5]), torch.tensor([7])
)


def patch(model: Any, **engine: str) -> xr.Dataset:
    return neolens.patch(model, PAIRS, "z", layers=[1], positions="all", progress=False, **engine)


def ablate(model: Any, **engine: str) -> xr.Dataset:
    groups = {"1.0": [(1, 0)], "2.1": [(2, 1)]}
    return neolens.ablate(model, TOKENS, groups, how="zero", progress=False, **engine)


HOOKED = (
    Call("attention with hooks", lambda model: neolens.attention(model, TOKENS, engine="hooks")),
    Call("patch with hooks", lambda model: patch(model, engine="hooks")),
    Call("ablate with hooks", lambda model: ablate(model, engine="hooks")),
)
OF_RUNS = (
    Call("attention", lambda model: neolens.attention(model, TOKENS)),
    Call("patch", patch),
    Call("ablate", ablate),
    Call("roles", lambda model: neolens.roles(model, REPEATED, resamples=20, progress=False)),
    Call("shift", lambda model: neolens.shift(model, TOKENS, by=[3], progress=False)),
    Call("toeplitz", lambda model: position.toeplitz(model, TOKENS)),
    Call("bands", lambda model: position.bands(model, TOKENS, [0], progress=False), ("pythia",)),
    Call("part_shares", lambda model: position.part_shares(model, TOKENS)),
    Call("score_parts", lambda model: position.score_parts(model, TOKENS[0])),
    Call("beyond_context", lambda model: position.beyond_context(model, LONG), ("pythia",)),
    Call("ablate_positions", lambda model: position.ablate_positions(model, TOKENS, progress=False)),
    Call("embedding_geometry", lambda model: position.embedding_geometry(model, components=2), ("gpt-neo",)),
    Call("views.attention", lambda model: views.attention(model, TOKENS[0])),
    Call("head_patterns", lambda model: network.head_patterns(model, TOKENS[0], {1: [0, 2]})),
)
OF_WEIGHTS = (
    Call("qk", lambda model: position.qk(model, 1, 2)),
    Call("ov", lambda model: position.ov(model, 1, 2)),
    Call("anatomy", neolens.anatomy),
    Call("fingerprint", neolens.fingerprint),
)


DEFAULT = tuple(call for call in OF_RUNS if call.name in ("attention", "patch", "ablate"))
"""The instruments that have two engines, with the default one."""


def cases(calls: tuple[Call, ...]) -> list[tuple[str, Call]]:
    """Every call with every family to which it applies."""
    return [(family, call) for call in calls for family in call.families]


def numbers(result: Any) -> dict[str, np.ndarray]:
    """The numbers of a result by name; what has none (an anatomy, a fingerprint) as its text."""
    if isinstance(result, xr.Dataset):
        return {str(name): result[name].values for name in result.data_vars}
    if isinstance(result, dict):
        return {str(name): value.numpy() for name, value in result.items()}
    if hasattr(result, "AB"):
        return {"AB": result.AB.detach().numpy()}
    if isinstance(result, views.View):
        table = result.table()
        return {name: table[name].to_numpy() for name in table.columns}
    return {"text": np.array(repr(result))}


def assert_same_numbers(result: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Equal names, equal texts, and numbers that differ by at most `tolerance` (times their size, beyond 1)."""
    ours, truth = numbers(result), numbers(expected)
    assert ours.keys() == truth.keys()
    for name, value in truth.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(ours[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            assert (ours[name] == value).all(), name
