"""A finding: one claim, its estimate with an interval, and whether the results support it.

Studies return findings as data. `sentence` is the one function that words them; the first screen of a report shows
their headlines, `findings.csv` and `record.json` hold all of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from neolens import files
from neolens.checks import check_choice, shown
from neolens.checks.annotations import Probability, Text, check_annotated
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import Status, Verdict
from neolens.wording import count, interval, p_value, two_digits

Sample = Literal["seeds", "prompts"]

SHORT = 40
"""Characters of a reason that the first screen shows."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet would compute."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim about a model or a contrast, and what the results say about it.

    >>> one = Finding(claim="attention beyond the window", subject="lab/gpt-neo", verdict="exact", estimate=0.0)
    >>> sentence(one)
    'lab/gpt-neo: attention beyond the window: exactly 0.'

    Raises:
        TypeError: a field of another type.
        ValueError: an unknown verdict, or an interval whose ends are exchanged.
    """

    question: str = ""
    """Which question of the study it answers; empty where the study has one."""
    claim: Text
    """What is claimed, without the subject: `accuracy falls beyond the window`."""
    subject: Text
    """A model, or a contrast: `lab/gpt-neo - lab/gpt2`."""
    headline: str = ""
    """The answer to the question in at most 25 words that a newcomer understands, on the finding that supports it."""
    estimate: float = math.nan
    low: float = math.nan
    """The lower end of the 95 % interval."""
    high: float = math.nan
    unit: str = ""
    n: int = 0
    sample: Sample = "seeds"
    """What `n` counts, and the interval covers."""
    p: Probability = math.nan
    """Corrected for `comparisons`."""
    comparisons: int = 0
    verdict: Status
    reason: str = ""
    """What the verdict follows from where estimate and p do not say it, such as `ends at chance level`."""
    figure: str = ""
    """The heading of the section whose figure shows it."""

    def __post_init__(self) -> None:
        check_annotated(self)
        check_choice(self.verdict, "verdict", get_args(Status))
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} of a Finding: expected at most high, {self.high:g}")


@dataclass(frozen=True)
class StudyWarning:
    """What keeps numbers from meaning what they seem to mean, or a measure that does not apply to a model."""

    subject: str
    """A model; empty for all of them."""
    kind: Text
    """The condition in a few words, such as `at chance level` or `few prompts`."""
    text: Text
    """One sentence for the reader of the report."""

    def __post_init__(self) -> None:
        check_annotated(self)


def of_estimate(
    claim: str, subject: str, estimate: Estimate, verdict: Verdict | Status, *, p: float | None = None, **others: Any
) -> Finding:
    """The finding of a mean over seeds (or over prompts, with `sample="prompts"`).

    Args:
        verdict: of `neolens.stats.verdicts`, with its reason where nothing was tested, or the status alone.
        p: corrected; by default that of the estimate.
        others: further fields of the finding.
    """
    status, reason = (verdict, "") if isinstance(verdict, str) else (verdict.status, verdict.reason)
    numbers = {"estimate": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    p = estimate.p if p is None else p
    reason = "" if math.isfinite(p) else reason
    return Finding(claim=claim, subject=subject, verdict=status, **{"reason": reason, "p": p, **numbers, **others})


def sentence(finding: Finding) -> str:
    """A finding in words: subject, claim, estimate with interval, and verdict."""
    numbers = [value(finding), _sample(finding), _test(finding)]
    told = "; ".join(part for part in (", ".join(filter(None, numbers)), verdict(finding)) if part)
    return f"{finding.subject}: {finding.claim}: {told}."


def value(finding: Finding) -> str:
    """`0.93 nats per token [0.90, 0.96]`; `exactly 0`; empty where nothing was measured."""
    if math.isnan(finding.estimate):
        return ""
    if finding.verdict == "exact" and finding.estimate == 0:
        return "exactly 0"
    parts = [two_digits(finding.estimate), finding.unit, interval(finding.low, finding.high)]
    return " ".join(filter(None, parts))


def verdict(finding: Finding) -> str:
    """The verdict; its reason where it is not the test."""
    words = "" if finding.verdict == "exact" and finding.estimate == 0 else finding.verdict
    return ": ".join(filter(None, (words, finding.reason)))


def _sample(finding: Finding) -> str:
    return f"n = {count(finding.n, finding.sample.removesuffix('s'))}" if finding.n else ""


def _test(finding: Finding) -> str:
    if math.isnan(finding.p):
        return ""
    among = f" for {count(finding.comparisons, 'comparison')}" if finding.comparisons else ""
    return f"p = {finding.p:.2g} (corrected{among})" if among else f"p = {finding.p:.2g}"


def table(findings: Sequence[Finding], *, short: bool = False) -> tuple[list[str], list[list[str | float | None]]]:
    """Header and one row per finding; `short` is that of the first screen: claim, estimate with interval, verdict."""
    if short:
        return ["claim", "estimate [95 % CI]", "verdict"], [
            [f"{one.subject}: {one.claim}", value(one), _short_verdict(one)] for one in findings
        ]
    header = ["subject", "claim", "estimate [95 % CI]", "n", "corrected p", "verdict", "figure"]
    rows: list[list[str | float | None]] = [
        [one.subject, one.claim, value(one), _sample(one).removeprefix("n = "), _p(one), verdict(one), one.figure]
        for one in findings
    ]
    return header, rows


def _short_verdict(finding: Finding) -> str:
    """The verdict; with p or a short reason where the interval alone may seem to say otherwise."""
    p = f"corrected p = {_p(finding)}" if finding.verdict == "not significant" and finding.comparisons else ""
    reason = p or (finding.reason if len(finding.reason) <= SHORT else "")
    return f"{finding.verdict}{f' ({reason})' if reason else ''}"


def _p(finding: Finding) -> str:
    return "" if math.isnan(finding.p) else p_value(finding.p)


def as_csv(findings: Sequence[Finding]) -> str:
    """One line per finding; text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Finding)], lineterminator="\n")
    writer.writeheader()
    for finding in findings:
        cells = {name: "" if cell != cell else cell for name, cell in asdict(finding).items()}
        writer.writerow({name: _plain(cell) for name, cell in cells.items()})
    return text.getvalue()


def _plain(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def read_findings(folder: str | Path) -> list[Finding]:
    """The findings of the study that wrote a folder, from its `record.json`.

    Raises:
        ValueError: no record, a damaged one, or one of an earlier version, whose findings are sentences.
    """
    path = Path(folder) / "record.json"
    record = files.read_json(path, "a record of a study")
    listed = record.get("findings") if isinstance(record, Mapping) else None
    remedy = "measure it again, or draw it again with --from"
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise ValueError(f"{path} has no findings as data ({shown(listed)}): {remedy}")
    try:
        return [_finding(row) for row in listed]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error


def _finding(row: Mapping[str, Any]) -> Finding:
    """A finding of a record, in which null stands for NaN."""
    cells: dict[str, Any] = {name: math.nan if cell is None else cell for name, cell in row.items()}
    return Finding(**cells)
