"""The published circuit: the heads of GPT-2 small that find the indirect object, and where ours rank them.

Wang et al. 2022, "Interpretability in the Wild", arXiv 2211.00593. Their roles come from path patching, which moves
one direct path and holds the other heads; a patch here moves all that follows from it. So each role is looked for by
the patch that its description makes one expect: name movers by the query that makes them look at the indirect object,
S-inhibition heads by the values that they read at `s2`, duplicate-token and induction heads by what they write there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from neolens.checks.annotations import check_annotated, checked
from neolens.models import Anatomy
from neolens.patching.effects import ranked
from neolens.results import check_result

PUBLISHED = {"accuracy": 0.993, "logit_difference": 3.56}
"""Of GPT-2 small: how often the indirect object is above the subject, and the mean logit difference."""


@dataclass(frozen=True)
class Role:
    """What some heads do, which they are, and by which patches they should show."""

    name: str
    heads: tuple[str, ...]
    shows: tuple[tuple[str, str], ...] = ()
    """Site and named position; none for heads that act before the two prompts differ, or only when others are gone."""
    sign: int = 1
    """-1 where they speak against the answer."""

    def __post_init__(self) -> None:
        check_annotated(self)


ROLES = (
    Role("name mover", ("9.9", "10.0", "9.6"), (("q", "end"), ("z", "end"))),
    Role("negative name mover", ("10.7", "11.10"), (("q", "end"), ("z", "end")), sign=-1),
    Role("S-inhibition", ("7.3", "7.9", "8.6", "8.10"), (("v", "s2"), ("z", "end"))),
    Role("induction", ("5.5", "5.8", "5.9", "6.9"), (("z", "s2"),)),
    Role("duplicate token", ("0.1", "0.10", "3.0"), (("z", "s2"),)),
    Role("previous token", ("2.2", "4.11")),
    Role("backup name mover", ("10.10", "10.6", "10.2", "10.1", "11.2", "9.7", "9.0", "11.9")),
)


@dataclass(frozen=True)
class Compared:
    """The published heads of one role, ranked by one patch among all heads of the model."""

    role: str
    site: str
    position: str
    ranks: Mapping[str, int]
    """Head -> its rank from 1, in the direction of the role's sign."""
    first: int
    """How many published heads, whatever their role, should show by this patch in this direction."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def found(self) -> int:
        """How many are among the `first`."""
        return sum(rank <= self.first for rank in self.ranks.values())


@checked
def published(facts: Anatomy) -> tuple[Role, ...]:
    """The published roles of a model's heads: those of `gpt2`; for any other model none."""
    in_catalogue = facts.data is not None  # a folder of other weights may be called gpt2
    return ROLES if in_catalogue and (facts.name, facts.layers, facts.heads) == ("gpt2", 12, 12) else ()


@checked
def role_of(head: str, roles: Sequence[Role]) -> str:
    """The published role of a head, empty if it has none."""
    return next((role.name for role in roles if head in role.heads), "")


@checked
def compared(by_site: Mapping[str, xr.Dataset], roles: Sequence[Role]) -> list[Compared]:
    """Where the heads of each role stand, by each patch that should show them."""
    sites = [site for role in roles for site, _ in role.shows]
    if missing := [site for site in sites if site not in by_site]:
        raise ValueError(f"by_site without {missing[0]}: expected the sites {', '.join(dict.fromkeys(sites))}")
    for site, one in by_site.items():
        check_result(one, f"by_site[{site!r}]", ["share"], ["layer", "pos"], "neolens.patching.effects")
    rows = []
    for role in roles:
        for site, position in role.shows:
            order = ranked(by_site[site]["share"].sel(pos=position), role.sign)
            ranks = {head: order.index(head) + 1 for head in role.heads if head in order}
            alike = [other for other in roles if (site, position) in other.shows and other.sign == role.sign]
            rows.append(Compared(role.name, site, position, ranks, sum(len(other.heads) for other in alike)))
    return rows
