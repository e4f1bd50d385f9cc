"""Functions of circuits and comparisons refuse what is no result, or another one, in one line."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neolens
from neolens.patching.effects import effects, inputs, of_head, ranked
from neolens.studies.compare.measures import compared, mixed
from neolens.studies.induction.comparisons import comparisons
from neolens.studies.induction.formation import formations
from neolens.studies.ioi.summary import circuit, joined, of_site
from neolens.studies.rotary_vs_absolute.findings import findings
from neolens.studies.rotary_vs_absolute.measure import Texts, over_seeds, probe
from neolens.studies.window_reach.measure import at_distances, distances, of_all_tasks, planted
from neolens.studies.window_reach.summary import carriers, side

pytestmark = pytest.mark.untyped

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
    *((effects, value, "result") for value in (*NO_RESULTS, EMPTY, SHARE, PATCHED.assign_attrs(direction=1))),
    *((partial(of_site, site="z"), value, "result") for value in NO_RESULTS),
    *((partial(circuit, facts=FACTS), value, "result") for value in NO_RESULTS),
    *((partial(side, window=4, beyond=True), value, "result") for value in (*NO_RESULTS, PATCHED)),
    *((joined, value, "by_site") for value in NO_MAPPINGS),
    *((partial(inputs, head="0.0"), value, "by_site") for value in NO_MAPPINGS),
    *((of_all_tasks, value, "results_") for value in NO_MAPPINGS),
    *((partial(carriers, "model"), value, "results") for value in NO_MAPPINGS),
    *((formations, value, "models") for value in NO_RECORDS),
    *((comparisons, value, "models") for value in NO_RECORDS),
    *((partial(probe, None), value, "asked") for value in NO_RECORDS),
    *((partial(over_seeds, seeds=[0]), value, "network") for value in (None, 3, [], [None], [OTHER])),
    *((compared, value, "found") for value in NO_RECORDS),
    *((mixed, value, "anatomies") for value in NO_RECORDS),
    *((ranked, value, "share") for value in (None, 3, PATCHED, SHARE.isel(head=0), SHARE.expand_dims("pos"))),
    *((partial(ranked, SHARE), value, "sign") for value in (2, -3, "1", None, 1.0, True)),
    *((partial(of_head, SHARE), value, "head") for value in (None, "x", "0", (0, 9), 3, "")),
    *((partial(effects, PATCHED, resamples=value), None, "resamples") for value in (0, -1, 1.5, "x", 10**9)),
    *((partial(effects, PATCHED, seed=value), None, "seed") for value in (-1, 2**64, None, 1.5)),
    *((partial(of_site, PATCHED), value, "site") for value in ("Z", None, "", 3)),
    *((partial(distances, context=128), value, "window") for value in (0, -1, None, "16", 1.5, True)),
    *((partial(distances, 16), value, "context") for value in (0, -1, None, "128", float("nan"))),
    *((partial(planted, None, distance=8, prompts=8, seed=0), value, "task") for value in ("recal", None, 3)),
    *((partial(planted, None, "recall", prompts=8, seed=0), value, "distance") for value in (0, -1, None, 1.5)),
    *((partial(planted, None, "recall", 8, seed=0), value, "prompts") for value in (0, "8", 10**9, None)),
    *((partial(planted, None, "recall", 8, 8), value, "seed") for value in (-1, 2**64, None)),
    *((partial(at_distances, pairs={8: PAIRS}, window=4), value, "models") for value in (None, "x", [])),
    *((partial(at_distances, [None], window=4), value, "pairs") for value in (None, [PAIRS], {8: None})),
    (partial(at_distances, [None], window=4), {8: PAIRS}, "without the position 'query'"),
    (partial(at_distances, [None], window=4), {}, "0 distances: expected at least one"),
    (partial(at_distances, [None], window=4), {0.5: PAIRS}, "distance 0.5: expected"),
    (partial(circuit, PATCHED), "lab/gpt-neo", "facts 'lab/gpt-neo': expected the anatomy of a model"),
]


@pytest.mark.parametrize(("function", "value", "words"), CASES)
def test_what_is_no_result_or_another_one_is_refused_in_one_line(function, value, words):
    keyword = isinstance(function, partial) and bool({"resamples", "seed"} & function.keywords.keys())
    keyword = keyword and function.func is effects
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


# Records and lists of records ---------------------------------------------------------------------------------------


def _refused_records() -> dict[str, tuple[Callable[[], Any], str]]:
    from neolens import ablation, figures
    from neolens.stats import contrasts, seeds

    facts = neolens.anatomy("lab/gpt-neo")
    estimate = seeds.Estimate(1.0, 0.0, 2.0, 3)
    return {
        "variants that are none": (lambda: contrasts.contrasts([3], {}, "position"), "expected a Variant"),
        "measures that are none": (
            lambda: contrasts.contrasts([], {"a": 3}, "position"),
            "neolens.stats.contrasts.Measure",
        ),
        "a question": (lambda: contrasts.kind(facts, "positions"), "did you mean position"),
        "contrasts that are none": (lambda: contrasts.contrast_table([3]), "neolens.stats.contrasts.contrasts"),
        "bounds": (lambda: contrasts.Measure("a", "b", len, (2, 1)), "(2, 1): expected the lowest and the highest"),
        "a variant of text": (lambda: contrasts.Variant("lab/gpt2", xr.Dataset()), "neolens.anatomy"),
        "encodings that are none": (lambda: findings([3], []), "expected an Encoding"),
        "texts of text": (lambda: Texts("a", "b", "c", (1,)), "tokenize text first"),
        "values of text": (lambda: seeds.mean_ci(np.array(["a"])), "one per seed"),
        "an estimate of text": (lambda: seeds.Estimate("a", 0.0, 2.0, 3), "expected a number"),
        "a p above 1": (lambda: seeds.Estimate(1.0, 0.0, 2.0, 3, p=2.0), "from 0 to 1"),
        "a form": (lambda: seeds.format_estimate(estimate, "zz"), "such as '.2f'"),
        "a figure of a number": (lambda: figures.estimates(3), "neolens.stats.seeds.mean_ci"),
        "no layers": (lambda: dataclasses.replace(facts, layers=0), "layers 0: expected a whole number of at least 1"),
        "a kind of layers": (lambda: facts.layers_of_kind("gobal"), "did you mean global"),
        "a scale of a layer": (lambda: facts.layer_scale(9), "layers are 0 to 3"),
        "a treatment": (lambda: neolens.Position("absolute", treatment=3), "neolens.whatif.Shift"),
        "draws without end": (lambda: ablation.by_kind("lab/gpt-neo", draws=10**9), "10000"),
    }


@pytest.mark.parametrize("name", [*_refused_records()])
def test_records_of_another_kind_are_refused_in_one_line_that_says_what_was_expected(name):
    call, expected = _refused_records()[name]
    with pytest.raises((TypeError, ValueError)) as refusal:
        call()
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda model, tokens: model(tokens, return_type="logit"), "did you mean logits"),
        (lambda model, tokens: model(tokens, stop_at_layer="a"), "stop_at_layer 'a': expected a whole number"),
        (lambda model, tokens: model(tokens, attention_mask="x"), "attention_mask 'x': expected a tensor"),
        (lambda model, tokens: model(tokens, position_ids=tokens + 10**6), "learned positions 0 to 127"),
        (lambda model, tokens: model.generate(tokens, temperature=float("nan")), "temperature nan"),
        (lambda model, tokens: model.generate(tokens, top_k=0), "top_k 0: expected a whole number"),
        (lambda model, tokens: model.generate(tokens, top_p=2), "top_p 2: expected a number above 0, at most 1"),
        (lambda model, tokens: model.run_with_hooks(tokens, fwd_hooks=3), "fwd_hooks 3: expected a list"),
        (lambda model, tokens: model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", 3)]), "expected a pair"),
        (lambda model, tokens: model.add_hook(None, print), "name None: expected the name of a hook point"),
        (lambda model, tokens: model.to_tokens(3), "input 3: expected a list of texts"),
        (lambda model, tokens: neolens.attention(model, tokens, score=["sink"]), "did you mean scores"),
    ],
)
def test_options_of_the_model_itself_are_refused_before_it_runs(call, expected):
    model = neolens.load("lab/gpt-neo")
    with pytest.raises((TypeError, ValueError)) as refusal:
        call(model, torch.tensor([[1, 2, 3]]))
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)
