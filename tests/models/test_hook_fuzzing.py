"""Random hooks have their effect or are refused; and the judge of that is itself right, and notices what is wrong."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import hook_fuzzing
import hook_oracle
import oracles
import tiny
from hook_fuzzing import Case, Edit, Subject

PARTS, CASES_PER_PART = 10, 50


@pytest.fixture(scope="module")
def subjects(bridges) -> dict[str, Subject]:
    return {name: Subject.of(name, bridges[name]) for name in tiny.NAMES}


# The claim -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_random_edits_have_their_effect_or_are_refused(part, subjects):
    seeds = range(part * CASES_PER_PART, (part + 1) * CASES_PER_PART)

    wrong = [
        f"seed {seed}: {verdict.reason}\n  {case}"
        for seed, case, verdict in hook_fuzzing.judge_all(subjects, seeds)
        if verdict.outcome == "wrong"
    ]

    assert not wrong, "\n".join(wrong)


def test_the_cases_cover_every_family_switch_point_and_way_of_editing():
    cases = [hook_fuzzing.draw(seed) for seed in range(3000)]
    edits = [edit for case in cases for edit in case.edits]

    for field, options in (("kind", "KINDS"), ("form", "FORMS"), ("way", "WAYS"), ("target", "TARGETS")):
        assert {getattr(edit, field) for edit in edits} == set(getattr(hook_fuzzing, options))
    assert {case.run for case in cases} == set(hook_fuzzing.RUNS)
    assert {case.switches for case in cases} >= set(hook_oracle.allowed_switches())
    assert {case.flip for case in cases} == {None, *hook_oracle.SWITCHES}
    for family in tiny.NAMES:
        drawn = {hook_oracle.in_any_layer(edit.name) for case in cases if case.family == family for edit in case.edits}
        assert drawn >= set(map(hook_oracle.in_any_layer, hook_fuzzing.all_names(family)))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_hook_point_that_a_model_lists_is_known_to_the_naive_pass(name, subjects):
    assert set(subjects[name].model.hook_dict) == set(hook_fuzzing.all_names(name))


# The judge -----------------------------------------------------------------------------------------


def oracle_name(point: str) -> str:
    """The name of a point in `oracles.py`."""
    return hook_oracle.names_of([point])[-1]


@pytest.mark.parametrize("switches", [set(), {"use_attn_in"}, {"use_split_qkv_input"}], ids=["plain", "in", "split"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_naive_pass_agrees_with_the_oracle_at_every_site(name, switches, networks):
    net, tokens = networks[name], tiny.tokens(seed=3)
    switches = frozenset({"use_attn_result", "use_hook_mlp_in", *switches})
    values, truth = hook_oracle.forward(net, tokens, switches).values, oracles.forward(net, tokens)
    shared = [point for point in values if oracle_name(point) in net.sites]

    assert {site.split(".", 2)[-1] for site in set(net.sites) - set(map(oracle_name, shared))} <= INPUTS
    for point in shared:
        torch.testing.assert_close(values[point], truth.after[oracle_name(point)], rtol=0, atol=1e-10)
        edited = hook_oracle.forward(net, tokens, switches, {point: [tiny.nudged]}).logits
        expected = oracles.forward(net, tokens, {oracle_name(point): tiny.nudged}).logits
        torch.testing.assert_close(edited, expected, rtol=0, atol=1e-10)


INPUTS = {"hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input"}  # of which only some fire at a time


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_kind_of_edit_moves_the_logits_wherever_it_is_made(name, networks):
    net, tokens = networks[name], tiny.tokens(length=hook_fuzzing.LENGTH)
    for switches in ({"use_attn_result", "use_hook_mlp_in"}, {"use_split_qkv_input"}, {"use_attn_in"}):
        sources = hook_fuzzing.unedited_values(name, frozenset(switches))
        plain = hook_oracle.forward(net, tokens, switches).logits
        for point in sources:
            if point.startswith(("blocks.0", "blocks.2")) or not hook_oracle.has_effect(point, switches):
                continue
            for kind in hook_fuzzing.KINDS:
                edit = Edit(point, kind, entry=7)
                changed = partial(hook_fuzzing.apply_edit, edit, point=point, source=sources[point])
                logits = hook_oracle.forward(net, tokens, switches, {point: [changed]}).logits
                assert (logits - plain).abs().max() > 1000 * hook_fuzzing.TOLERANCE * plain.std(), edit


CASE = Case("gpt-neo", (Edit("blocks.1.mlp.hook_out", kind="add noise"),))
ELSEWHERE = "blocks.2.mlp.hook_out"


def without_effect(hook: Callable) -> Callable:
    """A hook that is called with a copy, and whose result is dropped."""

    def read(value: Tensor, hook: Any, call: Callable = hook) -> None:
        call(value.clone(), hook=hook)

    return read


FAULTS: dict[str, Callable] = {
    "the hook is not called": lambda model, tokens, name, hook: model(tokens),
    "the hook has no effect": lambda model, tokens, name, hook: model.run_with_hooks(
        tokens, fwd_hooks=[(name, without_effect(hook))]
    ),
    "the hook runs elsewhere": lambda model, tokens, name, hook: model.run_with_hooks(
        tokens, fwd_hooks=[(ELSEWHERE, hook)]
    ),
    "the hook runs twice": lambda model, tokens, name, hook: model.run_with_hooks(
        tokens, fwd_hooks=[(name, hook), (name, hook)]
    ),
    "the logits are off": lambda model, tokens, name, hook: (
        model.run_with_hooks(tokens, fwd_hooks=[(name, hook)]) + 1e-3
    ),
    "the hook stays": lambda model, tokens, name, hook: model.run_with_hooks(
        tokens, fwd_hooks=[(name, hook)], reset_hooks_end=False
    ),
    "the hook is refused": lambda model, tokens, name, hook: model.run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.mlp.hook_uot", hook)]
    ),
}


class Faulty:
    """A model with another `run_with_hooks`."""

    def __init__(self, model: Any, fault: Callable):
        self.model, self.fault = model, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def run_with_hooks(self, tokens: Tensor, fwd_hooks: list) -> Tensor:
        ((name, hook),) = fwd_hooks
        return self.fault(self.model, tokens, name, hook)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_judge_notices_a_fault(fault, subjects):
    subject = subjects[CASE.family]
    assert hook_fuzzing.judge(subject, CASE) == hook_fuzzing.Verdict("right")

    verdict = hook_fuzzing.judge(replace(subject, model=Faulty(subject.model, fault)), CASE)

    assert verdict.outcome == "wrong"
    assert not subject.has_changed()


def test_the_judge_notices_a_cached_value_from_before_the_edit(subjects):
    subject, case = subjects[CASE.family], replace(CASE, run="run_with_cache", edits=(Edit(ELSEWHERE, way="hooks"),))
    assert hook_fuzzing.judge(subject, case).outcome == "right"
    _, plain = subject.model.run_with_cache(case.tokens)

    observation = hook_fuzzing.observe(subject.model, case)
    subject.restore()
    observation.cache = {**observation.cache, ELSEWHERE: plain[ELSEWHERE]}

    assert ELSEWHERE in hook_fuzzing.verdict_on_run(case, observation).reason


@pytest.mark.parametrize(
    "case",
    [
        Case("gpt2", (Edit("blocks.0.attn.hook_result"),)),
        Case(
            "gpt2",
            (Edit("blocks.0.attn.hook_result", way="add_hook"),),
            frozenset({"use_attn_result"}),
            "use_attn_result",
        ),
        Case("gpt2", (Edit("blocks.0.attn.q.hook_in"),), frozenset({"use_attn_in"})),
        Case("gpt2", (Edit("blocks.0.ln1.hook_out"),), frozenset({"use_split_qkv_input"})),
        Case("gpt2", (Edit("blocks.0.attn.hook_rot_q"),)),
        Case("pythia", (Edit("rotary_emb.hook_in", way="point.add_hook"),)),
        Case("gpt2", (Edit("blocks.0.attn.hook_patern", target="filter"),)),
        Case("gpt2", (Edit("hook_embed"),), hook_oracle.SPLITS),
    ],
    ids=lambda case: case.edits[0].name,
)
def test_a_case_that_cannot_have_an_effect_has_to_be_refused(case):
    assert hook_fuzzing.why_refuse(case)
