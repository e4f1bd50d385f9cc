"""Functions of circuits and comparisons refuse what is no result, or another one, in one line."""

from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

import neolens
from neolens import circuits, encodings
from neolens.circuits.effects import of_head
from neolens.comparison import compared, mixed

NOTHING = xr.Dataset()
OTHER = xr.Dataset({"sink": (("layer", "head"), np.ones((2, 2)))})
PATCHED = xr.Dataset(
    {
        "patched": (("prompt", "layer", "head"), np.ones((2, 2, 2))),
        "clean": ("prompt", np.ones(2)),
        "corrupted": ("prompt", np.zeros(2)),
    },
    coords={"layer": [0, 1], "head": [0, 1]},
    attrs={"direction": "denoise"},
)
SHARE = PATCHED["patched"].isel(prompt=0, drop=True)
FACTS = neolens.anatomy("lab/gpt-neo")
EMPTY = PATCHED.isel(prompt=[])
PAIRS = neolens.PromptPairs.from_tokens(torch.tensor([[1, 2]]), torch.tensor([[3, 2]]), [4], [5], {"source": [0]})

NO_RESULTS = (None, 3, "x", [PATCHED], NOTHING, OTHER)
NO_MAPPINGS = (None, 3, PATCHED.to_array(), [PATCHED], {}, {"a": None}, {"a": NOTHING}, {"a": OTHER})
NO_RECORDS = (None, 3, "x", {"a": 1}, [None], [PATCHED], [FACTS.name])

CASES = [
    *((circuits.effects, value, "result") for value in (*NO_RESULTS, EMPTY, SHARE, PATCHED.assign_attrs(direction=1))),
    *((partial(circuits.of_site, site="z"), value, "result") for value in NO_RESULTS),
    *((partial(circuits.circuit, facts=FACTS), value, "result") for value in NO_RESULTS),
    *((partial(circuits.side, window=4, beyond=True), value, "result") for value in (*NO_RESULTS, PATCHED)),
    *((circuits.joined, value, "by_site") for value in NO_MAPPINGS),
    *((partial(circuits.inputs, head="0.0"), value, "by_site") for value in NO_MAPPINGS),
    *((circuits.of_all_tasks, value, "results_") for value in NO_MAPPINGS),
    *((partial(circuits.carriers, "model"), value, "results") for value in NO_MAPPINGS),
    *((circuits.formations, value, "found") for value in NO_RECORDS),
    *((circuits.comparisons, value, "found") for value in NO_RECORDS),
    *((partial(encodings.probe, None), value, "asked") for value in NO_RECORDS),
    *((partial(encodings.over_seeds, seeds=[0]), value, "network") for value in (None, 3, [], [None], [OTHER])),
    *((compared, value, "found") for value in NO_RECORDS),
    *((mixed, value, "anatomies") for value in NO_RECORDS),
    *((circuits.ranked, value, "share") for value in (None, 3, PATCHED, SHARE.isel(head=0), SHARE.expand_dims("pos"))),
    *((partial(circuits.ranked, SHARE), value, "sign") for value in (2, -3, "1", None, 1.0, True)),
    *((partial(of_head, SHARE), value, "head") for value in (None, "x", "0", (0, 9), 3, "")),
    *((partial(circuits.effects, PATCHED, resamples=value), None, "resamples") for value in (0, -1, 1.5, "x", 10**9)),
    *((partial(circuits.effects, PATCHED, seed=value), None, "seed") for value in (-1, 2**64, None, 1.5)),
    *((partial(circuits.of_site, PATCHED), value, "site") for value in ("Z", None, "", 3)),
    *((partial(circuits.distances, context=128), value, "window") for value in (0, -1, None, "16", 1.5, True)),
    *((partial(circuits.distances, 16), value, "context") for value in (0, -1, None, "128", float("nan"))),
    *((partial(circuits.planted, None, distance=8, prompts=8, seed=0), value, "task") for value in ("recal", None, 3)),
    *(
        (partial(circuits.planted, None, "recall", prompts=8, seed=0), value, "distance")
        for value in (0, -1, None, 1.5)
    ),
    *((partial(circuits.planted, None, "recall", 8, seed=0), value, "prompts") for value in (0, "8", 10**9, None)),
    *((partial(circuits.planted, None, "recall", 8, 8), value, "seed") for value in (-1, 2**64, None)),
    *((partial(circuits.at_distances, pairs={8: PAIRS}, window=4), value, "models") for value in (None, "x", [])),
    *((partial(circuits.at_distances, [None], window=4), value, "pairs") for value in (None, [PAIRS], {8: None})),
    (partial(circuits.at_distances, [None], window=4), {8: PAIRS}, "without the position 'query'"),
    (partial(circuits.at_distances, [None], window=4), {}, "0 distances: expected at least one"),
    (partial(circuits.at_distances, [None], window=4), {0.5: PAIRS}, "distance 0.5: expected"),
    (partial(circuits.circuit, PATCHED), "lab/gpt-neo", "facts 'lab/gpt-neo': expected the anatomy of a model"),
]


@pytest.mark.parametrize(("function", "value", "words"), CASES)
def test_what_is_no_result_or_another_one_is_refused_in_one_line(function, value, words):
    keyword = isinstance(function, partial) and bool({"resamples", "seed"} & function.keywords.keys())
    keyword = keyword and function.func is circuits.effects
    with pytest.raises((TypeError, ValueError)) as caught:
        function() if keyword else function(value)
    message = str(caught.value)
    assert words in message
    assert "expected" in message or "are 0 to" in message
    assert "\n" not in message
    assert len(message) < 400
    assert caught.traceback[-1].path.is_relative_to(neolens.__path__[0])


def test_the_table_has_100_rows():
    assert len(CASES) >= 100
