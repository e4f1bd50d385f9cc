"""What heads are needed for, as findings: what ablating the layers of a kind and single heads does to the loss.

Effects are on the loss, in nats per token, positive where ablating raises it; intervals and p are over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

from neolens.checks.annotations import Text, checked
from neolens.stats.verdicts import (
    Verdict,
    increase,
    largest_significant,
    largest_tested,
    limit,
    strongest,
    unknown_candidates,
)
from neolens.studies.finding import Finding, StudyWarning
from neolens.studies.head_ablation.comparisons import CLAIMS, Compared, candidates_of, claim
from neolens.studies.head_ablation.summary import Needs
from neolens.wording import percent, two_digits

FEW = 8
"""Prompts below which means and intervals are warned about."""

UNKNOWN = 0.05
"""The share of unknown tokens from which on a text is warned about."""

KIND_SECTION, HEAD_SECTION = "What is lost without the layers of a kind", "Every head"
"""Headings of the sections whose figures show the findings."""

HEAD_CLAIMS = {
    "beyond": "changes the loss on copies from {window} or more tokens back",
    "cut": "changes the loss on copies from {window} or more tokens back by what it reads there",
    "inside": "changes the loss on copies from fewer than {window} tokens back",
    "text": "changes the loss on text",
}
"""Condition -> what the strongest head does."""

HEADLINES = {
    "supported": "Without attention {far} in its {kind} layers, {model} loses {change} nats per token on copies from "
    "there{end}.",
    "not significant": "Masking attention {far} in {kind} layers of {model} changes its loss there by {change} nats "
    "per token: not significant.",
    "exact": "The {kind} layers of {model} see nothing {far}, so masking attention there changes nothing.",
    "contradicted": "Against expectation, masking attention {far} in the {kind} layers of {model} changes the loss by "
    "{change} nats per token.",
    "not measured": "Whether {model} needs attention {far} in its {kind} layers was not measured: {end}.",
}
"""Verdict on masking a kind of layer -> the answer to the question of the study."""

WARNINGS = {
    "hardly copies near": "{model} hardly copies {near}: loss {inside:.2f} nats per token, chance level {chance:.2f}.",
    "hardly copies far": "{model} hardly copies {far}: loss {beyond:.2f} nats per token, chance level {chance:.2f}.",
    "few prompts": f"{{model}} has fewer than {FEW} prompts ({{fewest}}): means and intervals are rough.",
    "short text": "{model} has text of {tokens} tokens per prompt, which does not cross {split}: give a longer one.",
    "unknown words": "{model} does not know {unknown} of the text's words and reads each as <unk>: use a public model.",
}
"""Kind of warning -> its text."""

EARLIER, UNTESTED, UNIT = "earlier version", "too few prompts", "nats per token"


@checked
def findings(needs: Sequence[Needs]) -> list[Finding]:
    """Of each model what is lost without a kind of layer, then its strongest heads; models with local layers first."""
    ordered = sorted(needs, key=lambda one: not one.facts.layers_of_kind("local"))
    listed = [finding for one in ordered for finding in _of_model(one)]
    return [replace(one, headline="" if at else headline(ordered[0], one)) for at, one in enumerate(listed)]


def _of_model(needs: Needs) -> list[Finding]:
    """The findings on each group in turn, then those on heads."""
    groups = dict.fromkeys(row.group for row in needs.compared)
    in_turn = zip_longest(*(loss_without_kind(needs, group) for group in groups))
    listed = [one for one in chain.from_iterable(in_turn) if one is not None]
    return [*listed, *(strongest_head(needs, condition) for condition in needs.heads)]


@checked
def loss_without_kind(needs: Needs, group: Text) -> list[Finding]:
    """What ablating a group of heads adds to the loss under each condition, then how much more than random heads.

    Args:
        group: a kind of layer, or another group of `Needs.compared`.
    """
    rows = [row for condition in CLAIMS for row in needs.compared if (row.condition, row.group) == (condition, group)]
    return [*(_alone(needs, row) for row in rows), *(_more(needs, row) for row in rows if row.draws and not row.fixed)]


def _alone(needs: Needs, row: Compared) -> Finding:
    """What ablating a group adds to the loss; p is corrected for all groups of the model (max-T)."""
    p = needs.groups[row.condition]["p_adjusted"]
    own = float(p.sel(group=row.group))
    raised = claim(row.condition, row.group, needs.window)
    verdict = row.verdict if row.fixed else increase(raised, row.effect, own, untested=row.end or UNTESTED)
    numbers = {"estimate": row.effect, "low": row.low, "high": row.high, "p": own}
    reason = row.end if math.isfinite(own) else verdict.reason
    return _finding(
        needs, row.condition, verdict, figure=KIND_SECTION, reason=reason, comparisons=_tested(p.values), **numbers
    )


def _more(needs: Needs, row: Compared) -> Finding:
    """How much more ablating a group adds to the loss than ablating as many random heads."""
    tested, reason = _tested([each.p for each in needs.compared]), "" if math.isfinite(row.p) else row.verdict.reason
    numbers = {"estimate": row.more, "low": row.more_low, "high": row.more_high, "p": row.p}
    return _finding(
        needs, row.condition, row.verdict, figure=KIND_SECTION, reason=reason, comparisons=tested, **numbers
    )


@checked
def strongest_head(needs: Needs, condition: Text) -> Finding:
    """The head with the largest significant effect under a condition; p is corrected for all heads (max-T)."""
    effects, what = needs.heads[condition], HEAD_CLAIMS[condition].format(window=needs.window)
    names = [f"head {name} ({kind})" for name, kind in zip(effects["group"].values, effects["attention_kind"].values)]
    values, p = (effects[name].values.tolist() for name in ("effect", "p_adjusted"))
    verdict, at = strongest(what, names, values, p), largest_significant(values, p)
    reason = verdict.reason if verdict.status == "not measured" else ""
    if at is None:
        at, verdict = largest_tested(values, p), replace(verdict, claim=f"at least one head {what}")
        reason = reason if at is None else f"the largest effect is that of {names[at]}"
    elif limit(float(effects["baseline"]) + values[at], "loss", candidates_of(effects)) == "chance level":
        reason, verdict = "ends at chance level", replace(verdict, claim=f"{names[at]} {what}")
    one = effects.isel(group=at) if at is not None else None
    numbers = {} if one is None else {name: float(one[name]) for name in ("low", "high")}
    numbers |= {} if at is None else {"estimate": values[at], "p": p[at]}
    return _finding(needs, condition, verdict, figure=HEAD_SECTION, reason=reason, comparisons=_tested(p), **numbers)


def _finding(needs: Needs, condition: str, verdict: Verdict, *, comparisons: int, **numbers: Any) -> Finding:
    return Finding(
        claim=verdict.claim,
        subject=needs.facts.name,
        verdict=verdict.status,
        unit=UNIT,
        n=(needs.text if condition == "text" else needs.repeats).sizes["prompt"],
        sample="prompts",
        comparisons=comparisons if math.isfinite(numbers.get("p", math.nan)) else 0,
        **numbers,
    )


def _tested(p: Iterable[float]) -> int:
    return sum(map(math.isfinite, p))


@checked
def headline(needs: Needs, finding: Finding) -> str:
    """What masking the first kind of layer does, in words that follow from the verdict on it."""
    end = ", reaching chance level" if finding.verdict == "supported" and finding.reason else finding.reason
    return HEADLINES[finding.verdict].format(
        model=needs.facts.name,
        kind=needs.compared[0].group,
        far=f"{needs.window} or more tokens back",
        change=two_digits(finding.estimate),
        end=end,
    )


@checked
def warnings(needs: Needs) -> list[StudyWarning]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    text, split, candidates = needs.text.sizes, needs.near_far, candidates_of(needs.repeats)
    unknown, fewest = needs.text.attrs.get("unknown", 0.0), min(text["prompt"], needs.repeats.sizes["prompt"])
    chance, near, far = math.log(candidates or needs.facts.d_vocab), *(_loss(needs, at) for at in ("inside", "beyond"))
    values = {
        "model": needs.facts.name,
        "near": split.inside,
        "far": split.beyond,
        "split": split.name,
        "fewest": fewest,
    }
    values |= {"inside": near, "beyond": far, "chance": chance, "tokens": text["pos"], "unknown": percent(unknown)}
    applies = (near > chance / 2, far > chance / 2, fewest < FEW, text["pos"] <= needs.window, unknown > UNKNOWN)
    texts = {kind: WARNINGS[kind].format(**values) for kind, there in zip(WARNINGS, applies, strict=True) if there}
    if candidates is None:
        texts[EARLIER] = unknown_candidates(needs.facts.name, needs.facts.d_vocab)
    return [StudyWarning(needs.facts.name, kind, text) for kind, text in texts.items()]


def _loss(needs: Needs, condition: str) -> float:
    """Without ablation."""
    return float(needs.groups[condition]["baseline"])
