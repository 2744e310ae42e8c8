"""Capture from a recorded guest, as from a running one: all that the observers read must be in the copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from whole_memory import WholeMemory

from kvmtools.errors import MemoryFault
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.observed import observe, prepare
from kvmtools.observe.paging.walk import translate


@pytest.fixture
def kernel(recorded_guest: Any) -> Kernel:
    whole: Kernel = recorded_guest.kernel().with_memory(WholeMemory(recorded_guest.memory))
    return whole


def test_what_is_captured_is_enough_and_says_the_same(kernel: Kernel) -> None:
    with prepare(kernel) as capture:
        snapshot = capture.take()
    with pytest.raises(MemoryFault, match="sealed"):
        snapshot.keep(0, 4096)
    seen, truth = observe(kernel, snapshot), observe(kernel, kernel.memory)
    assert seen.kernel.memory is snapshot
    assert np.array_equal(seen.memmap.words, truth.memmap.words)
    assert np.array_equal(seen.walk.entry, truth.walk.entry)
    assert seen.processes == truth.processes
    assert seen.user_walks.keys() == {process.pid for process in seen.processes}
    assert seen.user_walks, "init at least has an address space"
    for pid, walked in seen.user_walks.items():
        assert len(walked) > 5
        assert np.array_equal(walked.entry, truth.user_walks[pid].entry)
    base = seen.layout.pkmap_base
    assert base is not None
    for process in seen.processes:
        way = translate(snapshot, process.pgd, base, kernel.paging)
        assert way == translate(kernel.memory, process.pgd, base, kernel.paging)
    assert (seen.layout, seen.configuration, seen.ram) == (truth.layout, truth.configuration, truth.ram)
    assert len(seen.zones) == len(truth.zones) == 4
    assert seen.pkmap is not None
    assert np.count_nonzero(seen.pkmap.counts) >= 300


def test_the_processes_tables_are_captured_only_if_wanted(kernel: Kernel) -> None:
    with prepare(kernel, processes=False) as capture:
        snapshot = capture.take()
    seen = observe(kernel, snapshot)
    assert seen.processes
    assert seen.user_walks == {}


def test_whole_sections_are_there_for_later_questions(kernel: Kernel) -> None:
    with prepare(kernel) as capture:
        snapshot = capture.take()
    later = kernel.with_memory(snapshot)
    sections = observe(kernel, snapshot).configuration.image.sections
    for first, after in (("_sdata", "_edata"), ("__bss_start", "__bss_stop")):
        size = sections[after] - sections[first]
        assert later.read(sections[first], size) == kernel.read(sections[first], size)


def test_a_wild_pointer_spoils_what_it_leads_to_and_no_more(kernel: Kernel, recorded_guest: Any) -> None:
    vmlinux = kernel.vmlinux
    link = kernel.address("init_task") + vmlinux.offset("struct task_struct", "tasks.next")
    recorded_guest.memory.patch(kernel.physical(link), (0xFFFF_0000).to_bytes(4, "little"))
    with prepare(kernel) as capture:
        seen = observe(kernel, capture.take())
    assert [(each.structure, each.space) for each in seen.broken] == [("task list", "virtual")]
    assert seen.processes == ()
    assert len(seen.zones) == 4
    assert seen.memmap.length


def test_leaving_without_a_capture_lets_go_of_the_guest(kernel: Kernel) -> None:
    with prepare(kernel) as capture:
        pass
    with pytest.raises(MemoryFault):
        capture.take()
