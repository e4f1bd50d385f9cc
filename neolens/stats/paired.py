"""Means over prompts with intervals and tests, of many groups at once: the values are an array [group, prompt].

Prompts are the sample: intervals resample prompts, and tests flip the signs of whole prompts, alike in all groups. A
sweep over all heads tests many groups at once, so a p of each alone says little: Westfall and Young 1993
("Resampling-Based Multiple Testing") compare each group with the largest of all groups under the same flips, Benjamini
and Hochberg 1995 bound the share of false findings. Intervals and single p are those of TransformerLens.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import false_discovery_control
from transformer_lens.utilities.statistics import bootstrap_ci, derive_generator, sign_flip_permutation_pvalue

CORRECTIONS = ("max_t", "benjamini_hochberg")

MAX_RESAMPLES = 2**24
_EXACT = 12  # prompts up to which all flips are tried, as in TransformerLens's test
_TIE = 1e-13  # far above the rounding of a sum over its root mean square, far below any difference that matters
_CELLS = 2**24  # numbers held at once while resampling
_CHUNK = 256  # resamples that TransformerLens draws at once


@dataclass(frozen=True)
class PairedTests:
    """The mean over prompts of each group, with its interval and p; all but the mean are NaN for a single prompt."""

    mean: Float[np.ndarray, " group"]
    low: Float[np.ndarray, " group"]
    """The lower end of the 95 % bootstrap interval."""
    high: Float[np.ndarray, " group"]
    p: Float[np.ndarray, " group"]
    """Two-sided, of a mean of 0, of each group by itself."""
    p_adjusted: Float[np.ndarray, " group"]
    """Corrected for all groups."""


def paired_tests(
    values: Float[np.ndarray, "group prompt"], *, correction: str = "max_t", resamples: int = 1000, seed: int = 0
) -> PairedTests:
    """The mean over prompts of each group: its 95 % interval, and whether it differs from 0.

    A p is at least 1 / (resamples + 1), and with up to 12 prompts exact and at least 2 / 2^n.

    >>> tests = paired_tests(np.array([[1.0, 2.0, 3.0], [1.0, -1.0, 0.0]]))
    >>> tests.mean.tolist(), tests.p.tolist(), tests.p_adjusted.tolist()
    ([2.0, 0.0], [0.25, 1.0], [0.25, 1.0])

    Args:
        correction: `max_t` (the chance of any false finding; Westfall and Young 1993) or `benjamini_hochberg` (the
            share of findings that are false; Benjamini and Hochberg 1995).
    """
    groups, prompts = values.shape
    if prompts < 2:
        return PairedTests(values.mean(1), *(np.full(groups, np.nan) for _ in range(4)))
    low, high = bootstrap_interval(values, resamples, seed)
    p = sign_flip_p(values, resamples, seed)
    adjusted = false_discovery_control(p) if correction == "benjamini_hochberg" else max_t(values, resamples, seed)
    return PairedTests(values.mean(1), low, high, p, adjusted)


def bootstrap_interval(
    values: Float[np.ndarray, "group prompt"], resamples: int = 1000, seed: int = 0
) -> tuple[Float[np.ndarray, " group"], Float[np.ndarray, " group"]]:
    """The ends of the 95 % percentile interval of each mean; all groups are resampled alike."""
    ends = [
        bootstrap_ci(part, n_resamples=resamples, generator=_generator(seed, "interval"))
        for part in _parts(values, resamples)
    ]
    low, high = zip(*ends, strict=True)
    return torch.cat(low).numpy(), torch.cat(high).numpy()


def sign_flip_p(
    values: Float[np.ndarray, "group prompt"], resamples: int = 1000, seed: int = 0
) -> Float[np.ndarray, " group"]:
    """The two-sided p of a mean of 0 of each group by itself: the share of sign flips whose mean is as far from 0."""
    options = {"n_permutations": resamples, "exact_max_n": _EXACT}
    each = [
        sign_flip_permutation_pvalue(part, generator=_generator(seed, "p"), **options)
        for part in _parts(values, resamples)
    ]
    return torch.cat(each).numpy()


def max_t(
    values: Float[np.ndarray, "group prompt"], resamples: int = 1000, seed: int = 0
) -> Float[np.ndarray, " group"]:
    """The share of flips in which the largest |t| of all groups reaches that of a group (Westfall and Young 1993).

    With r = |mean| / root mean square, |t| = r sqrt((n - 1) / (1 - r^2)): it grows with r, alike in all groups, and a
    flip leaves the root mean square as it is. So r, which is never infinite, orders as |t| does.
    """
    size = np.sqrt((values**2).mean(1, keepdims=True))
    scaled = np.divide(values, size, out=np.zeros_like(values), where=size > 0)
    signs, exact = _flips(values.shape[1], resamples, seed)
    observed = np.abs(scaled.mean(1))
    blocks = np.array_split(signs, max(1, signs.shape[0] * len(values) // _CELLS + 1))
    largest = np.concatenate([np.abs(block @ scaled.T).max(1) for block in blocks]) / values.shape[1]
    hits = len(largest) - np.searchsorted(np.sort(largest), observed - _TIE, side="left")
    return hits / len(signs) if exact else (hits + 1) / (len(signs) + 1)


def _parts(values: Float[np.ndarray, "group prompt"], resamples: int) -> tuple[torch.Tensor, ...]:
    """Groups in parts that fit in memory while they are resampled."""
    size = max(1, _CELLS // max(_CHUNK * values.shape[1], 2**_EXACT * _EXACT, resamples))
    return torch.from_numpy(values).split(size)


def _flips(prompts: int, resamples: int, seed: int) -> tuple[Float[np.ndarray, "flip prompt"], bool]:
    """All patterns of signs of few prompts, else random ones (those of the p of each group), and whether it is all."""
    if prompts <= _EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=prompts))), True
    drawn = torch.randint(0, 2, (resamples, prompts), generator=_generator(seed, "p"))
    return drawn.double().numpy() * 2 - 1, False


def _generator(seed: int, purpose: str) -> torch.Generator:
    return derive_generator(seed, "ablation", purpose)
