"""One variant under every instrument: the results of its networks, and what the questions read out of them.

Everything in the report comes from these results, so it can be drawn again without a model. A model that a measure does
not apply to, such as one whose tokenizer splits the names of the indirect object, lacks that part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import xarray as xr

from neolens import results
from neolens.checks import check_whole
from neolens.checks.annotations import check_annotated
from neolens.models import Anatomy, from_record
from neolens.near_far import NearFar, of_anatomies
from neolens.results import check_result
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.ioi.summary import Circuit, circuit
from neolens.studies.rotary_vs_absolute.measure import over_seeds
from neolens.studies.rotary_vs_absolute.summary import Encoding
from neolens.studies.window_reach import summary as reach_summary
from neolens.studies.window_reach.summary import Carriers

PARTS = (
    "attention", "patterns", "ablation_text", "ablation_repeats", "ablation_cut", "positions", "reach", "circuit",
)  # fmt: skip
"""What is measured of a network: scores on text and repeated sequences (the study `local_vs_global`), whole patterns of
a few heads, ablation by kind on text, on repeats, and of attention beyond the window only (`need_summary`), the
probes of positions (`probe`), what crosses the window (`at_distances`), and patching of the indirect
object (`joined`)."""

OPTIONAL = ("reach", "circuit")
"""Parts that do not apply to every model."""

TASK = "induction"
"""What is planted far back: of all tasks the one that needs copying alone."""


@dataclass(frozen=True)
class Found:
    """Everything that was measured of one variant.

    Raises:
        ValueError: a network without a part that all have, or seeds that were measured on different texts.
    """

    networks: Mapping[int, Mapping[str, xr.Dataset]]
    """Seed -> part -> result."""
    report: tuple[Anatomy, ...] = ()
    """The models of the report, whose windows may be those that were asked about; by default this one alone."""

    def __post_init__(self) -> None:
        check_annotated(self)
        if not self.networks:
            raise ValueError("networks {}: expected the results of at least one network, by seed")
        for seed, parts in self.networks.items():
            if missing := [part for part in PARTS if part not in parts and part not in OPTIONAL]:
                raise ValueError(f"the results of seed {seed} lack {', '.join(missing)}: measure that network again")
            attention = check_result(parts["attention"], f"attention of seed {seed}", ["attention_kind"], ["layer"])
            check_whole(attention.attrs.get("asked_window"), f"attribute asked_window of seed {seed}", 1)
            if "anatomy" not in attention.attrs:
                raise ValueError(f"the results of seed {seed} lack the attribute anatomy: measure that network again")
        for origin, what in (("prompts", "prompts"), ("text", "texts")):
            if len({str(parts["attention"].attrs.get(origin)) for parts in self.networks.values()}) > 1:
                raise ValueError(
                    f"seeds {', '.join(map(str, self.seeds))} of {self.name} were measured on different {what}: "
                    "measure them again with --resume"
                )

    @property
    def window(self) -> int:
        """The window that was asked about."""
        return int(self.first["attention"].attrs["asked_window"])

    @property
    def near_far(self) -> NearFar:
        """What that distance is called in sentences about this model."""
        return of_anatomies(self.window, self.report or [self.anatomy], self.name)

    @cached_property
    def anatomy(self) -> Anatomy:
        return from_record(self.first["attention"].attrs["anatomy"])

    @property
    def name(self) -> str:
        return self.anatomy.name

    @property
    def seeds(self) -> list[int]:
        return list(self.networks)

    @property
    def first(self) -> Mapping[str, xr.Dataset]:
        """The parts of the first network: figures of single heads are drawn of it."""
        return next(iter(self.networks.values()))

    @cached_property
    def encoding(self) -> Encoding:
        """The probes of positions, over seeds."""
        return Encoding(self.anatomy, over_seeds(self._each("positions"), self.seeds))

    @cached_property
    def carriers(self) -> Carriers | None:
        """What carries an answer beyond the window; None where the model could not be asked."""
        if "reach" not in self.first:
            return None
        return reach_summary.carriers(self.name, {TASK: results.concat(self._each("reach"), "seed")}, self.near_far)

    @cached_property
    def needs(self) -> tuple[need_summary.Needs, ...]:
        """What each network needs its kinds of layers for."""
        found = (
            need_summary.needs(
                self.anatomy,
                its["ablation_text"],
                its["ablation_repeats"].assign_attrs(candidates_of(its)),
                its["ablation_cut"],
                self.window,
            )
            for its in self.networks.values()
        )
        return tuple(replace(one, split=self.near_far) for one in found)

    @cached_property
    def circuits(self) -> tuple[Circuit, ...]:
        """The indirect object in each network; empty where the model could not be asked."""
        if "circuit" not in self.first:
            return ()
        return tuple(circuit(one, from_record(one.attrs["anatomy"])) for one in self._each("circuit"))

    def fingerprints(self) -> dict[str, str]:
        """Network -> the fingerprint of its weights."""
        many = len(self.networks) > 1
        return {
            f"{self.name}@{seed}" if many else self.name: str(parts["attention"].attrs["fingerprint"])
            for seed, parts in self.networks.items()
        }

    def _each(self, part: str) -> Sequence[xr.Dataset]:
        return [parts[part] for parts in self.networks.values()]


def candidates_of(parts: Mapping[str, xr.Dataset]) -> dict[str, int]:
    """The attribute `candidates`, how many tokens the random sequences of a network are drawn from; nothing where the
    results are of an earlier version, which does not say."""
    attrs = parts["positions"].attrs
    return {"candidates": int(attrs["candidates"])} if "candidates" in attrs else {}
