"""A checkout: what the tests import is asked for by ``[dev]``, and ``make clean`` leaves nothing that make made."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


OWN_PLACE = {"volatility3"}
"""What ``make bench-peers`` runs in a Python of its own."""


def imported() -> set[str]:
    """The full names of modules that files of the tests import at their top, without ours."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    ours = {path.stem for path in (ROOT / "tests").iterdir()} | {"kvmtools", *OWN_PLACE}
    return {name for name in found if name.partition(".")[0] not in ours | sys.stdlib_module_names}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_tests_import_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {plain(re.split(r"[\s<>=;\[]", each)[0]) for each in asked}
    made_by = packages_distributions()
    missing = []
    for module in imported():
        top = module.partition(".")[0]
        makers = {plain(maker) for maker in made_by.get(top, [top])}
        if plain(".".join(module.split(".")[:2])) not in names and not makers & names:
            missing.append(module)
    assert missing == []


def test_make_clean_leaves_nothing() -> None:
    said = subprocess.run(
        ["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {".venv", "build", "mutants", ".matrix", ".pytest_cache"} <= set(said.split())
