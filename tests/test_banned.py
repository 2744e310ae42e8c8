"""What depends on the processor stands in one file: no word size, no end of addresses, no flag for PAE elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kvmtools"
ROOMS = ("observe", "compare", "api", "companions", "show", "report", "cli")
HOME = {PACKAGE / "observe" / "architecture.py", PACKAGE / "observe" / "paging" / "forms.py"}
"""The rows, and the paging forms that they name."""
ASIDE = PACKAGE / "cli" / "model"
"""The command line of the model, which knows i386 by its own eras."""

BANNED = {
    "the size of a word": re.compile(r"\b4 \*|\* 4\b|// 4\b"),
    "the type of a word": re.compile(r"""["']<[iu][48]["']"""),
    "the end of addresses": re.compile(r"\b1 << 32\b|\b0xffff_?ffff\b", re.IGNORECASE),
    "a flag for PAE": re.compile(r"\bpae=|\bpae: bool|\bif (not )?([a-z_]+\.)*pae\b|\bvmlinux\.pae\b"),
    "the symbol of the kernel's tables": re.compile(r"""address\(["']swapper_pg_dir["']\)"""),
}

FILES = sorted(
    path
    for room in ROOMS
    for path in (PACKAGE / room).rglob("*.py")
    if path not in HOME and ASIDE not in path.parents
)


def banned_in(source: str) -> list[str]:
    return [
        f"{what}: {line.strip()}"
        for line in source.splitlines()
        for what, pattern in BANNED.items()
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_of_the_processor_stands_outside_its_file(path: Path) -> None:
    assert banned_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "offset = base + 4 * cpu",
        "index = offset // 4",
        "words = np.frombuffer(data, '<u4')",
        "value % (1 << 32)",
        "address & 0xFFFF_FFFF",
        "walk(memory, cr3, pae=kernel.pae)",
        "def f(*, pae: bool) -> None:",
        "huge = 9 if vmlinux.pae else 10",
        'kernel.physical(kernel.address("swapper_pg_dir"))',
    ],
)
def test_what_is_banned_is_noticed(line: str) -> None:
    assert banned_in(line)


def test_the_rooms_are_looked_through() -> None:
    assert len(FILES) > 100
    assert all(path.exists() for path in HOME)
