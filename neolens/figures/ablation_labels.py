"""What figures of ablation share: the kinds of groups with their colours, and what stands in the caption.

Groups of local and of global heads have the colours of their kind, groups of both are dark grey; random controls,
which are there to be compared with, light grey.
"""

from __future__ import annotations

import xarray as xr

from neolens.ablation.controls import control_groups
from neolens.figures.style import CONTROL_COLOUR, GLOBAL_COLOUR, GREY, LOCAL_COLOUR, escape

KINDS = {
    "local": ("local layers", LOCAL_COLOUR),
    "global": ("global layers", GLOBAL_COLOUR),
    "both": ("layers of both kinds", GREY),
    "control": ("random controls", CONTROL_COLOUR),
}
"""Kind of group -> how it is called, and its colour."""


def kind_of(result: xr.Dataset) -> list[str]:
    """The kind of each group, one of `KINDS`."""
    controls, kinds = control_groups(result), result["attention_kind"].values
    names = map(str, result["group"].values)
    return ["control" if name in controls else str(kind) for name, kind in zip(names, kinds, strict=True)]


def caption(result: xr.Dataset) -> str:
    """Model, how it was ablated, and prompts: `lab/gpt-neo, mean ablation: mean over 64 prompts.`"""
    prompts = int(result.attrs.get("prompts", result.sizes.get("prompt", 0)))
    how = escape(str(result.attrs.get("how", "")))
    by = f", {how}{' ablation' if how in ('zero', 'mean', 'resample') else ''}" if how else ""
    by += f", positions {escape(str(result.attrs['treatment']))}" if "treatment" in result.attrs else ""
    mean = f"mean over {prompts} prompts" if prompts != 1 else "1 prompt"
    return f"{escape(str(result.attrs.get('model', 'model')))}{by}: {mean}."
