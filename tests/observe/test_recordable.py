"""Where the kernel maps what was captured, and what VMCOREINFO says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.recordable import mapped_at
from kvmtools.observe.space.layout import kernel_walk
from kvmtools.observe.vmcoreinfo import vmcoreinfo
from kvmtools.records import PAGE_SIZE, Range


def test_every_address_leads_there(recorded: Kernel, recorded_guest: Any) -> None:
    captured = recorded_guest.memory.captured
    places = mapped_at(recorded, kernel_walk(recorded), captured)
    assert [place for _, place in places] == sorted(place for _, place in places)
    elsewhere = [each for each in places if each[0] >= recorded.lowmem_end]
    assert elsewhere, "the CPU entry areas at least are mapped twice"
    for virtual, physical in places:
        assert any(each.start <= physical.start and physical.end <= each.end for each in captured)
        for at in range(0, len(physical), PAGE_SIZE):
            way = translate(recorded.memory, recorded.root, virtual + at, recorded.paging)
            assert way.physical == physical.start + at


def test_all_that_was_captured_and_is_mapped_is_told(recorded: Kernel, recorded_guest: Any) -> None:
    captured = recorded_guest.memory.captured
    walk = kernel_walk(recorded)
    told = {
        virtual + at
        for virtual, physical in mapped_at(recorded, walk, captured)
        for at in range(0, len(physical), PAGE_SIZE)
    }
    rows = np.flatnonzero(walk.virtual >= recorded.lowmem_end)
    wanted = {
        int(walk.virtual[row])
        for row in rows
        if any(int(walk.physical[row]) in each for each in captured) and walk.size[row] == PAGE_SIZE
    }
    assert wanted
    assert wanted <= told


def test_nothing_captured_is_mapped_nowhere(recorded: Kernel) -> None:
    assert mapped_at(recorded, kernel_walk(recorded), ()) == []
    above = Range(1 << 33, (1 << 33) + PAGE_SIZE)
    assert mapped_at(recorded, kernel_walk(recorded), (above,)) == []


def test_vmcoreinfo_has_the_slide_once(recorded: Kernel) -> None:
    slide = f"KERNELOFFSET={recorded.slide:x}\n"
    for own in ("OSRELEASE=6.1\n", "OSRELEASE=6.1"):
        assert vmcoreinfo(recorded, own) == f"OSRELEASE=6.1\n{slide}"
    assert vmcoreinfo(recorded, "KERNELOFFSET=77\nA=1\n") == "KERNELOFFSET=77\nA=1\n"
    for own in (None, ""):
        made = vmcoreinfo(recorded, own)
        assert made.startswith("OSRELEASE=6.1.192-kvmtools-")
        assert slide in made
        assert f"SYMBOL(swapper_pg_dir)={recorded.address('swapper_pg_dir'):x}\n" in made


def test_a_page_that_was_not_captured_is_said(recorded: Kernel) -> None:
    with pytest.raises(MemoryFault, match="it was not captured"):
        recorded.read(recorded.page_offset + 0x5000, 1)
