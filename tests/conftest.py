"""``paging_vector``: a test that takes it runs once for each file in ``fixtures/paging`` (README there)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvmtools.errors import MemoryFault

VECTORS = Path(__file__).resolve().parent.parent / "fixtures" / "paging"
PAGE = 4096

ENTRY = re.compile(r"(0x\w+)\[(\d+)(?:\.\.(\d+))?\] = (0x\w+)")
LEAF = re.compile(r"(0x\w+) -> (0x\w+) (\d+)([KM]) ([-w])([-u])([-x])")
STOP = re.compile(r"(0x\w+) stops at (\w+)\[(\d+)\]: (not present|reserved|no RAM)")


@dataclass(frozen=True)
class Leaf:
    virtual: int
    physical: int
    size: int
    writable: bool
    user: bool
    executable: bool


@dataclass(frozen=True)
class Stop:
    virtual: int
    level: str
    index: int
    reason: str


@dataclass
class PagingVector:
    """One file: tables in a little memory, and what a walk of them must find."""

    name: str
    pae: bool = False
    nx: bool = True
    pse: bool = True
    physical_bits: int = 0
    cr3: int = 0
    leaf_count: int = -1
    leaves: list[Leaf] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    pages: dict[int, bytearray] = field(default_factory=dict)

    def read(self, address: int, size: int) -> bytes:
        """Physical memory: the pages that hold tables, and nothing else."""
        page, offset = divmod(address, PAGE)
        if page not in self.pages or offset + size > PAGE:
            raise MemoryFault(address, "no RAM")
        return bytes(self.pages[page][offset : offset + size])

    def write(self, table: int, index: int, entry: int) -> None:
        page, offset = divmod(table, PAGE)
        form = "<Q" if self.pae else "<I"
        memory = self.pages.setdefault(page, bytearray(PAGE))
        struct.pack_into(form, memory, offset + index * struct.calcsize(form), entry)


def read_vector(path: Path) -> PagingVector:
    vector = PagingVector(path.stem)
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("#") or not words:
            continue
        if words[0] == "form":
            options = dict(word.split("=") for word in words[2:])
            vector.pae = {"pae": True, "non-pae": False}[words[1]]
            vector.nx = options.pop("nx", "on") == "on"
            vector.pse = options.pop("pse", "on") == "on"
            vector.physical_bits = int(options.pop("maxphyaddr", 52 if vector.pae else 32))
            assert not options, line
        elif words[0] == "cr3":
            vector.cr3 = int(words[1], 16)
        elif words[0] == "leaves":
            vector.leaf_count = int(words[1])
        elif match := ENTRY.fullmatch(line):
            table, first, last, entry = match.groups()
            for index in range(int(first), int(last or first) + 1):
                vector.write(int(table, 16), index, int(entry, 16))
        elif match := LEAF.fullmatch(line):
            virtual, physical, count, unit, *rights = match.groups()
            size = int(count) << {"K": 10, "M": 20}[unit]
            writable, user, executable = (right != "-" for right in rights)
            leaf = Leaf(int(virtual, 16), int(physical, 16), size, writable, user, executable)
            vector.leaves.append(leaf)
        elif match := STOP.fullmatch(line):
            virtual, level, slot, reason = match.groups()
            vector.stops.append(Stop(int(virtual, 16), level, int(slot), reason))
        else:
            raise ValueError(f"{path.name}: cannot read {line!r}")
    return vector


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "paging_vector" in metafunc.fixturenames:
        vectors = [read_vector(path) for path in sorted(VECTORS.glob("*.txt"))]
        assert vectors, f"no vectors in {VECTORS}"
        metafunc.parametrize("paging_vector", vectors, ids=lambda vector: vector.name)
