"""A whole observation of a running guest: taken quickly, complete, and the same as looking while it stands still."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pytest
from guest_says import firmware_map, leaves_ram_above_4_gib

import kvmtools
from kvmtools.api.session import Session
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.observe import observed
from kvmtools.observe.paging.walk import Walk
from kvmtools.records import PAGE_SIZE

FOUR_GIB_PFN = 1 << 20


@dataclass(frozen=True)
class Subject:
    guest: Guest
    kernel: kvmtools.OpenKernel
    agent: Agent

    @property
    def session(self) -> Session:
        """What lies below: to capture by hand, and to ask QEMU."""
        return self.kernel.session


@pytest.fixture
def subject(guest: Guest) -> Iterator[Subject]:
    with kvmtools.open(guest=guest.name) as kernel:
        yield Subject(guest, kernel, Agent(guest.agent))


def assert_same_walk(one: Walk, other: Walk) -> None:
    for field in fields(Walk):
        if field.name not in ("form", "tables"):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_sealed_snapshot_holds_all_that_the_observers_read(subject: Subject) -> None:
    """The same answers as from the guest's own memory, had it stood still all the while."""
    with observed.prepare(subject.session.kernel) as capture, subject.kernel.paused():
        snapshot = capture.take()
        seen = observed.observe(subject.session.kernel, snapshot)
        truth = observed.observe(subject.session.kernel, subject.session.target.memory)
    assert_same_walk(seen.walk, truth.walk)
    assert seen.processes == truth.processes
    assert seen.processes, "at least init has an address space"
    assert seen.user_walks.keys() == {process.pid for process in seen.processes}
    for pid, walked in seen.user_walks.items():
        assert_same_walk(walked, truth.user_walks[pid])
    assert np.array_equal(seen.memmap.words, truth.memmap.words)
    assert (seen.layout, seen.configuration, seen.ram) == (truth.layout, truth.configuration, truth.ram)
    assert seen.pkmap is not None
    assert truth.pkmap is not None
    assert np.array_equal(seen.pkmap.counts, truth.pkmap.counts)
    assert np.array_equal(seen.pkmap.ptes, truth.pkmap.ptes)
    assert [zone.free_pages for zone in seen.zones] == [zone.free_pages for zone in truth.zones]


def test_the_guest_runs_on_and_the_observation_stays(subject: Subject) -> None:
    seen = subject.kernel.observe()
    assert [one.cpu for one in seen.registers] == list(range(subject.guest.smp))
    assert subject.session.target.monitor is not None
    assert subject.session.target.monitor.command("query-status")["running"]
    subject.agent.text("/proc/uptime")  # a tick at least, even of an idle kernel
    assert seen.kernel.variable("jiffies_64") != subject.session.kernel.variable("jiffies_64")


def test_processes_are_those_of_proc(subject: Subject) -> None:
    subject.agent.workload("anonymous", 3, 4)
    try:
        seen = subject.kernel.observe()
        theirs = {each.pid: subject.agent.text(f"/proc/{each.pid}/comm").strip() for each in seen.processes}
    finally:
        subject.agent.quiesce()
    assert len(seen.processes) == 4
    assert theirs == {each.pid: each.comm for each in seen.processes}
    assert all(len(walked) > 3 for walked in seen.user_walks.values())
    assert all(np.all(walked.user) for walked in seen.user_walks.values())
    assert all(np.all(walked.virtual < seen.kernel.page_offset) for walked in seen.user_walks.values())


def test_configuration_is_what_the_guest_says_of_itself(subject: Subject) -> None:
    said = subject.kernel.observe().configuration
    assert said.command_line.strip() == subject.agent.text("/proc/cmdline").strip()
    flags = set(subject.agent.text("/proc/cpuinfo").split("flags\t\t:")[1].split("\n")[0].split())
    assert said.pse == ("pse" in flags)
    assert said.pge == ("pge" in flags)
    assert said.pti == ("pti" in flags)
    assert said.pae == (subject.guest.kernel == "pae")
    assert said.nx == said.pae
    assert f"address sizes\t: {said.physical_bits} bits physical" in subject.agent.text("/proc/cpuinfo")
    assert said.nr_cpus == 4
    assert said.e820 == firmware_map(subject.guest.console.read_text(errors="replace"))
    assert len(said.e820) >= 4


def test_layout_is_what_the_guest_prints(subject: Subject) -> None:
    """Headings of its page table dump, and lines of its boot log."""
    layout = subject.kernel.observe().layout
    console = subject.guest.console.read_text(errors="replace")
    assert layout.high_memory is not None
    assert layout.page_offset is not None
    low = (layout.high_memory - layout.page_offset) >> 20
    assert f"{low}MB LOWMEM available." in console
    assert layout.max_low_pfn == (layout.high_memory - layout.page_offset) // PAGE_SIZE
    last_pfn = int(re.findall(r"last_pfn = (0x[0-9a-f]+)", console)[-1], 16)
    assert layout.max_pfn == (FOUR_GIB_PFN if leaves_ram_above_4_gib(console) else last_pfn)
    dump = subject.agent.text("/sys/kernel/debug/page_tables/kernel")
    for heading, address in (
        ("Kernel Mapping", layout.page_offset),
        ("vmalloc() Area", layout.vmalloc_start),
        ("CPU entry area", layout.cpu_entry_area_base),
        ("Fixmap area", layout.fixaddr_start),
    ):
        assert f"---[ {heading} ]---\n{address:#010x}-" in dump


def test_drgn_follows_the_kernels_pointers(subject: Subject) -> None:
    from drgn import FaultError, cast
    from drgn.helpers.linux.pid import for_each_task
    from drgn.helpers.linux.printk import get_dmesg

    program, kernel = subject.kernel.program(), subject.session.kernel
    with subject.kernel.paused():
        assert program["init_task"].comm.string_() == b"swapper/0"
        assert len(program["pkmap_count"]) == (512 if subject.kernel.pae else 1024)
        names = {task.comm.string_() for task in for_each_task(program)}
        assert {b"init", b"kthreadd"} <= names
        assert b"Linux version" in get_dmesg(program)
        # The driver is a module: its code is vmalloc'ed, out of the linear map's reach.
        module = program["modules"].next
        assert int(cast("unsigned long", module)) >= kernel.lowmem_end
        assert module.prev == program["modules"].address_of_()
        with pytest.raises(FaultError, match="not present"):
            program.read(0, 4)
        physical = subject.kernel.vtop("linux_banner").physical
        if subject.session.target.memory.ranges[-1].end > 1 << 32:
            with pytest.raises(FaultError):
                program.read(physical, 5, physical=True)
        else:
            assert program.read(physical, 5, physical=True) == b"Linux"
