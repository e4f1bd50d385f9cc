"""One model's patching results for every site, and what follows from them: shares, and the published heads compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

from neolens import results
from neolens.checks import check_choice, check_type
from neolens.checks.annotations import check_annotated, checked
from neolens.checks.labels import check_axes
from neolens.models import Anatomy
from neolens.patching.effects import effects
from neolens.results import check_results
from neolens.studies.ioi.published import Compared, Role, compared, published

SITES = ("resid_pre", "z", "q", "k", "v")
"""What is patched to find a circuit, each at every named position."""

SOLVED = 0.9
"""The share of clean prompts with the answer above the distractor from which on a model counts as doing the task."""


@dataclass(frozen=True)
class Circuit:
    """What patching found in one model."""

    result: xr.Dataset
    """`joined` for all `SITES`, at named positions."""
    shares: Mapping[str, xr.Dataset]
    """Site -> `effects`."""
    roles: tuple[Role, ...] = ()
    """The published roles of this model's heads."""
    compared: tuple[Compared, ...] = ()

    def __post_init__(self) -> None:
        check_annotated(self)
        source = "ioi_summary.joined, as neolens.studies.ioi.summary passes it on"
        results.check_result(self.result, "result of Circuit", ["clean", "corrupted"], ["prompt"], source)
        if missing := [site for site in SITES if site not in self.shares]:
            raise ValueError(f"shares of Circuit without {missing[0]}: expected those of {', '.join(SITES)}")
        for site, one in self.shares.items():
            results.check_result(one, f"shares[{site!r}]", ["share"], ["layer", "pos"], "neolens.patching.effects")


def joined(by_site: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Results of `neolens.patch` for several sites as one: `patched_z`, `patched_q`, ..., `clean` and `corrupted`."""
    check_results(by_site, "by_site", ["patched", "clean", "corrupted"], ["prompt"], "neolens.patch")
    first = next(iter(by_site.values()))
    patched = {f"patched_{site}": one["patched"] for site, one in by_site.items()}
    seconds = round(sum(one.attrs.get("seconds", 0.0) for one in by_site.values()), 3)
    result = first.drop_vars("patched").assign(patched)
    result.attrs = {name: value for name, value in first.attrs.items() if name not in ("site", "arithmetic")}
    return results.check(result.assign_attrs(seconds=seconds))


def of_site(result: xr.Dataset, site: str) -> xr.Dataset:
    """One site of a joined result, as `neolens.patch` gave it."""
    variables = [f"patched_{check_choice(site, 'site', SITES)}", "clean", "corrupted"]
    results.check_result(result, "result", variables, ["prompt"], "ioi_summary.joined")
    one = result[[f"patched_{site}", "clean", "corrupted"]].rename({f"patched_{site}": "patched"})
    return one.assign_attrs(site=site)


def changed_position(result: xr.Dataset) -> str:
    """The named position at which the prompts of a pair begin to differ: `s2`, or `changed` in pairs of a user's
    own."""
    return "changed" if "changed" in result["pos"].values else "s2"


def circuit(result: xr.Dataset, facts: Anatomy) -> Circuit:
    """The shares of a joined result and, for the model and the task that they were published of, the published heads
    compared."""
    check_type(facts, "facts", Anatomy, "the anatomy of a model, such as neolens.anatomy('lab/gpt2')")
    for name in ("clean", "corrupted", *(f"patched_{site}" for site in SITES)):
        if name in getattr(result, "data_vars", ()):
            axes = "prompt layer head? pos" if name.startswith("patched") else "prompt"
            check_axes(result[name], "result", axes, "ioi_summary.joined")
    shares = {site: effects(of_site(result, site)) for site in SITES}
    roles = published(facts) if changed_position(result) == "s2" else ()
    return Circuit(result, shares, roles, tuple(compared(shares, roles)))


@checked
def solves(found: Circuit) -> bool:
    """Whether a model does the task: the answer above the distractor in `SOLVED` of the clean prompts, and preferred in
    them more than in the corrupted ones."""
    clean, corrupted = means(found.result)
    return accuracy(found.result) >= SOLVED and clean > corrupted


def accuracy(result: xr.Dataset) -> float:
    """The share of clean prompts with the answer above the distractor."""
    return float((result["clean"] > 0).mean())


def means(result: xr.Dataset) -> tuple[float, float]:
    """The clean and the corrupted mean logit difference."""
    return float(result["clean"].mean()), float(result["corrupted"].mean())
