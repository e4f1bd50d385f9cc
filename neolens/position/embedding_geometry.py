"""Learned position embeddings as a shape: how many dimensions they take, how alike neighbours are, whether they coil.

GPT-2's lie near a helix in few dimensions (seen by principal components; cf. Yedidia 2023, "GPT-2's positional
embedding matrix is a helix"). A helix is a circle turning at one frequency and a straight line; how much of the first
three components one explains is measured here by least squares over frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from neolens import results
from neolens.checks import check_whole
from neolens.network import measurement
from neolens.position.checks import asked_weights

HELIX = 3
"""Components that a helix lives in."""

_PER_TURN = 16
"""Frequencies that are tried between one turn over the context and the next, before the best is refined."""


@measurement()
def embedding_geometry(model: Any, *, components: Any = 8) -> xr.Dataset:
    """The geometry of a learned position embedding, its mean over positions taken off first.

    With P the centred table [context, d_model] = U S V^T, s the singular values and v = s^2 / sum s^2:

    - `singular_value` s and `variance_share` v by component, all of them;
    - `coordinate` U S by pos and component, the first `components`; of each `wavelength` (tokens) and `periodicity`,
      the share of its variance that the best fitting sinusoid explains, 0 to 1 (by least squares, beside a constant:
      the generalised Lomb-Scargle periodogram; half a turn over the context up to half a turn a token);
    - `similarity` by distance d, the mean over i of the cosine of P[i] and P[i + d], where neither is 0;
    - `dimensions` = 1 / sum v^2 (the participation ratio), `dimensions_90` and `dimensions_99`, the components that
      hold 90 and 99 % of the variance;
    - `helix_share` of the variance in the first three components that a + b t + c cos(w t) + d sin(w t) explains at
      the best w, `helix_wavelength` 2 pi / w in tokens (a straight line is explained too, at any w: see periodicity);
    - `token_share`, the part of the token embeddings' variance that lies in the `dimensions_99` dimensions that
      position takes; a part of dimensions_99 / d_model would be chance.

    Args:
        model: from `neolens.load`, with absolute positions; the table is taken as it was learned, whatever is in force.
        components: number of coordinates that are kept; as many as there are, where there are fewer.

    Raises:
        TypeError: not a model from `neolens.load`, or no whole number.
        ValueError: a model without learned positions, with fewer than 4, or all alike, or no components.
    """
    weights = asked_weights(model, "the geometry of position embeddings", "absolute")
    assert weights.position is not None
    kept = check_whole(components, "components", 1)
    table, tokens = (part.detach().double().cpu().numpy() for part in (weights.position, weights.embedding))
    if len(table) < 4:
        raise ValueError(f"{weights.anatomy.name} learned {len(table)} positions: a shape needs at least 4")
    if not np.ptp(table, axis=0).any():
        raise ValueError(f"positions of {weights.anatomy.name} are all alike: there is no shape to measure")
    centred = table - table.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    share = sizes**2 / (sizes**2).sum()
    rank = int((sizes > sizes[0] * max(table.shape) * np.finfo(float).eps).sum())
    coordinates = (left * sizes)[:, : min(kept, rank)]
    wavelength, periodicity = _periods(coordinates)
    helix_share, helix_wavelength = _helix((left * sizes)[:, :HELIX])
    count_90, count_99 = (int(np.searchsorted(share.cumsum(), level - 1e-12)) + 1 for level in (0.9, 0.99))
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "singular_value": (("component",), sizes),
        "variance_share": (("component",), share),
        "coordinate": (("pos", "component"), _padded(coordinates, len(sizes))),
        "wavelength": (("component",), _padded(wavelength, len(sizes))),
        "periodicity": (("component",), _padded(periodicity, len(sizes))),
        "similarity": (("distance",), _similarity(centred)),
    }
    numbers = {
        "dimensions": 1 / (share**2).sum(),
        "dimensions_90": count_90,
        "dimensions_99": count_99,
        "helix_share": helix_share,
        "helix_wavelength": helix_wavelength,
        "token_share": _share_within(tokens, right[:count_99]),
    }
    variables |= {name: ((), np.array(float(value))) for name, value in numbers.items()}
    place = np.arange(len(table))
    coords = {"pos": place, "distance": place, "component": np.arange(len(sizes))}
    return results.build(
        variables, weights.anatomy, coords=coords, attrs=results.provenance(model, weights.anatomy, components=kept)
    )


def _padded(values: np.ndarray, components: int) -> np.ndarray:
    """NaN for the components that are not kept."""
    whole = np.full((*values.shape[:-1], components), np.nan)
    whole[..., : values.shape[-1]] = values
    return whole


def _periods(
    coordinates: Float[np.ndarray, "pos component"],
) -> tuple[Float[np.ndarray, " component"], Float[np.ndarray, " component"]]:
    """The wavelength of the sinusoid that fits each coordinate best, and the share of its variance that it explains."""
    wavelength, share = np.array(_best_fits(list(coordinates.T[..., None]), degree=0)).T
    return wavelength, share


def _helix(curve: Float[np.ndarray, "pos component"]) -> tuple[float, float]:
    """The share of a curve's variance that the best fitting helix explains, and that helix's wavelength."""
    ((wavelength, share),) = _best_fits([curve], degree=1)
    return share, wavelength


def _best_fits(curves: list[Float[np.ndarray, "pos component"]], *, degree: int) -> list[tuple[float, float]]:
    """Of each (centred) curve, the wavelength in tokens of the sinusoid that explains most of it beside a polynomial of
    a degree, and the share of the curve's sum of squares that both explain: the best of a grid, and then the best
    between that one's neighbours."""
    positions, first = len(curves[0]), np.cumsum([0] + [curve.shape[1] for curve in curves[:-1]])
    grid = np.linspace(np.pi / positions, np.pi, _PER_TURN * positions // 2, endpoint=False)
    together = np.concatenate(curves, axis=1)
    squares = np.array([((_basis(positions, frequency, degree).T @ together) ** 2).sum(0) for frequency in grid])
    found = []
    for curve, at_grid in zip(curves, np.add.reduceat(squares, first, axis=1).T, strict=True):

        def unexplained(frequency: float, curve: np.ndarray = curve) -> float:
            return -float(((_basis(positions, frequency, degree).T @ curve) ** 2).sum())

        best = int(at_grid.argmax())
        ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        between = minimize_scalar(unexplained, bounds=ends, method="bounded", options={"xatol": 1e-6 * grid[0]})
        most, frequency = max((at_grid[best], grid[best]), (-between.fun, between.x))
        found.append((float(2 * np.pi / frequency), float(min(most / (curve**2).sum(), 1.0))))
    return found


def _basis(positions: int, frequency: float, degree: int) -> Float[np.ndarray, "pos term"]:
    """Orthonormal functions of the position that span a polynomial and a sinusoid (radians a token)."""
    t = np.arange(positions) - (positions - 1) / 2
    terms = [t**power for power in range(degree + 1)]
    return np.linalg.qr(np.column_stack([*terms, np.cos(frequency * t), np.sin(frequency * t)]))[0]


def _similarity(centred: Float[np.ndarray, "pos d_model"]) -> Float[np.ndarray, " distance"]:
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    cosine, both = unit @ unit.T, (norm > 0) & (norm > 0).T
    sums, counts = (np.array([np.diagonal(x, d).sum() for d in range(len(unit))]) for x in (cosine, both))
    return np.divide(sums, counts, out=np.full(len(unit), np.nan), where=counts > 0)


def _share_within(rows: Float[np.ndarray, "row d_model"], basis: Float[np.ndarray, "component d_model"]) -> float:
    """The share of the rows' variance that lies in the span of orthonormal vectors."""
    centred = rows - rows.mean(0)
    return float(((centred @ basis.T) ** 2).sum() / (centred**2).sum())
