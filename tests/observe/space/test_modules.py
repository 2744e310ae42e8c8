"""The list of modules, in both shapes that ``struct module`` has had."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.space.modules import Module, observe_modules
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import Range

PAGE_OFFSET = 0xC000_0000
HEAD, FIRST, SECOND = 0x1000, 0x2000, 0x3000
LINK, NAME, CORE, INIT, SIZE = 4, 12, 40, 48, 64
OLD = {
    "offset struct module core_layout.base": CORE,
    "offset struct module core_layout.size": CORE + 4,
    "offset struct module init_layout.base": INIT,
    "offset struct module init_layout.size": INIT + 4,
    "offset struct module data_layout.base": None,
    "offset struct module core_layout": CORE,
    "offset struct module init_layout": INIT,
    "offset struct module data_layout": None,
    "offset struct module mem": None,
}
NEW = {
    "offset struct module mem": CORE,
    "array_length struct module mem": 2,
    "offset struct module mem[0].base": CORE,
    "offset struct module mem[0].size": CORE + 4,
    "offset struct module mem[1].base": INIT,
    "offset struct module mem[1].size": INIT + 4,
}


def kernel(memory: Any, shape: dict[str, int | None]) -> Kernel:
    answers: dict[str, Any] = {
        "sizeof pte_t": 4,
        "symbol modules": PAGE_OFFSET + HEAD,
        "sizeof struct module": SIZE,
        "offset struct module list": LINK,
        "sizeof struct module list": 8,
        "offset struct module list.next": LINK,
        "sizeof struct module list.next": 4,
        "offset struct module name": NAME,
        "sizeof struct module name": 24,
        "offset struct list_head next": 0,
        **shape,
    }
    answers |= {key.replace("offset", "sizeof"): 4 for key in shape if key.endswith((".base", ".size"))}
    return Kernel(Vmlinux("0" * 40, answers), 0, memory, PAGE_OFFSET, 1 << 32)


def write(memory: Any, at: int, name: bytes, following: int, *areas: tuple[int, int]) -> None:
    fields = [value for area in (*areas, (0, 0), (0, 0))[:2] for value in area]
    data = struct.pack("<I", 0) + struct.pack("<II", PAGE_OFFSET + following, 0) + name.ljust(28, b"\0")
    memory.write(at, data + struct.pack("<4I", *fields))


@pytest.fixture
def memory(little_memory: Callable[..., Any]) -> Any:
    found = little_memory()
    found.write(HEAD, struct.pack("<II", PAGE_OFFSET + FIRST + LINK, 0))
    write(found, FIRST, b"kvmtools", SECOND + LINK, (0xF7E1_0000, 0x5000), (0xF7F0_0000, 0))
    write(found, SECOND, b"ext4", HEAD, (0xF820_0000, 0x9_0000), (0xF830_0000, 0x1000))
    return found


@pytest.mark.parametrize("shape", [OLD, NEW], ids=["core_layout", "mem"])
def test_modules_and_their_areas(memory: Any, shape: dict[str, int | None]) -> None:
    assert observe_modules(kernel(memory, shape)) == (
        Module("kvmtools", (Range(0xF7E1_0000, 0xF7E1_5000),)),  # the init area is freed
        Module("ext4", (Range(0xF820_0000, 0xF829_0000), Range(0xF830_0000, 0xF830_1000))),
    )


def test_no_modules(memory: Any) -> None:
    memory.write(HEAD, struct.pack("<II", PAGE_OFFSET + HEAD, 0))
    assert observe_modules(kernel(memory, OLD)) == ()
    without = Kernel(Vmlinux("0" * 40, {"symbol modules": None}), 0, memory, PAGE_OFFSET, 1 << 32)
    assert observe_modules(without) == ()


def test_a_list_that_does_not_come_back(memory: Any) -> None:
    write(memory, SECOND, b"ext4", FIRST + LINK)
    with pytest.raises(MemoryFault, match="does not come back"):
        observe_modules(kernel(memory, OLD))
