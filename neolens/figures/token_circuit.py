"""What a head's circuit makes of words: each of some rows against each of some columns (Elhage et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from neolens.checks import check_list, check_text, shown
from neolens.figures import maps, style
from neolens.figures.style import escape

MOST_WORDS = 64
"""Rows, and columns, of a map."""

_CELL = 18  # pixels
_WRITTEN = 12  # columns up to which there is room for numbers

Side = tuple[Sequence[str], Float[Tensor, "_ d_model"]]
"""Names, and a vector for each."""


@torch.no_grad()
def token_circuit(
    circuit: Any,
    words: Sequence[str],
    vectors: Float[Tensor, "row d_model"],
    to_words: Sequence[str] | None = None,
    to_vectors: Float[Tensor, "column d_model"] | None = None,
    *,
    called: str = "circuit",
    axes: tuple[str, str] = ("query", "key"),
) -> go.Figure:
    """x^T C y for each row x and each column y, on a map about 0.

    With C of `neolens.position.qk` and the embeddings of some tokens as rows and columns, what a query makes of a key
    (before the scale; after the layer norm, if its output is given); with C of `neolens.position.ov`, embeddings as
    rows and unembeddings as columns, what reading a token adds to the logit of another.

    Args:
        circuit: of `neolens.position.qk` or `ov`: a matrix [d_model, d_model], or TransformerLens's FactoredMatrix.
        words: a name for each row, at most 64.
        vectors: the rows.
        to_words: of the columns, by default those of the rows, as `to_vectors`.
        called: what the title says, such as `QK of head 0.3, 1 token back`.
        axes: what rows and columns are.

    Raises:
        TypeError, ValueError: names, vectors and circuit that do not fit each other, or too many of them.
    """
    rows = _side(words, vectors, "words", "vectors")
    across = rows[0] if to_words is None else to_words
    columns = _side(across, rows[1] if to_vectors is None else to_vectors, "to_words", "to_vectors")
    words, across = rows[0], columns[0]
    check_text(called, "called", example="QK of head 0.3")
    axes = _axes(axes)
    cells = _products(circuit, {"rows": rows, "columns": columns})
    figure = go.Figure(_map(cells, axes))
    figure.update_xaxes(**_labels(axes[1], across), tickangle=-60)
    figure.update_yaxes(**_labels(axes[0], words), autorange="reversed")
    caption = f"Rows: {len(words)}, {escape(axes[0])}; columns: {len(across)}, {escape(axes[1])}."
    height = max(160, _CELL * len(words)) + 40
    figure = style.style(figure, f"<b>{escape(called)}</b> (product with the circuit)", caption, height)
    return figure.update_layout(title_xref="container", title_pad_l=20)


def _products(circuit: Any, sides: dict[str, Side]) -> Float[np.ndarray, "row column"]:
    """x^T C y of each row x and each column y, which come with their names and fit the circuit."""
    matrix = _matrix(circuit.AB if hasattr(circuit, "AB") else circuit, "circuit", "neolens.position.qk or ov")
    for what, (names, given) in sides.items():
        if len(names) != len(given) or not 1 <= len(names) <= MOST_WORDS:
            raise ValueError(f"{len(names)} names of {len(given)} {what}: expected one for each, 1 to {MOST_WORDS}")
        if {given.shape[1]} != {*matrix.shape}:
            size = " x ".join(map(str, dict.fromkeys(matrix.shape)))
            raise ValueError(f"{what} of {given.shape[1]} dimensions do not fit a circuit of {size}")
    rows, columns = (given.to(matrix) for _, given in sides.values())
    return (rows @ matrix @ columns.T).double().cpu().numpy()


def _side(names: Any, vectors: Any, of_names: str, of_vectors: str) -> Side:
    """Names, and a vector for each."""
    listed = [check_text(name, of_names, empty=True) for name in check_list(names, of_names, "strings")]
    return listed, _matrix(vectors, of_vectors, "the embeddings of tokens, [token, d_model]")


def _matrix(value: Any, what: str, source: str) -> Float[Tensor, "row column"]:
    """A matrix of real numbers."""
    matrix = torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" else value
    if not isinstance(matrix, Tensor) or matrix.is_complex() or matrix.dtype == torch.bool:
        raise TypeError(f"{what} {shown(value)}: expected a matrix of real numbers, such as {source}")
    if matrix.ndim != 2:
        raise ValueError(f"{what} of shape {tuple(matrix.shape)}: expected a matrix, such as {source}")
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"{what} of shape {tuple(matrix.shape)} with NaN or infinite values: expected finite numbers")
    return matrix.detach()


def _axes(axes: Any) -> tuple[str, str]:
    names = [check_text(name, "axes") for name in check_list(axes, "axes", "two names", example="('query', 'key')")]
    if len(names) != 2:
        raise ValueError(f"axes {shown(axes)}: expected two names, of rows and columns, such as ('query', 'key')")
    return names[0], names[1]


def _map(cells: Float[np.ndarray, "row column"], axes: tuple[str, str]) -> go.Heatmap:
    """The products about 0, as numbers too where there is room."""
    limit = maps.largest(cells) or 1.0
    return go.Heatmap(
        z=cells,
        x=list(range(cells.shape[1])),
        y=list(range(cells.shape[0])),
        zmin=-limit,
        zmax=limit,
        colorscale="RdBu",
        colorbar={"title": {"text": "product"}, "thickness": 14, "outlinewidth": 0},
        texttemplate="%{z:.2g}" if cells.shape[1] <= _WRITTEN else None,
        hovertemplate=f"{escape(axes[0])} %{{y}}, {escape(axes[1])} %{{x}}: %{{z:.3g}}<extra></extra>",
    )


def _labels(what: str, words: Sequence[str]) -> dict[str, Any]:
    """An axis of words."""
    ticks = {"tickvals": list(range(len(words))), "ticktext": [escape(word) for word in words]}
    return ticks | {"title_text": escape(what), "showgrid": False, "zeroline": False, "automargin": True}
