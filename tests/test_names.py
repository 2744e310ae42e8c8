"""A name is used once: no two types of the product are called alike, but for the two sides of one subject."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "kvmtools"
TWO_SIDES = {
    "Level": {"model/paging/forms.py", "observe/paging/forms.py"},
    "Step": {"model/paging/walk.py", "observe/paging/translate.py"},
}
"""What the model and the observer each have a type for, since they share none."""


def homes_of_types() -> dict[str, set[str]]:
    """Every class that others may use, with the files that define one of that name."""
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(str(path.relative_to(PACKAGE)))
    return dict(homes)


def test_no_two_types_have_one_name() -> None:
    homes = homes_of_types()
    assert len(homes) > 150
    assert {name: files for name, files in homes.items() if len(files) > 1} == TWO_SIDES
