"""The kmap_local slots of recorded guests: where the kernel keeps their entries, and who is in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvmtools.errors import MemoryFault
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.kmap_local import needs, observe_kmap_local
from kvmtools.observe.paging.translate import translate
from kvmtools.observe.symbols.vmlinux import Vmlinux

Patch = Callable[[int, bytes], None]

NR_CPUS, KM_MAX_IDX, DEPTH = 4, 16, 3
"""As the guests were built and recorded: the driver held so many slots of CPU 1."""


def test_every_cpu_is_there_and_the_slots_of_all(recorded: Kernel) -> None:
    seen = observe_kmap_local(recorded)
    assert [(each.cpu, each.online) for each in seen.cpus] == [(0, True), (1, True), (2, False), (3, False)]
    assert len(seen.ptes) == len(seen.entries_physical) == NR_CPUS * KM_MAX_IDX
    assert np.flatnonzero(seen.ptes).tolist() == [KM_MAX_IDX + depth for depth in range(DEPTH)]


def test_an_entry_is_what_the_walk_comes_to(recorded: Kernel) -> None:
    """By the addresses of a textbook: __fix_to_virt counts down from 0xfffff000."""
    root = recorded.physical(recorded.address("swapper_pg_dir"))
    begin = recorded.vmlinux.enumerators("fixed_addresses")["FIX_KMAP_BEGIN"]
    size = 8 if recorded.architecture is I386_PAE else 4
    seen = observe_kmap_local(recorded)
    for slot, (entry, place) in enumerate(zip(seen.ptes, seen.entries_physical, strict=True)):
        address = 0xFFFF_F000 - (begin + slot) * 4096
        last = translate(recorded.memory, root, address, recorded.paging).steps[-1]
        assert last.entry == entry
        assert place == last.table + last.index * size


def test_slots_of_the_current_task_agree_with_it(recorded: Kernel) -> None:
    seen = observe_kmap_local(recorded)
    for each in seen.cpus:
        if not each.online:
            assert (each.task, each.depth, each.expected) == (None, None, None)
            continue
        assert each.depth == (DEPTH if each.cpu == 1 else 0)
        assert each.expected is not None
        assert len(each.expected) == KM_MAX_IDX
        own = seen.ptes[each.cpu * KM_MAX_IDX :][:KM_MAX_IDX]
        assert np.array_equal(own[: each.depth], each.expected[: each.depth])
        assert not own[each.depth :].any()


def test_a_slot_in_use_is_seen(recorded: Kernel, patch: Patch) -> None:
    """An entry written to the slot, and the depth that the task would have: both come back as written."""
    before = observe_kmap_local(recorded)
    assert before.cpus[1].task is not None
    depth = before.cpus[1].task + recorded.vmlinux.offset("struct task_struct", "kmap_ctrl.idx")
    patch(depth, struct.pack("<i", 5))
    slot = KM_MAX_IDX + 4
    patch(recorded.page_offset + int(before.entries_physical[slot]), struct.pack("<I", 0x1234_5163))
    after = observe_kmap_local(recorded)
    assert after.cpus[1].depth == 5
    assert after.ptes[slot] == 0x1234_5163


def test_entries_are_where_the_kernel_says(recorded: Kernel, patch: Patch) -> None:
    """Two entries further down than the first one's: its third slot becomes the first."""
    before, pointer = observe_kmap_local(recorded), recorded.address("__kmap_pte")
    first = recorded.pointer(pointer)
    assert recorded.physical(first) == before.entries_physical[0]
    patch(pointer, struct.pack("<I", first - 2 * recorded.paging.entry_size))
    after = observe_kmap_local(recorded)
    assert np.array_equal(after.ptes[:-2], before.ptes[2:])
    assert np.array_equal(after.entries_physical[:-2], before.entries_physical[2:])


def test_before_the_first_use_there_is_nothing_to_see(recorded: Kernel, patch: Patch) -> None:
    """kmap_get_pte() looks for the first entry when it first needs one, and ``__kmap_pte`` is NULL until then."""
    patch(recorded.address("__kmap_pte"), bytes(4))
    seen = observe_kmap_local(recorded)
    assert (len(seen.ptes), len(seen.entries_physical)) == (0, 0)
    assert [each.depth for each in seen.cpus] == [0, DEPTH, None, None]
    assert list(needs(recorded))


def test_a_pointer_that_leads_nowhere_is_a_fault(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.address("__kmap_pte"), struct.pack("<I", 0x100))
    with pytest.raises(MemoryFault):
        observe_kmap_local(recorded)


def test_a_kernel_may_have_no_slots(recorded_guest: Any) -> None:
    facts, question = recorded_guest.told.facts, "enumerators fixed_addresses"
    fixed = facts["answers"][question].items()
    others = {name: slot for name, slot in fixed if not name.startswith("FIX_KMAP")}
    answers = {**facts["answers"], question: others}
    kernel = replace(recorded_guest.kernel(), vmlinux=Vmlinux.from_json({**facts, "answers": answers}))
    seen = observe_kmap_local(kernel)
    assert (len(seen.ptes), len(seen.entries_physical), seen.cpus) == (0, 0, ())
    assert list(needs(kernel)) == []


NO_STACK_PER_TASK = {
    f"offset struct task_struct {member}": None
    for member in ("kmap_ctrl", "kmap_ctrl.idx", "kmap_ctrl.pteval")
}


def test_a_kernel_without_stacks_per_task_has_as_many_slots(recorded_guest: Any) -> None:
    """``KM_TYPE_NR`` is a macro; so many slots there are all the same."""
    seen = observe_kmap_local(recorded_guest.kernel(*NO_STACK_PER_TASK, "symbol __kmap_atomic_idx"))
    assert len(seen.ptes) == KM_MAX_IDX * NR_CPUS
    assert {(each.depth, each.expected) for each in seen.cpus} == {(None, None)}


def test_5_10_knows_the_first_entry_by_another_name(recorded_guest: Any) -> None:
    """There ``kmap_pte`` is set at boot."""
    facts = recorded_guest.told.facts
    answers = {
        **facts["answers"],
        "symbol __kmap_pte": None,
        "symbol kmap_pte": facts["answers"]["symbol __kmap_pte"],
        "sizeof typeof(kmap_pte)": 4,
    }
    kernel = replace(recorded_guest.kernel(), vmlinux=Vmlinux.from_json({**facts, "answers": answers}))
    assert np.array_equal(observe_kmap_local(kernel).ptes, observe_kmap_local(recorded_guest.kernel()).ptes)


def test_before_stacks_per_task_the_cpu_counts(recorded_guest: Any) -> None:
    """5.10's ``__kmap_atomic_idx`` is an int of each CPU; another variable of each CPU stands for it here."""
    facts = recorded_guest.told.facts
    other = facts["answers"]["symbol current_task"]
    answers = {**facts["answers"], **NO_STACK_PER_TASK, "symbol __kmap_atomic_idx": other}
    kernel = replace(recorded_guest.kernel(), vmlinux=Vmlinux.from_json({**facts, "answers": answers}))
    cpus = observe_kmap_local(kernel).cpus
    tasks = [each.task for each in cpus]
    assert [each.depth for each in cpus] == [None if task is None else task - (1 << 32) for task in tasks]
    assert {each.expected for each in cpus} == {None}
    entries = NR_CPUS * KM_MAX_IDX * kernel.paging.entry_size
    assert {len(wanted) for wanted in needs(kernel)} >= {4, entries}


def test_a_task_that_cannot_be_read_is_noted(recorded: Kernel, patch: Patch) -> None:
    patch(recorded.per_cpu(recorded.address("current_task"), 1), struct.pack("<I", 0xDEAD_BEEF))
    broken: list[Broken] = []
    seen = observe_kmap_local(recorded, broken)
    assert [each.structure for each in broken] == ["kmap_local"]
    assert len(seen.ptes) == NR_CPUS * KM_MAX_IDX
    with pytest.raises(MemoryFault, match="0xdeadbeef"):
        _ = seen.cpus


def test_needs_are_captured_ram(recorded: Kernel) -> None:
    for wanted in needs(recorded):
        assert len(recorded.memory.read(wanted.start, len(wanted))) == len(wanted)
