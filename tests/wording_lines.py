"""How many lines of neolens word results: `python tests/wording_lines.py` prints them by module.

Prose is text with two words in a row, without docstrings, the messages of exceptions, and arguments of checks. Counted
are, in the modules that see results (studies, statistics, what both share): of every function that returns text, all
lines if it or a constant that it uses holds prose; of functions that return findings, warnings or verdicts, which are
data, the lines with prose; and the constants with prose that either use. Tables, figures and fixed captions are not
counted, nor are the modules that read and write files and settings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = ("studies", "stats", "wording.py", "near_far.py", "report/appendix.py")
FILES = ("command", "digest", "record", "runner", "settings", "store")
PROSE = re.compile(r"[a-z]{2,}[,.:;]? [a-z(]{2,}")
TEXT, DATA = re.compile(r"\bstr\b"), re.compile(r"Finding|StudyWarning|Verdict|Arrival")


def prose_lines(tree: ast.Module) -> int:
    """Lines of the functions that word results, and of the constants that they use."""
    constants = {
        name.id: node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and next(_prose(node), None)
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = 0
    words: set[str] = set()
    for one in functions:
        used = {name.id for name in ast.walk(one) if isinstance(name, ast.Name)} & set(constants)
        kind = _returned(one)
        prose = {line for node in _prose(one) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        if kind and (used or prose):
            lines += _length(one) if kind == "text" else len(prose)
            words |= used
    return lines + sum(_length(node) for node in {id(constants[name]): constants[name] for name in words}.values())


def _returned(function: ast.FunctionDef) -> str:
    """`text`, `data`, or nothing for a function that words no results."""
    returns = "" if function.returns is None else ast.unparse(function.returns)
    if DATA.search(returns):
        return "data"
    table = "Row" in returns or returns.startswith("tuple[list[str]")
    return "text" if TEXT.search(returns) and not table else ""


def count() -> dict[str, int]:
    """Module -> its lines that word results."""
    paths = [path for home in HOMES for path in ((ROOT / "neolens" / home).rglob("*.py")
             if not home.endswith(".py") else [ROOT / "neolens" / home])]  # fmt: skip
    return {
        str(path.relative_to(ROOT)): lines
        for path in sorted(paths)
        if path.stem not in FILES and (lines := prose_lines(ast.parse(path.read_text(encoding="utf-8"))))
    }


def _prose(node: ast.AST) -> Iterator[ast.expr]:
    """The prose in a statement."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) or _is_docstring(child) or _is_check(child):
            continue
        if isinstance(child, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in child.values)
        else:
            text = child.value if isinstance(child, ast.Constant) and isinstance(child.value, str) else ""
        if isinstance(child, ast.expr) and PROSE.search(text):
            yield child
        yield from _prose(child)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_check(node: ast.AST) -> bool:
    called = getattr(node, "func", None)
    name = getattr(called, "id", getattr(called, "attr", ""))
    return name.startswith(("check_", "setting", "ValueError", "TypeError"))


def _length(node: ast.FunctionDef | ast.Assign | ast.AnnAssign) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    found = count()
    for module, lines in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{lines:5} {module}")
    print(f"{sum(found.values()):5} in all")
