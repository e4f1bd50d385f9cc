"""How far every instrument is from the half-precision model itself, in float16 and bfloat16.

    python -m benchmarks.half_precision [--family pythia] [--dtype float16] [--every]

For each variable of each instrument, `own` is the rounding error of the model's own run: the variable computed from
the hooked model in half precision against the hooked model in float32 with the same half-rounded weights, the largest
difference over cells. `difference` is the instrument against the hooked model, both in half precision. Bar: difference
at most 2 own. Where attention scores overflow, so that logits are not finite, the bar is a ValueError that says so.

The models are random, in four families, with products q k^T (before the scale) of up to 50,000, close to the largest
float16, 65,504, and of 100,000. A cast model is loaded in float32 and then cast by `.half()` or `.bfloat16()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import torch
import typer
from tqdm.auto import tqdm
from transformers import logging

from benchmarks.common import report
from benchmarks.half_precision.instruments import Instrument, instruments
from benchmarks.half_precision.models import DTYPES, FAMILIES, Case, cases, models, prompts
from benchmarks.half_precision.rounding import MOST, Rounding, compare, refusal

Row = tuple[str, str, str]


@dataclass
class Measured:
    """What was measured, by the name of the instrument."""

    roundings: dict[tuple[str, str], list[tuple[Instrument, Case, Rounding]]] = field(default_factory=dict)
    """(instrument, variable) -> its rounding in each call on each model."""
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Instrument -> what each call did on each model whose logits are not finite."""

    def add(self, case: Case) -> None:
        """Measure every instrument on one model."""
        tokens, (half, single) = prompts(), models(case)
        with torch.no_grad():
            finite = bool(half(tokens).isfinite().all())
        for instrument in instruments():
            if case.family not in instrument.families:
                continue
            if not finite:
                self.refusals.setdefault(instrument.name, []).append(refusal(instrument, half, tokens))
                continue
            for variable, value in compare(instrument, half, single, tokens).items():
                self.roundings.setdefault((instrument.name, variable), []).append((instrument, case, value))

    def rows(self, *, every: bool = False) -> Iterable[Row]:
        """One row per variable, its worst (or every) rounding, and one per instrument that should refuse."""
        for (name, variable), values in self.roundings.items():
            shown = values if every else [max(values, key=lambda value: value[2].ratio)]
            for instrument, case, value in shown:
                where = f"{instrument.detail}; {case}" if instrument.detail else str(case)
                numbers = f"{value.ratio:.2f} own: {value.difference:.1e} against {value.own:.1e}"
                yield f"{name}: {variable}", f"{numbers} ({where})", _bar(f"at most {MOST:g}", value.within_bar)
        for name, outcomes in self.refusals.items():
            others = sorted({outcome[:60] for outcome in outcomes if outcome != "refused"})
            count = f"refused {outcomes.count('refused')} of {len(outcomes)}"
            yield f"{name}: overflow", "; ".join([count, *others]), _bar("all refused", not others)


def _bar(bar: str, holds: bool) -> str:
    return bar if holds else f"{bar}: MISSED"


def main(
    family: Annotated[str, typer.Option(help=f"one of {', '.join(FAMILIES)}; by default all")] = "",
    dtype: Annotated[str, typer.Option(help=f"one of {', '.join(DTYPES)}; by default both")] = "",
    every: Annotated[bool, typer.Option(help="a row per variable, call and model, not the worst alone")] = False,
) -> None:
    """Measure and print."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    chosen = [case for case in cases() if family in ("", case.family) and dtype in ("", case.dtype)]
    if not chosen:
        known = ", ".join(" ".join(each) for each in itertools.product(FAMILIES, DTYPES))
        raise typer.BadParameter(f"no model of family {family!r} and dtype {dtype!r}: there are {known}")
    measured = Measured()
    for case in tqdm(chosen, unit="model"):
        measured.add(case)
    rows = list(measured.rows(every=every))
    report(f"difference from the half-precision model, worst of {len(chosen)} models", rows)
    print(f"\n{sum('MISSED' in bar for _, _, bar in rows)} of {len(rows)} rows miss their bar")


if __name__ == "__main__":
    typer.run(main)
