"""The shape of learned position embeddings: how many directions they take, how these run, how alike neighbours are."""

from __future__ import annotations

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.figures import legends, style
from neolens.figures.inputs import Results, by_model
from neolens.figures.style import DASHES, POSITION_COLOURS, escape

_NEEDS = {"variance_share": "component", "coordinate": "pos component", "similarity": "distance"}
_SHOWN = 3  # coordinates, which are those of the helix
_ROW = 250  # pixels


def embedding_geometry(results: Results) -> go.Figure:
    """The share of the variance that each component holds, added up; the first three coordinates by position; and the
    mean cosine of two positions by their distance. A row a model.

    Args:
        results: of `neolens.position.embedding_geometry`.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _NEEDS, "neolens.position.embedding_geometry")
    heads = ("components", "coordinates", "similarity")
    titles = [f"<b>{escape(name)}</b>: {one}" if len(models) > 1 else one for name in models for one in heads]
    figure = make_subplots(
        len(models), 3, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.36 / len(models)
    )
    figure.update_annotations(font_size=13)
    for row, result in enumerate(models.values(), start=1):
        for col, lines in enumerate(_lines(result, shown=row == 1), start=1):
            figure.add_traces(lines, rows=row, cols=col)
    figure.update_yaxes(zeroline=True)
    for col, (across, up) in enumerate(
        (("components", "share of the variance"), ("position", "coordinate"), ("distance (tokens)", "mean cosine")), 1
    ):
        figure.update_xaxes(title_text=across, col=col)
        figure.update_yaxes(title_text=up, title_standoff=4, col=col)
    figure.update_yaxes(range=[-0.02, 1.04], col=1)
    figure.update_yaxes(range=[-1.04, 1.04], col=3)
    title = "<b>Shape of the position embeddings</b> (share of the variance, coordinates, cosine)"
    style.style(figure, title, " ".join(_told(name, result) for name, result in models.items()), _ROW * len(models))
    return legends.below(figure)


def _lines(result: xr.Dataset, *, shown: bool) -> tuple[list[go.Scatter], ...]:
    """The lines of each panel of one model."""
    share, alike = result["variance_share"].cumsum("component"), result["similarity"]
    held = _line(share["component"].values + 1, share.values, "variance held", "solid")
    coordinates = [
        _line(its["pos"].values, its.values, f"coordinate {at}", dash, shown=shown)
        for at, dash in zip(range(min(_SHOWN, result.sizes["component"])), DASHES)
        if bool((its := result["coordinate"].sel(component=at)).notnull().any())
    ]
    return [held], coordinates, [_line(alike["distance"].values, alike.values, "mean cosine", "solid")]


def _line(x: object, y: object, name: str, dash: str, *, shown: bool = False) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": POSITION_COLOURS["absolute"], "dash": dash, "width": 1.8},
        name=name,
        showlegend=shown,
        hovertemplate=f"{name} at %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _told(name: str, result: xr.Dataset) -> str:
    """What is one number of the model."""
    told = f"{escape(name)}: {result.sizes['pos']} positions"
    names = ("dimensions", "dimensions_99", "helix_share", "token_share")
    if not all(one in result and not result[one].ndim for one in names):
        return f"{told}."
    numbers = {one: float(result[one]) for one in names}
    return (
        f"{told} in {numbers['dimensions']:.1f} dimensions (participation ratio), {numbers['dimensions_99']:.0f} hold "
        f"99 % of the variance; a helix explains {numbers['helix_share']:.2f} of the first three coordinates; "
        f"{numbers['token_share']:.2f} of the token embeddings' variance lies in those {numbers['dimensions_99']:.0f}."
    )
