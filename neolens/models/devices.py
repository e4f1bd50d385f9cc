"""The device that a model is put on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neolens.checks import shown
from neolens.models.supported import first_line

if TYPE_CHECKING:
    import torch


def check_device(device: torch.device | str | None) -> torch.device:
    """The device, by default the GPU if there is one, else the CPU.

    Raises:
        TypeError, ValueError: something else, or one that cannot be used here.
    """
    import torch

    if device is not None and (isinstance(device, bool) or not isinstance(device, (str, int, torch.device))):
        raise TypeError(f"device {shown(device)}: expected a name such as cpu or cuda, or a torch.device")
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, OverflowError) as error:
        raise ValueError(
            f"device {shown(str(device))} cannot be used here ({first_line(error)}): give cpu, or a GPU that torch sees"
        ) from error
    if chosen.type == "meta":
        raise ValueError(f"device {str(device)!r} cannot be used here (it holds no numbers): give cpu, or a GPU")
    return chosen
