"""The house itself: imports run one way, nothing happens at import, the README is true, the wheel holds neolens."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import wording_lines

ROOT = Path(__file__).resolve().parent.parent

# As in the design page: a module imports from its own line to the left, and from the lines above.
FLOORS = [
    ["checks", "wording", "files", "processes", "models", "sites", "metrics", "lab"],
    ["network", "replay", "prompts", "netcdf", "results", "whatif", "readout", "stats"],
    ["patching", "ablation", "scores", "position"],
    ["near_far", "figures", "views", "report"],
    ["studies", "checking", "cli", "dashboard", "__main__"],
]
ORDER = [module for floor in FLOORS for module in floor]


def imported(path):
    """The neolens modules that a file imports, and the line of each."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"neolens.{a.name}" for a in node.names] if node.module == "neolens" else [node.module]
        for name in names:
            if name.startswith("neolens."):
                yield name.split(".")[1], node.lineno


FILES = [
    path
    for path in sorted((ROOT / "neolens").rglob("*.py"))
    if path.name != "__init__.py" or path.parent.name != "neolens"
]


def test_imports_follow_the_data_and_never_run_back():
    wrong = []
    for path in FILES:
        home = path.relative_to(ROOT / "neolens").parts[0].removesuffix(".py")
        for module, line in imported(path):
            if ORDER.index(module) > ORDER.index(home):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module} from {home}")
    assert wrong == []


def test_no_module_is_over_300_lines_and_no_function_over_40():
    long = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        long += [f"{path.relative_to(ROOT)}: {count} lines"] if (count := len(text.splitlines())) > 300 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                count = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{path.relative_to(ROOT)}: {node.name} has {count} lines"] if count > 40 else []
    assert long == []


def test_the_code_that_words_results_is_at_most_700_lines():
    assert sum(wording_lines.count().values()) <= 700


def test_hook_names_are_spelled_in_sites_and_models_only():
    pattern = re.compile(r"""["'](blocks\.|hook_)""")
    spelled = [
        str(path.relative_to(ROOT))
        for path in FILES
        if pattern.search(path.read_text()) and "models" not in path.parts and path.name != "sites.py"
    ]
    assert spelled == []


def test_importing_neolens_does_no_work():
    code = "import sys, neolens; print([m for m in ('torch', 'transformers', 'plotly', 'xarray') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import neolens

    for name in neolens.__all__:
        assert callable(getattr(neolens, name))
    for name in dir(neolens):
        assert getattr(neolens, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        _ = neolens.atention


def test_the_readmes_example_prints_what_the_readme_says(tmp_path):
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    code = next(text for language, text in blocks if language == "python")
    expected = next(text for language, text in blocks if language == "")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert run.stdout == expected


def test_the_lock_pins_torch_and_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    assert "torch==2.13.0\n" in lock
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    missing = [name for name in wanted if re.split(r"[><=]", name.replace("_", "-"))[0] + "==" not in lock]
    assert missing == []


def test_the_wheel_holds_neolens_alone_with_the_lab_and_the_pages_files(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"neolens"}
    for needed in ("lab/weights/gpt-neo@0/model.safetensors", "lab/weights/nope@2/tokenizer.json", "report/page.css"):
        assert f"neolens/{needed}" in names
    scripts = {str(path.relative_to(ROOT)) for kind in ("js", "css") for path in (ROOT / "neolens").rglob(f"*.{kind}")}
    assert len(scripts) >= 7
    assert scripts <= set(names)
    assert sum(name.endswith("/model.safetensors") for name in names) == 18 + 36
    assert not any("unfinished" in name or name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_no_tracked_file_is_large_or_pickled():
    run = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if run.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in run.stdout.splitlines()]
    assert [file.name for file in files if file.suffix in {".pkl", ".pt", ".bin", ".pickle"}] == []
    assert [file.name for file in files if file.is_file() and file.stat().st_size > 2_000_000] == []
