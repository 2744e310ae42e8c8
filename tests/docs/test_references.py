"""What a docstring refers to is there: Sphinx looks at the pages of the reference alone."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "kvmtools"
ROLE = re.compile(r":(?:mod|class|func|data|attr|meth|exc|obj):`~?(kvmtools(?:\.\w+)+)`")
NAMED = sorted(
    {name for path in PACKAGE.rglob("*.py") for name in ROLE.findall(path.read_text(encoding="utf-8"))}
)


def exists(name: str) -> bool:
    """Whether the longest part of it that is a module has the rest."""
    module, attributes = name, list[str]()
    while True:
        try:
            found = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            attributes.insert(0, last)
    for attribute in attributes:
        if not hasattr(found, attribute) and attribute not in getattr(found, "__annotations__", {}):
            return False
        found = getattr(found, attribute, None)
    return True


@pytest.mark.parametrize("name", NAMED)
def test_it_is_there(name: str) -> None:
    assert exists(name)


def test_what_is_not_there_is_seen() -> None:
    assert len(NAMED) > 20
    assert not exists("kvmtools.records.Nothing")
    assert not exists("kvmtools.nowhere.Configuration")
