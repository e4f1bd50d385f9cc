"""The measures of every variant and the heads with a role, in tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neolens.stats import contrasts
from neolens.stats.contrasts.tables import Row
from neolens.studies.rotary_vs_absolute.summary import MEASURES, PROBED, Encoding, check_encodings
from neolens.wording import join

HEADER = [
    *("network, head", "roles", "highest score", "effect (nats per token)", "effect of control heads", "difference"),
    "corrected p",
]
"""Of `head_table`."""


def measure_table(encodings: Sequence[Encoding]) -> tuple[list[str], list[Row]]:
    """Header and a row per measure: its mean over seeds and 95 % interval in each variant."""
    return contrasts.measure_table(check_encodings(encodings, PROBED), MEASURES, "position")


def head_table(encodings: Sequence[Encoding]) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that has a role: its highest score, and what ablating it adds to the loss."""
    rows: list[Row] = []
    for one in check_encodings(encodings, ["holds", "score", "effect", "control", "more", "more_p_adjusted"]):
        for seed in one.result["seed"].values.tolist():
            name = f"{one.name}@{seed}" if one.result.sizes["seed"] > 1 else one.name
            rows += _heads_of(name, one.result.sel(seed=seed))
    return HEADER, rows


def _heads_of(name: str, network: xr.Dataset) -> list[Row]:
    rows: list[Row] = []
    has_role = network["holds"] == 1
    for layer, head in np.argwhere(has_role.any("role").transpose("layer", "head").values):
        at = {"layer": layer, "head": head}
        roles = has_role.isel(at)
        names = [str(role).replace("_", " ") for role in network["role"].values[roles.values]]
        numbers: Row = [float(network[each].isel(at)) for each in ("effect", "control", "more", "more_p_adjusted")]
        if np.isnan(float(network["control"].isel(at))):
            numbers[1] = "no control"
        highest = float(network["score"].isel(at).where(roles).max())
        rows.append([f"{name}, {layer}.{head}", join(names), highest, *numbers])
    return rows
