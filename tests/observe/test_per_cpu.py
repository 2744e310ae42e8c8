"""Per-CPU areas outside the linear map: a recorded guest whose CPU 1 has its own at a vmalloc address."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import pytest
from whole_memory import WholeMemory

from kvmtools.attach.memory.snapshot import Snapshot
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.kmap_local import KmapLocal, KmapStack, needs, observe_kmap_local
from kvmtools.observe.observed import observe, prepare
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.per_cpu import integer_at, physical_ranges, read_virtual

Patch = Callable[[int, bytes], None]
PRESENT_WRITABLE_LARGE = 0x83


@dataclass(frozen=True)
class Moved:
    """The guest, what of it was seen before, and where the linear map has the area."""

    kernel: Kernel
    before: KmapLocal
    linear: int

    @property
    def first(self) -> int:
        return self.kernel.address("__per_cpu_start")

    @property
    def size(self) -> int:
        return self.kernel.address("__per_cpu_end") - self.first


@pytest.fixture
def moved(recorded: Kernel, patch: Patch) -> Moved:
    """CPU 1's area at an alias, which two large pages in the vmalloc area make."""
    first = recorded.address("__per_cpu_start")
    found = Moved(recorded, observe_kmap_local(recorded), recorded.per_cpu(first, 1))
    physical = recorded.physical(found.linear)
    span = 2 << 20 if recorded.architecture is I386_PAE else 4 << 20
    base = physical & -span
    assert physical + found.size <= base + 2 * span
    alias = _unused(recorded, span)
    for page in (0, span):
        _map(recorded, patch, alias + page, base + page)
    offset = alias + physical - base - first
    patch(recorded.address("__per_cpu_offset") + 4, struct.pack("<I", offset % (1 << 32)))
    assert recorded.per_cpu(first, 1) > recorded.lowmem_end
    return found


def _unused(kernel: Kernel, span: int) -> int:
    """Two large pages in a row where nothing is mapped, whose middle table is there."""
    root = kernel.physical(kernel.address("swapper_pg_dir"))

    def free(address: int) -> bool:
        step = translate(kernel.memory, root, address, kernel.paging).steps[-1]
        return step.level == 2 and step.entry == 0

    start = -(-kernel.lowmem_end // span) * span
    return next(at for at in range(start, 0xFF00_0000, span) if free(at) and free(at + span))


def _map(kernel: Kernel, patch: Patch, virtual: int, physical: int) -> None:
    root = kernel.physical(kernel.address("swapper_pg_dir"))
    step = translate(kernel.memory, root, virtual, kernel.paging).steps[-1]
    size = kernel.paging.entry_size
    entry = (physical | PRESENT_WRITABLE_LARGE).to_bytes(size, "little")
    patch(kernel.page_offset + step.table + step.index * size, entry)


def test_an_area_in_vmalloc_is_where_the_page_tables_say(moved: Moved) -> None:
    kernel, size = moved.kernel, moved.size
    elsewhere = kernel.per_cpu(moved.first, 1)
    assert sum(map(len, physical_ranges(kernel, elsewhere, size))) == size
    current = kernel.address("current_task") - moved.first
    assert read_virtual(kernel, elsewhere + current, 4) == kernel.read(moved.linear + current, 4)
    assert integer_at(kernel, elsewhere + current, 4) == moved.before.cpus[1].task


def same(one: KmapLocal, other: KmapLocal) -> bool:
    assert (len(one.cpus), one.ptes.tolist()) == (len(other.cpus), other.ptes.tolist())
    return all(
        np.array_equal(getattr(mine, each.name), getattr(others, each.name))
        for mine, others in zip(one.cpus, other.cpus, strict=True)
        for each in fields(KmapStack)
    )


def test_the_slots_of_such_a_cpu_are_seen(moved: Moved) -> None:
    after = observe_kmap_local(moved.kernel)
    assert [each.task is not None for each in after.cpus] == [True, True, False, False]
    assert same(moved.before, after)
    wanted = list(needs(moved.kernel))
    assert any(moved.linear - moved.kernel.page_offset <= each.start < each.end for each in wanted)


def test_such_an_area_is_captured_and_nothing_is_broken(moved: Moved) -> None:
    assert isinstance(moved.kernel.memory, Snapshot)
    kernel = moved.kernel.with_memory(WholeMemory(moved.kernel.memory))
    with prepare(kernel) as capture:
        seen = observe(kernel, capture.take())
    assert seen.broken == []
    assert same(moved.before, seen.kmap_local)
    whole = read_virtual(seen.kernel, kernel.per_cpu(moved.first, 1), moved.size)
    assert whole == kernel.read(moved.linear, moved.size)
