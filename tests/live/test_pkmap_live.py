"""pkmap and the kmap_local slots against our driver in the guest, which knows what it mapped where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import kvmtools
from kvmtools.api.pkmap import LocalSlot, pkmap_slots
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.observe.kmap.kmap_local import KmapStack
from kvmtools.observe.kmap.pkmap import Pkmap

PAGE_LINE = re.compile(r"^page \d+ pfn (0x\w+) page (0x\w+) address (0x\w+) users (\d+)$", re.MULTILINE)
LOCAL_LINE = re.compile(r"^local (\d+) level (\d+) pfn (0x\w+) address (0x\w+)$", re.MULTILINE)
SLOTS, CPU, DEPTH = 300, 1, 3


@dataclass(frozen=True)
class Subject:
    agent: Agent
    kernel: kvmtools.OpenKernel

    def pkmap(self) -> Pkmap:
        slots = self.kernel.pkmap()
        assert slots is not None
        return slots.area

    def kmap_local(self) -> tuple[KmapStack, tuple[LocalSlot, ...]]:
        """What is known of ``CPU``, and its slots, by the model's word where they lie; both at one moment."""
        seen = self.kernel.observe(processes=False)
        slots = pkmap_slots(seen)
        assert slots is not None
        return seen.kmap_local.cpus[CPU], tuple(slot for slot in slots.local if slot.cpu == CPU)


@pytest.fixture
def subject(guest: Guest) -> Iterator[Subject]:
    with kvmtools.open(guest=guest.name) as kernel, Agent(guest.agent) as agent:
        agent.quiesce()
        yield Subject(agent, kernel)
        agent.driver(f"local {CPU} 0")
        agent.driver("free")


def test_an_idle_kernel_has_no_slot_in_use(subject: Subject) -> None:
    subject.agent.driver("free")
    subject.agent.driver("flush")
    pkmap = subject.pkmap()
    assert not pkmap.counts.any()
    assert not pkmap.ptes.any()
    assert not any(bucket.entries for bucket in pkmap.buckets)


def test_slots_are_those_that_the_driver_got(subject: Subject) -> None:
    """Address, pfn and users of every page that is mapped; struct page and slot as the kernel hashed them."""
    subject.agent.driver(f"mix {SLOTS}")
    pages = [
        tuple(int(word, 0) for word in line) for line in PAGE_LINE.findall(subject.agent.driver("status"))
    ]
    pkmap = subject.pkmap()
    assert pkmap.base is not None
    address_mask = np.uint64(0x000F_FFFF_FFFF_F000)
    mapped = [page for page in pages if page[2]]
    assert len(mapped) >= SLOTS // 2
    assert {0, 1, 2} < set(pkmap.counts.tolist())
    assert (pkmap.counts > 2).any()
    assert np.count_nonzero(pkmap.counts) >= SLOTS
    hashed = {entry.virtual: entry.page for bucket in pkmap.buckets for entry in bucket.entries}
    for pfn, page, address, users in mapped:
        slot = (address - pkmap.base) // 4096
        assert int(pkmap.ptes[slot] & address_mask) >> 12 == pfn
        assert pkmap.counts[slot] == users + 1
        assert hashed[address] == page
    assert len(hashed) == np.count_nonzero(pkmap.counts)
    assert not any(bucket.broken for bucket in pkmap.buckets)


def test_the_cursor_moves_with_every_new_page(subject: Subject) -> None:
    """After a flush no page has a slot to come back to; before the end of the window none is flushed on the way."""
    subject.agent.driver("flush")
    before = subject.pkmap()
    if before.cursor + 20 > len(before.counts):
        subject.agent.driver("cycle 20")
        subject.agent.driver("flush")
        before = subject.pkmap()
    subject.agent.driver("cycle 10")
    after = subject.pkmap()
    assert after.cursor == before.cursor + 10
    assert np.flatnonzero(after.counts).tolist() == list(range(before.cursor + 1, after.cursor + 1))
    assert (after.counts[after.counts != 0] == 1).all()
    subject.agent.driver("flush")
    assert not subject.pkmap().counts.any()


def test_nested_local_maps_are_seen_on_their_cpu(subject: Subject) -> None:
    answer = subject.agent.driver(f"local {CPU} {DEPTH}")
    held = [tuple(int(word, 0) for word in line) for line in LOCAL_LINE.findall(answer)]
    assert [(cpu, level) for cpu, level, _, _ in held] == [(CPU, level) for level in range(DEPTH)]
    for _ in range(20):
        stack, slots = subject.kmap_local()
        if stack.depth == DEPTH:
            break  # its holder runs just now; a task that was scheduled out takes its maps along
    assert stack.depth == DEPTH
    # Only a task has a note of what it mapped; a CPU (before 5.11) counts.
    expected = stack.expected
    assert (expected is not None) == subject.kernel.session.kernel.vmlinux.has_member(
        "struct task_struct", "kmap_ctrl.pteval"
    )
    assert [(CPU, slot.index, slot.pfn, slot.virtual) for slot in slots] == held
    assert expected is None or [slot.pte for slot in slots] == expected[:DEPTH].tolist()
    subject.agent.driver(f"local {CPU} 0")
    assert subject.kmap_local()[1] == ()
