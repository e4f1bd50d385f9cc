"""What may be done to a model's positions without touching a weight: small values, and what they are called.

Each treatment says one thing about where a token stands or about how q and k are turned; what it does to tensors is
in `treated`, which architectures take it in `neolens.what_if`. Leaving single frequencies of the rotation out follows
p-RoPE (Barbero et al. 2024, arXiv 2410.06205), scaling the index position interpolation (Chen et al. 2023,
arXiv 2306.15595). Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from neolens.checks import check_list, check_number, check_seed, check_whole, shown

EXACT = 2**24
"""Indices up to here are exact in float32, in which the angles of a rotation are taken."""


@dataclass(frozen=True)
class Shift:
    """Every position index moves by `by` (absolute positions: 0 or more)."""

    by: Any
    """A whole number."""
    kind: Literal["shift"] = field(default="shift", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "by", check_whole(self.by, "a shift by"))
        if abs(self.by) > EXACT:
            raise ValueError(f"a shift by {shown(self.by)}: expected at most {EXACT}, up to which angles are exact")


@dataclass(frozen=True)
class Freeze:
    """Every token stands at position `at`."""

    at: Any
    """A whole number."""
    kind: Literal["freeze"] = field(default="freeze", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "at", check_whole(self.at, "position", 0, EXACT))


@dataclass(frozen=True)
class Zero:
    """No position embedding: zero in its place."""

    kind: Literal["zero"] = field(default="zero", init=False, repr=False)


@dataclass(frozen=True)
class Mean:
    """The mean of all position embeddings in place of each."""

    kind: Literal["mean"] = field(default="mean", init=False, repr=False)


@dataclass(frozen=True)
class Shuffle:
    """Positions exchange their embeddings by a permutation drawn once (`torch.randperm` of a generator with this seed);
    only the first `within` positions, by default the whole context."""

    seed: Any = 0
    within: Any = None
    """Whole numbers."""
    kind: Literal["shuffle"] = field(default="shuffle", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "seed", check_seed(self.seed))
        if self.within is not None:
            _set(self, "within", check_whole(self.within, "within", 1, EXACT, unit="positions"))


@dataclass(frozen=True)
class Unrotated:
    """q and k are not turned in these frequencies (cos 1, sin 0), by default in all of them; 0 is the fastest."""

    bands: Any = None
    """Numbers of bands; held as an ascending tuple."""
    kind: Literal["unrotated"] = field(default="unrotated", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "bands", None if self.bands is None else _bands(self.bands))


@dataclass(frozen=True)
class Scale:
    """Every position index is multiplied by `by`: position interpolation below 1, extrapolation above."""

    by: Any
    """A number."""
    kind: Literal["scale"] = field(default="scale", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "by", check_number(self.by, "scale", 1e-9, 1e9))


@dataclass(frozen=True)
class WithoutBands:
    """The pairs of dimensions of these frequencies add nothing to the score; 0 is the fastest."""

    bands: Any
    """Numbers of bands; held as an ascending tuple."""
    kind: Literal["without bands"] = field(default="without bands", init=False, repr=False)

    def __post_init__(self) -> None:
        _set(self, "bands", _bands(self.bands))


@dataclass(frozen=True)
class OnlyRotated:
    """The score of the rotated dimensions alone."""

    kind: Literal["only rotated"] = field(default="only rotated", init=False, repr=False)


@dataclass(frozen=True)
class OnlyUnrotated:
    """The score of the dimensions that are not rotated alone."""

    kind: Literal["only unrotated"] = field(default="only unrotated", init=False, repr=False)


Treatment = Shift | Freeze | Zero | Mean | Shuffle | Unrotated | Scale | WithoutBands | OnlyRotated | OnlyUnrotated

OF_ABSOLUTE = (Shift, Freeze, Zero, Mean, Shuffle)
OF_ROTARY = (Shift, Freeze, Unrotated, Scale, WithoutBands, OnlyRotated, OnlyUnrotated)


def shifted_by(treatment: Treatment) -> int:
    """How many learned positions a treatment leaves out at the beginning."""
    return treatment.by if isinstance(treatment, Shift) else 0


def no_position(treatment: Treatment, position: int, room: int) -> str:
    """Why there is no such position: `there is no position 4: of 64 learned positions, 4 are left where they are
    shifted by 60`.

    Args:
        room: the positions that are left.
    """
    learned = room + shifted_by(treatment)
    left = f"of {learned} learned positions, {room} are left where they are {in_words(treatment)}"
    return f"there is no position {position}: {left}"


def in_words(treatment: Treatment) -> str:
    """What is done to the positions, in a few words: `shifted by 8`."""
    match treatment:
        case Shift(by=by):
            return f"shifted by {by}"
        case Freeze(at=at):
            return f"every token at {at}"
        case Zero():
            return "embedding zero"
        case Mean():
            return "embedding the mean"
        case Shuffle(seed=seed, within=within):
            return f"{'' if within is None else f'the first {within} '}shuffled (seed {seed})"
        case Scale(by=by):
            return f"scaled by {by:g}"
        case Unrotated(bands=bands):
            return "not rotated" if bands is None else f"{_list(bands)} not rotated" if bands else "every band rotated"
        case WithoutBands(bands=bands):
            return f"without {_list(bands)}" if bands else "with every band"
        case OnlyRotated():
            return "rotated part only"
        case OnlyUnrotated():
            return "unrotated part only"


def _list(bands: tuple[int, ...]) -> str:
    return f"band{'s' if len(bands) > 1 else ''} {', '.join(map(str, bands))}"


def _set(treatment: Treatment, name: str, value: Any) -> None:
    object.__setattr__(treatment, name, value)


def _bands(bands: Any) -> tuple[int, ...]:
    """Band numbers, each once and ascending."""
    several = check_list(bands, "bands", "band numbers", example="(0, 1)")
    return tuple(sorted({check_whole(band, "band", 0, EXACT) for band in several}))
