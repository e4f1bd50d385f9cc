"""Experiments: one file per question, run from a clone as `python -m experiments.NAME`."""

import os
import signal
import sys
from types import FrameType


def _end_import(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted: no result was saved, run the command again\n")
    os._exit(128 + number)


if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Python imports this package before `experiments.NAME` with its seconds of imports; no work has begun.
    signal.signal(signal.SIGINT, _end_import)
