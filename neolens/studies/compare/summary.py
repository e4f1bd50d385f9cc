"""What follows from the networks of all variants: the differences between variants, findings, and the exact checks."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from neolens.checks.annotations import checked
from neolens.stats.contrasts import recorded
from neolens.studies.compare.findings import Contrasts, findings, warnings
from neolens.studies.compare.found import Found
from neolens.studies.compare.measures import compared
from neolens.studies.compare.sections import first_figure
from neolens.studies.local_vs_global import tables as attention_tables
from neolens.studies.rotary_vs_absolute import summary as position_summary
from neolens.studies.study import ExactCheck, Measured, Summary


def summarise(measured: Measured) -> Summary:
    """The variants, the differences between them, and the answers that both give."""
    found = [Found(by_seed, measured.anatomies) for by_seed in measured.results.values()]
    contrasts = contrasted(found)
    left_out = {name: inputs.get("left_out", {}) for name, inputs in measured.inputs.items()}
    return Summary(
        findings=findings(found, contrasts),
        figure=first_figure(found, contrasts),
        warnings=warnings(found, left_out),
        record={"contrasts": [recorded(contrast) for both in contrasts for contrast in both]},
        content=(found, contrasts),
    )


def exact_checks(measured: Measured, summary: Summary) -> list[ExactCheck]:
    """What windows exclude, in every network with local layers."""
    found, _ = summary.content
    return attention_tables.exact_checks(attentions(found))


@checked
def attentions(found: Sequence[Found]) -> dict[str, xr.Dataset]:
    """Network -> its scores, of all variants and seeds."""
    return {
        name: parts["attention"]
        for one in found
        for name, parts in zip(one.fingerprints(), one.networks.values(), strict=True)
    }


@checked
def contrasted(found: Sequence[Found]) -> Contrasts:
    """The differences between variants that differ in attention alone, and in positions alone."""
    return compared(found), position_summary.contrasts([one.encoding for one in found])
