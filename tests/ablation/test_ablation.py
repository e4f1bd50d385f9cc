"""Head ablation: every way, group, metric and position, against a naive run of the whole network for each group."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import neolens
import oracles
import tiny
from neolens import metrics, results
from neolens.ablation import Beyond, Within, ablate, by_kind, each_head, each_layer, random_like
from neolens.ablation.methods import donors
from neolens.prompts.pairs import PromptPairs

pytestmark = pytest.mark.filterwarnings("ignore:the mean is over only:UserWarning")

HOWS = ["zero", "mean", "mean_all_positions", "resample", Beyond(3), Within(2)]
every_family = pytest.mark.parametrize("name", tiny.NAMES)
every_how = pytest.mark.parametrize("how", HOWS, ids=str)

CLOSE = 1e-5
"""Of the largest number compared (at least 1): fp32 against float64. The largest difference seen is 2e-6."""

MINE = {"mine": [(2, 1), (0, 3), (1, 0), (0, 2)], "first and last": [(0, 0), (2, 3)]}
MANY = ["loss", "probability", "log_probability", "rank", "kl_divergence", "logit_difference"]


def prompts(lengths=(14, 9, 14, 9), seed=0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(1, tiny.VOCAB, (n,), generator=draw) for n in lengths]


def pairs(lengths=(14, 9, 14), distractors=True) -> PromptPairs:
    """Random pairs; `late` and `early` name a place in each prompt."""
    clean, corrupted = prompts(lengths), prompts(lengths, seed=1)
    answers = torch.arange(3, 3 + len(lengths))
    places = {"late": [n - 2 for n in lengths], "early": [1 + i for i in range(len(lengths))]}
    return PromptPairs.from_tokens(clean, corrupted, answers, answers + 20 if distractors else None, places)


def some(model) -> dict[str, list[tuple[int, int]]]:
    return each_head(model) | each_layer(model) | by_kind(model, draws=1) | MINE


# The whole network in float64, ablated by hand -------------------------------------------------------------


def spoken(network, prompt: Tensor) -> list[Tensor]:
    """Layer -> z [pos, head, d_head] of one prompt."""
    after = oracles.forward(network, prompt[None]).after
    return [after[f"blocks.{layer}.attn.hook_z"][0] for layer in range(len(network.layers))]


def mean_spoken(network, reference) -> list[Tensor]:
    """The mean of that over prompts of one length."""
    runs = [spoken(network, prompt) for prompt in reference]
    return [sum(run[layer] for run in runs) / len(runs) for layer in range(len(network.layers))]


def everywhere_spoken(network, reference) -> list[Tensor]:
    """The mean of that over all positions of prompts of any lengths: [1, head, d_head] of each layer."""
    runs = [spoken(network, prompt) for prompt in reference]
    return [torch.cat([run[layer] for run in runs]).mean(0, keepdim=True) for layer in range(len(network.layers))]


def left(pattern: Tensor, how) -> Tensor:
    """What a cut leaves of a head's pattern [query, key]: rows that sum to 1 again, or of zeros."""
    rows = []
    for i, row in enumerate(pattern.tolist()):
        kept = [a if (i - j < how.distance if isinstance(how, Beyond) else i - j >= how.distance) else 0.0
                for j, a in enumerate(row)]  # fmt: skip
        rows.append([a / sum(kept) if sum(kept) else 0.0 for a in kept])
    return torch.tensor(rows, dtype=pattern.dtype)


def naive(network, prompt: Tensor, groups, how, values=None) -> Tensor:
    """Logits [group, pos, d_vocab], each group of heads ablated in a run of its own."""
    groups, edits = list(groups), {}

    def edit(layer: int):
        def put(x: Tensor) -> Tensor:
            x = x.clone()
            for row, heads in enumerate(groups):
                for _, head in [each for each in heads if each[0] == layer]:
                    if isinstance(how, str):
                        x[row, :, head] = 0.0 if how == "zero" else values[layer][:, head]
                    else:
                        x[row, head] = left(x[row, head], how)
            return x

        return put

    for layer in range(len(network.layers)):
        edits[f"blocks.{layer}.attn.hook_{'z' if isinstance(how, str) else 'pattern'}"] = edit(layer)
    return oracles.forward(network, prompt.expand(len(groups), -1), edits).logits


def instead(network, asked, reference, how, prompt: int, seed=0) -> list[Tensor] | None:
    """What takes the heads' place in one of the prompts asked for."""
    if how == "mean_all_positions":
        return everywhere_spoken(network, reference)
    if how == "mean":
        return mean_spoken(network, [other for other in reference if len(other) == len(asked[prompt])])
    return spoken(network, reference[donors(asked, reference, seed)[prompt]]) if how == "resample" else None


def loss_by_hand(logits: Tensor, prompt: Tensor) -> Tensor:
    """[row, pos] for logits [row, pos, d_vocab]; nothing is known to follow the last token."""
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    found = torch.full(logits.shape[:2], math.nan, dtype=logits.dtype)
    for at in range(len(prompt) - 1):
        found[:, at] = -log_p[:, at, prompt[at + 1]]
    return found


def close(found, truth, within=CLOSE) -> None:
    found, truth = np.asarray(found, dtype=float), np.asarray(truth, dtype=float)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    known = ~np.isnan(truth)
    assert known.any()
    np.testing.assert_allclose(found[known], truth[known], rtol=0, atol=within * max(1.0, np.abs(truth[known]).max()))


# Every way and group ------------------------------------------------------------------------------------------


REFERENCES = {
    "mean": prompts((9, 14) * 8, seed=3),
    "mean_all_positions": prompts((2, 14, 9, 20, 1, 9, 5, 33), seed=3),
    "resample": prompts((9, 14) * 8, seed=3),
}


@every_family
@every_how
def test_every_ablation_is_the_run_of_the_whole_network_with_it(name, how, bridges, networks):
    model, network, asked = bridges[name], networks[name], prompts()
    groups, reference = some(model), REFERENCES.get(how)
    result = ablate(model, asked, groups, how=how, reference=reference, progress=False)
    assert result.ablated.dims == ("group", "prompt", "pos")
    assert result.attrs["engine"] == "replay"
    for number, prompt in enumerate(asked):
        values = instead(network, asked, reference, how, number)
        truth = loss_by_hand(naive(network, prompt, groups.values(), how, values), prompt)
        close(result.ablated.sel(prompt=number)[:, : len(prompt)], truth)
        own = loss_by_hand(oracles.forward(network, prompt[None]).logits, prompt)
        close(result.baseline.sel(prompt=number)[: len(prompt)], own[0])
        assert np.isnan(result.ablated.sel(prompt=number)[:, len(prompt) :]).all()
        assert float((truth - own)[:, 5:-1].abs().amax(1).min()) > 0.001, "an ablation that does nothing shows nothing"


@every_family
@pytest.mark.parametrize("how", ["mean", "mean_all_positions", "resample"])
def test_the_prompts_themselves_are_the_reference_where_none_is_given(name, how, bridges, networks):
    asked = prompts((9, 7, 9, 7, 9))
    result = ablate(bridges[name], asked, MINE, how=how, seed=5, progress=False)
    for number, prompt in enumerate(asked):
        values = instead(networks[name], asked, asked, how, number, seed=5)
        truth = loss_by_hand(naive(networks[name], prompt, MINE.values(), how, values), prompt)
        close(result.ablated.sel(prompt=number)[:, : len(prompt)], truth)
    assert result.attrs["reference"] == 5
    given = ablate(bridges[name], asked, MINE, how=how, seed=5, reference=asked, progress=False)
    xr.testing.assert_identical(given.drop_attrs(), result.drop_attrs())


@every_family
@pytest.mark.parametrize("engine", ["replay", "hooks"])
def test_a_mean_over_all_positions_is_that_of_activations_cached_by_transformerlens(name, engine, bridges):
    model, asked, reference = bridges[name], prompts((6, 11, 6)), prompts((3, 17, 8, 1, 8), seed=4)
    heads = MINE["mine"]
    found = ablate(
        model, asked, {"mine": heads}, how="mean_all_positions", reference=reference, engine=engine, progress=False
    )
    assert (found.attrs["how"], found.attrs["reference"]) == ("mean_all_positions", 5)
    caches = [model.run_with_cache(prompt[None])[1] for prompt in reference]
    means = [
        torch.cat([cache[f"blocks.{layer}.attn.hook_z"][0] for cache in caches]).double().mean(0)
        for layer in range(model.anatomy.layers)
    ]

    def put(layer):
        def hook(z, hook):
            for head in [head for its, head in heads if its == layer]:
                z[:, :, head] = means[layer][head].to(z.dtype)
            return z

        return f"blocks.{layer}.attn.hook_z", hook

    for number, prompt in enumerate(asked):
        logits = model.run_with_hooks(prompt[None], fwd_hooks=[put(layer) for layer in range(len(means))]).detach()
        close(found.ablated.sel(group="mine", prompt=number)[: len(prompt)], loss_by_hand(logits, prompt)[0], 1e-5)


def test_a_refused_length_names_the_mean_over_all_positions_which_takes_it(bridges):
    model, asked = bridges["gpt2"], prompts((9, 7))
    with pytest.raises(ValueError, match="1 reference prompt has 7 tokens: .*how='mean_all_positions', the mean over"):
        ablate(model, asked, MINE, how="mean", progress=False)
    with pytest.raises(ValueError, match="has 8 tokens, which no prompt has.*how='mean_all_positions'"):
        ablate(model, asked, MINE, how="mean", reference=prompts((8, 8)), progress=False)
    ablate(model, asked, MINE, how="mean_all_positions", progress=False)


@pytest.mark.parametrize("seed", range(6))
def test_a_donor_is_of_the_same_length_and_never_the_prompt_itself(seed):
    asked = prompts((5, 8, 5, 5, 8), seed=seed)
    reference = [*prompts((8, 5, 5, 8), seed=seed + 20), *asked]
    drawn = donors(asked, reference, seed)
    for prompt, donor in zip(asked, drawn, strict=True):
        assert len(reference[donor]) == len(prompt)
        assert not torch.equal(reference[donor], prompt)
    assert drawn == donors(asked, reference, seed)
    only = [torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4])]
    assert donors(only, only, seed) == [1, 0]


def test_every_other_prompt_is_a_donor_for_some_seed():
    asked = prompts((6,) * 4)
    assert {donors(asked, asked, seed)[0] for seed in range(60)} == {1, 2, 3}
    assert {donors(asked, asked, seed)[2] for seed in range(60)} == {0, 1, 3}


def by_hooks(model, tokens: Tensor, heads, how, values=None) -> Tensor:
    """Logits of the model with hooks at z, or at the pattern, written out here."""

    def put(layer: int):
        def hook(x, hook):
            x = x.clone()
            for _, head in [each for each in heads if each[0] == layer]:
                if isinstance(how, str):
                    x[:, :, head] = 0.0 if values is None else values[layer][:, head].to(x.dtype)
                else:
                    x[:, head] = torch.stack([left(row, how) for row in x[:, head].detach()])
            return x

        return hook

    site = "z" if isinstance(how, str) else "pattern"
    layers = {layer for layer, _ in heads}
    return model.run_with_hooks(
        tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_{site}", put(layer)) for layer in layers]
    ).detach()


@every_family
@every_how
def test_hooks_written_by_hand_and_the_hooks_engine_give_the_same_numbers(name, how, bridges, networks):
    model, asked = bridges[name], prompts((11, 6, 11, 6))
    replayed, hooked = (
        ablate(model, asked, MINE | each_layer(model), how=how, engine=engine, progress=False)
        for engine in ("replay", "hooks")
    )
    close(hooked.ablated, replayed.ablated)
    close(hooked.baseline, replayed.baseline)
    assert (replayed.attrs["engine"], hooked.attrs["engine"]) == ("replay", "hooks")
    for number, prompt in enumerate(asked):
        values = instead(networks[name], asked, asked, how, number)
        for group, heads in MINE.items():
            by_hand = loss_by_hand(by_hooks(model, prompt[None], heads, how, values).double(), prompt)
            close(replayed.ablated.sel(group=group, prompt=number)[: len(prompt)], by_hand[0])
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


# Metrics --------------------------------------------------------------------------------------------------------


def measured(metric: str, logits: Tensor, own: Tensor, answers, distractors) -> list[float]:
    """At every position of one run [pos, d_vocab]; -1 stands for a token that is not known."""
    found = []
    for row, before, answer, distractor in zip(logits.tolist(), own.tolist(), answers, distractors, strict=True):
        log_p = [x - math.log(sum(map(math.exp, row))) for x in row]
        log_q = [x - math.log(sum(map(math.exp, before))) for x in before]
        if metric == "kl_divergence":
            found.append(sum(math.exp(q) * (q - p) for p, q in zip(log_p, log_q, strict=True)))
        elif answer < 0 or (metric == "logit_difference" and distractor < 0):
            found.append(math.nan)
        else:
            by_metric = {
                "loss": -log_p[answer],
                "log_probability": log_p[answer],
                "probability": math.exp(log_p[answer]),
                "rank": sum(x > row[answer] for x in row),
                "logit_difference": row[answer] - row[distractor],
            }
            found.append(by_metric[metric])
    return found


def expectations(asked: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Answers and distractors at random, some of them unknown."""
    draw = torch.Generator().manual_seed(8)
    answers = [torch.randint(0, 30, p.shape, generator=draw) for p in asked]
    others = [torch.randint(30, tiny.VOCAB, p.shape, generator=draw) for p in asked]
    for number, (row, other) in enumerate(zip(answers, others, strict=True)):
        row[number], other[number + 2] = -1, -1
    return answers, others


@every_family
@pytest.mark.parametrize("engine", ["replay", "hooks"])
def test_every_metric_at_every_position_is_what_its_definition_says(name, engine, bridges, networks):
    asked = prompts((9, 6, 9))
    answers, others = expectations(asked)
    result = ablate(
        bridges[name], asked, MINE, how="zero", metric=MANY, answers=answers, distractors=others,
        engine=engine, progress=False,
    )  # fmt: skip
    assert result.ablated.dims == ("group", "prompt", "pos", "metric")
    assert result.metric.values.tolist() == json.loads(result.attrs["metric"]) == MANY
    for number, prompt in enumerate(asked):
        own = oracles.forward(networks[name], prompt[None]).logits[0]
        runs = naive(networks[name], prompt, MINE.values(), "zero")
        given = answers[number].tolist(), others[number].tolist()
        for metric in MANY:
            of = result.sel(prompt=number, metric=metric).isel(pos=slice(len(prompt)))
            close(of.baseline, measured(metric, own, own, *given), 2 * CLOSE)
            for row, group in enumerate(MINE):
                close(of.ablated.sel(group=group), measured(metric, runs[row], own, *given), 2 * CLOSE)


@every_family
@pytest.mark.parametrize("engine", ["replay", "hooks"])
def test_a_function_of_logits_gives_one_number_a_run(name, engine, bridges, networks):
    asked = prompts((8, 5, 8))

    def size(logits):
        return logits.square().mean((1, 2))

    def first(logits):
        return logits[:, 0, 3]

    result = ablate(bridges[name], asked, MINE, how="zero", metric=[size, first], engine=engine, progress=False)
    assert result.ablated.dims == ("group", "prompt", "metric")
    for number, prompt in enumerate(asked):
        runs = naive(networks[name], prompt, MINE.values(), "zero")
        by_hand = torch.stack([runs.square().mean((1, 2)), runs[:, 0, 3]], dim=1)
        close(result.ablated.sel(prompt=number), by_hand)
    alone = ablate(bridges[name], asked, MINE, how="zero", metric=size, engine=engine, progress=False)
    assert alone.ablated.dims == ("group", "prompt")
    close(alone.ablated, result.ablated.sel(metric="size"))


@pytest.mark.parametrize("engine", ["replay", "hooks"])
def test_a_metric_of_ones_own_is_handed_what_it_says_that_it_reads(engine, bridges, networks):
    answer = metrics.Metric("answer", lambda x, asked: x[:, -1, 0], lambda x, expected: x[:, 0], columns="answers")
    moved = metrics.Metric("moved", lambda x, asked: (x - asked.clean)[:, 0, 7], against_clean=True)
    (prompt,) = asked = prompts((7,))
    runs, own = naive(networks["gpt2"], prompt, MINE.values(), "zero"), oracles.forward(networks["gpt2"], prompt[None])
    call = dict(how="zero", engine=engine, progress=False)
    found = ablate(bridges["gpt2"], asked, MINE, metric=answer, **call).ablated[:, 0, :-1]
    close(found, np.array([[float(row[at, prompt[at + 1]]) for at in range(6)] for row in runs]))
    last = ablate(bridges["gpt2"], asked, MINE, metric=moved, **call).ablated[:, 0]
    close(last, (runs - own.logits)[:, -1, 7], 5 * CLOSE)


# Positions -----------------------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize(
    ("engine", "how"),
    [("replay", "zero"), ("replay", "mean"), ("replay", Beyond(3)), ("replay", Within(2)), ("hooks", "resample")],
    ids=str,
)
def test_fewer_positions_give_the_numbers_of_all(name, how, engine, bridges):
    asked, call = prompts((14, 9, 14, 9)), dict(how=how, engine=engine, progress=False)
    groups = MINE | (each_layer(bridges[name]) if engine == "replay" else {})
    whole = ablate(bridges[name], asked, groups, **call)
    named = {"one": [12, 3, 0, -2], "two": [-3, 7, 11, 0], "three": [4, 4, 4, 4]}
    found = ablate(bridges[name], asked, groups, positions=named, **call)
    assert found.pos.values.tolist() == ["one", "two", "three"]
    for place, indices in named.items():
        for number, index in enumerate(indices):
            at = index % len(asked[number])
            for part in ("ablated", "baseline"):
                close(found[part].sel(prompt=number, pos=place), whole[part].sel(prompt=number, pos=at))
    numbers = ablate(bridges[name], asked, groups, positions=[7, 2], **call)
    assert numbers.pos.values.tolist() == [7, 2]
    for at in (7, 2):
        close(numbers.ablated.sel(pos=at), whole.ablated.sel(pos=at))
    each = ablate(bridges[name], asked, groups, positions="each", **call)
    xr.testing.assert_identical(each.drop_attrs(), whole.drop_attrs())


@every_family
def test_pairs_are_read_at_their_last_position_or_by_name(name, bridges, networks):
    its, model, network = pairs(), bridges[name], networks[name]
    groups = MINE | each_layer(model)
    call = dict(how="zero", progress=False)
    last = ablate(model, its, groups, metric="logit_difference", **call)
    named = ablate(model, its, groups, positions=["late", "early"], **call)
    assert last.ablated.dims == ("group", "prompt")
    assert named.pos.values.tolist() == ["late", "early"]
    for number, prompt in enumerate(its.clean):
        runs = naive(network, prompt, groups.values(), "zero")
        close(last.ablated.sel(prompt=number), runs[:, -1, its.answers[number]] - runs[:, -1, its.distractors[number]])
        losses = loss_by_hand(runs, prompt)
        for place in ("late", "early"):
            close(named.ablated.sel(prompt=number, pos=place), losses[:, its.positions[place][number]])


def test_a_pairs_answer_follows_its_last_position(bridges, networks):
    its = pairs()
    result = ablate(bridges["gpt-neo"], its, MINE, how="zero", metric=["loss", "logit_difference"], progress=False)
    assert result.ablated.dims == ("group", "prompt", "pos", "metric")
    for number, prompt in enumerate(its.clean):
        runs = naive(networks["gpt-neo"], prompt, MINE.values(), "zero")
        followed = torch.cat([prompt, its.answers[number : number + 1]])
        mine = result.ablated.sel(prompt=number)[:, : len(prompt)]
        whole = loss_by_hand(torch.cat([runs, runs[:, :1]], dim=1), followed)[:, :-1]
        close(mine.sel(metric="loss"), whole)
        assert np.isnan(mine.sel(metric="logit_difference")[:, :-1]).all()
        assert np.isfinite(mine.sel(metric="logit_difference")[:, -1]).all()


def test_a_divergence_has_a_value_where_no_answer_is_known(bridges):
    call = dict(how="zero", metric="kl_divergence", progress=False)
    whole = ablate(bridges["gpt2"], prompts(), MINE, **call)
    last = ablate(bridges["gpt2"], prompts(), MINE, positions={"end": [-1] * 4}, **call)
    for number, prompt in enumerate(prompts()):
        close(last.ablated.sel(prompt=number, pos="end"), whole.ablated.sel(prompt=number, pos=len(prompt) - 1))


# Labels -----------------------------------------------------------------------------------------------------------


def test_a_group_carries_its_heads_and_the_kind_of_their_layers(bridges):
    groups = {"one": [(1, 2)], "both": [(2, 0), (1, 3), [0, 1]], "again": [(3, 0), (1, 0), (3, 0)]}
    result = ablate(bridges["gpt-neo"], prompts(), groups, how="zero", progress=False)
    assert result.group.values.tolist() == ["one", "both", "again"]
    assert result.heads.values.tolist() == ["1.2", "0.1 1.3 2.0", "1.0 3.0"]
    assert result.attention_kind.values.tolist() == ["local", "both", "local"]
    assert result.length.values.tolist() == [14, 9, 14, 9]
    for how, word in [("zero", "zero"), (Beyond(3), "without keys 3 or more tokens back")]:
        assert ablate(bridges["gpt-neo"], prompts(), groups, how=how, progress=False).attrs["how"] == word
    within = ablate(bridges["gpt-neo"], prompts(), groups, how=Within(2), seed=3, progress=False).attrs
    assert within["how"] == "without keys fewer than 2 tokens back"
    assert (within["seed"], json.loads(within["metric"])) == (3, ["loss"])
    assert "reference" not in within


@pytest.mark.parametrize("call", [{}, {"metric": ["loss", "rank"]}, {"positions": {"a": [1, 2, 3, 4]}}], ids=str)
def test_a_saved_result_is_loaded_as_it_was(call, bridges, tmp_path):
    result = ablate(bridges["gpt-neo"], prompts(), MINE, how="resample", progress=False, **call)
    back = results.load(results.save(result, tmp_path / "ablated.nc"))
    xr.testing.assert_equal(back, result)
    assert {str(name) for name in back.coords} >= {"heads", "attention_kind", "length"}
    assert {name: back.attrs[name] for name in ("how", "seed", "reference")} == {
        "how": "resample", "seed": 0, "reference": 4,
    }  # fmt: skip


def test_the_words_of_pairs_made_from_text_stand_beside_their_positions():
    model = neolens.load("lab/gpt2")
    vocabulary = [model.tokenizer.decode([token]).strip() for token in range(20, 24)]
    texts = [" ".join(vocabulary), " ".join(reversed(vocabulary))]
    its = PromptPairs.from_text(model, texts, texts[::-1], vocabulary[:2])
    result = ablate(model, its, {"one": [(0, 0)]}, how="zero", progress=False)
    assert result.token.dims == ("prompt", "pos")
    assert [word.strip() for word in result.token.values[0, -4:]] == vocabulary


# Groups --------------------------------------------------------------------------------------------------------------


def test_heads_and_layers_are_named_by_their_numbers(bridges):
    heads, layers = each_head(bridges["gpt2"]), each_layer(bridges["gpt2"])
    assert heads == {f"{layer}.{head}": [(layer, head)] for layer in range(3) for head in range(4)}
    assert layers == {f"layer {layer}": [(layer, head) for head in range(4)] for layer in range(3)}
    assert each_head(bridges["gpt2"].anatomy) == heads
    assert list(each_head("gpt2"))[-1] == "11.11"
    assert neolens.each_layer is each_layer
    assert neolens.each_head is each_head


def test_kinds_come_with_as_many_random_heads_spread_over_all_layers():
    groups = neolens.by_kind("gpt-neo-125M", draws=4, seed=1)
    kinds = {"global": 0, "local": 1}  # layer 0 is global
    for kind, parity in kinds.items():
        assert groups[kind] == [(layer, head) for layer in range(parity, 12, 2) for head in range(12)]
    controls = {name: heads for name, heads in groups.items() if name not in kinds}
    assert list(controls) == [f"random 72 heads {draw}" for draw in range(4)]
    for heads in controls.values():
        assert len(set(heads)) == 72
        assert [sum(its == layer for its, _ in heads) for layer in range(12)] == [6] * 12
    assert len({tuple(heads) for heads in controls.values()}) == 4
    assert by_kind("gpt-neo-125M", draws=4, seed=1) == groups
    assert by_kind("gpt-neo-125M", draws=4, seed=2) != groups
    assert list(by_kind("gpt-neo-125M", draws=0)) == ["local", "global"]


def test_a_control_of_a_number_that_the_layers_do_not_divide_is_even_give_or_take_one(tmp_path):
    fields = {"num_layers": 3, "attention_types": [[["global", "local", "global"], 1]]}
    tiny.model("gpt-neo", **fields).save_pretrained(tmp_path)
    groups = by_kind(str(tmp_path), draws=5)
    assert {name: len(heads) for name, heads in groups.items() if name.endswith(("l", "0"))} == {
        "local": 4, "global": 8, "random 4 heads 0": 4, "random 8 heads 0": 8,
    }  # fmt: skip
    for name, heads in groups.items():
        if name.startswith("random"):
            counts = sorted(sum(its == layer for its, _ in heads) for layer in range(3))
            assert counts == ([1, 1, 2] if len(heads) == 4 else [2, 3, 3])


@pytest.mark.parametrize("name", ["gpt2", "pythia"])
def test_a_model_of_one_kind_has_no_control(name, bridges):
    assert by_kind(bridges[name]) == {"global": [(layer, head) for layer in range(3) for head in range(4)]}


def test_random_heads_like_others_are_of_the_same_layers_and_none_of_them(bridges):
    mine = [(0, 1), (2, 3), (2, 0), (0, 1)]
    groups = random_like(bridges["gpt2"], mine, draws=20, seed=4)
    assert [name.rpartition(", ")[2] for name in groups] == [str(draw) for draw in range(20)]
    assert not set(groups) & set(random_like(bridges["gpt2"], [(0, 0)], draws=20))
    for heads in groups.values():
        assert [layer for layer, _ in heads] == [0, 2, 2]
        assert len(set(heads)) == 3
        assert not set(heads) & set(mine)
    assert {head for heads in groups.values() for layer, head in heads if layer == 0} == {0, 2, 3}
    assert random_like(bridges["gpt2"], mine, draws=20, seed=4) == groups
    assert random_like(bridges["gpt2"], mine, draws=20, seed=5) != groups


BAD_GROUPS = {
    "too many": (lambda facts: random_like(facts, [(1, 0), (1, 1), (1, 2)]), "3 of the 4 heads of layer 1 are in the"),
    "no draws": (
        lambda facts: random_like(facts, [(1, 0)], draws=0),
        "draws 0: expected a whole number from 1 to 10000",
    ),
    "seed": (lambda facts: by_kind(facts, seed=-1), "seed -1: expected a whole number of at least 0"),
    "draws": (lambda facts: by_kind(facts, draws=-2), "draws -2: expected a whole number from 0 to 10000"),
    "head": (lambda facts: random_like(facts, [(1, 4)]), "no head 4 in layer 1 of .*: heads are 0 to 3"),
}


@pytest.mark.parametrize(("ask", "message"), BAD_GROUPS.values(), ids=BAD_GROUPS)
def test_groups_that_cannot_be_drawn_are_refused(ask, message, bridges):
    with pytest.raises(ValueError, match=message):
        ask(bridges["gpt2"].anatomy)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def still(bridges, monkeypatch):
    """A model that cannot be run."""

    def ran(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr("neolens.network.forward.embed", ran)
    monkeypatch.setattr(type(bridges["gpt2"]), "forward", ran)
    return bridges["gpt2"]


def wanted(tokens: Tensor, at: int = 2) -> list[Tensor]:
    """One answer alone."""
    rows = torch.full_like(tokens, -1)
    rows[:, at] = 5
    return list(rows)


def begun(token: int) -> Tensor:
    """Prompts that all begin with this token."""
    return torch.cat([torch.full((3, 1), token), TOKENS[:, 1:]], dim=1)


TOKENS = tiny.tokens(batch=3, length=8)
BAD = {
    "layer": ({"groups": {"a": [(3, 0)]}}, "group 'a': no layer 3 in .*: layers are 0 to 2"),
    "negative layer": ({"groups": {"a": [(-1, 0)]}}, "group 'a': no layer -1 in .*: layers are 0 to 2"),
    "head": ({"groups": {"b": [(0, 0), (2, 4)]}}, "group 'b': no head 4 in layer 2 of .*: heads are 0 to 3"),
    "empty": ({"groups": {"a": [(0, 0)], "b": []}}, r"group 'b': heads \[\]: expected at least one \(layer, head\)"),
    "no group": ({"groups": {}}, "there is no group: expected at least one"),
    "no mapping": (
        {"groups": [(0, 0)]},
        r"groups are \[\(0, 0\)\], a list: expected a dict from a name to heads",
        TypeError,
    ),
    "a head alone": (
        {"groups": {"a": (0, 0)}},
        r"group 'a': head 0: expected \(layer, head\)",
        TypeError,
    ),
    "a word": ({"groups": {"a": "0.1"}}, r"group 'a': heads '0.1': expected a list of \(layer, head\)", TypeError),
    "half a head": (
        {"groups": {"a": [(0, 0.5)]}},
        "group 'a': head 0.5: expected a whole number; heads are 0 to 3",
        TypeError,
    ),
    "booleans": (
        {"groups": {"a": [(True, False)]}},
        "group 'a': layer True: expected a whole number; layers are 0 to 2",
        TypeError,
    ),
    "a name": ({"groups": {3: [(0, 0)]}}, "name of a group 3: expected a string such as 'mine'", TypeError),
    "no name": ({"groups": {"": [(0, 0)]}}, "name of a group '': expected a string such as 'mine'"),
    "how": (
        {"how": "meen"},
        "no way to ablate 'meen': did you mean mean.*ways are zero, mean, mean_all_positions, resample, Beyond",
    ),
    "no how": (
        {"how": None},
        r"how is None: expected 'zero', 'mean', 'mean_all_positions', 'resample', Beyond\(distance\)",
        TypeError,
    ),
    "a cut without a distance": ({"how": Beyond}, "how is <class .*Beyond'>: expected 'zero'", TypeError),
    "metric": ({"metric": "los"}, "no metric 'los': did you mean loss"),
    "metric twice": ({"metric": ["loss", neolens.loss]}, "each with a name of its own"),
    "no metric": ({"metric": []}, r"metrics \[\]: expected one or several"),
    "a number as metric": ({"metric": 5}, "a metric is one of neolens.metrics, its name or a function", TypeError),
    "tokens and runs": (
        {"metric": ["loss", torch.mean]},
        "metrics loss, mean: some have a value at every position and",
    ),
    "positions of runs": ({"metric": torch.mean, "positions": [1]}, "metric mean has one value a run: leave positions"),
    "columns of runs": (
        {"metric": metrics.Metric("own", lambda x, asked: x[:, -1, 0], columns="answers")},
        "metric own reads the answers' columns of whole runs: give it of_token",
    ),
    "length": ({"how": "mean", "reference": tiny.tokens(length=7)}, "reference prompt 0 has 7 tokens, which no prompt"),
    "tokenizer": (
        {"how": "mean", "tokens": begun(1), "reference": begun(2)},
        "reference prompt 0 begins with token 2, all prompts with 1: it was made by another tokenizer",
    ),
    "one reference": (
        {"how": "mean", "reference": TOKENS[:1]},
        "1 reference prompt has 8 tokens: mean needs at least 2",
    ),
    "no reference of a length": (
        {"how": "resample", "tokens": prompts((8, 5, 8)), "reference": prompts((8, 8), seed=2)},
        "0 reference prompts have 5 tokens: resample needs at least 2 of each prompt's length",
    ),
    "alone": ({"how": "mean", "tokens": TOKENS[:1]}, "1 reference prompt has 8 tokens: mean needs at least 2"),
    "alone over all positions": (
        {"how": "mean_all_positions", "tokens": TOKENS[:1]},
        "1 reference prompt: mean_all_positions needs at least 2",
    ),
    "tokenizer over all positions": (
        {"how": "mean_all_positions", "tokens": begun(1), "reference": begun(2)},
        "reference prompt 0 begins with token 2, all prompts with 1",
    ),
    "itself": (
        {"how": "resample", "tokens": TOKENS[[0, 0]]},
        "every reference prompt is prompt 0 itself: resample needs another of its length",
    ),
    "reference of nothing": ({"reference": TOKENS}, "how='zero' puts nothing in the heads' place: leave reference out"),
    "reference of a cut": (
        {"how": Within(2), "reference": TOKENS},
        "puts nothing in the heads' place: leave reference",
    ),
    "foreign reference": (
        {"how": "mean", "reference": TOKENS + 100},
        "in the reference: prompt 0 holds token 1.*tokenize with the model's own",
    ),
    "text": (
        {"how": "mean", "reference": TOKENS.float()},
        "in the reference: prompt 0 is not a one-dimensional",
        TypeError,
    ),
    "position": (
        {"positions": [8]},
        "position '8' of prompt 0 is 8: expected 0 to 7, or -8 to -1 counted from the end",
    ),
    "position in words": ({"positions": "end"}, "no position 'end': expected 'each', a name or an index; names need"),
    "no position": ({"positions": []}, "no positions are asked for: give some, or leave positions out for all"),
    "half a position": (
        {"positions": [1.5]},
        "position 1.5: expected a whole number; give an index or a name",
        TypeError,
    ),
    "a boolean position": ({"positions": [True]}, "position True: expected a whole number; give an index", TypeError),
    "places": ({"positions": {"a": [1, 2]}}, "position 'a' has 2 places for 3 prompts: expected one each"),
    "place": ({"positions": {"a": [1, 2, -9]}}, "position 'a' of prompt 2 is -9: expected 0 to 7, or -8 to -1"),
    "the last": ({"positions": [7]}, "position '7' of prompt 0 has none of the answers: nothing is known that follows"),
    "unanswered": (
        {"positions": {"a": [2, 2, 3]}, "answers": wanted(TOKENS)},
        "'a' of prompt 2 has none of the answers",
    ),
    "answers": ({"answers": TOKENS[:, :-1]}, "answers do not fit the tokens: expected one token for each of theirs"),
    "an answer": (
        {"answers": 5},
        "answers do not fit the tokens: expected one token for each of theirs, -1 where none",
    ),
    "true answers": ({"answers": TOKENS > 5}, "answers do not fit the tokens"),
    "foreign answers": (
        {"answers": TOKENS + 100},
        "answers hold 1.*: expected tokens of .*, 0 to 60, or -1 where there",
    ),
    "no distractors": ({"metric": "logit_difference"}, "logit_difference needs distractors: a token for each position"),
    "distractors": (
        {"metric": "logit_difference", "distractors": TOKENS.float()},
        "distractors do not fit the tokens: expected one token for each of theirs, -1 where none",
    ),
    "undistracted": (
        {"metric": "logit_difference", "positions": [3], "distractors": wanted(TOKENS)},
        "position '3' of prompt 0 has none of the distractors",
    ),
    "seed": ({"seed": -1}, "seed -1: expected a whole number of at least 0"),
    "half a seed": ({"seed": 1.5}, "seed 1.5: expected a whole number", TypeError),
    "memory": ({"max_memory": 0}, "max_memory 0: expected a whole number of bytes, at least 1"),
    "engine": ({"engine": "warp"}, "no engine 'warp': expected auto, replay or hooks"),
    "one token": ({"tokens": TOKENS[:, :1]}, "prompt 0 has 1 tokens: .* takes 2 to 64 here; give a longer one"),
    "long": ({"tokens": torch.ones(1, 65, dtype=torch.long)}, "prompt 0 has 65 tokens: .* takes 2 to 64 here; cut it"),
    "one prompt": ({"tokens": TOKENS[0]}, r"tokens have shape \(8,\): expected \[prompt, pos\]"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_model_runs(case, still):
    change, message, error = (*case, ValueError)[:3]
    call = {"tokens": TOKENS, "groups": {"mine": [(1, 0)]}, "how": "zero", "progress": False} | change
    with pytest.raises(error, match=message):
        ablate(still, call.pop("tokens"), call.pop("groups"), **call)


def test_what_is_accepted_would_run(still):
    with pytest.raises(AssertionError, match="the model ran"):
        ablate(still, TOKENS, {"mine": [(1, 0)]}, how="zero", progress=False)
    with pytest.raises(AssertionError, match="the model ran"):
        ablate(still, TOKENS, {"mine": [(1, 0)]}, how="zero", engine="hooks", progress=False)


@pytest.mark.parametrize(
    ("distance", "error", "message"),
    [
        (0, ValueError, "distance 0: expected a whole number of tokens, at least 1"),
        (-3, ValueError, "distance -3: expected a whole number of tokens, at least 1"),
        (1.5, TypeError, "distance 1.5: expected a whole number of tokens"),
        (True, TypeError, "distance True: expected a whole number of tokens"),
    ],
)
@pytest.mark.parametrize("cut", [Beyond, Within])
def test_a_distance_that_is_none_is_refused(cut, distance, error, message):
    with pytest.raises(error, match=message):
        cut(distance)


PAIRED = {
    "unknown name": (
        {"positions": ["lat"]},
        "no position 'lat': expected 'each', a name or an index; the pairs name la",
    ),
    "no distractors": (
        {"metric": "logit_difference"},
        "logit_difference needs distractors: .* or give PromptPairs that",
    ),
}


@pytest.mark.parametrize(("change", "message"), PAIRED.values(), ids=PAIRED)
def test_pairs_that_lack_what_is_asked_for_are_refused(change, message, still):
    with pytest.raises(ValueError, match=message):
        ablate(still, pairs(distractors=False), MINE, how="zero", progress=False, **change)


def test_a_reference_made_with_another_tokenizer_is_refused():
    model, other = neolens.load("lab/gpt2"), neolens.load("lab/pythia")
    words = [model.tokenizer.decode([token]).strip() for token in range(20, 24)]
    texts = [" ".join(words), " ".join(reversed(words))]
    its = PromptPairs.from_text(model, texts, texts[::-1], words[:2])
    foreign = PromptPairs(its.clean, its.corrupted, its.answers, vocabulary="another")
    with pytest.raises(
        ValueError, match="these pairs were made from text with another tokenizer than that of lab/gpt2"
    ):
        ablate(model, its, {"one": [(0, 0)]}, reference=foreign, progress=False)
    assert float(ablate(other, its, {"one": [(0, 0)]}, reference=its, progress=False).ablated[0, 0, 1]) > 0


@pytest.mark.parametrize("count", [2, 7])
def test_a_mean_over_few_prompts_is_warned_about_once(count, bridges):
    with pytest.warns(UserWarning, match=f"the mean is over only {count} reference prompts: with fewer than 8") as told:
        ablate(bridges["gpt2"], tiny.tokens(batch=count, length=6), MINE, progress=False)
    assert len(told) == 1


@pytest.mark.filterwarnings("error")
def test_a_mean_over_eight_and_whatever_is_no_mean_is_not_warned_about(bridges):
    ablate(bridges["gpt2"], tiny.tokens(batch=8, length=6), MINE, progress=False)
    for how in ("zero", "resample", Beyond(2)):
        ablate(bridges["gpt2"], tiny.tokens(batch=2, length=6), MINE, how=how, progress=False)


@every_family
def test_a_hook_on_the_model_is_refused_by_the_replay_engine_and_runs_in_the_other(name, bridges, networks):
    model, asked = bridges[name], prompts((7, 7))
    silenced = {"blocks.0.hook_mlp_out": lambda x: x * 0.0, "blocks.1.attn.hook_z": lambda z: z.index_fill(2, _head, 0)}
    _head = torch.tensor([2])
    model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 0.0)
    try:
        with pytest.raises(ValueError, match=r"hooks at blocks\.0\.hook_mlp_out.*or take engine='hooks'"):
            ablate(model, asked, {"one": [(1, 2)]}, how="zero", progress=False)
        found = ablate(model, asked, {"one": [(1, 2)]}, how="zero", engine="hooks", progress=False)
    finally:
        model.reset_hooks()
    for number, prompt in enumerate(asked):
        close(
            found.ablated[0, number],
            loss_by_hand(oracles.forward(networks[name], prompt[None], silenced).logits, prompt)[0],
        )


def test_a_model_is_the_same_after_an_ablation_finished_or_interrupted(bridges):
    model, tokens = bridges["gpt-neo"], tiny.tokens(batch=3)
    before = model(tokens)

    def stops(logits):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return logits[:, -1, 0]

    for engine in ("replay", "hooks"):
        calls = []
        with pytest.raises(KeyboardInterrupt):
            ablate(
                model,
                tokens,
                each_head(model),
                how=Within(2),
                metric=stops,
                engine=engine,
                max_memory=1,
                progress=False,
            )
        assert torch.equal(model(tokens), before)
        assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())


def test_ablate_is_public():
    assert neolens.ablate is ablate
    assert neolens.by_kind is by_kind


def test_results_say_of_each_group_its_layer_and_of_controls_what_they_are_drawn_like(bridges, tmp_path):
    model, tokens = bridges["gpt-neo"], tiny.tokens(batch=2, length=5)
    groups = {"layer": [(1, 0), (1, 2)], **by_kind(model, draws=2), **random_like(model, [(2, 1)], draws=1)}
    groups = pickle.loads(pickle.dumps(groups))
    result = ablate(model, tokens, groups, how="zero", progress=False)
    named = dict(zip(result["group"].values.tolist(), result["control"].values.tolist(), strict=True))
    draws = dict(zip(named, result["draw"].values.tolist(), strict=True))
    sizes = {len(heads) for name, heads in groups.items() if name in ("local", "global")}
    expected = {f"random {size} heads {draw}": (f"random {size} heads", draw) for size in sizes for draw in range(2)}
    expected["random like 2.1, 0"] = ("random like 2.1", 0)
    assert {name: (control, draws[name]) for name, control in named.items() if control} == expected
    assert all(math.isnan(draws[name]) for name, control in named.items() if not control)
    assert result["layer"].sel(group="layer").item() == 1
    assert math.isnan(result["layer"].sel(group="global").item())
    # a file of an earlier version has only the names
    path = results.save(result.drop_vars(["control", "draw"]), tmp_path / "result.nc")
    xr.testing.assert_identical(results.load(path)[["control", "draw"]], result[["control", "draw"]])
