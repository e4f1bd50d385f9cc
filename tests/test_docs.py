"""What the documentation says is run, and what it prints is compared.

The rule: there are three kinds of block. *python*: those of a page are joined, run in one process, and what they print
is what stands after the word "prints". *sh*: each line is parsed by the command line that it calls, so an option, an
experiment, a make target or a model that there is not fails; `neolens models`, `neolens describe` and `neolens check`
of a lab model are run as well, and so is every block that says what it prints. A line that needs the hub, a download or
minutes is only parsed. Blocks without a language are what a block before them prints. Any other block, or program,
fails.

Pages of experiments quote what their first command prints. That takes minutes, so it is run by `pytest -m slow` alone.
"""

import ast
import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from packaging.requirements import Requirement

import neolens
from forked import run_script
from neolens.lab.evaluation.spread import rows, shipped
from neolens.models.catalogue import find
from neolens.studies import NAMES, command, find_study

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXPERIMENTS = sorted((DOCS / "experiments").glob("*.md"))
PAGES = [*sorted(DOCS.glob("*.md")), *(page for page in EXPERIMENTS if "```python" in page.read_text())]
ALL = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PRINTS = "prints\n\n"

SHELL = [
    (page, match)
    for page in ALL
    for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    if match.group(1) == "sh"
]


def name_of(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def ran(command, folder):
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def tidy(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def lines_of(block):
    """The commands of a block, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def printed_after(page, match):
    """What the page says that a block prints; None where it says nothing."""
    rest = page.read_text(encoding="utf-8")[match.end() :].lstrip()
    following = FENCE.match(rest.removeprefix(PRINTS)) if rest.startswith(PRINTS) else None
    return following.group(2) if following else None


# Python --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_of_a_documentation_page_runs_and_prints_what_the_page_says(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    shell = [printed_after(page, match) for its, match in SHELL if its == page]
    printed = re.findall(r"prints\n\n```\n(.*?)```", page.read_text(), flags=re.DOTALL)
    run = run_script("\n".join(blocks), tmp_path)
    assert blocks
    assert run.returncode == 0, run.stderr
    assert tidy(run.stdout) == "".join(text for text in printed if text not in shell)


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_every_block_of_a_page_is_one_that_a_test_runs(page):
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        language = match.group(1)
        assert language in ("python", "sh", ""), f"{page.name} has a block of {language}: use python or sh"
        if language == "":
            assert text[: match.start()].endswith(PRINTS), f"{page.name}: what prints this?\n{match.group(2)}"
        if language == "python":
            assert page in PAGES or page.name == "README.md", f"{page.name}: python of this page is not run"
    indented = re.findall(r"^(?![-*\d>|]).*\n\n {4}\S.*", FENCE.sub("", text), flags=re.MULTILINE)
    assert [lines for lines in indented if "::: " not in lines] == [], f"{page.name}: fence code, so that it is tested"


# Shell ---------------------------------------------------------------------------------------------


def parsed(command, words):
    """The parameters of the subcommand that the words call, as the command line itself reads them."""
    context = command.make_context(command.name or "command", list(words))
    if not hasattr(command, "resolve_command"):
        return context.params
    with context:
        _, called, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return parsed(called, rest)


def command_of(chosen):
    return typer.main.get_command(command.app(chosen))


def check_python(words):
    if words[0] == "-c":
        return {"names": fetched_by(words[1])}
    assert words[0] == "-m", f"python {words}: expected -m or -c"
    if words[1:3] == ["pip", "install"]:
        return check_pip([Requirement(word) for word in words[3:]])
    package, _, name = words[1].partition(".")
    assert package in ("experiments", "benchmarks"), f"no module {words[1]} is for the command line"
    module = import_module(words[1])
    if package == "benchmarks":
        return {}
    return parsed(command_of(getattr(module, "STUDY", None) or find_study(name)), words[2:])


def check_pip(wanted):
    """Names and versions as pip takes them; extras of our own are those that there are."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package in wanted:
        assert package.name != "neolens" or package.extras <= set(extras), f"{package}: there are {list(extras)}"
    return {}


def check_apt(words):
    assert words[0] == "install", f"apt-get {words}: expected install"
    assert set(words[1:]) <= {"chromium"}, f"apt-get {words}: .ci/run installs chromium and no more"
    return {}


def fetched_by(code):
    """The models that `neolens.models.fetch("...")` names; nothing else stands in such a line."""
    *imports, last = ast.parse(code).body
    assert all(isinstance(line, ast.Import) for line in imports)
    assert ast.unparse(last.value.func) == "neolens.models.fetch"
    return [ast.literal_eval(argument) for argument in last.value.args]


def check_make(words):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(words) <= set(targets), f"make {words}: there are {targets}"
    return {}


def check_neolens(words):
    from neolens.cli import app

    if words[0] == "run" and words[1:]:
        return parsed(command_of(find_study(words[1])), words[2:])
    return parsed(typer.main.get_command(app), words)


def check_hf(words):
    from huggingface_hub.cli.hf import app

    repository = parsed(app, words)["repo_id"]
    assert find(repository), f"{repository} is no repository of the catalogue"
    return {}


PROGRAMS = {
    "python": check_python,
    "make": check_make,
    "neolens": check_neolens,
    "hf": check_hf,
    "apt-get": check_apt,
}


def accept(words):
    """Parse a command; what it names are models, and hub ids are those of the catalogue.

    Raises:
        Exception: of the command line that refuses it, or an AssertionError.
    """
    words = [word for at, word in enumerate(words) if not (re.fullmatch(r"[A-Z_]+=\S*", word) and at == 0)]
    program = words[0].removeprefix(".venv/bin/")
    assert program in PROGRAMS, f"{program} is no program whose command line is known here"
    found = PROGRAMS[program](words[1:])
    for name in [found.get("name"), *(found.get("names") or []), *(found.get("models") or [])]:
        assert name is None or neolens.anatomy(name)


@pytest.mark.parametrize(("page", "match"), SHELL, ids=name_of)
def test_the_commands_of_a_page_are_what_their_command_lines_take(page, match):
    for words in lines_of(match.group(2)):
        accept(words)


@pytest.mark.parametrize(
    "line",
    [
        "neolens describe gpt3",
        "neolens describe gpt2 --quesion position",
        "neolens run nothing",
        "neolens run ioi --corrupted swap",
        "python -m experiments.nothing",
        "python -m experiments.ioi --corrupted swap",
        "python -m experiments.ioi --models gtp2",
        "make docks",
        "hf download EleutherAI/gpt-neo-125M-typo",
        "curl -O model.safetensors",
        "python -m pip install neolens[pictures]",
    ],
)
def test_a_command_that_is_wrong_is_found_out(line):
    with pytest.raises(Exception, match=r"gpt3|quesion|nothing|corrupted|gtp2|docks|typo|curl|pictures"):
        accept(shlex.split(line))


def quick(words):
    program, *rest = words
    if program.removeprefix(".venv/bin/") != "neolens":
        return False
    return rest[0] in ("models", "describe") or (rest[0] == "check" and rest[1].startswith("lab/"))


@pytest.mark.parametrize(("page", "match"), SHELL, ids=name_of)
def test_the_quick_commands_of_a_page_run_and_print_what_the_page_says(page, match, tmp_path):
    expected, printed = printed_after(page, match), ""
    for words in lines_of(match.group(2)):
        if expected is None and not quick(words):
            continue
        assert quick(words), f"{page.name} says what {shlex.join(words)} prints, which takes too long to run"
        run = run_script("from neolens.cli import main; main()", tmp_path, *words[1:])
        assert run.returncode == 0, run.stderr
        printed += tidy(run.stdout)
    assert expected is None or printed == expected


# Experiments ---------------------------------------------------------------------------------------


def hook(name):
    """A module of docs/hooks, loaded as MkDocs does: its neighbours can be imported while it is."""
    spec = importlib.util.spec_from_file_location(f"hook_{name}", DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with patch.object(sys, "path", [str(DOCS / "hooks"), *sys.path]):
        spec.loader.exec_module(module)
    return module


def test_every_study_has_a_page_and_a_file_that_runs_it():
    assert {page.stem for page in EXPERIMENTS} == set(NAMES)
    for name in NAMES:
        text = (ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8")
        assert f'main(find_study("{name}"))' in text
        assert text.startswith(f'"""{find_study(name).question}')


@pytest.mark.parametrize("page", EXPERIMENTS, ids=lambda page: page.stem)
def test_a_page_of_a_study_has_its_question_and_its_options(page):
    text = page.read_text(encoding="utf-8")
    assert f"<!-- asked by: {page.stem} -->" in text or "## What is asked\n\n" in text
    assert f"<!-- options of: {page.stem} -->" in text
    assert f"python -m experiments.{page.stem}\n" in text
    assert find_study(page.stem).question in " ".join(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_options_on_a_page_are_the_fields_of_the_config_with_their_defaults(name):
    config = find_study(name).config
    table = hook("experiments").options(find_study(name))
    cells = re.findall(r"^\| `--([\w-]+)` \| .*? \| (.*?) \|$", table, re.MULTILINE)
    rows = {option.replace("-", "_"): default for option, default in cells}
    settings = {field.name: field.default for field in dataclasses.fields(config)}
    assert set(rows) == {*settings, "resume", "from"}
    for setting, default in settings.items():
        if isinstance(default, int | str):
            assert rows[setting] == f"`{default}`"
    assert rows["models"] == f"`{' '.join(settings['models'])}`"


def test_what_a_page_asks_is_the_docstring_of_the_study_after_its_question():
    asked = hook("experiments").asked(find_study("rotary_vs_absolute"))
    assert asked.startswith("A rotation turns queries and keys")
    assert "The lab variants `lab/gpt2` and `lab/pythia-sequential` differ" in asked


@pytest.mark.slow
@pytest.mark.parametrize("page", EXPERIMENTS, ids=lambda page: page.stem)
def test_what_a_page_of_an_experiment_quotes_is_what_the_experiment_prints(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    quoted = re.findall(r"^> ?(.*)$", text, flags=re.MULTILINE)
    quotes = [" ".join(part.split()) for part in "\n".join(quoted).split("\n\n")]
    shown = re.search(r"## What the report shows\n(.*?)\n## ", text, flags=re.DOTALL)

    run = ran([sys.executable, "-m", f"experiments.{page.stem}", "--out", str(tmp_path)], tmp_path)

    assert run.returncode == 0, run.stderr
    printed = " ".join(run.stdout.split())
    assert quotes
    assert [quote for quote in quotes if quote not in printed] == []
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert set(re.findall(r"\*\*(.*?)\*\*", shown.group(1))) <= set(headings)


def test_what_the_lab_can_do_is_what_its_shipped_cards_say():
    table = (DOCS / "lab.md").read_text(encoding="utf-8").split("| arm | task |")[1].split("\n\n")[0]
    shown = re.findall(r"^\| `(lab/[\w-]+)` \| (.*?) \|$", table, flags=re.MULTILINE)
    assert shown == [(name, " | ".join(cells)) for name, *cells in rows(shipped())]


# Reference -----------------------------------------------------------------------------------------

INTERNAL = {"replay", "sites"}
"""Modules that the instruments depend on, and users do not call."""


def test_every_name_of_the_package_is_linked_from_the_reference():
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"\[`(\w+)`\]\[([\w.]+)\]", index)
    assert sorted(name for name, _ in linked) == sorted(neolens.__all__)
    for name, target in linked:
        assert target.split(".")[-1] == name


def test_every_public_module_has_a_page_of_the_reference():
    pages = {page.stem for page in (DOCS / "api").glob("*.md")} - {"index"}
    assert pages == (set(neolens._MODULES) | {"checking"}) - INTERNAL
