"""Studies: one folder per question about models, and one runner that executes them.

`find_study("window_reach")` returns the record of a study, `run(study, config)` measures, saves and reports. A study of
your own is a module with a `Study`; `experiments/my_question.py` is an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neolens.checks import check_text, did_you_mean, shown

if TYPE_CHECKING:
    from pathlib import Path

    from neolens.studies.finding import Finding
    from neolens.studies.study import Study

NAMES = ("ioi", "window_reach", "induction", "head_ablation", "local_vs_global", "rotary_vs_absolute", "compare")
"""The studies of the package."""

_HOMES = {
    "ExactCheck": "study",
    "Finding": "finding",
    "Measured": "study",
    "Prepared": "study",
    "Study": "study",
    "StudyConfig": "study",
    "StudyWarning": "finding",
    "Summary": "study",
    "TextConfig": "study",
    "main": "command",
    "of_estimate": "finding",
    "run": "runner",
    "sentence": "finding",
    "setting": "settings",
}

__all__ = ["NAMES", "find_study", "findings", *_HOMES]


def find_study(name: str) -> Study:
    """The study of the package with this name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if check_text(name, "study", example="compare") not in NAMES:
        raise ValueError(f"no study {shown(name)}: {did_you_mean(name, NAMES)}expected one of {', '.join(NAMES)}")
    found: Study = import_module(f"neolens.studies.{name}.study").STUDY
    return found


def findings(folder: str | Path) -> list[Finding]:
    """The findings of the study that wrote a folder.

    >>> findings("results/nowhere")
    Traceback (most recent call last):
    ValueError: results/nowhere/record.json: no such file: expected a record of a study

    Raises:
        ValueError: no record, a damaged one, or one of an earlier version, whose findings are sentences.
    """
    from neolens.studies.finding import read_findings

    return read_findings(folder)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"neolens.studies.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
