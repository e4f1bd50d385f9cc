"""What ends the report of every experiment: the models side by side, what else differs, how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence

from neolens.checks import check_choice, check_list, shown
from neolens.models import Anatomy
from neolens.models.describe import differences, differences_title, side_by_side
from neolens.report.blocks import Block, Code, Folded, Heading, Paragraph, Table


def appendix(anatomies: Sequence[Anatomy], command: str, *, question: str = "attention") -> list[Block]:
    """The anatomies as a table, their confounds in words, and the command that does the experiment again.

    Args:
        question: what is asked of the models, "attention" or "position"; in what else they differ is a confound.
    """
    several = check_list(anatomies, "anatomies", "anatomies", example="[neolens.anatomy('lab/gpt2')]")
    for one in several:
        if not isinstance(one, Anatomy):
            raise TypeError(f"anatomy {shown(one)}: expected that of a model, such as neolens.anatomy('lab/gpt2')")
    if not several:
        raise ValueError("anatomies []: expected that of at least one model, such as neolens.anatomy('lab/gpt2')")
    check_choice(question, "question", ("attention", "position"))
    return [
        Heading("What else differs between them"),
        Paragraph("\n\n".join([differences_title(several, question), *differences(several, question)])),
        Folded("The models side by side", [Table(*side_by_side(several))]),
        Heading("How to repeat this"),
        Code(command),
    ]
