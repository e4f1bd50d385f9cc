"""Patching results as maps: layer by position, or layer by head, the effect in colour."""

from __future__ import annotations

import plotly.graph_objects as go
import xarray as xr

from neolens.checks import check_bool
from neolens.figures import maps, style
from neolens.figures.inputs import check_metric, checked

SWEPT = {"patched": "prompt layer head? pos? metric?", "clean": "prompt metric?", "corrupted": "prompt metric?"}
"""What results of `neolens.patch` have."""


def patch_heatmap(
    result: xr.Dataset, *, metric: str | None = None, recovered: bool = False, limit: float | None = None
) -> go.Figure:
    """The effect of every patch, mean over prompts: layer by head if the result has heads, else layer by position.

    The effect is the patched metric less that of the run that is patched (or, `recovered`, the share of the difference
    between the two runs that the patch restores, in noising the share that it takes away). With heads and positions,
    the positions are averaged if they are named, else the largest effect by size over the positions of a head is
    drawn. Layers carry their kind and window; the map diverges around 0.

    Args:
        limit: the effect at which the colours end, by default the largest of the map; give several maps one (see
            `largest_effect`), and equal colours are equal effects.

    Raises:
        TypeError, ValueError: no result of `neolens.patch`, a metric that it does not hold, or a limit that is not
            above 0.
    """
    effect, across, unit, name, how = _drawn(result, metric, recovered)
    limit, labels = maps.limit_above_0(limit, effect), _labels(result, effect, across)
    colours = style.diverging("" if recovered else check_metric(metric, result))
    hover = f"layer %{{y}}, {across} %{{x}}: %{{z:.3g}}<extra></extra>"
    figure = maps.layer_map(result, effect, across, limit=limit, unit=unit, colours=colours, hovertemplate=hover)
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, title_text=_axis(across), showgrid=False)
    site, direction = result.attrs.get("site", ""), result.attrs.get("direction", "")
    title = f"<b>Patching {style.escape(str(site))}</b> ({style.escape(name)}, {unit})"
    caption = f"{style.escape(str(result.attrs.get('model', 'model')))}, {direction}: {how}."
    return style.style(figure, title, caption, height=style.CELL * effect.sizes["layer"] + 40)


def largest_effect(result: xr.Dataset, *, metric: str | None = None, recovered: bool = False) -> float:
    """The largest effect by size on the map that `patch_heatmap` draws of a result."""
    return maps.largest(_drawn(result, metric, recovered)[0])


def _drawn(result: xr.Dataset, metric: str | None, recovered: bool) -> tuple[xr.DataArray, str, str, str, str]:
    """The effect by layer and another axis, that axis, the unit, the effect's name, and how it was averaged."""
    effect, unit, name = _effect(result, metric, recovered)
    effect = effect.mean("prompt", skipna=True)
    across, how = "head" if "head" in effect.dims else "pos", "mean over prompts"
    if across == "head" and "pos" in effect.dims:
        effect, how = _over_positions(effect)
    if across not in effect.dims:
        effect = effect.expand_dims(pos=["all"])
    return effect, across, unit, name, how


def _effect(result: xr.Dataset, metric: str | None, recovered: bool) -> tuple[xr.DataArray, str, str]:
    checked(result, "result", SWEPT, "neolens.patch", ["layer", "attention_kind"])
    name = check_metric(metric, result)
    if "metric" in result.dims:
        result = result.sel(metric=name)
    noise = result.attrs.get("direction") == "noise"
    if check_bool(recovered, "recovered"):
        from neolens.patching import recovered as share_recovered

        share = share_recovered(result)
        return (1 - share if noise else share), f"share {'lost' if noise else 'recovered'}", name.replace("_", " ")
    effect = result["patched"] - result["clean" if noise else "corrupted"]
    return effect, style.unit(name), f"effect on the {name.replace('_', ' ')}"


def _over_positions(effect: xr.DataArray) -> tuple[xr.DataArray, str]:
    if effect.pos.dtype.kind in "US":
        names = [style.escape(str(name)) for name in effect.pos.values]
        at = f"at position {names[0]}" if len(names) == 1 else f"and the positions {', '.join(names)}"
        return effect.mean("pos", skipna=True), f"mean over prompts {at}"
    where = abs(effect).fillna(-1).argmax("pos")
    return effect.isel(pos=where), "mean over prompts, at the position with the largest effect of each head"


def _labels(result: xr.Dataset, effect: xr.DataArray, across: str) -> list[str]:
    """What stands under the columns: the tokens where all prompts share one, else numbers or names."""
    values = effect[across].values
    if across == "pos" and "token" in result.coords and effect.pos.dtype.kind not in "US":
        columns = result.token.transpose("pos", "prompt").values
        return [
            f"{at} {style.escape(str(words[0]))}" if len({*words}) == 1 else str(at)
            for at, words in zip(values, columns, strict=True)
        ]
    return [style.escape(str(value)) for value in values]


def _axis(across: str) -> str:
    return "head" if across == "head" else "position"
