"""What ``import kvmtools`` promises: the names, and that it costs next to nothing."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmtools
import kvmtools.model

HEAVY = {"numpy", "drgn", "click", "asyncio", "typing", "kvmtools.api", "kvmtools.model"}
NAMES = """
NOT_MAPPED
AttachError BuildError Differences Finding GuestVanished Inconclusive KernelLayout KvmtoolsError MappedPage MappedRun
Mappings MemoryFault OpenKernel Outcome OutputError Page PageTable PageUse PkmapSlots Result RuleEntry Status Survey
SymbolsError TranslatedAddress
UsageError Vcpu Vcpus Zones __version__ booted diff model open render rules to_html
"""
MODEL = ["ERAS", "Prediction", "configuration", "predict"]


def test_the_names_are_these() -> None:
    """A name that goes, or is not listed here, breaks somebody's script: say so in the README when you change it."""
    assert kvmtools.__all__ == NAMES.split()
    assert kvmtools.model.__all__ == MODEL


@pytest.mark.parametrize("name", kvmtools.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(kvmtools, name)
    assert found.__doc__
    assert name in dir(kvmtools)


def test_a_type_checker_sees_the_same_names() -> None:
    source = Path(kvmtools.__file__).read_text(encoding="utf-8")
    (block,) = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | {"__version__"} == set(kvmtools.__all__)
    assert (Path(kvmtools.__file__).parent / "py.typed").exists()


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'kvmtools' has no attribute 'unicorn'"):
        kvmtools.unicorn  # noqa: B018 (it is looked up)


def test_the_import_loads_nothing() -> None:
    code = f"import sys; before = set(sys.modules); import kvmtools; print(*({HEAVY!r} & (set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def documented() -> Iterator[tuple[str, str]]:
    """Name and docstring of every promised function, class and method."""
    for module in (kvmtools, kvmtools.model):
        for name in module.__all__:
            found = getattr(module, name)
            yield name, inspect.getdoc(found) or ""
            if inspect.isclass(found):
                for member, value in vars(found).items():
                    if not member.startswith("_"):
                        yield f"{name}.{member}", inspect.getdoc(value) or ""


def test_what_is_raised_can_be_caught() -> None:
    """An exception that a docstring names is one of ours by its name, or Python's."""
    raised = {
        (name, error)
        for name, text in documented()
        for error in re.findall(r":raises (\w+):", text)
        if not (hasattr(kvmtools, error) or hasattr(builtins, error))
    }
    assert raised == set()


def test_every_question_is_documented() -> None:
    assert [name for name, text in documented() if name.startswith("OpenKernel.") and not text] == []
