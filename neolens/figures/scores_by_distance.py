"""What position encodings make of scores: the shift test, Toeplitz shares, distance kernels."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.checks import Head, check_choice, check_text
from neolens.figures import legends, style
from neolens.figures.inputs import Results, check_defined, check_head_of, holding
from neolens.figures.style import DASHES, POSITION_COLOURS, escape
from neolens.figures.variants import SYMBOLS, drawn_as, head_of, highest, line_over_seeds, networks
from neolens.scores import THRESHOLDS

_TOEPLITZ = "neolens.position.toeplitz or the study rotary_vs_absolute"
_SEEDS = 8  # of a model whose lines are drawn
_WIDTH = 0.7  # of the points of one layer
_TICKS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # distances


def shift_by_distance(results: Results) -> go.Figure:
    """The largest change of a logit, as a share of the range of the logits, against the distance D by which every
    position index moves; both axes logarithmic. What rounding alone makes of a rotary model is the thin dotted line.

    Args:
        results: of `neolens.shift`, or of the study rotary_vs_absolute.

    Raises:
        TypeError, ValueError: no result of a shift.
    """
    models = holding(
        results,
        {"shift_logits": "seed? shift"},
        {"logits": "seed? prompt shift", "spread": "seed? prompt"},
        source="neolens.shift or the study rotary_vs_absolute",
        coords=["shift"],
    )
    by = sorted({int(one) for result in models.values() for one in result["shift"].values if one > 0})
    if not by:
        raise ValueError("no shift is above 0, and a log axis shows no other: shift by 1 or more")
    figure = go.Figure()
    for name, result, line in drawn_as(models):
        moved = result["shift_logits"] if "shift_logits" in result else result["logits"] / result["spread"]
        moved = moved.isel(shift=result["shift"].values > 0)
        for trace in line_over_seeds(moved, "shift", name, line, f"{name}<br>moved by %{{x}}: %{{y:.2g}} of the range"):
            figure.add_trace(trace)
        if line["colour"] == POSITION_COLOURS["rotary"] and "rounding" in result:
            level = float((result["rounding"] / (1 if "shift_logits" in result else result["spread"])).mean())
            rounding = {"color": line["colour"], "dash": "dot", "width": 1}
            figure.add_hline(level, name=f"rounding of {name}", line=rounding)
    ticks = [one for at, one in enumerate(by) if at == len(by) - 1 or by[-1] >= 1.5 * one]
    figure.update_xaxes(type="log", title_text="every position index moves by (tokens)", tickvals=ticks, ticktext=ticks)
    figure.update_traces(mode="lines+markers", selector={"showlegend": None})
    figure.update_yaxes(type="log", title_text="largest change of a logit (share of their range)", exponentformat="e")
    caption = f"{networks(models)}. Thin dotted line: what float32 rounding alone makes. Shifts above 0."
    title = "<b>Shift test</b> (largest change of a logit, share of the range of the logits)"
    return legends.below(style.style(figure, title, caption, height=340))


def toeplitz_shares(results: Results) -> go.Figure:
    """The Toeplitz share of every head, by layer: how much of its scores, tokens averaged out, is distance alone.

    Args:
        results: of `neolens.position.toeplitz`, or of the study rotary_vs_absolute; the share corrected for noise where
            there is one.

    Raises:
        TypeError, ValueError: no result with Toeplitz shares.
    """
    models = holding(results, {"toeplitz_share": "seed? layer head"}, source=_TOEPLITZ, coords=["layer", "head"])
    figure = go.Figure()
    for at, (name, result, line) in enumerate(drawn_as(models)):
        share = result.get("toeplitz_share_corrected", result["toeplitz_share"])
        figure.add_trace(_heads(name, share, (at, len(models)), line))
    deepest = range(max(result.sizes["layer"] for result in models.values()))
    layers = {"tickvals": list(deepest), "ticktext": list(map(str, deepest))}
    figure.update_xaxes(title_text="layer", showgrid=False, zeroline=False, **layers)
    figure.update_yaxes(title_text="share of the variance", range=[-0.03, 1.05])
    caption = (
        f"{networks(models)}. A point is a head; of heads whose scores have no variance above noise there is none."
    )
    title = "<b>Toeplitz share</b> (part of the averaged scores' variance that distance explains)"
    return legends.below(style.style(figure, title, caption, height=320))


def _heads(name: str, share: xr.DataArray, place: tuple[int, int], line: dict[str, str]) -> go.Scatter:
    """The heads of one of several models, side by side at their layer, each a point."""
    at, models = place
    axes = [axis for axis in ("seed", "head") if axis in share.dims]
    flat = share.stack(point=axes).transpose("layer", "point")
    apart = _WIDTH * ((at + 0.5 + np.linspace(-0.3, 0.3, flat.sizes["point"])) / models - 0.5)
    labels = [dict(zip(axes, point, strict=True)) for point in flat["point"].values]
    return go.Scatter(
        x=(flat["layer"].values[:, None] + apart).ravel(),
        y=flat.values.ravel(),
        customdata=[head_of(layer, its) for layer in flat["layer"].values for its in labels],
        meta=["head"],
        mode="markers",
        name=name,
        marker={"color": line["colour"], "symbol": SYMBOLS[line["dash"]], "size": 7, "opacity": 0.7},
        hovertemplate=f"{name} %{{customdata}}: %{{y:.2f}}<extra></extra>",
    )


def distance_kernels(results: Results, role: str = "previous_token", *, head: Head | str | None = None) -> go.Figure:
    """The distance kernel of one head: the mean score at each distance, less the largest. A panel a model, a line a
    seed.

    Args:
        results: of `neolens.position.toeplitz`, or of the study rotary_vs_absolute.
        role: the head that scores highest in it is drawn, where the result tells of roles; else that whose largest
            mean score stands highest above the mean of its kernel.
        head: (layer, head), or text such as "2.1", of the one to draw in their place.

    Raises:
        TypeError, ValueError: no such result, no such role, or no such head.
    """
    needs = {"kernel": "seed? layer head distance"}
    models = holding(results, needs, source=_TOEPLITZ, coords=["layer", "head", "distance"])
    check_text(role, "role", example="induction")
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.2)
    heads: dict[str, list[Head]] = {}
    for (name, result, line), place in zip(drawn_as(models), places, strict=True):
        heads[name] = []
        for number, seed in enumerate(result["seed"].values[:_SEEDS]):
            network = result.sel(seed=seed)
            drawn_with = {"color": line["colour"], "dash": DASHES[number % len(DASHES)]}
            shown = _drawn_head(name, network, role, head)
            heads[name].append(shown)
            figure.add_trace(_kernel(name, network, shown, drawn_with), **place)
    ticks = {"tickvals": [tick + 1 for tick in _TICKS], "ticktext": list(map(str, _TICKS))}
    figure.update_xaxes(type="log", title_text="distance (tokens)", **ticks)
    figure.update_yaxes(title_text="mean score less the largest", col=1)
    whose = f"of the best {escape(role.replace('_', '-'))} head"
    if head is not None or not any("score" in result for result in models.values()):
        whose = "of a head" if head is None else "of head {}.{}".format(*next(iter(heads.values()))[0])
    named = {name: _named(each) for name, each in heads.items()}
    for name, note in zip(heads, figure.layout.annotations):
        note.text = f"<b>{name}</b><br>{named[name]}"
    if len(heads) == 1 and head is None:
        whose += f": {next(iter(named.values()))}"
    title = f"<b>Distance kernel</b> {whose} (units of the score)"
    most = max(result.sizes["seed"] for result in models.values())
    seeds = f"one line per seed{f', the first {_SEEDS} of {most}' if most > _SEEDS else ''}"
    caption = f"{networks(models)}. Heads in the order of the seeds, {seeds}; distance on a log(d + 1) axis."
    return style.style(figure, title, caption, height=260 * places[-1]["row"])


def _named(heads: list[Head]) -> str:
    """`heads 0.0, 1.3`, each once."""
    several = list(dict.fromkeys(f"{layer}.{number}" for layer, number in heads))
    return f"head{'s' if len(several) > 1 else ''} {', '.join(several)}"


def _kernel(name: str, network: xr.Dataset, head: Head, line: dict[str, str]) -> go.Scatter:
    """The kernel of one head of one network."""
    layer, its = head
    kernel, seed = network["kernel"].sel(layer=layer, head=its), network["seed"].item()
    return go.Scatter(
        x=kernel["distance"].values + 1,
        y=(kernel - kernel.max()).values,
        mode="lines",
        line=line,
        name=f"{name} {head_of(layer, {'seed': seed, 'head': its})}",
        hovertemplate=f"{name}, seed {seed}, head {layer}.{its}: %{{y:.2f}}<extra></extra>",
        showlegend=False,
    )


def _drawn_head(name: str, network: xr.Dataset, role: str, head: Head | str | None) -> Head:
    """Layer and head whose kernel is drawn."""
    if head is not None:
        return check_head_of(head, network, name)
    scored = "score" in network and "role" in network["score"].dims
    check_choice(role, "role", map(str, network["role"].values) if scored else THRESHOLDS)
    if scored:
        stands_out = network["score"].sel(role=role)
    else:
        stands_out = network["kernel"].max("distance") - network["kernel"].mean("distance")
    check_defined(stands_out, ["layer", "head"], name)
    return highest(stands_out)
