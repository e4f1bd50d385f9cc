"""The notebooks: each runs from start to end in a fresh kernel without a network, and is kept without what it printed.

Their cells assert what their text says, so a notebook that runs is one whose claims hold.
"""

import json
import os
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import browser

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NAMES = ("quickstart", "local_vs_global", "rotary_vs_absolute", "patching")
STORY = ("Question", "Tokens", "Patterns", "Definition", "Ranking", "Intervention", "What was found")
LARGEST = 40_000
"""Bytes of a notebook."""
SECONDS = 300
"""Of a cell, at most."""

FIGURE = "application/vnd.plotly.v1+json"

# Python imports this before anything else: what is not the machine itself cannot be reached.
GUARD = """
import socket

def refuse_far(connect):
    def refusing(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"a notebook reached for the network: {address}")
        return connect(self, address)
    return refusing

socket.socket.connect = refuse_far(socket.socket.connect)
socket.socket.connect_ex = refuse_far(socket.socket.connect_ex)
"""


@cache
def notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """An empty folder to run in, with a kernel of the running Python, its own settings, and no network."""
    folder, kernel = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("kernel")
    (kernel / "sitecustomize.py").write_text(GUARD)
    spec = kernel / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernel))
        patch.setenv("PYTHONPATH", str(kernel), prepend=os.pathsep)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.setenv(name, "1")
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(kernel / name.lower()))
        patch.delenv("PLOTLY_RENDERER", raising=False)
        yield folder


def run(notebook, folder):
    """Execute the notebook in place, in a fresh kernel; a failure tells the cell's source and what it raised."""
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=SECONDS, resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        plain = re.sub(chr(27) + r"\[[0-9;]*m", "", str(error))
        pytest.fail(f"the notebook stops at a cell:\n{plain}", pytrace=False)
    return notebook


@pytest.fixture(scope="module")
def executed(away):
    """Name -> the notebook after it ran, run once."""
    return cache(lambda name: run(nbformat.from_dict(notebook(name)), away))


def outputs_of(ran):
    """(kind, what it holds) of every output that is drawn."""
    for cell in ran.cells:
        for output in cell.get("outputs", []):
            yield from output.get("data", {}).items()


def test_there_are_the_notebooks_that_the_documentation_lists():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    assert re.findall(r"`(\w+)\.ipynb`", (FOLDER.parent / "docs" / "notebooks.md").read_text()) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_valid_small_and_without_outputs(name):
    kept = notebook(name)
    nbformat.validate(kept)
    assert (kept.nbformat, kept.nbformat_minor) == (4, 5)
    assert set(kept.metadata) == {"kernelspec", "language_info"}
    assert kept.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert kept.metadata.language_info == {"name": "python"}
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in kept.cells if cell.metadata] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_cells_of_a_notebook_have_names_of_their_own(name):
    names = [cell.id for cell in notebook(name).cells]
    assert [one for one in names if not re.fullmatch(r"[a-z]+(-[a-z]+)*", one)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_tells_its_story_in_the_order_of_the_others(name):
    told = "\n".join(cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.*)$", told, flags=re.MULTILINE)
    assert [heading for heading in headings if heading in STORY] == list(STORY)
    assert len(re.findall(r"^# ", told, flags=re.MULTILINE)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_start_to_end_in_a_fresh_kernel_without_a_network(name, executed):
    ran = [cell for cell in executed(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    assert any("assert" in cell.source for cell in ran)


def test_a_cell_that_reaches_for_the_network_fails_and_is_told_with_its_error(away):
    reaching = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(reaching)])
    with pytest.raises(pytest.fail.Exception) as failed:
        run(broken, away)
    assert reaching in str(failed.value)
    assert "PermissionError: a notebook reached for the network: ('192.0.2.1', 80)" in str(failed.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_leaves_nothing_behind(name, executed, away):
    executed(name)
    assert list(away.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_a_notebook_are_data_that_the_notebook_draws_by_itself(name, executed):
    drawn = [held for kind, held in outputs_of(executed(name)) if kind == FIGURE]
    assert drawn
    assert all(figure["layout"]["title"]["text"] for figure in drawn)


DRAWN = """() => [...document.querySelectorAll(".neolens-view > div[id]")]
  .map(({ clientHeight, textContent }) => ({ height: clientHeight, text: textContent }))"""


@browser.needed
@pytest.mark.parametrize("name", NAMES)
def test_a_browser_draws_the_views_of_a_notebook_and_is_asked_for_nothing(name, executed, tmp_path):
    html = [held for kind, held in outputs_of(executed(name)) if kind == "text/html"]
    views = [one for one in html if "neolens-view" in one]
    page = "<!doctype html><meta charset=utf-8>" + "\n".join(html)
    seen = browser.opened(page, tmp_path, lambda tab: tab.evaluate(DRAWN))
    assert len(seen.answer) == len(views) > 0
    assert [drawn for drawn in seen.answer if drawn["height"] < 40 or "could not be drawn" in drawn["text"]] == []
    assert [line for line in seen.console if "not caught" in line or "forbidden" in line] == []
    assert seen.requests == []
