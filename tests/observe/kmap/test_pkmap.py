"""pkmap of recorded guests, whose driver left 300 slots in mixed states."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.page_address import Bucket
from kvmtools.observe.kmap.pkmap import Pkmap, needs, observe_pkmap
from kvmtools.observe.space.layout import kernel_walk

Patch = Callable[[int, bytes], None]

PAGE = 4096
# struct page_address_map of 6.1 (FACTS A.3): page, virtual, list.next, list.prev.
MAP_BYTES, LIST = 16, 8


def observe(kernel: Kernel) -> Pkmap:
    found = observe_pkmap(kernel, lambda: kernel_walk(kernel).tables)
    assert found is not None
    return found


def word(value: int) -> bytes:
    return struct.pack("<I", value)


def crowded(pkmap: Pkmap) -> Bucket:
    """The bucket with the most entries: two at least."""
    bucket = max(pkmap.buckets, key=lambda each: len(each.entries))
    assert len(bucket.entries) >= 2
    return bucket


def test_slots_are_counted_and_mapped(recorded: Kernel) -> None:
    pkmap = observe(recorded)
    assert (
        len(pkmap.counts)
        == len(pkmap.ptes)
        == pkmap.maps_length
        == (512 if recorded.architecture is I386_PAE else 1024)
    )
    assert {0, 1, 2} < set(pkmap.counts.tolist())
    assert (pkmap.counts > 2).any()
    assert np.count_nonzero(pkmap.counts) >= 300
    assert np.array_equal(pkmap.counts >= 1, pkmap.ptes != 0)
    assert 0 < pkmap.cursor < len(pkmap.counts)
    assert (pkmap.waiters, pkmap.locked) == (False, False)


def test_the_window_is_where_the_page_tables_show_it(recorded: Kernel) -> None:
    pkmap = observe(recorded)
    assert pkmap.hooks == (pkmap.base,)
    assert pkmap.page_table_physical == pkmap.page_table_pointer - recorded.page_offset
    size = 8 if recorded.architecture is I386_PAE else 4
    used = np.flatnonzero(pkmap.ptes)
    entries = recorded.memory.read(pkmap.page_table_physical + size * int(used[0]), size)
    assert int.from_bytes(entries, "little") == pkmap.ptes[used[0]]


def test_the_hash_knows_every_used_slot(recorded: Kernel) -> None:
    pkmap = observe(recorded)
    assert len(pkmap.buckets) == 128
    assert not any(bucket.broken or bucket.locked for bucket in pkmap.buckets)
    entries = [entry for bucket in pkmap.buckets for entry in bucket.entries]
    assert (
        sorted(entry.index for entry in entries if entry.index is not None)
        == np.flatnonzero(pkmap.counts).tolist()
    )
    for entry in entries:
        assert entry.index is not None
        assert entry.address == pkmap.maps_address + entry.index * MAP_BYTES
        assert entry.virtual == (pkmap.base or 0) + entry.index * PAGE


def test_a_bucket_whose_links_disagree(recorded: Kernel, patch: Patch) -> None:
    bucket = crowded(observe(recorded))
    second = bucket.entries[1]
    patch(second.address + LIST + 4, word(second.address + LIST))
    broken = observe(recorded).buckets[bucket.index]
    wanted = bucket.entries[0].address + LIST
    assert broken.broken == (
        f"entry {second.address:#x} has prev {second.address + LIST:#x}, not {wanted:#x}"
    )
    assert [entry.index for entry in broken.entries] == [entry.index for entry in bucket.entries[:2]]


def test_a_bucket_whose_head_disagrees(recorded: Kernel, patch: Patch) -> None:
    bucket = crowded(observe(recorded))
    patch(bucket.address + 4, word(bucket.address))
    last = bucket.entries[-1].address + LIST
    assert (
        observe(recorded).buckets[bucket.index].broken == f"head has prev {bucket.address:#x}, not {last:#x}"
    )


def test_a_bucket_that_loops(recorded: Kernel, patch: Patch) -> None:
    """The last entry leads back to the first: the loop ends where ``prev`` does not fit."""
    bucket = crowded(observe(recorded))
    first, last = bucket.entries[0].address + LIST, bucket.entries[-1].address + LIST
    patch(last, word(first))
    broken = observe(recorded).buckets[bucket.index]
    assert broken.broken == f"entry {first - LIST:#x} has prev {bucket.address:#x}, not {last:#x}"
    assert len(broken.entries) == len(bucket.entries) + 1


@pytest.mark.parametrize("target", [0x100, 0xFFFF_FFF0])
def test_a_bucket_that_leads_nowhere(recorded: Kernel, patch: Patch, target: int) -> None:
    """LIST_POISON1, which is where a removed entry leads, and an address that no RAM is behind."""
    bucket = crowded(observe(recorded))
    first = bucket.entries[0].address + LIST
    patch(first, word(target))
    broken = observe(recorded).buckets[bucket.index]
    assert str(broken.broken).startswith(f"{first:#x} leads to {target:#x}: ")
    assert len(broken.entries) == 1


def test_an_entry_outside_of_the_array_has_no_index(recorded: Kernel, patch: Patch) -> None:
    """A bucket made to hold one entry that lies in the middle between two of the array."""
    pkmap = observe(recorded)
    bucket = crowded(pkmap)
    address = pkmap.maps_address + 5 * MAP_BYTES + 8
    head = bucket.address
    patch(address, struct.pack("<IIII", 0xC000_0000, 0xFF60_0000, head, head))
    patch(head, struct.pack("<II", address + LIST, address + LIST))
    (entry,) = observe(recorded).buckets[bucket.index].entries
    assert (entry.address, entry.index) == (address, None)
    assert (entry.page, entry.virtual) == (0xC000_0000, 0xFF60_0000)


def test_a_task_that_waits_is_seen(recorded: Kernel, patch: Patch) -> None:
    vmlinux = recorded.vmlinux
    queue = vmlinux.symbol_like("pkmap_map_wait") + recorded.slide
    head = queue + vmlinux.offset("struct wait_queue_head", "head")
    patch(head, word(head + 64))
    assert observe(recorded).waiters is True


def test_a_taken_lock_is_seen(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.address("kmap_lock"), word(1))
    assert observe(recorded).locked is True


def test_a_page_table_pointer_gone_astray_leaves_no_base(recorded: Kernel, patch: Patch) -> None:
    astray = recorded.address("pkmap_count") & -PAGE
    patch(recorded.address("pkmap_page_table"), word(astray))
    pkmap = observe(recorded)
    assert (pkmap.base, pkmap.hooks, pkmap.page_table_pointer) == (None, (), astray)


def test_a_page_table_pointer_out_of_the_linear_map_is_a_fault(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.address("pkmap_page_table"), word(0x1000))
    pkmap = observe(recorded)
    with pytest.raises(MemoryFault, match="not in the linear map"):
        _ = pkmap.ptes
    assert len(pkmap.counts) in (512, 1024)


def test_needs_are_captured_ram(recorded: Kernel) -> None:
    ranges = list(needs(recorded))
    assert sum(len(each) for each in ranges) > 128 * 8 + 512 * MAP_BYTES
    for wanted in ranges:
        assert len(recorded.memory.read(wanted.start, len(wanted))) == len(wanted)
