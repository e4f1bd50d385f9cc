"""Bad arguments of what other functions are made of: anatomies, metrics, prompts, weights, estimates, results, the lab.

Each row is a call that is refused in one line of neolens's own, with facts that the line has to state.
"""

import json
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import neolens
from neolens import lab, metrics, models, network, prompts, replay, results
from neolens.lab import variants as arms
from neolens.lab.evaluation import competence, curves, spread
from neolens.lab.language import documents as language
from neolens.lab.language import planted
from neolens.lab.training import family, recipe
from neolens.lab.training import train as training
from neolens.models import describe, lab_models
from neolens.prompts import PromptPairs
from neolens.stats import seeds

pytestmark = pytest.mark.untyped

HOME = Path(neolens.__file__).parent
NAN, INF = float("nan"), float("inf")
A = neolens.anatomy("lab/gpt-neo")
MODEL = neolens.load("lab/gpt-neo")
WEIGHTS = network.weights_of(MODEL)
RNG = np.random.default_rng(0)
TINY = recipe.Recipe(steps=1, tokens=16)
SHORT = {"background": 1.0}


def t(*values):
    return torch.tensor(values)


META, SPARSE = t(1, 2).to("meta"), t(1, 2).to_sparse()
LOGITS, TOKENS = torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.long)
ASKED = metrics.Asked(t(1, 2), t(3, 4), TOKENS, torch.zeros(2, 3, 5))
CLEAN, CORRUPTED = (t(1, 2, 3), t(4, 5, 6)), (t(1, 2, 7), t(4, 9, 6))
QKV = torch.zeros(1, 2, 3, 4)
SPAN = models.AttentionSpan("local", 4)
SEEDS = xr.DataArray([1.0, 2.0], dims="seed", coords={"seed": [0, 1]})
TEXT = json.dumps(asdict(A))


def anatomy(**changes):
    return lambda: replace(A, **changes)


def asked(**changes):
    fields = {"answers": t(1, 2), "distractors": t(3, 4), "tokens": TOKENS, "clean": None}
    return lambda: metrics.Asked(**(fields | changes))


def pairs(**changes):
    return lambda: PromptPairs(**({"clean": CLEAN, "corrupted": CORRUPTED, "answers": t(1, 2)} | changes))


def gives(value):
    return lambda: metrics.Metric("mine", lambda logits, asked: value)(LOGITS, ASKED)


ANATOMIES = {
    **{f"{name}={value}": (anatomy(**{name: value}), name) for name in ("dropout", "norm_eps", "scale", "parallel")
       for value in (None, "x", NAN, [], -1, META)},
    **{f"{name}={value}": (anatomy(**{name: value}), name) for name in ("data", "tokenizer", "activation")
       for value in (3, [], b"x", True)},
    "dropout above 1": (anatomy(dropout=1.5), "0 to 1"),
    "epsilon of 0": (anatomy(norm_eps=0), "norm_eps 0"),
    "unknown activation": (anatomy(activation="gelu_neu"), "did you mean gelu_new"),
    "huge context": (anatomy(context=10**30), "context"),
    "sizes": (anatomy(d_head=17), "d_head 17"),
    "parameters": (anatomy(parameters_without_embeddings=A.parameters + 1), "at most parameters"),
    "ignored fields as text": (anatomy(ignored_fields="abc"), "ignored_fields 'abc'"),
    "ignored fields of numbers": (anatomy(ignored_fields=[1]), "ignored_fields 1"),
    "span of an array": (lambda: models.AttentionSpan(np.array([1, 2])), "'global' or 'local'"),
    "window in no memory": (lambda: models.AttentionSpan("local", t(1)[0].to("meta")), "window"),
    "position of an array": (lambda: models.Position(np.array([1, 2])), "'absolute', 'rotary' or 'none'"),
    "rotary_dims of an absolute": (lambda: models.Position("absolute", "x"), "rotary_dims 'x'"),
    "huge rotary_dims": (lambda: models.Position("rotary", 10**30, 1e4), "rotary_dims"),
    "more rotary_dims than d_head": (anatomy(position=models.Position("rotary", 64, 1e4)), "at most d_head"),
    "record of bytes": (lambda: models.from_record(TEXT.encode()), "no record of an anatomy"),
    "record with another activation": (lambda: models.from_record(TEXT.replace("gelu_new", "silu")), "no record"),
    "no anatomies": (lambda: describe.differences([]), "at least one"),
    "spans of text": (lambda: describe.spans_in_words("lab/gpt2"), "anatomy 'lab/gpt2'"),
    "table of numbers": (lambda: describe.as_text(["a"], [[1]]), "a string for each column"),
    "ragged table": (lambda: describe.as_text(["a"], [["b", "c"]]), "a string for each column"),
    "device beyond all": (lambda: models.load("lab/gpt2", device=10**30), "cannot be used here"),
}  # fmt: skip

METRICS = {
    **{f"answers {value!r}": (asked(answers=value), "answers", "integer") for value in (None, [1, 2], META, SPARSE)},
    **{f"distractors {value!r}": (asked(distractors=value), "distractors") for value in ("ab", t(1.0, 2.0), META)},
    **{f"tokens {value!r}": (asked(tokens=value), "tokens", "[run, pos]") for value in (None, t(1, 2), "x")},
    **{f"clean {value!r:.9}": (asked(clean=value), "clean") for value in ("x", torch.zeros(2, 3), META)},
    "one distractor": (asked(distractors=t(3)), "1 distractors for 2 answers"),
    "expected of text": (lambda: metrics.Expected("ab"), "answers 'ab'"),
    **{
        f"{name} of {kind} logits": (lambda metric=metric, logits=logits: metric(logits, ASKED), "logits")
        for name, metric in metrics.METRICS.items()
        for kind, logits in {"meta": LOGITS.to("meta"), "sparse": LOGITS.to_sparse(), "complex": LOGITS + 0j}.items()
    },
    **{
        f"all of {name} {thing!r:.9}": (lambda metric=metric, thing=thing: metric.of_every(thing, ASKED), "logits")
        for name, metric in metrics.METRICS.items()
        for thing in (None, 3, "x", [])
    },
    "one column": (lambda: metrics.logit_difference(LOGITS[:, :, :1], ASKED), "needs 2 columns"),
    "no such column": (lambda: metrics.logit_difference(LOGITS[:, :, :4], ASKED), "token 4", "0 to 3"),
    "other tokens": (lambda: metrics.loss(torch.zeros(2, 4, 5), ASKED), "(2, 3)", "(2, 4, 5)"),
    "one position": (lambda: metrics.loss(LOGITS[:, :1], replace(ASKED, tokens=TOKENS[:, :1])), "at least two"),
    "another vocabulary": (lambda: metrics.kl_divergence(torch.zeros(2, 3, 7), ASKED), "asked.clean"),
    "complex values": (gives(torch.zeros(2) + 0j), "one number a run"),
    "values in no memory": (gives(torch.zeros(2, device="meta")), "one number a run"),
    "sparse values": (gives(torch.zeros(2).to_sparse()), "one number a run"),
}

PROMPTS = {
    "candidates in no memory": (lambda: prompts.repeated(META, 2, bos=0), "candidates"),
    "sparse candidates": (lambda: prompts.repeated(SPARSE, 2, bos=0), "candidates"),
    "candidates in a file": (lambda: prompts.repeated(sys.stdout, 2, bos=0), "candidates"),
    "a long sequence": (lambda: prompts.repeated([1, 2, 3], 10**9, bos=0), "tokens"),
    "too many sequences": (lambda: prompts.random_repeats(MODEL, 6, prompts=2**31 - 1), "draw fewer"),
    "too many prompts": (lambda: prompts.random_tokens(MODEL, 6, prompts=2**31 - 1), "draw fewer"),
    "too many documents": (lambda: prompts.lab_documents(2**31 - 1, 5), "draw fewer"),
    "no distance": (lambda: prompts.induction(MODEL, 2, distance=None), "distance None"),
    "recall at no distance": (lambda: prompts.recall(MODEL, 2, distance=None), "distance None"),
    "a negative token": (lambda: prompts.token_chunks([t(-1, 2, 3)], 2), "token -1"),
    "chunks of half a letter": (lambda: prompts.chunks(MODEL.tokenizer, "\ud800", 4), "surrogate"),
    "half a letter": (lambda: PromptPairs.from_text(MODEL, ["\ud800"], ["Mary"], ["corn"]), "surrogate"),
    "a long unknown word": (lambda: PromptPairs.from_text(MODEL, ["Ab" * 3000], ["Mary"], ["corn"]), "does not know"),
    "a tokenizer that is none": (lambda: prompts.bos_token(3), "tokenizer 3"),
    "a vocabulary that is none": (lambda: prompts.bos_token(MODEL.tokenizer, "x"), "d_vocab 'x'"),
    "words that are numbers": (pairs(words=((1, 2, 3), (4, 5, 6))), "one string for each token"),
    "words in a tensor": (pairs(words=torch.zeros(2, 3)), "words"),
    "corrupted words as bytes": (pairs(corrupted_words=((b"a", "b", "c"), ("a", "b", "c"))), "one string"),
    "positions in no memory": (
        lambda: PromptPairs.from_tokens(CLEAN, CORRUPTED, [1, 2], positions={"end": META}), "position"),
    "sparse positions": (
        lambda: PromptPairs.from_tokens(CLEAN, CORRUPTED, [1, 2], positions={"end": SPARSE}), "position"),
}  # fmt: skip

WEIGHTS_AND_RUNS = {
    **{f"{f.__name__} of {thing!r}": (lambda f=f, thing=thing: f(thing), "model")
       for f in (network.dtype_of, network.hooks_on, network.check_unchanged) for thing in (None, "lab/gpt2", int)},
    "residual of text": (lambda: network.residual("x", TOKENS), "weights 'x'"),
    **{f"positions {value!r:.40}": (lambda value=value: network.residual(WEIGHTS, TOKENS, positions=value), "positions")
       for value in (3, "x", t(0, 1), t(0, 1, 500), t(0.0, 1.0, 2.0), t(0, 1, 2).to("meta"))},
    **{f"{name} {value!r}": (lambda name=name, value=value: network.residual(WEIGHTS, TOKENS, **{name: value}), name)
       for name, value in (("observer", 3), ("edit", "x"), ("watch", []), ("block", 0), ("block", 1.5),
                           ("scores_too", 1))},
    "an edit of another shape": (
        lambda: network.residual(WEIGHTS, TOKENS, edit=lambda site, layer, x: x[..., :1]),
        "edit of embed",
        "(2, 3, 64)",
    ),
    "an edit that returns nothing": (
        lambda: network.residual(WEIGHTS, TOKENS, edit=lambda site, layer, x: None),
        "edit of embed gives None",
    ),
    "a layer that is not there": (lambda: network.residual(WEIGHTS, TOKENS, stop_after=9), "layers are 0 to 3"),
    "a prompt beyond the context": (
        lambda: network.residual(WEIGHTS, torch.ones(1, 500, dtype=torch.long)), "learned 0 to 127"),
    "logits of no stream": (lambda: network.logits(WEIGHTS, None), "final None"),
    "logits of another width": (lambda: network.logits(WEIGHTS, torch.zeros(1, 2, 7)), "d_model 64"),
    "weights cast to integers": (lambda: network.cast(WEIGHTS, torch.int8), "torch.int8"),
    "weights that are none": (lambda: network.cast(3, torch.float64), "weights 3"),
    **{f"attend {name} {value!r:.20}": (
        lambda name=name, value=value: network.attend(**({"q": QKV, "k": QKV, "v": QKV, "span": SPAN} | {name: value})),
        name) for name, value in (("q", 3), ("k", None), ("v", torch.zeros(2)), ("span", "local"), ("scale", "x"),
                                  ("upcast", 1), ("nearest", -1), ("block", 0), ("q", torch.zeros(1, 3, 3, 4)))},
    "queries that are no range": (lambda: network.visible([0, 1], range(2), SPAN), "queries [0, 1]"),
    "a span that is text": (lambda: network.visible(range(2), range(2), "local"), "span 'local'"),
    "a device that is none": (lambda: network.visible(range(2), range(2), SPAN, device="tpu"), "device 'tpu'"),
    "provenance of text": (lambda: results.provenance(MODEL, "lab/gpt2"), "anatomy 'lab/gpt2'"),
    "a record of other spans": (lambda: replay.record(WEIGHTS, TOKENS, ["z"], A.attention[:2]), "spans of 2 layers"),
    "the end of no record": (lambda: replay.final({}), "no resid_post"),
    "reach of text": (lambda: replay.reach("x", 8, 7), "spans 'x'"),
    "reach beyond the end": (lambda: replay.reach(A.attention, 8, 8), "no position 8"),
    "cells of lists": (lambda: replay.Cells([0], t(0), t(0), t(1), t(0)), "prompt [0]"),
    "recorded sites": (lambda: replay.recorded_sites(1, True), "parallel 1"),
}  # fmt: skip

NUMBERS = {
    "infinite mean": (lambda: seeds.Estimate(INF, 0.0, 1.0, 3), "mean of an Estimate"),
    "infinite p": (lambda: seeds.Estimate(0.5, 0.0, 1.0, 3, INF), "p of an Estimate"),
    "low above high": (lambda: seeds.Estimate(0.5, 1.0, 0.0, 3), "low 1"),
    "values of text": (lambda: seeds.Estimate(0.5, 0.0, 1.0, 3, values="ab"), "values"),
    **{f"estimate of {value!r:.30}": (lambda value=value: seeds.mean_ci(value), "values")
       for value in (["1", "2"], [b"1"], [None, 1.0], np.array(["2020"], "datetime64[D]"), [1j], META, 10**30)},
    **{f"bounds {value!r}": (lambda value=value: seeds.check_bounds(value), "bounds")
       for value in ({0, 1}, {0: 1, 1: 2}, META)},
    "a seed twice": (lambda: seeds.paired_difference(SEEDS, SEEDS.assign_coords(seed=[0, 0])), "seed twice"),
    "words by seed": (lambda: seeds.paired_difference(SEEDS, SEEDS.astype(str)), "expected numbers"),
    **{f"build from {value!r:.40}": (lambda value=value: results.build(value, A), "variables")
       for value in (3, "x", {"x": np.zeros(3)}, {"x": ("pos", "abc", 3, 4, 5)}, {"x": (("layer",), np.zeros(3))})},
    "a variable without a name": (lambda: results.build({1: (("pos",), [1])}, A), "name of a variable 1"),
    "a layer that is not in the model": (
        lambda: results.build({"x": (("layer",), np.zeros(1))}, A, layers=[9]), "layers are 0 to 3"),
    "a head that is not in the model": (
        lambda: results.build({"x": (("head",), np.zeros(1))}, A, heads=["a"]), "head 'a'"),
    "a dataset in place of a mapping": (lambda: seeds.adjust_p_values(xr.Dataset()), "a mapping from names to"),
    "coordinates as a list": (lambda: results.build({"x": (("pos",), [1])}, A, coords=[1]), "coords [1]"),
    "results of no anatomy": (lambda: results.build({}, "lab/gpt2"), "anatomy 'lab/gpt2'"),
}  # fmt: skip

LAB = {
    "steps as text": (lambda: recipe.Recipe(steps="3"), "steps '3'"),
    "no size": (lambda: recipe.Recipe(size=3), "size 3"),
    "betas of 1": (lambda: recipe.Recipe(betas=(0.9, 1.0)), "betas"),
    "one beta": (lambda: recipe.Recipe(betas=(0.9,)), "two numbers"),
    "no curriculum": (lambda: recipe.Recipe(curriculum=()), "until 1.0"),
    "a curriculum of numbers": (lambda: recipe.Recipe(curriculum=[3]), "curriculum 3"),
    "a curriculum that goes back": (
        lambda: recipe.Recipe(curriculum=[recipe.Stage(16, end, SHORT) for end in (0.9, 0.5, 1.0)]), "[0.9, 0.5, 1.0]"),
    **{f"mix {value!r}": (lambda value=value: recipe.Stage(16, 1.0, value), "") for value in
       (None, [], {}, {"foo": 1.0}, {"background": -1}, {"background": "x"}, {"background": NAN}, {"background": 0})},
    "a stage without an end": (lambda: recipe.Stage(16, 2.0, SHORT), "until 2.0"),
    **{f"size {name} {value!r}": (lambda name=name, value=value: arms.Size(**{name: value}), name) for name, value in
       (("layers", 0), ("heads", "x"), ("width", 65), ("context", 1.5), ("window", None), ("spread", NAN))},
    "a config of text": (lambda: arms.gpt2_config("x"), "size 'x'"),
    "half of three layers": (lambda: arms.gpt_neo_config(arms.Size(layers=3)), "even number"),
    **{f"train {name} {value!r}": (
        lambda name=name, value=value: training.train(**({"name": "gpt2", "out": "x", "recipe": TINY} | {name: value})),
        words) for name, value, words in (
            ("recipe", 0, "recipe 0"), ("recipe", "", "recipe ''"), ("out", None, "out folder None"),
            ("line", -1, "line -1"), ("checkpoints", 3, "checkpoints 3"), ("checkpoints", META, "checkpoints"),
            ("out", "/proc/neolens", "cannot be written"))},
    "a plan without a recipe": (lambda: family.Plan("x", 3), "recipe 3"),
    "a family without a plan": (lambda: list(family.train_family(["gpt2"], [0], 3)), "plan 3"),
    "progress that is no flag": (lambda: spread.spread(["lab/gpt2@1"], progress=3), "progress 3"),
    "too many processes": (lambda: spread.spread(["lab/gpt2@1"], processes=10**30), "processes"),
    **{f"rows of {value!r}": (lambda value=value: spread.rows(value), "found") for value in
       (3, {"a": None}, {"a": {}}, {"a": {"foo": {}}})},
    "a curve of a number": (lambda: curves.read_curve(3), "path 3"),
    "curves of one arm twice": (lambda: curves.curves(["lab/gpt2", "lab/gpt2"]), "twice"),
    "competence of text": (lambda: competence.competence("lab/gpt2"), "model 'lab/gpt2'"),
    "a task that is a list": (lambda: planted.planted([], 20), "task []"),
    "a task over two lines": (lambda: planted.planted("a\nb", 20), "no task"),
    "the farthest of an unknown task": (lambda: planted.farthest("recal", 64), "did you mean recall"),
    "a reach that is text": (lambda: competence.reach("x"), "distance 'x'"),
    "a document from no generator": (lambda: language.document(3, 128, SHORT), "rng 3"),
    "a document of all tokens": (lambda: language.background(RNG, 10**30), "length"),
    "sequences of the lab": (lambda: language.repeated(4, prompts=10**12), "prompts"),
    "a step beyond the end": (lambda: recipe.batch(TINY, 0, 5), "no step 5"),
    "a network that has no name": (lambda: lab.folder(3), "name 3"),
}  # fmt: skip

TABLES = {
    "anatomy": ANATOMIES,
    "metric": METRICS,
    "prompt": PROMPTS,
    "network": WEIGHTS_AND_RUNS,
    "number": NUMBERS,
    "lab": LAB,
}
ROWS = {f"{table}: {name}": row for table, rows in TABLES.items() for name, row in rows.items()}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_argument_is_refused_in_one_line_of_our_own(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, *facts = ROWS[name]
    with pytest.raises((ValueError, TypeError, OSError)) as raised:
        call()
    message = str(raised.value)
    assert all(fact in message for fact in facts), message
    assert "\n" not in message
    assert len(message) < 330
    assert traceback.extract_tb(raised.value.__traceback__)[-1].filename.startswith(str(HOME))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


ACCEPTED = {
    "anatomy of NumPy's numbers": lambda: replace(
        A, layers=np.int64(4), dropout=np.float32(0.1), attention=list(A.attention)
    ),
    "answers of int32": lambda: metrics.rank(LOGITS, replace(ASKED, answers=t(1, 2).int())),
    "candidates in an array": lambda: prompts.repeated(np.array([1, 2, 3]), np.int64(2), bos=None),
    "spans in a list": lambda: network.residual(WEIGHTS, TOKENS.int(), spans=list(A.attention), block=np.int64(2)),
    "values in a tuple": lambda: seeds.mean_ci((1, np.float32(2.0), 3)),
    "bounds in an array": lambda: seeds.check_bounds(np.array([0, 1])),
    "layers in an array": lambda: results.build({"x": (("layer",), np.zeros(2))}, A, layers=np.array([0, 2])),
    "steps of NumPy": lambda: recipe.Recipe(steps=np.int64(3)).as_json(),
    "checkpoints in a set": lambda: training.check_steps({3, 1}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_changes_no_number_is_accepted(name):
    assert ACCEPTED[name]() is not None


def test_a_metric_of_two_tokens_finds_them_among_the_logits_of_all():
    logits = torch.arange(30.0).reshape(2, 3, 5) ** 2
    found = metrics.logit_difference(logits, ASKED)
    assert found.tolist() == [11.0**2 - 13.0**2, 27.0**2 - 29.0**2]  # last rows: 10 to 14 and 25 to 29
    assert torch.equal(metrics.logit_difference.of_every(logits, ASKED), found)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"recipe": 3}', '{"recipe": {"steps": "x"}}', "[" * 100_000])
def test_a_damaged_card_is_named_in_one_line(text, tmp_path, monkeypatch):
    folder = tmp_path / "gpt2@0"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "card.json").write_text(text)
    monkeypatch.setattr(lab_models, "LAB_FOLDER", tmp_path)
    monkeypatch.setattr(spread, "NAMES", ("lab/gpt2",))
    for call in (lambda: models.lab_revisions("lab/gpt2"), spread.shipped):
        with pytest.raises((ValueError, TypeError)) as raised:
            call()
        message = str(raised.value)
        assert str(folder / "card.json") in message
        assert "train the network anew" in message
        assert "\n" not in message


def test_the_cards_of_the_shipped_networks_hold_their_accuracies():
    assert spread.shipped()["lab/gpt2"]["recall"].keys() == {"inside", "beyond", "unseen"}
