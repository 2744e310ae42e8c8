"""The kmap_local slots of recorded guests, and what the model's textbook says of their addresses."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.kmap_local import needs, observe_kmap_local
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.symbols.vmlinux import Vmlinux

Patch = Callable[[int, bytes], None]

FIXADDR_TOP = 0xFFFF_F000
NR_CPUS, KM_MAX_IDX = 4, 16


def test_every_cpu_has_its_slots_one_below_the_other(recorded: Kernel) -> None:
    cpus = observe_kmap_local(recorded)
    assert [(each.cpu, each.online) for each in cpus] == [(0, True), (1, True), (2, False), (3, False)]
    addresses = np.concatenate([each.addresses for each in cpus]).astype(np.int64)
    assert len(addresses) == NR_CPUS * KM_MAX_IDX
    assert (np.diff(addresses) == -4096).all()
    first = recorded.vmlinux.enumerators("fixed_addresses")["FIX_KMAP_BEGIN"]
    assert addresses[0] == FIXADDR_TOP - first * 4096


def test_an_entry_is_what_the_walk_comes_to(recorded: Kernel) -> None:
    root = recorded.physical(recorded.address("swapper_pg_dir"))
    for each in observe_kmap_local(recorded):
        for address, entry, place in zip(each.addresses, each.ptes, each.entries_physical, strict=True):
            last = translate(recorded.memory, root, int(address), recorded.paging).steps[-1]
            assert last.entry == entry
            assert place == last.table + last.index * (8 if recorded.architecture is I386_PAE else 4)


def test_slots_of_the_current_task_agree_with_it(recorded: Kernel) -> None:
    for each in observe_kmap_local(recorded):
        if not each.online:
            assert (each.task, each.depth, each.expected) == (None, None, None)
            continue
        assert each.depth is not None
        assert each.expected is not None
        assert len(each.expected) == KM_MAX_IDX
        assert np.array_equal(each.ptes[: each.depth], each.expected[: each.depth])
        assert not each.ptes[each.depth :].any()


def test_a_slot_in_use_is_seen(recorded: Kernel, patch: Patch) -> None:
    """An entry written to the slot, and the depth that the task would have: both come back as written."""
    before = observe_kmap_local(recorded)[1]
    assert before.task is not None
    depth = before.task + recorded.vmlinux.offset("struct task_struct", "kmap_ctrl.idx")
    patch(depth, struct.pack("<i", 5))
    patch(recorded.page_offset + int(before.entries_physical[4]), struct.pack("<I", 0x1234_5163))
    after = observe_kmap_local(recorded)[1]
    assert after.depth == 5
    assert after.ptes[4] == 0x1234_5163


def test_a_moved_top_moves_every_slot(recorded: Kernel, patch: Patch) -> None:
    """``reservetop=`` changes ``__FIXADDR_TOP``."""
    before = observe_kmap_local(recorded)[0].addresses
    patch(recorded.address("__FIXADDR_TOP"), struct.pack("<I", FIXADDR_TOP - 0x1000))
    assert np.array_equal(observe_kmap_local(recorded)[0].addresses, before - np.uint32(0x1000))


NO_STACK_PER_TASK = {
    f"offset struct task_struct {member}": None
    for member in ("kmap_ctrl", "kmap_ctrl.idx", "kmap_ctrl.pteval")
}


def test_a_kernel_without_stacks_per_task_has_as_many_slots(recorded_guest: Any) -> None:
    """``KM_TYPE_NR`` is a macro; so many slots there are all the same."""
    cpus = observe_kmap_local(recorded_guest.kernel(*NO_STACK_PER_TASK, "symbol __kmap_atomic_idx"))
    assert [len(each.ptes) for each in cpus] == [KM_MAX_IDX] * NR_CPUS
    assert {(each.depth, each.expected) for each in cpus} == {(None, None)}


def test_before_stacks_per_task_the_cpu_counts(recorded_guest: Any) -> None:
    """5.10's ``__kmap_atomic_idx`` is an int of each CPU; another variable of each CPU stands for it here."""
    facts = recorded_guest.document["facts"]
    other = facts["answers"]["symbol current_task"]
    answers = {**facts["answers"], **NO_STACK_PER_TASK, "symbol __kmap_atomic_idx": other}
    kernel = replace(recorded_guest.kernel(), vmlinux=Vmlinux.from_json({**facts, "answers": answers}))
    cpus = observe_kmap_local(kernel)
    tasks = [each.task for each in cpus]
    assert [each.depth for each in cpus] == [None if task is None else task - (1 << 32) for task in tasks]
    assert {each.expected for each in cpus} == {None}
    assert {len(wanted) for wanted in needs(kernel)} >= {4, 4096}


def test_needs_are_captured_ram(recorded: Kernel) -> None:
    for wanted in needs(recorded):
        assert len(recorded.memory.read(wanted.start, len(wanted))) == len(wanted)
