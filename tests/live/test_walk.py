"""Our walk of real page tables, against three others: QEMU's, the kernel's own, and gdb's."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import kvmtools
from kvmtools.attach.target import Target
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.observe.kernel import locate
from kvmtools.observe.paging.forms import LARGE, NO_EXECUTE
from kvmtools.observe.paging.walk import Walk

# Columns of QEMU's `info tlb` (target/i386/monitor.c, print_pte), and the entry bit behind each letter.
TLB_FLAGS = (("X", 63), ("G", 8), ("P", 7), ("D", 6), ("A", 5), ("C", 4), ("T", 3), ("U", 2), ("W", 1))
TLB_LINE = re.compile(r"([0-9a-f]{16}): ([0-9a-f]{16}) ([-XGPDACTUW]{9})")

# A line of debugfs page_tables/kernel; the columns are those of printk_prot (arch/x86/mm/dump_pagetables.c).
PTDUMP_LINE = re.compile(r"0x([0-9a-f]{8})-0x([0-9a-f]{8}) +\d+[KMGT] (.{29}) (pgd|pmd|pte)")


@dataclass(frozen=True)
class Subject:
    guest: Guest
    kernel: kvmtools.OpenKernel

    @property
    def target(self) -> Target:
        """For what QEMU and gdb say."""
        return self.kernel.session.target


@pytest.fixture
def subject(guest: Guest) -> Iterator[Subject]:
    with kvmtools.open(guest=guest.name) as kernel:
        yield Subject(guest, kernel)


def hmp(target: Target, line: str, cpu: int) -> str:
    assert target.monitor is not None
    answer = target.monitor.command("human-monitor-command", command_line=line, cpu_index=cpu)
    return str(answer).replace("\r\n", "\n")


def test_every_page_is_what_info_tlb_says(subject: Subject) -> None:
    """For each vCPU's current CR3: address, physical address and every flag of every entry."""
    target, kernel = subject.target, subject.kernel
    with kernel.paused():
        for registers in target.registers():
            found = kernel.walk(cpu=registers.cpu).walk
            lines = TLB_LINE.findall(hmp(target, "info tlb", registers.cpu))
            assert len(lines) > 1000
            theirs = np.array(
                [(int(virtual, 16), int(physical, 16)) for virtual, physical, _ in lines], np.uint64
            )
            assert np.array_equal(found.virtual, theirs[:, 0])
            assert np.array_equal(found.physical, theirs[:, 1] & ~np.uint64(NO_EXECUTE))
            # QEMU shows bit 7 of a directory entry (a large page) and masks it in a table's (PAT).
            entries = np.where(found.level == 1, found.entry & ~np.uint64(LARGE), found.entry)
            flags = np.array([[letter != "-" for letter in text] for _, _, text in lines])
            for column, (letter, bit) in enumerate(TLB_FLAGS):
                ours = entries >> np.uint64(bit) & np.uint64(1) != 0
                assert np.array_equal(ours, flags[:, column]), letter


def test_translate_agrees_with_gva2gpa(subject: Subject) -> None:
    target, kernel = subject.target, subject.kernel
    generator = random.Random(5)
    with kernel.paused():
        for registers in target.registers():
            found = kernel.walk(cpu=registers.cpu).walk
            rows = generator.sample(range(len(found)), 50)
            mapped = [int(found.virtual[row]) + generator.randrange(int(found.size[row])) for row in rows]
            addresses = mapped + [generator.randrange(1 << 32) for _ in range(50)]
            for way in kernel.vtop_each(addresses, cpu=registers.cpu):
                answer = hmp(target, f"gva2gpa {way.virtual:#x}", registers.cpu).strip()
                assert answer == ("Unmapped" if way.physical is None else f"gpa: {way.physical:#x}")


def kernel_columns(entry: int, level: int) -> str:
    """The columns that the kernel prints for a leaf (6.1)."""
    columns = (
        (bool(entry & 1 << 2), "USR ", "    "),
        (bool(entry & 1 << 1), "RW ", "ro "),
        (bool(entry & 1 << 3), "PWT ", "    "),
        (bool(entry & 1 << 4), "PCD ", "    "),
        (level > 1 and bool(entry & 1 << 7), "PSE ", "    "),
        (bool(entry & (1 << 7 if level == 1 else 1 << 12)), "PAT ", "    "),
        (bool(entry & 1 << 8), "GLB ", "    "),
        (bool(entry >> 63), "NX", "x "),
    )
    return "".join(yes if flag else no for flag, yes, no in columns)


def quiet_dump(subject: Subject) -> tuple[Walk, str]:
    """The kernel's dump of its page tables, and our walk, which was the same before and after it."""
    path = "/sys/kernel/debug/page_tables/kernel"
    for _ in range(10):
        before = subject.kernel.walk().walk
        text = Agent(subject.guest.agent).text(path)
        after = subject.kernel.walk().walk
        if np.array_equal(before.virtual, after.virtual) and np.array_equal(before.entry, after.entry):
            return after, text
    pytest.fail("the kernel's page tables do not hold still")


def test_every_entry_is_what_the_kernel_itself_dumps(subject: Subject) -> None:
    """Compared by address, for a heading may stand a page too late (FACTS B.4); the last line ends at 0."""
    found, text = quiet_dump(subject)
    present = []
    for first, after, columns, level in PTDUMP_LINE.findall(text):
        if columns.strip():
            present.append((int(first, 16), int(after, 16) or 1 << 32, columns, level))
    assert len(present) > 20
    assert sum(end - start for start, end, _, _ in present) == int(found.size.sum())
    line = iter(present)
    start, end, columns, level = next(line)
    for mapping in found.mappings():
        while mapping.virtual >= end:
            start, end, columns, level = next(line)
        where = f"{mapping.virtual:#x} entry {mapping.entry:#x}"
        assert start <= mapping.virtual, where
        assert mapping.virtual + mapping.size <= end, where
        assert kernel_columns(mapping.entry, mapping.level) == columns, where
        assert level == ("pte" if mapping.level == 1 else "pmd"), where


@pytest.fixture
def mapped_highmem(guest: Guest) -> Iterator[None]:
    """Highmem pages in pkmap slots: an idle kernel maps none, and so nothing above 4 GiB."""
    Agent(guest.agent).driver("mix 400")
    yield
    Agent(guest.agent).driver("free")


@pytest.mark.usefixtures("mapped_highmem")
def test_gdb_reads_the_bytes_that_we_translate_to(subject: Subject) -> None:
    """1,000 random mapped addresses through the stub of the stopped guest; with PAE, RAM above 4 GiB too."""
    target, kernel = subject.target, subject.kernel
    generator = random.Random(11)
    with target.gdb() as gdb:
        found = kernel.walk(cr3=gdb.registers()[0].cr3).walk
        in_ram = np.zeros(len(found), np.bool_)
        for ram in target.memory.ranges:
            in_ram |= (found.physical >= ram.start) & (found.physical + found.size <= ram.end)
        high = np.flatnonzero(in_ram & (found.physical >= 1 << 32))
        rows = [generator.choice(np.flatnonzero(in_ram).tolist()) for _ in range(1000)]
        # 7.2 has no HIGHMEM64G any more, and leaves alone what lies there.
        assert bool(len(high)) == (kernel.layout()["max_pfn"].live > 1 << 20), (
            "of 400 highmem pages of 6 GiB some lie there"
        )
        if len(high):
            rows[:200] = [generator.choice(high.tolist()) for _ in range(200)]
        for row in rows:
            mapping = found.mapping(row)
            offset = generator.randrange(mapping.size - 16)
            theirs = gdb.read(mapping.virtual + offset, 16)
            assert theirs == kernel.physical(mapping.physical + offset, 16), hex(mapping.virtual + offset)


def test_the_slide_is_found_with_and_without_vmcoreinfo(subject: Subject) -> None:
    note = subject.target.vmcoreinfo()
    assert note is not None
    assert f"SYMBOL(_stext)={subject.kernel.address('_stext'):x}\n" in note
    assert locate(subject.target.memory, subject.kernel.session.kernel.vmlinux).slide == subject.kernel.slide
