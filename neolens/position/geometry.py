"""Learned position embeddings as a shape: how many dimensions they take, how alike neighbours are, whether they coil.

GPT-2's lie near a helix in few dimensions (seen by principal components; cf. Yedidia 2023, "GPT-2's positional
embedding matrix is a helix"). A helix is a circle turning at one frequency and a straight line; how much of the first
three components one explains is measured here by least squares over frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.signal import lombscargle

from neolens import results
from neolens.position.asked import asked_weights, whole_numbers

HELIX = 3
"""Components that a helix lives in."""

_PER_TURN = 16
"""Frequencies that are tried between one turn over the context and the next."""


@torch.no_grad()
def embedding_geometry(model: Any, *, components: int = 8) -> xr.Dataset:
    """The geometry of a learned position embedding, its mean over positions taken off first.

    With P the centred table [context, d_model] = U S V^T, s the singular values and v = s^2 / sum s^2:

    - `singular_value` s and `variance_share` v by component, all of them;
    - `coordinate` U S by pos and component, the first `components`; of each `wavelength` (tokens) and `periodicity`,
      the share of its variance that the best fitting sinusoid explains, 0 to 1 (Lomb-Scargle with a floating mean,
      half a turn over the context up to half a turn a token);
    - `similarity` by distance d, the mean over i of the cosine of P[i] and P[i + d];
    - `dimensions` = 1 / sum v^2 (the participation ratio), `dimensions_90` and `dimensions_99`, the components that
      hold 90 and 99 % of the variance;
    - `helix_share` of the variance in the first three components that a + b t + c cos(w t) + d sin(w t) explains at
      the best w, `helix_wavelength` 2 pi / w in tokens;
    - `token_share`, the part of the token embeddings' variance that lies in the `dimensions_99` dimensions that
      position takes; a part of dimensions_99 / d_model would be chance.

    Args:
        model: from `neolens.load`, with absolute positions; the table is taken as it was learned, whatever is in force.
        components: coordinates that are kept; as many as there are, where there are fewer.

    Raises:
        TypeError: not a model from `neolens.load`, or no whole number.
        ValueError: a model without learned positions, or with fewer than 4, or no components.
    """
    weights = asked_weights(model, "the geometry of position embeddings", "absolute")
    assert weights.position is not None
    (kept,) = whole_numbers(components, "components")
    if kept < 1:
        raise ValueError(f"{kept} components: expected 1 or more")
    table, tokens = (part.detach().double().cpu().numpy() for part in (weights.position, weights.embedding))
    if len(table) < 4:
        raise ValueError(f"{weights.anatomy.name} learned {len(table)} positions: a shape needs at least 4")
    centred = table - table.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    share = sizes**2 / (sizes**2).sum()
    coordinates = (left * sizes)[:, :kept]
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


def _frequencies(positions: int) -> Float[np.ndarray, " frequency"]:
    """Radians a token, from half a turn over the context to half a turn a token, evenly."""
    return np.linspace(np.pi / positions, np.pi, _PER_TURN * positions // 2)


def _periods(
    coordinates: Float[np.ndarray, "pos component"],
) -> tuple[Float[np.ndarray, " component"], Float[np.ndarray, " component"]]:
    """The wavelength of the sinusoid that fits each coordinate best, and the share of its variance that it explains."""
    t, frequencies = np.arange(len(coordinates), dtype=float), _frequencies(len(coordinates))
    found = []
    for coordinate in coordinates.T:
        explained = lombscargle(t, coordinate, frequencies, floating_mean=True, normalize=True)
        best = int(np.argmax(explained))
        found.append((2 * np.pi / frequencies[best], np.clip(explained[best], 0.0, 1.0)))
    wavelength, periodicity = np.array(found).T
    return wavelength, periodicity


def _helix(curve: Float[np.ndarray, "pos component"]) -> tuple[float, float]:
    """The share of a curve's variance that the best fitting helix explains, and that helix's wavelength."""
    t = np.arange(len(curve), dtype=float)
    line = np.stack([np.ones_like(t), t - t.mean()], axis=1)
    best = (-np.inf, np.nan)
    for frequency in _frequencies(len(curve)):
        terms = np.column_stack([line, np.cos(frequency * t), np.sin(frequency * t)])
        basis, _ = np.linalg.qr(terms)
        best = max(best, (float(((basis.T @ curve) ** 2).sum()), 2 * np.pi / frequency))
    return best[0] / float((curve**2).sum()), float(best[1])


def _similarity(centred: Float[np.ndarray, "pos d_model"]) -> Float[np.ndarray, " distance"]:
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    return np.array([np.diagonal(cosine, distance).mean() for distance in range(len(unit))])


def _share_within(rows: Float[np.ndarray, "row d_model"], basis: Float[np.ndarray, "component d_model"]) -> float:
    """The share of the rows' variance that lies in the span of orthonormal vectors."""
    centred = rows - rows.mean(0)
    return float(((centred @ basis.T) ** 2).sum() / (centred**2).sum())
