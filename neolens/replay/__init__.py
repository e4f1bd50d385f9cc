"""The replay engine: the suffix of a recorded run, run again for many patches at once.

`record` keeps what a run computed; `joins` turns patches into rows that enter somewhere; `suffix` takes all rows
through a block; `reach` says which positions matter; `run` goes up the layers once, within a budget of memory.
`branches` are runs in which every position changes, as in an ablation.
"""

from neolens.replay.branches import Branches, Change, Heads, Trunk, recorded_sites
from neolens.replay.joins import HEAD_SITES, READ, SITES, Cells
from neolens.replay.reach import Reach, reach
from neolens.replay.record import Record, final, record
from neolens.replay.rows import Rows
from neolens.replay.run import ITEMS, replay
from neolens.replay.suffix import NEEDED, Suffix

__all__ = [
    "HEAD_SITES",
    "ITEMS",
    "NEEDED",
    "READ",
    "SITES",
    "Branches",
    "Cells",
    "Change",
    "Heads",
    "Reach",
    "Record",
    "Rows",
    "Suffix",
    "Trunk",
    "final",
    "reach",
    "record",
    "recorded_sites",
    "replay",
]
