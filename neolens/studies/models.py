"""The models of a study: their anatomies before any is loaded, their seeds, and how each network is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neolens import files
from neolens import models as loading
from neolens.models import Anatomy, anatomy, fetch, lab_names, lab_seeds
from neolens.models.devices import check_device
from neolens.models.sources import check_config_fields, resolve
from neolens.scores import narrowest_window

SMALL = 10_000_000
"""Parameters below which a second thread costs more than it brings."""


@dataclass(frozen=True)
class Models:
    """The models of a config, checked, with their weights on this machine and none of them loaded."""

    config: Any
    anatomies: tuple[Anatomy, ...]
    networks: dict[str, tuple[str, ...]]
    """Model -> the names of its networks, such as its seeds."""

    def load(self, model: str) -> Any:
        """The first network of a model."""
        return load(self.config, self.networks[model][0])

    @property
    def context(self) -> int:
        """The shortest context."""
        return min(facts.context for facts in self.anatomies)

    @property
    def small(self) -> bool:
        """Whether all are so small that each runs fastest in one thread."""
        return all(facts.parameters < SMALL for facts in self.anatomies)


def read_models(config: Any, seeds: Literal["all", "first"]) -> Models:
    """The models of a config, after a check that its folder can be written to; their weights are fetched by `fetched`.

    Args:
        seeds: what a lab name without a seed stands for: all seeds of the variant, or seed 0.

    Raises:
        ValueError: a folder that cannot be written to, a device that cannot be used here, no such model, one that is
            named twice, or two with one label.
    """
    files.writable_folder(config.out)
    if config.device is not None:
        check_device(config.device)
    found = tuple(anatomy(name, ignore_fields=config.ignore_fields or ()) for name in config.models)
    check_config_fields(config.models, config.ignore_fields or ())
    _check_distinct(config.models, [facts.name for facts in found])
    if seeds == "first":
        return Models(config, found, {facts.name: (name,) for facts, name in zip(found, config.models)})
    return Models(config, found, _all_seeds(found, config.models))


def fetched(config: Any) -> None:
    """All weights on this machine, before anything is measured."""
    for name in config.models:
        fetch(name, ignore_fields=config.ignore_fields or ())


def load(config: Any, name: str, revision: str | None = None) -> Any:
    """One network, with the device, the dtype and the ignored fields of a config."""
    chosen: dict[str, Any] = {"device": config.device, "dtype": config.dtype}
    return loading.load(name, revision=revision, ignore_fields=config.ignore_fields or (), **chosen)


def one_window(anatomies: Sequence[Anatomy]) -> int:
    """The window that local layers share, or the one to restrict global layers to where there is none.

    Raises:
        ValueError: windows that differ, so that "beyond the window" means several things.
    """
    window = narrowest_window(list(anatomies))
    for facts in anatomies:
        if facts.windows and facts.windows != (window,):
            raise ValueError(f"{facts.name} has a window of {facts.windows[-1]}, not of {window}: ask it by itself")
    return window


def seed_of(network: str) -> int:
    """The seed of a lab model, the number after the @ of its name; 0 where there is none, and of any other model."""
    number = network.partition("@")[2]
    return int(number) if network.startswith("lab/") and number.isdecimal() else 0


def network_names(model: str, networks: Sequence[str]) -> dict[str, str]:
    """Network -> its name in a record: that of the model, with the seed where there are several."""
    if len(networks) == 1:
        return {networks[0]: model}
    return {network: f"{model}@{seed_of(network)}" for network in networks}


def _all_seeds(anatomies: Sequence[Anatomy], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Model -> its networks: all seeds of a variant of the lab; any other model, also a single seed, is itself alone.

    Raises:
        ValueError: a seed of a variant that is given as a whole, which would count as two networks.
    """
    variants = lab_names()
    networks = {
        facts.name: tuple(lab_seeds(facts.name)) if facts.name in variants else (name,)
        for facts, name in zip(anatomies, names)
    }
    for name in networks:
        if twice := [other for other, several in networks.items() if other != name and name in several]:
            raise ValueError(f"{name} is one of the networks of {twice[0]}: give one of the two")
    return networks


def _check_distinct(models: Collection[str], labels: Sequence[str]) -> None:
    """Check that no model is named twice, in whatever spelling, and no two have one label."""
    models = list(models)
    identities = [resolve(name).identity for name in models]
    for at, name in enumerate(models):
        if (first := identities.index(identities[at])) < at:
            raise ValueError(
                f"models {models[first]} and {name} are the same model ({identities[at][0]}): give each only once"
            )
        if (first := labels.index(labels[at])) < at:
            raise ValueError(
                f"models {models[first]} and {name} have one label, {labels[at]}: give one of them another, such as "
                f"other={name}"
            )
