"""Which heads look like what: the score of every head in every role, a dot on those that hold it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.figures import style
from neolens.figures.inputs import Results, by_model
from neolens.figures.score_map import label_layers
from neolens.figures.style import escape

_NEEDS = {"score": "role layer head", "holds": "role layer head"}
_LEAST = 0.05  # a map on which no head scores as much is not drawn
_CELL = 30  # pixels: a layer


def roles_by_head(results: Results) -> go.Figure:
    """The score of every head in every role, by layer and head, 0 to 1; a dot marks the heads that hold the role, a
    head that the role is not asked of is blank. A row a model, a column a role.

    Args:
        results: of `neolens.roles`, with causes or without.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _NEEDS, "neolens.roles", ["role", "layer", "head", "attention_kind"])
    roles = list(dict.fromkeys(str(role) for result in models.values() for role in result["role"].values))
    above = [f"{escape(name)}<br>" if len(models) > 1 else "" for name in models]
    asked = {(name, role): _is_asked(result, role) for name, result in models.items() for role in roles}
    roles = [role for role in roles if any(asked[name, role] for name in models)] or roles
    titles = [
        f"{head}<b>{escape(role.replace('_', '-'))}</b>" if asked[name, role] else ""
        for name, head in zip(models, above, strict=True)
        for role in roles
    ]
    deepest = max(result.sizes["layer"] for result in models.values())
    inner = len(models) * (_CELL * deepest + 110)
    figure = make_subplots(
        len(models), len(roles), subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=110 / inner
    )
    figure.update_annotations(font_size=13)
    for row, (name, result) in enumerate(models.items(), start=1):
        for col, role in enumerate(roles, start=1):
            if asked[name, role]:
                figure.add_trace(_map(result.sel(role=role)), row=row, col=col)
            label_layers(figure, result, {"row": row, "col": col}, shown=col == 1)
    figure.update_yaxes(title_text="layer", col=1)
    bar = {"title": {"text": "score"}, "thickness": 14, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": bar})
    prompts = "; ".join(f"{escape(name)}: {_asked(result)}" for name, result in models.items())
    empty = [f"{escape(name)} {escape(role.replace('_', '-'))}" for (name, role), there in asked.items() if not there]
    caption = f"{prompts}. {_held(models)}"
    if empty:
        caption += f" Not drawn: {', '.join(empty)}, where no head scores {_LEAST:g}."
    return style.style(figure, "<b>Roles of the heads</b> (score: share of attention)", caption, inner - 50)


def _is_asked(result: xr.Dataset, role: str) -> bool:
    """Whether some head has a score in the role that can be seen on the map."""
    return role in result["role"].values and float(result["score"].sel(role=role).max()) >= _LEAST


def _map(result: xr.Dataset) -> go.Heatmap:
    """One role: its score, and a dot where it is held."""
    score, holds = (result[name].transpose("layer", "head").values for name in ("score", "holds"))
    heads = [[f"{layer}.{head}" for head in result["head"].values] for layer in result["layer"].values]
    held = np.where(holds.astype(bool), "yes", "no")
    return go.Heatmap(
        x=result["head"].values,
        y=result["layer"].values,
        z=score,
        text=np.where(holds.astype(bool), "●", ""),
        texttemplate="%{text}",
        customdata=np.stack([np.array(heads, dtype=object), held], axis=-1),
        meta=[None, "holds the role"],
        hovertemplate="head %{customdata[0]}: %{z:.3f}, holds it: %{customdata[1]}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def _asked(result: xr.Dataset) -> str:
    prompts, n = (result.attrs.get(name, "?") for name in ("prompts", "n"))
    return f"{prompts} prompts, {n} random tokens repeated"


def _held(models: dict[str, xr.Dataset]) -> str:
    """What a dot means: from which scores on, once where the models agree, else model by model."""
    limits = {name: _thresholds(result) for name, result in models.items()}
    if len(set(limits.values())) == 1:
        (limit,) = set(limits.values())
        return f"A dot: the head holds the role{limit and f', its score is at least: {limit}'}."
    told = "; ".join(f"{escape(name)}: {limit or 'not told'}" for name, limit in limits.items())
    return f"A dot: the head holds the role, its score is at least, in {told}."


def _thresholds(result: xr.Dataset) -> str:
    """Every role's threshold; nothing where the result does not tell."""
    if "threshold" not in result.coords:
        return ""
    limits = zip(map(str, result["role"].values), result["threshold"].values.tolist(), strict=True)
    return ", ".join(f"{escape(role.replace('_', '-'))} {limit:g}" for role, limit in limits)
