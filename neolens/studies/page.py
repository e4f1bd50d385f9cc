"""The report of a study: the answers on the first screen, what keeps them from being more, then the sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from neolens import report
from neolens.studies import finding
from neolens.studies.finding import Finding
from neolens.studies.study import ExactCheck, Measured, Study, Summary
from neolens.wording import count, join

Value = TypeVar("Value")

FIRST = 5
"""Findings in the table of the first screen at most."""

FAILED = 3
"""Failed checks, or warnings where there is no answer, that the terminal shows at most."""

OPEN = 2
"""Warnings up to which they are not folded away."""


def page(
    study: Study, measured: Measured, summary: Summary, checks: Sequence[ExactCheck], saved: Mapping[str, Any]
) -> str:
    """The report as HTML: failed checks first, then the answers, and the command that repeats it last."""
    warnings = [*measured.notes, *(one.text for one in summary.warnings)]
    failed = [report.Note(failure(check), "warning") for check in checks if not check.passes]
    return report.page(
        _of(study.title, measured) or study.question,
        [
            *failed,
            *first_screen(study, measured, summary, checks),
            *_warnings(warnings),
            *_all_findings(summary),
            *study.sections(measured, summary),
            *report.appendix(measured.anatomies, measured.command, question=study.asks_about),
            *_networks(measured),
            report.Code(report.as_json(saved), summary="The record: settings, weights, versions, findings"),
        ],
    )


def first_screen(
    study: Study, measured: Measured, summary: Summary, checks: Sequence[ExactCheck]
) -> Iterator[report.Block]:
    """Context, a headline for each question, a figure beside the most important findings, and what is not shown."""
    if context := _of(study.context, measured):
        yield report.Paragraph(context)
    findings = summary.findings
    title = _of(study.title, measured) or study.question
    answered = [(one.question or study.question, one.headline) for one in findings if one.headline]
    headlines = [report.Answer(question if question != title else "", headline) for question, headline in answered]
    yield from [report.Columns(headlines)] if len(headlines) == 2 else headlines
    caption = f"{count(len(findings), 'finding')} in all, below."
    if checks:
        caption += f" {sum(check.passes for check in checks)} of {count(len(checks), 'exact check')} passed."
    header, rows = finding.table(leading(findings), short=True)
    shown: list[report.Block] = [report.Table(header, rows, caption)] if rows else []
    if summary.figure is not None:
        shown.insert(0, summary.figure)
    if shown:
        yield report.Columns(shown) if len(shown) > 1 else shown[0]
    if limits := list(_of(study.limits, measured)):
        yield report.Note("\n\n".join(limits), title="What this report does not show")


def failures(checks: Sequence[ExactCheck]) -> Iterator[str]:
    """The failed exact checks that the terminal shows."""
    failed = [failure(check) for check in checks if not check.passes]
    yield from failed[:FAILED]
    if len(failed) > FAILED:
        yield f"{len(failed) - FAILED} more exact checks failed."


def answers(study: Study, summary: Summary, saved: Mapping[str, Any]) -> Iterator[str]:
    """What the terminal shows: the answer to each question, and how much the report has."""
    headlines = [one for one in summary.findings if one.headline]
    for one in headlines:
        yield f"{one.question or study.question}\n  {one.headline}" if len(headlines) > 1 else one.headline
    yield f"{count(len(saved['findings']), 'finding')} and {count(len(saved['warnings']), 'warning')} in the report."


def unanswered(summary: Summary, saved: Mapping[str, Any]) -> list[str]:
    """The first warnings, for the terminal, where no question has an answer."""
    answered = any(one.headline for one in summary.findings)
    return [] if answered else [f"Warning: {row['text']}" for row in saved["warnings"][:FAILED]]


def leading(findings: Sequence[Finding]) -> list[Finding]:
    """The first findings of each question with a headline in turn, `FIRST` in all, in the order of the questions."""
    answered = {one.question for one in findings if one.headline}
    by_question: dict[str, list[Finding]] = {}
    for one in findings:
        if one.question in answered or not answered:
            by_question.setdefault(one.question, []).append(one)
    ranked = [one for place in range(FIRST) for each in by_question.values() for one in each[place : place + 1]]
    chosen = ranked[:FIRST]
    return [one for each in by_question.values() for one in each if one in chosen]


def failure(check: ExactCheck) -> str:
    """A failed exact check in one sentence."""
    subject = f"{check.subject}: " if check.subject else ""
    expected = "0" if check.zero else "not 0"
    return f"An exact check failed: {subject}{check.claim}: {check.value:.3g}, expected {expected}."


def _warnings(warnings: Sequence[str]) -> Iterator[report.Block]:
    notes: list[report.Block] = [report.Note(text, "warning") for text in warnings]
    if len(notes) <= OPEN:
        yield from notes
    else:
        yield report.Folded(f"{len(notes)} warnings", notes)


def _all_findings(summary: Summary) -> Iterator[report.Block]:
    findings = summary.findings
    if findings:
        by_question = {
            one.question: [other for other in findings if other.question == one.question] for one in findings
        }
        tables = [report.Table(*finding.table(each), caption=question) for question, each in by_question.items()]
        yield report.Folded(f"All {count(len(findings), 'finding')}", tables)


def _networks(measured: Measured) -> list[report.Block]:
    """Which seeds of each model were measured."""
    several = {name: list(map(str, by_seed)) for name, by_seed in measured.results.items() if len(by_seed) > 1}
    names = [f"{name} (seeds {join(several[name])})" if name in several else name for name in measured.results]
    return [report.Paragraph(f"Measured: {', '.join(names)}.")] if names else []


def _of(value: Value | Callable[[Measured], Value], measured: Measured) -> Value:
    """A field of a study that is the same for all runs, or a function of this one."""
    return value(measured) if callable(value) else value
