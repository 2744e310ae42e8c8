"""What is told of two looks at recorded guests, one of which was changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from opened_kernel import session_of
from recorded_guest import GUESTS, RecordedGuest, load

import kvmtools
from kvmtools.api.open_kernel import OpenKernel
from kvmtools.observe.pages.page_states import STATES
from kvmtools.records import Leaf

FIRST = GUESTS / "pae.vmcore.zst"
WRITABLE = 2


def changed(change: Callable[[RecordedGuest], object], name: str = "pae") -> kvmtools.Differences:
    """The recorded guest, and the same after something happened to it."""
    guest = load(name)
    before = kvmtools.diff(GUESTS / f"{name}.vmcore.zst", OpenKernel(session_of(guest, guest.kernel)))
    assert not before
    change(guest)
    return kvmtools.diff(GUESTS / f"{name}.vmcore.zst", OpenKernel(session_of(guest, guest.kernel)))


def only(found: kvmtools.Differences, *parts: str) -> None:
    """That nothing else is different."""
    assert found
    assert not found.missing
    told = {
        "mappings": found.mappings,
        "processes": found.processes,
        "pages": found.moved,
        "slots": found.slots,
        "cursor": found.cursor,
        "zones": found.zones,
    }
    assert {name for name, value in told.items() if value} == set(parts)


@pytest.mark.parametrize("name", ["pae", "nopae", "numa"])
def test_the_same_recording_twice(name: str) -> None:
    path = GUESTS / f"{name}.vmcore.zst"
    found = kvmtools.diff(path, str(path))
    assert not found
    assert (found.mappings, found.processes, found.slots, found.cursor, found.zones) == ((), (), (), None, {})
    assert not found.missing
    assert found.moved == 0
    assert found.flow.sum() == np.trace(found.flow) > 20_000
    assert repr(found).endswith("nothing is different")


def test_a_mapping_that_lost_its_write_protection() -> None:
    def change(guest: RecordedGuest) -> None:
        walk = guest.observe().walk
        rows = np.flatnonzero(~walk.writable & (walk.level == 1) & (walk.virtual < guest.kernel.lowmem_end))
        row = int(rows[len(rows) // 2])
        at.append(walk.mapping(row))
        place = at[0].table + 8 * at[0].index
        guest.write_physical(place, at[0].entry | WRITABLE, 8)

    at: list[Leaf] = []
    found = changed(change)
    only(found, "mappings")
    (one,) = found.mappings
    assert (one.change, one.virtual, one.end) == ("changed", at[0].virtual, at[0].virtual + 4096)
    assert one.before is not None
    assert one.after is not None
    assert (one.before.writable, one.after.writable) == (False, True)
    assert one.before.physical == one.after.physical == at[0].physical
    assert f"~ {at[0].virtual:08x}-" in repr(found)


def test_a_slot_of_pkmap_and_its_cursor() -> None:
    def change(guest: RecordedGuest) -> None:
        count = guest.kernel.address("pkmap_count")
        guest.write(count + 4 * 7, 9)
        cursor = guest.vmlinux.symbol_like("last_pkmap_nr") + guest.kernel.slide
        moved.append(guest.read(cursor))
        guest.write(cursor, 5)

    moved: list[int] = []
    found = changed(change)
    only(found, "slots", "cursor")
    assert [(each.slot, each.counts[1]) for each in found.slots] == [(7, 9)]
    assert found.cursor == (moved[0], 5)
    assert "pkmap: 1 slot" in repr(found)


def test_a_page_that_does_something_else() -> None:
    def change(guest: RecordedGuest) -> None:
        memmap = guest.observe().memmap
        bit = guest.vmlinux.enumerators("pageflags")["PG_reserved"]
        pfn = int(np.flatnonzero((memmap.flags >> bit & 1) == 1)[300])
        page = memmap.pfn_to_page(pfn)
        guest.write(page, guest.read(page) & ~(1 << bit))

    found = changed(change)
    only(found, "pages")
    assert found.moved == 1
    was = STATES.index("reserved")
    assert found.flow[was].sum() - found.flow[was, was] == 1
    assert "reserved" in repr(found)


def test_a_zone_that_lost_pages() -> None:
    def change(guest: RecordedGuest) -> None:
        zone = guest.observe().zones[1].address
        place = zone + guest.vmlinux.offset("struct zone", "managed_pages")
        guest.write(place, guest.read(place) - 10)

    found = changed(change)
    only(found, "zones")
    (label,) = found.zones
    (one,) = found.zones[label]
    assert (label, one.name) == ("NORMAL", "managed")
    assert one.before is not None
    assert one.after == one.before - 10
    assert "-10" in repr(found)


def test_two_kernels_are_named() -> None:
    found = kvmtools.diff(FIRST, GUESTS / "nopae.vmcore.zst")
    assert found
    assert "other kernels: Linux version 6.1.192-kvmtools-pae, build id" in repr(found)


def test_what_cannot_be_read_is_said_and_the_rest_compared() -> None:
    def change(guest: RecordedGuest) -> None:
        guest.write(guest.kernel.address("pkmap_count"), 3)
        guest.write(guest.kernel.address("mem_map"), 0xFFFF_F000)

    found = changed(change)
    assert "pages" in found.missing
    assert found.slots
    assert "not compared\n  " in repr(found)


def test_what_is_no_recording() -> None:
    with pytest.raises(kvmtools.AttachError, match="No such file"):
        kvmtools.diff(FIRST, "none.vmcore")
