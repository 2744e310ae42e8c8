"""Nothing in the product is too long to be read at one go: files, and functions in Python and in C."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
PYTHON = sorted((ROOT / "kvmtools").rglob("*.py"))
C = sorted(path for path in (ROOT / "qemu").rglob("*") if path.suffix in (".c", ".h", ".sh"))
FILES = [*PYTHON, *C]


def python_functions(source: str) -> Iterator[tuple[str, int]]:
    """Every function with its lines, from ``def`` to its end; the options of a command that stand above it are data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def c_blocks(source: str) -> Iterator[tuple[str, int]]:
    """Every function, table and structure: what begins in the first column and ends with a brace there."""
    start, name = 0, ""
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith("}"):
            yield name, number - start + 1
        elif line[:1].isalpha():
            start, name = number, line


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    functions = python_functions(source) if path.suffix == ".py" else c_blocks(source)
    assert len(source.splitlines()) <= LONGEST_FILE
    assert {name: lines for name, lines in functions if lines > LONGEST_FUNCTION} == {}


def test_what_is_long_is_noticed() -> None:
    assert len(PYTHON) > 200
    assert len(C) > 10
    body = "    x = 1\n" * LONGEST_FUNCTION
    assert list(python_functions(f"class A:\n  @a\n  def f():\n{body}")) == [("f", LONGEST_FUNCTION + 1)]
    assert list(python_functions(f"async def f():\n{body}")) == [("f", LONGEST_FUNCTION + 1)]
    assert list(c_blocks("int f(void)\n{\n\tx;\n\n}\n\nstatic int g(void)\n{\n}\n")) == [
        ("int f(void)", 5),
        ("static int g(void)", 3),
    ]
