"""How many lines of neolens word results: `python tests/wording_lines.py` prints them by module.

Counted is, in the modules that see results (studies, statistics, what both share), every function that returns text,
findings, warnings or verdicts and holds prose, that is two words in a row: whole functions, with signature and
docstring. Not counted are docstrings, the messages of exceptions and arguments of checks as prose, figures, and fixed
captions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = ("studies", "stats", "wording.py", "near_far.py", "report/appendix.py")
PROSE = re.compile(r"[a-z]{2,}[,.:;]? [a-z(]{2,}")
RETURNS = re.compile(r"\bstr\b|Finding|StudyWarning|Verdict|Arrival")


def prose_lines(tree: ast.Module) -> int:
    """Lines of the functions that word results."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _returns_text(node)]
    return sum(_length(one) for one in functions if any(map(PROSE.search, _texts(one))))


def _returns_text(function: ast.FunctionDef) -> bool:
    return function.returns is not None and bool(RETURNS.search(ast.unparse(function.returns)))


def count() -> dict[str, int]:
    """Module -> its lines that word results."""
    paths = [path for home in HOMES for path in ((ROOT / "neolens" / home).rglob("*.py")
             if not home.endswith(".py") else [ROOT / "neolens" / home])]  # fmt: skip
    return {
        str(path.relative_to(ROOT)): lines
        for path in sorted(paths)
        if (lines := prose_lines(ast.parse(path.read_text(encoding="utf-8"))))
    }


def _texts(node: ast.AST) -> Iterator[str]:
    """The text in a statement, without what is for those who call it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) or _is_docstring(child) or _is_check(child):
            continue
        if isinstance(child, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        yield from _texts(child)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_check(node: ast.AST) -> bool:
    called = getattr(node, "func", None)
    name = getattr(called, "id", getattr(called, "attr", ""))
    return name.startswith(("check_", "setting", "ValueError", "TypeError"))


def _length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    found = count()
    for module, lines in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{lines:5} {module}")
    print(f"{sum(found.values()):5} in all")
