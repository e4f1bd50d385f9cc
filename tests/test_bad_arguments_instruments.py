"""Bad arguments of every public function: refused in one clear line of neolens's own, before the model runs.

A table names for each function one call that works and, for each argument, values that it must refuse, each in an
otherwise valid call.
"""

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

import neolens
from neolens import ablation, metrics, network, patching, position, prompts, replay, scores, sites, whatif
from neolens.prompts import PromptPairs

pytestmark = pytest.mark.untyped

HOME = Path(neolens.__file__).parent
LONGEST = 330
"""Characters of an error."""

NAN, INF = float("nan"), float("inf")


class Kit:
    """What valid calls are made of, each part built when it is first used."""

    @functools.cached_property
    def gpt2(self) -> Any:
        return neolens.load("lab/gpt2")

    @functools.cached_property
    def pythia(self) -> Any:
        return neolens.load("lab/pythia")

    @functools.cached_property
    def tokens(self) -> torch.Tensor:
        return prompts.random_repeats(self.gpt2, 5, prompts=8)

    @functools.cached_property
    def long(self) -> torch.Tensor:
        return torch.randint(5, 100, (1, neolens.anatomy(self.pythia).context + 2))

    @functools.cached_property
    def pairs(self) -> PromptPairs:
        return prompts.induction(self.gpt2, 3)

    @functools.cached_property
    def ablated(self) -> xr.Dataset:
        groups = {"a": [(1, 0)], "b": [(2, 1)]}
        return neolens.ablate(self.gpt2, self.tokens, groups, how="zero", progress=False)

    @functools.cached_property
    def effects(self) -> xr.Dataset:
        return ablation.effect(self.ablated)

    @functools.cached_property
    def patched(self) -> xr.Dataset:
        return neolens.patch(self.gpt2, self.pairs, "z", layers=[1], heads=[0], positions="all", progress=False)

    @functools.cached_property
    def seen(self) -> xr.Dataset:
        return neolens.attention(self.gpt2, self.tokens)

    @functools.cached_property
    def local(self) -> xr.Dataset:
        return neolens.attention(neolens.load("lab/gpt-neo"), self.tokens)

    @functools.cached_property
    def roles(self) -> xr.Dataset:
        return neolens.roles(self.gpt2, within=2, progress=False)

    @functools.cached_property
    def bands(self) -> xr.Dataset:
        return position.bands(self.pythia, self.tokens, [0], progress=False)

    @functools.cached_property
    def weights(self) -> network.Weights:
        return network.weights_of(self.gpt2)

    @functools.cached_property
    def distances(self) -> np.ndarray:
        return np.where(np.arange(11) == 9, 3, -1)[None].repeat(8, 0)


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit()


class Later:
    """A bad value that is made of the kit."""

    def __init__(self, name: str, make: Callable[[Kit], Any]) -> None:
        self.name, self.make = name, make

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A function, a call of it that works, and bad values of its arguments."""

    name: str
    function: Callable[..., Any]
    valid: Callable[[Kit], dict[str, Any]]
    bad: dict[str, tuple[Any, ...]]


def entered(make: Callable[..., Any]) -> Callable[..., None]:
    """A function that enters the context that `make` gives."""

    def enter(**arguments: Any) -> None:
        with make(**arguments):
            pass

    return enter


def generator() -> Any:
    return (number for number in "ab")


# Pools ---------------------------------------------------------------------------------------------------------------

THINGS = ({1: 1.5}, {1.5}, object(), int, len, 1j, np.array(["x"], dtype=object), b"\x01")
"""What is neither a number, a name nor a list of them."""
NO_NUMBER = ("", "x", True, np.True_, torch.tensor([1.0, 2.0]), *THINGS)
NO_WHOLE = (1.5, "1", NAN, INF, -INF, torch.tensor(2.5), np.float64(2), *NO_NUMBER)
NO_FLAG = (0, 1, "yes", "", None, 0.0, [], np.int64(1), torch.tensor(True), *THINGS)
NO_SEED = (*NO_WHOLE, None, [1], -1, 10**30)
NO_COUNT = (*NO_WHOLE, [1], 0, -1)
NO_NAME = (3, 1.5, "", "nonsense", ["nonsense"], True, *THINGS)
NO_RESULT = (
    *(None, 3, 1.5, "result", [], True, *THINGS),
    *(xr.Dataset(), xr.DataArray([1.0]), xr.Dataset({"x": ("prompt", [1.0])})),
    Later("another kind of result", lambda kit: kit.seen),
)
NO_MODEL = (
    *(None, 3, 1.5, [], "", True, torch.nn.Linear(2, 2), torch.zeros(2), *THINGS),
    Later("a Hugging Face model", lambda kit: kit.gpt2.original_model),
    Later("the class of the model", lambda kit: type(kit.gpt2)),
)
NO_PROMPTS = (
    *(None, 3, 1.5, "text", True, [], (), [None], ["a"], [[1, 2], [3, 4]], [1, 2], np.zeros((2, 3)), *THINGS),
    *(torch.tensor(3), torch.zeros(2, 9), torch.zeros(2, 9, dtype=torch.bool), torch.zeros(2, 9, dtype=torch.cfloat)),
    *(torch.zeros(0, 9, dtype=torch.long), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 9, 2, dtype=torch.long)),
    *(torch.full((2, 11), -1), torch.full((2, 11), 10**6), torch.full((2, 11), 2**62), torch.full((2, 11), NAN)),
    *(torch.zeros(2, 11, dtype=torch.long, device="meta"), torch.eye(11).long().to_sparse()),
    Later("a generator", lambda kit: generator()),
    Later("the model", lambda kit: kit.gpt2),
    Later("prompts by name", lambda kit: {"mine": kit.tokens[0]}),
)
NOT_PAIRS = (Later("pairs", lambda kit: kit.pairs),)
ONE_TOO_MANY = (Later("prompts with a number", lambda kit: [kit.tokens[0], 3]),)
NO_LAYERS = ([1.5], ["1"], [True], "12", {"0": 1}, {0}, 1.5, [], [99], [-1], [10**30], [None], [[0]], -1, *THINGS)
NO_LAYER = (*NO_WHOLE, [0], 99, -1, 10**30)
NO_HEADS = (
    *(None, 3, 1.5, "", "3.x", [3], [(0,)], [(0, 0, 0)], [("0", "1")], [(0.0, 1)], [(True, 0)], [(0, 99)], [(99, 0)]),
    *([(-1, 0)], [None], [], {(0, 1): 2}, [(0, 10**30)], ["9.9"], *THINGS),
)
NO_GROUPS = (
    *(None, 3, "heads", [(0, 1)], {}, {1: [(0, 1)]}, {"": [(0, 1)]}, {"a": None}, {"a": []}, {"a": [(9, 9)]}),
    *({"a": [(0, 1.0)]}, {"a": "x"}, {"a": [(0, True)]}, {"a": 1}, {None: [(0, 1)]}, {"a": {(0, 1): 1}}, *THINGS),
)
NO_METRIC = (3, 1.5, "", "nonsense", [], {}, None, True, ["loss", "loss"], ["loss", 3], [[]], b"loss", 1j)
NO_WAY = (None, *NO_NAME, 0.0, [], ("zero",), ablation.Beyond, pd.Series(["a", "b"]))
NO_POSITIONS = (
    3.5,
    [],
    {},
    [1.5],
    [None],
    [True],
    [10**6],
    [-(10**6)],
    ["nowhere"],
    {"a": 3},
    {"a": [1]},
    10**30,
    {"a": [1.5, 1, 1]},
    [[1]],
    [10**30],
    b"each",
    object(),
    int,
    1j,
    True,
)
NO_DISTANCE = (*NO_WHOLE, None, [1], 0, -1, 10**30)
NO_MEMORY = (*NO_WHOLE, None, 0, -1, [1])
NO_PATH = (None, 3, 1.5, True, ["a"], "", "no/such/file", "a\0b", *THINGS, Path("/"))
NO_TOKENIZER = (None, 3, "gpt2", [], True, *THINGS)
NO_BANDS = ([1.5], ["1"], "1", [True], [99], [-1], [10**30], [None], 1.5, {0: 1}, [[0]], b"\x01", object(), int, 1j)

NO_TOKENS = {"tokens": (*NO_PROMPTS, *NOT_PAIRS, *ONE_TOO_MANY)}
NO_PROGRESS = {"progress": NO_FLAG}
OF_MODEL = {"model": NO_MODEL}


def treatments() -> list[Call]:
    return [
        Call("Shift", whatif.Shift, lambda kit: {"by": 2}, {"by": (*NO_WHOLE, None, [1], 10**30, -(10**30))}),
        Call("Freeze", whatif.Freeze, lambda kit: {"at": 2}, {"at": (*NO_WHOLE, None, [1], -1, 10**30)}),
        Call("Shuffle", whatif.Shuffle, lambda kit: {}, {"seed": NO_SEED, "within": (*NO_COUNT, 10**30)}),
        Call(
            "Scale", whatif.Scale, lambda kit: {"by": 0.5}, {"by": (*NO_NUMBER[1:], None, NAN, INF, 0, -0.0, -1, 1e30)}
        ),
        Call("Unrotated", whatif.Unrotated, lambda kit: {}, {"bands": (*NO_BANDS[:4], *NO_BANDS[5:])}),
        Call(
            "WithoutBands",
            whatif.WithoutBands,
            lambda kit: {"bands": [0]},
            {"bands": (None, *NO_BANDS[:4], *NO_BANDS[5:])},
        ),
        Call(
            "what_if",
            neolens.what_if,
            lambda kit: {"model": kit.gpt2, "windows": 4},
            {
                **OF_MODEL,
                "windows": (
                    *NO_COUNT[1:],
                    1.5,
                    10**30,
                    "localised",
                    [4],
                    {99: 4},
                    {"0": 4},
                    {0: "x"},
                    {0.0: 4},
                    {True: 4},
                    {0: None},
                    {0: 1.5},
                    {},
                    {0: 10**30},
                    torch.tensor(2.5),
                ),
                "positions": (
                    3,
                    1.5,
                    "nonsense",
                    "",
                    [],
                    {},
                    True,
                    whatif.Shift,
                    whatif.Unrotated(),
                    whatif.Scale(0.5),
                    whatif.Shift(10**6),
                    whatif.Freeze(10**6),
                    whatif.Shuffle(within=10**6),
                    ["zero"],
                    *THINGS,
                ),
            },
        ),
    ]


def ablations() -> list[Call]:
    of_result = {
        "metric": (3, "nonsense", ["loss"], 1.5, *THINGS),
        "where": (
            3,
            "x",
            [True],
            np.zeros((8, 11)),
            np.zeros((8, 11), bool),
            np.zeros((2, 2), bool),
            {},
            object(),
            [[True], [True, False]],
            xr.DataArray([True]),
        ),
        "resamples": (*NO_COUNT, None, 10**30),
        "seed": NO_SEED,
    }
    heads = {"model": NO_MODEL}
    return [
        Call(
            "ablate",
            neolens.ablate,
            lambda kit: {
                "model": kit.gpt2,
                "tokens": kit.tokens,
                "groups": {"a": [(1, 0)]},
                "how": "zero",
                "progress": False,
            },
            {
                **OF_MODEL,
                **NO_PROGRESS,
                "tokens": (*NO_PROMPTS, *ONE_TOO_MANY),
                "groups": NO_GROUPS,
                "how": NO_WAY,
                "metric": NO_METRIC,
                "reference": (3, "text", [], [3], torch.zeros(2, 9)),
                "positions": NO_POSITIONS,
                "answers": (
                    3,
                    "x",
                    [],
                    [1, 2, 3],
                    torch.zeros(8, 11),
                    torch.full((8, 11), 10**6),
                    torch.full((8, 11), -2),
                    {},
                    object(),
                    torch.zeros(8, 10).long(),
                ),
                "distractors": (3, "x", [], torch.zeros(8, 11), torch.full((8, 11), 10**6), {}, object()),
                "seed": NO_SEED,
                "engine": NO_WAY,
                "max_memory": NO_MEMORY,
            },
        ),
        Call(
            "ablate with a mean",
            neolens.ablate,
            lambda kit: {
                "model": kit.gpt2,
                "tokens": kit.tokens,
                "groups": {"a": [(1, 0)]},
                "how": "mean",
                "progress": False,
            },
            {"reference": (*NO_PROMPTS[1:], *ONE_TOO_MANY)},
        ),
        Call(
            "continuations",
            ablation.continuations,
            lambda kit: {
                "model": kit.gpt2,
                "prompts": "Mary buys the corn",
                "groups": {"a": [(1, 0)]},
                "new_tokens": 2,
            },
            {
                **OF_MODEL,
                "prompts": (None, 3, "", [], [3], [None], {}, {"a": "b"}, True, [["a"]], *THINGS),
                "groups": NO_GROUPS,
                "how": NO_WAY,
                "reference": (3, "x", [3]),
                "new_tokens": (*NO_COUNT, None, 10**30),
                "seed": NO_SEED,
                "prepend_bos": NO_FLAG,
            },
        ),
        Call(
            "ablated",
            entered(ablation.ablated),
            lambda kit: {"model": kit.gpt2, "heads": [(1, 0)]},
            {**OF_MODEL, "heads": NO_HEADS, "how": NO_WAY, "reference": (3, "x", [3]), "seed": NO_SEED},
        ),
        Call(
            "ablated by a mean",
            entered(ablation.ablated),
            lambda kit: {"model": kit.gpt2, "heads": [(1, 0)], "how": "mean", "reference": kit.tokens},
            {"reference": NO_PROMPTS},
        ),
        Call("each_head", neolens.each_head, lambda kit: {"model": kit.gpt2}, heads),
        Call("each_layer", neolens.each_layer, lambda kit: {"model": kit.gpt2}, heads),
        Call(
            "by_kind",
            neolens.by_kind,
            lambda kit: {"model": kit.gpt2},
            {**heads, "draws": (*NO_WHOLE, None, -1, [1]), "seed": NO_SEED},
        ),
        Call(
            "random_like",
            ablation.random_like,
            lambda kit: {"model": kit.gpt2, "heads": [(1, 0)]},
            {**heads, "heads": NO_HEADS, "draws": (*NO_COUNT, None), "seed": NO_SEED},
        ),
        Call(
            "effect",
            ablation.effect,
            lambda kit: {"result": kit.ablated},
            {"result": NO_RESULT, **of_result, "correction": NO_WAY},
        ),
        Call(
            "difference",
            ablation.difference,
            lambda kit: {"result": kit.ablated, "group": "a", "other": "b"},
            {
                "result": NO_RESULT,
                **of_result,
                "group": (None, *NO_NAME, [], [3], ["a", 3], [["a"]]),
                "other": (None, *NO_NAME, [], "a"),
            },
        ),
        Call("heads_grid", ablation.heads_grid, lambda kit: {"effects": kit.effects}, {"effects": NO_RESULT}),
        Call(
            "by_distance",
            ablation.by_distance,
            lambda kit: {"result": kit.ablated, "distance": kit.distances},
            {
                "result": NO_RESULT,
                "metric": (3, "nonsense", ["loss"], *THINGS),
                "distance": (
                    None,
                    3,
                    "x",
                    [],
                    [[1], [1, 2]],
                    np.full((8, 11), 0.5),
                    np.full((8, 11), 99),
                    np.full((8, 11), -7),
                    np.full((8, 11), "x"),
                    np.full((8, 11), None),
                    np.full((8, 11), INF),
                    object(),
                    {},
                ),
            },
        ),
        Call("Beyond", ablation.Beyond, lambda kit: {"distance": 2}, {"distance": NO_DISTANCE}),
        Call("Within", ablation.Within, lambda kit: {"distance": 2}, {"distance": NO_DISTANCE}),
        Call(
            "side_by_side",
            ablation.Continuations(("a",), {"as it is": ("b",)}, {"as it is": (1,)}).side_by_side,
            lambda kit: {"number": 0},
            {"number": (*NO_WHOLE, None, 9, -2), "width": (*NO_COUNT, None, 10**30)},
        ),
    ]


def patches() -> list[Call]:
    return [
        Call(
            "patch",
            neolens.patch,
            lambda kit: {"model": kit.gpt2, "pairs": kit.pairs, "site": "z", "positions": "all", "progress": False},
            {
                **OF_MODEL,
                **NO_PROGRESS,
                "verify": NO_FLAG,
                "layers": NO_LAYERS,
                "heads": NO_LAYERS,
                "max_memory": NO_MEMORY,
                "pairs": (
                    *NO_PROMPTS,
                    Later("a tuple", lambda kit: (kit.tokens, kit.tokens, [1], [2])),
                    Later("two tensors", lambda kit: [kit.tokens, kit.tokens]),
                    Later("tokens", lambda kit: kit.tokens),
                ),
                "site": (None, *NO_NAME, "pattern2", ("z",)),
                "metric": NO_METRIC,
                "direction": NO_WAY,
                "engine": NO_WAY,
                "positions": (
                    None,
                    3,
                    1.5,
                    "",
                    "nowhere",
                    [],
                    [3],
                    [None],
                    [("source",)],
                    ["source", 3],
                    [("source", 3)],
                    ("source", "query", "end"),
                    [("query", "source")],
                    {},
                    True,
                    [["source", "query"]],
                    *THINGS,
                ),
                "dtype": (3, "int8", "float", torch.int64, 1.5, [], True, *THINGS),
            },
        ),
        Call("recovered", neolens.recovered, lambda kit: {"result": kit.patched}, {"result": NO_RESULT}),
    ]


def scoring() -> list[Call]:
    return [
        Call(
            "attention",
            neolens.attention,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {
                **OF_MODEL,
                **NO_TOKENS,
                "scores": (
                    3,
                    "sink",
                    ["nonsense"],
                    [3],
                    [None],
                    [],
                    {},
                    True,
                    [["sink"]],
                    pd.Series(["a", "b"]),
                    *THINGS,
                ),
                "distances": ([1.5], ["1"], "1", [True], 1.5, [99], [-1], [], {1: 1}, [None], [10**30], [[1]], *THINGS),
                "sink_key": (*NO_WHOLE, None, [0], -1, 99, 10**30),
                "engine": NO_WAY,
            },
        ),
        Call(
            "roles",
            neolens.roles,
            lambda kit: {"model": kit.gpt2, "within": 2, "progress": False},
            {
                **OF_MODEL,
                **NO_PROGRESS,
                "causes": NO_FLAG,
                "tokens": (*NO_PROMPTS[1:], *NOT_PAIRS, torch.arange(9)[None], torch.zeros(2, 5, dtype=torch.long)),
                "thresholds": (
                    3,
                    "x",
                    [0.5],
                    {"sink": 0},
                    {"sink": 1.5},
                    {"sink": "x"},
                    {"sink": None},
                    {"sink": NAN},
                    {"nonsense": 0.5},
                    {3: 0.5},
                    {"sink": True},
                    {None: 0.5},
                    True,
                    object(),
                    {"sink": [0.5]},
                    xr.Dataset(),
                ),
                "within": (*NO_COUNT, 10**30, 10**6),
                "draws": (*NO_COUNT, None, 10**30),
                "how": NO_WAY,
                "resamples": (*NO_COUNT, None, 10**30),
                "seed": NO_SEED,
            },
        ),
        Call(
            "heads_of",
            scores.heads_of,
            lambda kit: {"result": kit.roles, "role": "sink"},
            {"result": NO_RESULT, "role": (None, *NO_NAME)},
        ),
        Call(
            "by_kind of scores",
            scores.by_kind,
            lambda kit: {"result": kit.seen, "window": 4},
            {"result": (*NO_RESULT[:-1], Later("ablated", lambda kit: kit.ablated)), "window": (*NO_COUNT, None)},
        ),
        Call(
            "share_beyond",
            scores.share_beyond,
            lambda kit: {"result": kit.seen, "window": 4},
            {"result": (*NO_RESULT[:-1], Later("ablated", lambda kit: kit.ablated)), "window": (*NO_COUNT, None)},
        ),
        Call(
            "top_head",
            scores.top_head,
            lambda kit: {"score": kit.seen["sink"]},
            {
                "score": (
                    *(None, 3, "sink", [], xr.DataArray([1.0]), *THINGS),
                    Later("a dataset", lambda kit: kit.seen),
                    Later("words", lambda kit: kit.seen["sink"].astype(str)),
                    Later("without kinds", lambda kit: kit.seen["sink"].drop_vars("attention_kind")),
                )
            },
        ),
        Call(
            "induction_out_of_reach",
            scores.induction_out_of_reach,
            lambda kit: {"result": kit.local},
            {"result": (*NO_RESULT, Later("ablated", lambda kit: kit.ablated)), "score": (None, *NO_NAME)},
        ),
        Call(
            "mass_out_of_reach",
            scores.mass_out_of_reach,
            lambda kit: {"result": kit.local},
            {"result": (*NO_RESULT, Later("ablated", lambda kit: kit.ablated))},
        ),
        Call(
            "narrowest_window",
            scores.narrowest_window,
            lambda kit: {"anatomies": [kit.gpt2.anatomy]},
            {"anatomies": (None, 3, "lab/gpt2", [], [3], [None], *THINGS, Later("a model", lambda kit: kit.gpt2))},
        ),
        Call(
            "repeat_accuracy",
            scores.repeat_accuracy,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {**OF_MODEL, **NO_TOKENS, "spans": (3, "local", [], [3], [None] * 4, {}, *THINGS)},
        ),
        Call(
            "window_difference",
            scores.window_difference,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {**OF_MODEL, **NO_TOKENS},
        ),
        Call(
            "shown_patterns",
            scores.shown_patterns,
            lambda kit: {"model": kit.gpt2, "prompt": kit.tokens[0], "heads": [(1, 0)]},
            {
                **OF_MODEL,
                "heads": (*NO_HEADS, [(0, 1), (0, 1)]),
                "prompt": (*NO_PROMPTS, Later("two prompts", lambda kit: kit.tokens)),
            },
        ),
    ]


def positions() -> list[Call]:
    rotary = lambda kit: {"model": kit.pythia, "tokens": kit.tokens, "progress": False}  # noqa: E731
    return [
        Call(
            "shift",
            neolens.shift,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens, "progress": False},
            {
                **OF_MODEL,
                **NO_TOKENS,
                **NO_PROGRESS,
                "exact": NO_FLAG,
                "by": ([1.5], ["1"], "1", [True], [], {1: 1}, [None], [10**30], -1, 10**6, [1, 1], [[1]], 1.5, *THINGS),
            },
        ),
        Call(
            "ablate_positions",
            position.ablate_positions,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens, "progress": False},
            {
                **OF_MODEL,
                **NO_TOKENS,
                **NO_PROGRESS,
                "treatments": (
                    3,
                    "x",
                    [],
                    {},
                    [3],
                    [None],
                    True,
                    ["zero", "zero"],
                    {"a": 3},
                    {1: "zero"},
                    whatif.Scale(0.5),
                    object(),
                    1j,
                ),
            },
        ),
        Call("bands", position.bands, rotary, {**OF_MODEL, **NO_TOKENS, **NO_PROGRESS, "which": (*NO_BANDS, [], "x")}),
        Call(
            "taken_away",
            position.taken_away,
            lambda kit: {"result": kit.bands},
            {"result": NO_RESULT, "score": (None, *NO_NAME), "how": (None, *NO_NAME)},
        ),
        Call(
            "beyond_context",
            position.beyond_context,
            lambda kit: {"model": kit.pythia, "tokens": kit.long},
            {
                **OF_MODEL,
                "tokens": (*NO_PROMPTS, *NOT_PAIRS, Later("short", lambda kit: kit.tokens)),
                "scales": (0, 1, 2.0, -1, NAN, INF, "x", [None], ["0.5"], [0.5, 0.5], [], {0.5: 1}, True, *THINGS),
            },
        ),
        Call(
            "embedding_geometry",
            position.embedding_geometry,
            lambda kit: {"model": kit.gpt2, "components": 2},
            {**OF_MODEL, "components": (*NO_COUNT, None)},
        ),
        Call(
            "qk",
            position.qk,
            lambda kit: {"model": kit.gpt2, "layer": 1, "head": 1},
            {
                **OF_MODEL,
                "layer": (*NO_LAYER, None),
                "head": (*NO_LAYER, None),
                "distance": (*NO_WHOLE, None, -1, 10**30),
            },
        ),
        Call(
            "ov",
            position.ov,
            lambda kit: {"model": kit.gpt2, "layer": 1, "head": 1},
            {**OF_MODEL, "layer": (*NO_LAYER, None), "head": (*NO_LAYER, None)},
        ),
        Call(
            "part_shares",
            position.part_shares,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {**OF_MODEL, **NO_TOKENS},
        ),
        Call(
            "score_parts",
            position.score_parts,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens[0]},
            {
                **OF_MODEL,
                "layer": (*NO_LAYER, None),
                "tokens": (*NO_PROMPTS, Later("two prompts", lambda kit: kit.tokens)),
            },
        ),
        Call(
            "toeplitz",
            position.toeplitz,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {**OF_MODEL, **NO_TOKENS},
        ),
    ]


def prompting() -> list[Call]:
    family = {
        "prompts": (*NO_COUNT, None),
        "seed": NO_SEED,
        "prepend_bos": NO_FLAG,
        "model": (*NO_MODEL[:-1], Later("a class", lambda kit: type(kit.gpt2))),
    }
    asked = {**family, "corruption": NO_WAY, "distance": (*NO_COUNT, 10**6, 10**30)}
    without_a_model = [value for value in NO_PROMPTS if tuple(getattr(value, "shape", ())) not in ((2, 11), (2, 0))]
    tokens = (*without_a_model, torch.tensor([1, 2]), torch.full((3, 11), -1))
    drawn = {**OF_MODEL, "prompts": (*NO_COUNT, None), "seed": NO_SEED, "prepend_bos": NO_FLAG}
    one = {"answers": torch.tensor([5, 6, 7]), "distractors": [8, 9, 10], "positions": {"end": [-1, -1, -1]}}

    def of_tokens(kit: Kit) -> dict[str, Any]:
        return {"clean": kit.tokens[:3], "corrupted": kit.tokens[:3].roll(1, 0), **one}

    def of_text(kit: Kit) -> dict[str, Any]:
        return {
            "model": kit.gpt2,
            "clean": ["Mary buys the corn"],
            "corrupted": ["John buys the corn"],
            "answers": ["salt"],
        }

    no_answers = (
        None,
        3,
        "x",
        [],
        [1],
        [1.5, 1, 1],
        [None] * 3,
        {},
        [True] * 3,
        torch.zeros(3),
        [-1, 1, 1],
        ["a"] * 3,
        torch.zeros(3, 2).long(),
        [10**30, 1, 1],
        torch.zeros(3, dtype=torch.long, device="meta"),
        *THINGS,
    )
    no_places = (
        3,
        "end",
        [],
        {"end": 3},
        {"end": [1] * 9},
        {3: [1, 1, 1]},
        {"end": [99] * 3},
        {"end": [1.5] * 3},
        {"end": [None] * 3},
        {"": [1] * 3},
        {"end": "abc"},
        True,
        object(),
        {"end": [10**30] * 3},
    )
    no_texts = (None, 3, "text", [], [3], [None], [""], [True], {"a": 1}, {"a"}, ["qqq zzz"], *THINGS)
    made = {"clean": lambda kit: tuple(kit.tokens[:3]), "corrupted": lambda kit: tuple(kit.tokens[:3].roll(1, 0))}
    return [
        Call("indirect_object", prompts.indirect_object, lambda kit: {"model": kit.gpt2, "prompts": 2}, asked),
        Call(
            "induction",
            prompts.induction,
            lambda kit: {"model": kit.gpt2, "prompts": 2},
            {**asked, "distance": (*asked["distance"], None)},
        ),
        Call(
            "recall",
            prompts.recall,
            lambda kit: {"model": kit.gpt2, "prompts": 2},
            {**asked, "distance": (*asked["distance"], None)},
        ),
        Call("greater_than", prompts.greater_than, lambda kit: {"model": kit.gpt2, "prompts": 2}, family),
        Call(
            "docstring",
            prompts.docstring,
            lambda kit: {"model": kit.gpt2, "prompts": 2},
            {**family, "corruption": NO_WAY},
        ),
        Call(
            "repeated",
            prompts.repeated,
            lambda kit: {"candidates": [5, 6, 7, 8], "n": 3, "bos": 1},
            {
                "candidates": (
                    None,
                    3,
                    "abcd",
                    [1.5, 2.5, 3.5],
                    ["a", "b"],
                    [None],
                    [],
                    [5],
                    {5: 1, 6: 1},
                    [True, False],
                    [[5, 6]],
                    torch.tensor([1.0, 2.0]),
                    [-5, 6],
                    [10**30, 5],
                    torch.zeros(2, 2).long(),
                    {5, 6},
                    *THINGS,
                ),
                "n": (*NO_COUNT, None, 1),
                "bos": (*NO_WHOLE, -1, [1], 10**30),
                "prompts": (*NO_COUNT, None),
                "seed": NO_SEED,
            },
        ),
        Call(
            "random_repeats",
            prompts.random_repeats,
            lambda kit: {"model": kit.gpt2, "n": 4},
            {**drawn, "n": (*NO_COUNT, None, 1, 10**6, 10**30)},
        ),
        Call(
            "random_tokens",
            prompts.random_tokens,
            lambda kit: {"model": kit.gpt2, "length": 4},
            {**drawn, "length": (*NO_COUNT, None, 1, 10**6, 10**30)},
        ),
        Call("token_pool", prompts.token_pool, lambda kit: {"model": kit.gpt2}, OF_MODEL),
        Call("longest_repeat", prompts.longest_repeat, lambda kit: {"model": kit.gpt2}, OF_MODEL),
        Call(
            "lab_documents",
            prompts.lab_documents,
            lambda kit: {"count": 2, "tokens": 9},
            {"count": (*NO_COUNT, None), "tokens": (*NO_COUNT, None), "seed": NO_SEED},
        ),
        Call(
            "chunks",
            prompts.chunks,
            lambda kit: {"tokenizer": kit.gpt2.tokenizer, "text": "Mary buys the corn", "length": 3},
            {
                "tokenizer": NO_TOKENIZER,
                "text": (None, 3, "", "  ", ["a"], True, *THINGS),
                "length": (*NO_COUNT, None, 1),
                "prompts": NO_COUNT,
                "prepend_bos": NO_FLAG,
            },
        ),
        Call(
            "token_chunks",
            prompts.token_chunks,
            lambda kit: {"tokens": list(kit.tokens), "length": 3},
            {
                "tokens": (
                    None,
                    3,
                    "x",
                    [],
                    [3],
                    [None],
                    ["a"],
                    [[1, 2]],
                    [torch.zeros(3)],
                    [torch.zeros(2, 2).long()],
                    [torch.zeros(0).long()],
                    [torch.zeros(3, dtype=torch.bool)],
                    {},
                    True,
                    *THINGS,
                ),
                "length": (*NO_COUNT, None, 1),
                "prompts": NO_COUNT,
                "bos": (*NO_WHOLE, -1, [1], 10**30),
            },
        ),
        Call("read_text", prompts.read_text, lambda kit: {"path": __file__}, {"path": NO_PATH}),
        Call(
            "read_tokens",
            prompts.read_tokens,
            lambda kit: {"path": token_file(), "anatomy": kit.gpt2.anatomy},
            {"path": NO_PATH, "anatomy": (None, 3, "lab/gpt2", *THINGS, Later("the model", lambda kit: kit.gpt2))},
        ),
        Call(
            "validated",
            prompts.validated,
            lambda kit: {"tokens": kit.tokens, "anatomy": kit.gpt2.anatomy},
            {**NO_TOKENS, "anatomy": (None, 3, "lab/gpt2", *THINGS), "shortest": (*NO_WHOLE, None, -1)},
        ),
        Call(
            "repeat_length",
            prompts.repeat_length,
            lambda kit: {"prompt": kit.tokens[0]},
            {"prompt": (None, 3, "x", [1, 2], torch.zeros(2, 2).long(), torch.zeros(5), torch.tensor(3), *THINGS)},
        ),
        Call("second_copy", prompts.second_copy, lambda kit: {"n": 3}, {"n": (*NO_COUNT, None)}),
        Call("bos_token", prompts.bos_token, lambda kit: {"tokenizer": kit.gpt2.tokenizer}, {}),
        Call(
            "from_tokens",
            PromptPairs.from_tokens,
            of_tokens,
            {
                "clean": tokens,
                "corrupted": (*tokens, Later("the clean ones", lambda kit: kit.tokens[:3])),
                "answers": no_answers,
                "distractors": no_answers[1:],
                "positions": no_places,
            },
        ),
        Call(
            "from_text",
            PromptPairs.from_text,
            of_text,
            {
                **OF_MODEL,
                "clean": no_texts,
                "corrupted": (*no_texts, ["Mary buys the corn"]),
                "answers": no_texts,
                "distractors": no_texts[1:],
                "positions": no_places,
                "prepend_bos": NO_FLAG,
            },
        ),
        Call(
            "PromptPairs",
            PromptPairs,
            lambda kit: {name: make(kit) for name, make in made.items()} | {"answers": one["answers"]},
            {
                "clean": (*NO_PROMPTS[:12], torch.zeros(2, 9)),
                "corrupted": (*NO_PROMPTS[:12], torch.zeros(2, 9)),
                "answers": (None, 3, "abc", [1.5] * 3, {}, torch.zeros(3), [], *THINGS),
                "distractors": (3, "abc", {}, torch.zeros(3), *THINGS),
                "positions": (3, "end", [], {"end": 3}, {3: [1, 1, 1]}),
                "words": (3, "abc", [["a"]], [3] * 3, *THINGS),
                "vocabulary": (3, 1.5, [], *THINGS),
            },
        ),
        Call(
            "PromptPairs.check",
            lambda pairs, model: pairs.check(model),
            lambda kit: {"pairs": kit.pairs, "model": kit.gpt2},
            OF_MODEL,
        ),
        Call(
            "indexing of pairs",
            lambda pairs, chosen: pairs[chosen],
            lambda kit: {"pairs": kit.pairs, "chosen": 0},
            {
                "chosen": (
                    None,
                    1.5,
                    "0",
                    [],
                    [1.5],
                    ["0"],
                    [None],
                    True,
                    [True, False, True],
                    {0: 1},
                    {0},
                    slice(9, 10),
                    slice("a"),
                    slice(1.5),
                    b"\x01",
                    object(),
                    int,
                    1j,
                    torch.tensor([True, False, True]),
                    torch.tensor([1.0]),
                    [[0]],
                )
            },
        ),
    ]


def token_file() -> Path:
    import tempfile

    path = Path(tempfile.gettempdir()) / "neolens-tokens.txt"
    path.write_text("5 6 7\n")
    return path


def wrong_answers():
    """Answers that are no integers, put in after the record was made: run-time type checks would refuse to make it."""
    asked = metrics.Asked(torch.tensor([1, 2]), None, torch.ones(2, 3).long())
    object.__setattr__(asked, "answers", torch.tensor([1.5, 2.5]))
    return asked


def measuring() -> list[Call]:
    def answers(kit: Kit) -> metrics.Asked:
        return metrics.Asked(torch.tensor([1, 2]), torch.tensor([3, 4]), torch.ones(2, 3).long(), torch.zeros(2, 1, 9))

    logits = (
        None,
        3,
        "x",
        [],
        [[1.0]],
        torch.zeros(2),
        torch.zeros(2, 9),
        torch.zeros(2, 1, 9).long(),
        torch.zeros(0, 1, 9),
        np.zeros((2, 1, 9)),
        torch.zeros(2, 1, 0),
        *THINGS,
    )
    no_asked = (
        None,
        3,
        "x",
        [],
        torch.tensor([1, 2]),
        *THINGS,
        wrong_answers(),
        metrics.Asked(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3]), torch.ones(3, 3).long()),
    )
    outside = metrics.Asked(torch.tensor([1, 99]), torch.tensor([1, 2]), torch.ones(2, 3).long())
    bare = metrics.Asked(torch.tensor([1, 2]), None, torch.ones(2, 3).long())
    found = []
    for name, metric in metrics.METRICS.items():
        bad: dict[str, tuple] = {"logits": logits, "asked": no_asked}
        if metric.columns == "all" and not metric.against_clean and metric.reads == "last":
            bad["asked"] += (outside,)
        if metric.against_clean or metric.needs_distractors:
            bad["asked"] += (bare,)
        columns = 2 if metric.columns == "answers" else 9
        positions_ = 3 if metric.reads == "every" else 1
        found.append(
            Call(
                name,
                metric,
                lambda kit, c=columns, p=positions_: {"logits": torch.zeros(2, p, c), "asked": answers(kit)},
                bad,
            )
        )
    return [
        *found,
        Call(
            "Metric",
            metrics.Metric,
            lambda kit: {"name": "mine", "of": lambda logits, asked: logits[:, -1, 0]},
            {
                "name": (None, 3, "", [], *THINGS),
                "of": (None, 3, "x", []),
                "of_token": (3, "x", []),
                "reads": NO_WAY,
                "columns": NO_WAY,
                "against_clean": NO_FLAG,
                "needs_distractors": NO_FLAG,
            },
        ),
        Call("several_metrics", metrics.several_metrics, lambda kit: {"metric": "loss"}, {"metric": NO_METRIC}),
        Call(
            "of_function", metrics.of_function, lambda kit: {"function": len}, {"function": (None, 3, "loss", [], {})}
        ),
        Call(
            "hook_name",
            sites.hook_name,
            lambda kit: {"site": "z", "layer": 1},
            {"site": (None, *NO_NAME, "embed"), "layer": (*NO_WHOLE, None, -1, [1])},
        ),
        Call(
            "sites_of",
            sites.sites_of,
            lambda kit: {"anatomy": kit.gpt2.anatomy},
            {"anatomy": (None, 3, "lab/gpt2", *THINGS)},
        ),
    ]


def networks() -> list[Call]:
    spans = (3, "x", [], [3] * 4, {}, *THINGS)
    one = (*NO_PROMPTS, Later("two prompts", lambda kit: kit.tokens))
    no_weights = (None, 3, "x", [], *THINGS, Later("the model", lambda kit: kit.gpt2))
    batch = tuple(value for value in (*NO_PROMPTS, *NOT_PAIRS) if not isinstance(value, list))
    return [
        Call("fingerprint", neolens.fingerprint, lambda kit: {"model": kit.gpt2}, {"model": NO_MODEL}),
        Call(
            "patterns",
            network.patterns,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens[0], "layer": 1},
            {**OF_MODEL, "tokens": one, "layer": (*NO_LAYER, None)},
        ),
        Call(
            "head_patterns",
            network.head_patterns,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens[0], "heads": {1: [0]}},
            {
                **OF_MODEL,
                "tokens": one,
                "heads": (
                    None,
                    3,
                    "x",
                    [1],
                    {99: [0]},
                    {1: [99]},
                    {1: 0.5},
                    {1: ["0"]},
                    {1.0: [0]},
                    {1: [True]},
                    {"1": [0]},
                ),
            },
        ),
        Call("weights_of", network.weights_of, lambda kit: {"model": kit.gpt2}, OF_MODEL),
        Call(
            "verify",
            network.verify,
            lambda kit: {"model": kit.gpt2, "tokens": kit.tokens},
            {**OF_MODEL, "tokens": batch},
        ),
        Call(
            "residual",
            network.residual,
            lambda kit: {"weights": kit.weights, "tokens": kit.tokens},
            {"weights": no_weights, "tokens": batch, "spans": spans},
        ),
        Call(
            "record",
            replay.record,
            lambda kit: {
                "weights": kit.weights,
                "tokens": kit.tokens,
                "sites": {"z"},
                "spans": kit.gpt2.anatomy.attention,
            },
            {
                "weights": no_weights,
                "tokens": batch,
                "sites": (None, 3, "z", ["nonsense"], [3], int),
                "spans": spans,
                "layers": tuple(value for value in NO_LAYERS if value != {0}),
            },
        ),
    ]


def running() -> list[Call]:
    tokens = tuple(
        value
        for value in NO_PROMPTS
        if not isinstance(value, (list, tuple, str)) and not (isinstance(value, torch.Tensor) and value.is_sparse)
    )
    batch = {
        "input": (*tokens, *NOT_PAIRS, [], [3], [None], torch.tensor([], dtype=torch.long), torch.tensor([[1, 250]]))
    }
    return [
        Call(
            "model", lambda model, **given: model(**given), lambda kit: {"model": kit.gpt2, "input": kit.tokens}, batch
        ),
        Call(
            "run_with_hooks",
            lambda model, **given: model.run_with_hooks(**given),
            lambda kit: {"model": kit.gpt2, "input": kit.tokens},
            batch,
        ),
        Call(
            "run_with_cache",
            lambda model, **given: model.run_with_cache(**given),
            lambda kit: {"model": kit.gpt2, "input": kit.tokens},
            batch,
        ),
        Call(
            "generate",
            lambda model, **given: model.generate(max_new_tokens=1, verbose=False, **given),
            lambda kit: {"model": kit.gpt2, "input": kit.tokens},
            batch,
        ),
    ]


CALLS = [
    *(*treatments(), *ablations(), *patches(), *scoring(), *positions()),
    *(*prompting(), *measuring(), *networks(), *running()),
]

NOT_FOR_THE_LAB = ("greater_than", "docstring")
"""Families that no model of the lab takes: refused for another reason only after the arguments were checked."""


def label(row: Any) -> str | None:
    if isinstance(row, Call):
        return row.name
    return row if isinstance(row, str) and row.isidentifier() else " ".join(repr(row).split())[:40].replace("/", "|")


@pytest.fixture
def runs(monkeypatch):
    """Counts the runs of the hooked model and of the pure pass."""
    counted: list[str] = []
    hooked, pure = TransformerForward.forward, network.forward.embed

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Any:
            counted.append(name)
            return function(*args, **kwargs)

        return counting

    monkeypatch.setattr(TransformerForward, "forward", count("hooked", hooked))
    monkeypatch.setattr(network.forward, "embed", count("pure", pure))
    return counted


TransformerForward = TransformerBridge


@pytest.mark.parametrize("call", [call for call in CALLS if call.name not in NOT_FOR_THE_LAB], ids=label)
def test_the_call_that_the_rows_change_works(call, kit):
    call.function(**call.valid(kit))


def flat(value: Any) -> list[Any]:
    """A value and everything in it."""
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return (
        [value, *(part for item in inside for part in flat(item))]
        if isinstance(inside, list | tuple | set)
        else [value]
    )


def names(text: str, argument: str, value: Any) -> bool:
    """Whether an error names the argument, one of its items or keys, its value or the type of that."""
    parts = flat(value)
    known = {argument, argument.rstrip("s"), argument.removesuffix("es"), type(value).__name__, "model"}
    known |= {str(part) for item in parts for part in (item, repr(item))}
    known |= {*OTHER_NAMES.get(argument, ())}
    return any(word and word in text for word in known)


OTHER_NAMES = {
    "anatomies": ("anatomy",),
    "asked": ("answers", "distractors"),
    "at": ("position",),
    "chosen": ("pair",),
    "heads": ("head", "layer"),
    "input": ("token",),
    "other": ("group",),
    "path": ("file",),
    "tokens": ("prompt",),
}
"""What errors call the parts of an argument."""


def fault(call: Call, argument: str, value: Any, kit: Kit, runs: list[str]) -> str | None:
    """What is wrong with how a function refuses a value; None if nothing is."""
    value = value.make(kit) if isinstance(value, Later) else value
    arguments = call.valid(kit) | {argument: value}
    runs.clear()
    try:
        call.function(**arguments)
    except (TypeError, ValueError, IndexError) as error:
        text, last = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
        faults = {
            "in another library's words": not Path(last).is_relative_to(HOME),
            "on several lines": "\n" in text,
            "too short or long": not 20 < len(text) <= LONGEST,
            "without the value": not names(text, argument, value),
            "after a run of the model": bool(runs),
        }
        return next((f"refused {what}: {text}" for what, wrong in faults.items() if wrong), None)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


ARGUMENTS = [(call, argument) for call in CALLS for argument in call.bad]


@pytest.mark.parametrize(("call", "argument"), ARGUMENTS, ids=label)
def test_a_bad_argument_is_refused_in_one_line_before_the_model_runs(call, argument, kit, runs):
    faults = {label(value): fault(call, argument, value, kit, runs) for value in call.bad[argument]}
    assert {value: found for value, found in faults.items() if found} == {}


def test_the_table_is_long_and_covers_every_public_function():
    assert sum(len(call.bad[argument]) for call, argument in ARGUMENTS) >= 5_000
    tested = {call.function for call in CALLS}
    for module in (ablation, patching, scores, position):
        for name in module.__all__:
            public = getattr(module, name)
            context_or_record = name in ("ablated", "Continuations")
            assert not callable(public) or context_or_record or public in tested, name
