"""What scores are made of: the share of each part in every head, and the parts of one head cell by cell."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import check_whole
from neolens.figures import maps, style
from neolens.figures.inputs import HEADS, Results, by_model, checked, listed
from neolens.figures.style import escape

MOST_TOKENS = 128
"""Tokens of a prompt whose parts are drawn cell by cell."""

_ROW, _BETWEEN = 30, 84  # pixels: a part, and between models
_MAP = 230  # pixels: a map of one part
_WRITTEN = 20  # heads side by side, at most, for a number in every cell


def part_shares(results: Results) -> go.Figure:
    """How much of what the softmax sees each part of the scores makes, mean over prompts: a column a head, a row a
    part, a map a model. Shares of a head add up to 1; a part that works against the others has one below 0.

    Args:
        results: of `neolens.position.part_shares`.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, {"share": f"{HEADS} part"}, "neolens.position.part_shares", ["part", "layer", "head"])
    shares = [result["share"].mean("prompt").transpose("part", "layer", "head") for result in models.values()]
    parts = [share.sizes["part"] for share in shares]
    inner = _ROW * sum(parts) + _BETWEEN * (len(parts) - 1)
    figure = make_subplots(
        len(models),
        1,
        subplot_titles=[f"<b>{escape(name)}</b>" for name in models] if len(models) > 1 else None,
        row_heights=[count / sum(parts) for count in parts],
        vertical_spacing=_BETWEEN / inner,
    )
    limit = max(1.0, *map(maps.largest, shares))
    for row, share in enumerate(shares, start=1):
        heads = [f"{layer}.{head}" for layer in share["layer"].values for head in share["head"].values]
        figure.add_trace(_shares(share, heads), row=row, col=1)
        every = 1 + (len(heads) - 1) // 32
        places = list(range(0, len(heads), every))
        figure.update_xaxes(tickvals=places, ticktext=[heads[at] for at in places], title_text="head", row=row, col=1)
    figure.update_xaxes(showgrid=False, zeroline=False, tickangle=0)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, title_text="part")
    bar = {"title": {"text": "share"}, "thickness": 14, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": "RdBu", "cmin": -limit, "cmax": limit, "colorbar": bar})
    title = "<b>Parts of the scores</b> (share of what the softmax sees)"
    caption = f"{style.caption(models)}. Mean over prompts; the shares of a head add up to 1."
    return style.style(figure, title, caption, inner)


def score_parts(result: xr.Dataset, head: int) -> go.Figure:
    """The parts of every score of one head on one prompt, and their sum: a map a part, queries from top to bottom, keys
    from left to right, on one scale about 0; cells that the query does not see are blank.

    Args:
        result: of `neolens.position.score_parts`, of a prompt of at most 128 tokens.
        head: its number.

    Raises:
        TypeError, ValueError: something else, a longer prompt, or no such head.
    """
    score = _of_head(result, head)
    parts = {str(part): score.sel(part=part) for part in score["part"].values}
    drawn = parts | {"sum": score.sum("part", skipna=False)}
    columns = min(5, len(drawn))
    rows = -(-len(drawn) // columns)
    titles = [f"<b>{escape(name)}</b>" for name in drawn]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_xaxes="all", shared_yaxes="all",
        horizontal_spacing=0.02, vertical_spacing=0.12,
    )  # fmt: skip
    limit = max(map(maps.largest, drawn.values())) or 1.0
    for at, (name, values) in enumerate(drawn.items()):
        figure.add_trace(_cells(name, values), row=at // columns + 1, col=at % columns + 1)
    figure.update_xaxes(title_text="key", showgrid=False, zeroline=False, row=rows)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="query", col=1)
    bar = {"title": {"text": "score"}, "thickness": 14, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": "RdBu", "cmin": -limit, "cmax": limit, "colorbar": bar})
    name = f"{result.attrs.get('layer', '')}.{head}"
    caption = f"{escape(str(result.attrs.get('model', 'model')))}, one prompt of {score.sizes['key_pos']} tokens."
    return style.style(figure, f"<b>Parts of the scores of head {name}</b> (units of the score)", caption, _MAP * rows)


def _of_head(result: xr.Dataset, head: int) -> xr.DataArray:
    """The parts of the scores of one head, if every cell can be drawn."""
    needs = {"score": "part head query_pos key_pos"}
    checked(result, "result", needs, "neolens.position.score_parts", ["part", "head", "query_pos", "key_pos"])
    if (length := result.sizes["key_pos"]) > MOST_TOKENS:
        raise ValueError(f"a prompt of {length} tokens is too long to draw every cell: take at most {MOST_TOKENS}")
    heads = result["head"].values.tolist()
    if (number := check_whole(head, "head", remedy=f"heads are {listed(heads)}")) not in heads:
        raise ValueError(f"no head {number}: heads are {listed(heads)}")
    return result["score"].sel(head=number)


def _cells(part: str, score: xr.DataArray) -> go.Heatmap:
    """One part of the score of every key for every query."""
    return go.Heatmap(
        z=score.transpose("query_pos", "key_pos").values,
        x=score["key_pos"].values,
        y=score["query_pos"].values,
        coloraxis="coloraxis",
        hovertemplate=f"{escape(part)}<br>query %{{y}}, key %{{x}}: %{{z:.3g}}<extra></extra>",
    )


def _shares(share: xr.DataArray, heads: list[str]) -> go.Heatmap:
    values = share.values.reshape(share.sizes["part"], -1)
    told = [[name, *map(int, name.split("."))] for name in heads]
    return go.Heatmap(
        z=values,
        x=list(range(len(heads))),
        y=[escape(str(part)) for part in share["part"].values],
        customdata=np.tile(np.array(told, dtype=object), (len(values), 1, 1)),
        meta=[None, "layer", "head"],
        texttemplate="%{z:.2f}" if len(heads) <= _WRITTEN else None,
        hovertemplate="head %{customdata[0]}, %{y}: %{z:.3f}<extra></extra>",
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )
