"""Progress bars are for terminals: none is written where standard error goes to a file."""

import ast
from pathlib import Path

import pytest

import neolens
from neolens.prompts import indirect_object

PACKAGE = Path(neolens.__file__).parent


def bars():
    """Every call of tqdm in the package, with the file that it is in."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tqdm":
                yield path.relative_to(PACKAGE), {word.arg: ast.unparse(word.value) for word in node.keywords}


def test_every_progress_bar_is_only_for_a_terminal():
    found = list(bars())
    assert len(found) > 8
    for path, words in found:
        assert words.get("disable") in ("None", "None if progress else True"), path


@pytest.mark.parametrize("progress", [True, False])
def test_a_measurement_writes_no_bar_into_a_file(progress, capfd):
    model = neolens.load("lab/gpt2")
    neolens.patch(model, indirect_object(model, 2, seed=0), "resid_pre", progress=progress)
    assert capfd.readouterr().err == ""
