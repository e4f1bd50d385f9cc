"""What ends the report of every experiment: the models side by side, what else differs, how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence

from neolens.models import Anatomy
from neolens.models.describe import differences, differences_title, side_by_side
from neolens.report.blocks import Block, Code, Heading, Paragraph, Table


def appendix(anatomies: Sequence[Anatomy], command: str, *, question: str = "attention") -> list[Block]:
    """The anatomies as a table, their confounds in words, and the command that does the experiment again.

    Args:
        question: what is asked of the models, "attention" or "position"; in what else they differ is a confound.
    """
    return [
        Heading("The models side by side"),
        Table(*side_by_side(anatomies)),
        Heading("What else differs between them"),
        Paragraph("\n\n".join([differences_title(anatomies, question), *differences(anatomies, question)])),
        Heading("How to repeat this"),
        Code(command),
    ]
