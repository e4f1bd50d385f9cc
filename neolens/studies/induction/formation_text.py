"""What forms first, in sentences: an order of checkpoints, with what was measured at each.

There is one network a model, so nothing here is about an architecture: where models stand side by side, it is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neolens.checks.annotations import checked
from neolens.near_far import of_anatomies
from neolens.studies.induction.formation import CAUSE, MILESTONES, ORDERED, THRESHOLDS, Formation, sides
from neolens.studies.induction.summary import Induction
from neolens.studies.induction.text import p_of, told
from neolens.wording import join, number

KINDS = ("rotary", "absolute", "none")
"""Position encodings in the order in which they are told."""

_FORMS = {"previous_token": "score {}", "induction": "score {}", "cause": "{} nats a token", "copying": "accuracy {}"}


@checked
def findings(found: Sequence[Induction], formed: Sequence[Formation]) -> list[str]:
    """The order in each model, the two sides of the window, encodings side by side, and what was left out."""
    names = list(dict.fromkeys(one.found.name for one in formed))
    by_model = [[one for one in formed if one.found.name == name] for name in names]
    if alone := [
        several[0] for several in by_model if len(several) < 2 or several[-2].beyond or not several[-1].beyond
    ]:
        name, lengths = alone[0].found.name, f"on both sides of the window of {alone[0].found.window}"
        raise ValueError(f"formed without repeat lengths {lengths} for {name}: expected formation.formations(found)")
    said = [_in_order(one) for one in formed]
    said += [_both_sides(by_model), _most_apart(found)] if by_model else []
    said += filter(None, [_side_by_side(by_model)])
    if without := [one.name for one in found if one.training is None]:
        said.append(f"Without training checkpoints, and so not asked what forms first: {join(without)}.")
    return said


@checked
def warnings(found: Sequence[Induction]) -> list[str]:
    """Checkpoints that hold the same weights: some that are published do, and hold the wrong ones."""
    said = []
    for one in found:
        if one.training is None:
            continue
        prints = str(one.training.attrs["fingerprint"]).split()
        for weights, times in Counter(prints).items():
            if times > 1:
                steps = [step for step, its in zip(one.training["step"].values, prints, strict=True) if its == weights]
                said.append(
                    f"{one.name} has the same weights at steps {join(list(map(str, steps)))}: not all of these "
                    "checkpoints are what they say, so the curve is not to be trusted."
                )
    return said


def _in_order(one: Formation) -> str:
    """What passes at which checkpoint in one model, at one repeat length."""
    training = one.found.training
    assert training is not None
    steps = training["step"].values.tolist()
    split = one.found.near_far
    return (
        f"{one.found.name} at n = {one.n}, {split.beyond if one.beyond else split.inside} ({len(steps)} checkpoints "
        f"of one network, steps {steps[0]} to {steps[-1]}; 95 % intervals over {training.sizes['prompt']} prompts): "
        f"{_order(one)}. {_later(one)}."
    )


def _order(one: Formation) -> str:
    parts = [f"{_when(one, names[0])} {join([_passed(one, name) for name in names])}" for _, names in one.order]
    said = ", then ".join(parts)
    if never := [MILESTONES[name] for name in one.never]:
        said += f"{', and ' if parts else ''}{join(never)} at no step"
    return said


def _when(one: Formation, name: str) -> str:
    its = one.reached[name]
    return f"at step {its.step} already" if its.after is None else f"between steps {its.after} and {its.step}"


def _passed(one: Formation, name: str) -> str:
    """What passed, and what was measured there."""
    milestone = one.reached[name]
    assert milestone.its is not None
    its = milestone.its.its
    measured = [_FORMS[name].format(number(its.mean)), f"{number(its.low)} to {number(its.high)}"]
    measured += [p_of(milestone.its)] if name == "cause" else []
    measured += ["not surely above"] if its.low < THRESHOLDS[name] else []
    measured += [f"below again at {join(list(map(str, milestone.lost)))}"] if milestone.lost else []
    return f"{MILESTONES[name]} ({', '.join(measured)})"


def _later(one: Formation) -> str:
    """Since when the heads that hold the pattern at the end are needed, beside when they come to hold it."""
    later, pattern = one.reached["later_cause"], one.reached["induction"]
    what = "The heads that hold the pattern at the end"
    if later.step is None or later.its is None:
        return f"{what} cost {CAUSE:g} nats a token more than others at no step"
    its = later.its.its
    measured = f"{number(its.mean)} nats a token more than others, {number(its.low)} to {number(its.high)}"
    if pattern.step is None:
        beside = "though the pattern passes at no step"
    else:
        order = (later.step > pattern.step) - (later.step < pattern.step)
        beside = {-1: "before the pattern passes", 0: "as the pattern passes", 1: "after the pattern has passed"}[order]
    return f"{what} are needed from step {later.step} on ({measured}, {p_of(later.its)}), {beside}"


def _both_sides(by_model: Sequence[Sequence[Formation]]) -> str:
    """Whether the steps just beyond the window are others than just inside it."""
    parts, (inside, beyond) = [], (by_model[0][-2].n, by_model[0][-1].n)
    founds = [several[0].found for several in by_model]
    split = of_anatomies(founds[0].window, [one.facts for one in founds])
    for several in by_model:
        near, far = several[-2:]
        differ = [
            f"{MILESTONES[name]} ({_step(near, name)} and {_step(far, name)})"
            for name in ORDERED
            if near.reached[name].step != far.reached[name].step
        ]
        parts += [f"{near.found.name}, for {join(differ)}"] if differ else []
    return (
        f"Between n = {inside}, {split.inside}, and n = {beyond}, {split.beyond}, the first steps differ in "
        f"{'; in '.join(parts) or 'no model'}."
    )


def _most_apart(found: Sequence[Induction]) -> str:
    """Where scores and copying differ most between just inside and just beyond the window."""
    (changes, tested), parts = sides(found), []
    for (model, name), change in changes.items():
        if change is not None:
            step, near, far, its = change
            what = f"{MILESTONES[name]} in {model} at step {step}, {number(near)} and {number(far)}"
            parts.append(f"{what}: {told(its, '+.2f')}, {p_of(its)}")
    others = [f"{MILESTONES[name]} in {model}" for (model, name), change in changes.items() if change is None]
    return (
        f"Over the training the nearest lengths on both sides differ most in {'; in '.join(parts) or 'nothing'}. At no "
        f"step told apart: {join(others) if others else 'none'} ({tested} differences were tested)."
    )


def _side_by_side(by_model: Sequence[Sequence[Formation]]) -> str | None:
    """The steps of models with different encodings beside each other; None where there is only one encoding."""
    ranked = sorted(by_model, key=lambda several: KINDS.index(several[0].found.facts.position.kind))
    if len({several[0].found.facts.position.kind for several in ranked}) < 2:
        return None
    lengths = join([str(one.n) for one in ranked[0]])
    parts = [f"{MILESTONES[name]} {', '.join(_steps(several, name) for several in ranked)}" for name in ORDERED]
    return (
        f"First steps at n = {lengths}, encodings side by side: {'; '.join(parts)}. One network a model: this is about "
        "these networks, and no test of their encodings."
    )


def _steps(several: Sequence[Formation], name: str) -> str:
    kind = several[0].found.facts.position.kind
    return f"{join([_step(one, name) for one in several])} in {several[0].found.name} ({kind})"


def _step(one: Formation, name: str) -> str:
    step = one.reached[name].step
    return "none" if step is None else str(step)
