"""The slots of kmap_atomic and kmap_local_page, era by era: which slot, which address, what is left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.bugs import KernelBug
from kvmtools.model.machine import configuration
from kvmtools.model.pkmap.kmap_local import Stack, StackedSlots, TypedSlots, kmap_fixmap, kmap_slots
from kvmtools.records import Range

LOWMEM = 5


def typed(era: str, **changes: object) -> TypedSlots:
    return TypedSlots(
        eras.named(era),
        fix_kmap_begin=4,
        highmem=lambda page: page != LOWMEM,
        lowmem_address=lambda page: 0xC0000000 + page,
        **changes,
    )  # type: ignore[arg-type]


def stacked(era: str, **changes: object) -> StackedSlots:
    return StackedSlots(
        eras.named(era),
        fix_kmap_begin=4,
        highmem=lambda page: page != LOWMEM,
        lowmem_address=lambda page: 0xC0000000 + page,
        **changes,
    )  # type: ignore[arg-type]


def test_each_era_has_its_kind() -> None:
    kinds = {name: kmap_slots(eras.named(name)) for name in eras.NAMES}
    assert [name for name, kind in kinds.items() if kind is TypedSlots] == [
        "2.4",
        "2.6.18",
        "2.6.24",
        "2.6.32",
    ]
    assert [name for name, kind in kinds.items() if kind is StackedSlots] == ["5.10", "6.1", "6.12", "7.2"]


def test_addresses_descend_from_the_top_of_the_fixmap() -> None:
    """Source: __fix_to_virt: FIXADDR_TOP is 0xffffe000 in 2.4 and 0xfffff000 later."""
    old, new = typed("2.4", nr_cpus=2), stacked("6.1", nr_cpus=2)
    assert [old.address_of(slot) for slot in (0, 1)] == [0xFFFFA000, 0xFFFF9000]
    assert [new.address_of(slot) for slot in (0, 1, 31)] == [0xFFFFB000, 0xFFFFA000, 0xFFFDC000]
    assert [new.slot_of(address) for address in (0xFFFFB000, 0xFFFFA000, 0xFFFDC000)] == [0, 1, 31]
    assert new.slot_of(0xFFFFC000) is None
    assert new.slot_of(0xFFFDB000) is None
    assert new.slot_of(0xFFFFBFFF) == 0


@pytest.mark.parametrize(
    ("era", "top", "slots", "per_cpu"),
    [("5.10", "", 80, 20), ("6.1", "", 64, 16), ("7.2", "reservetop=0x400000", 132, 33)],
)
def test_the_slots_of_a_kernel_are_shared_by_its_cpus(era: str, top: str, slots: int, per_cpu: int) -> None:
    """Source: FIX_KMAP_END = FIX_KMAP_BEGIN + KM_MAX_IDX * NR_CPUS - 1; reservetop= lowers FIXADDR_TOP to its page."""
    told = configuration(era, nr_cpus=4, command_line=top)
    fixmap = kmap_fixmap(replace(told, kmap_fixed_addresses=Range(6, 6 + slots)))
    assert fixmap is not None
    first = (0xFFBFF000 if top else 0xFFFFF000) - 6 * 4096
    assert [fixmap.address_of(slot) for slot in (0, 1, slots - 1)] == [
        first,
        first - 4096,
        first - (slots - 1) * 4096,
    ]
    assert [fixmap.owner_of(slot) for slot in (0, per_cpu - 1, per_cpu, slots - 1)] == [
        (0, 0), (0, per_cpu - 1), (1, 0), (3, per_cpu - 1),
    ]  # fmt: skip


def test_a_kernel_may_have_no_slots() -> None:
    assert kmap_fixmap(configuration("6.1")) is None


@pytest.mark.parametrize(
    ("era", "debug", "slots"),
    [
        ("2.6.18", False, 13),
        ("2.6.24", False, 13),
        ("2.6.24", True, 27),
        ("5.10", False, 20),
        ("5.10", True, 41),
        ("6.1", False, 16),
        ("6.1", True, 33),
        ("7.2", True, 33),
    ],
)
def test_how_many_slots_a_cpu_has(era: str, debug: bool, slots: int) -> None:
    """Source: KM_TYPE_NR in kmap_types.h, KM_MAX_IDX in kmap_size.h: debugging kernels have fences between."""
    ours = kmap_slots(eras.named(era))(eras.named(era), fix_kmap_begin=4, nr_cpus=3, debug=debug)
    assert ours.per_cpu == slots
    assert ours.ptes == [None] * 3 * slots
    assert ours.highmem(LOWMEM) is True
    assert ours.lowmem_address(LOWMEM) == 0


def test_2_4_has_no_fences() -> None:
    assert typed("2.4", debug=True).per_cpu == typed("2.4").per_cpu == eras.named("2.4").kmap_slots_per_cpu
    assert len(typed("2.4").ptes) == typed("2.4").per_cpu


@pytest.mark.parametrize("era", ["2.4", "2.6.18"])
def test_old_kernels_leave_the_mapping_behind(era: str) -> None:
    slots = typed(era, nr_cpus=2)
    address = slots.kmap_atomic(1, 7, 3)
    assert address == slots.address_of(3 + slots.per_cpu)
    slots.kunmap_atomic(1, address, 3)
    assert (slots.seen(0), slots.seen(1)) == ({}, {3: 7})
    assert slots.kmap_atomic(1, 8, 3) == address
    assert slots.seen(1) == {3: 8}


@pytest.mark.parametrize(("era", "index"), [("2.4", 3), ("2.6.18", 7)])
def test_unless_they_debug(era: str, index: int) -> None:
    slots = typed(era, debug=True)
    address = slots.kmap_atomic(0, 7, 3)
    assert slots.seen(0) == {index: 7}
    with pytest.raises(KernelBug, match=rf"pte_none.*slot {index} is mapped already"):
        slots.kmap_atomic(0, 8, 3)
    with pytest.raises(KernelBug, match=f"kunmap_atomic of {address:#x} as slot") as bug:
        slots.kunmap_atomic(0, address, 2)
    assert bug.value.condition == "vaddr != __fix_to_virt(FIX_KMAP_BEGIN+idx)"
    assert f"which is {slots.address_of(2 if era == '2.4' else 5):#x}" in str(bug.value)
    slots.kunmap_atomic(0, address, 3)
    assert slots.seen(0) == {}


@pytest.mark.parametrize("era", ["2.6.24", "2.6.32"])
def test_later_ones_clear_it_and_mind_a_slot_in_use(era: str) -> None:
    slots = typed(era)
    address = slots.kmap_atomic(0, 7, 3)
    with pytest.raises(KernelBug, match="slot 3 is mapped already"):
        slots.kmap_atomic(0, 8, 3)
    # The address of another type is overlooked without debugging, and the mapping stays.
    slots.kunmap_atomic(0, address, 2)
    assert slots.seen(0) == {3: 7}
    slots.kunmap_atomic(0, address, 3)
    assert slots.seen(0) == {}
    debugging = typed(era, debug=True)
    address = debugging.kmap_atomic(0, 7, 3)
    with pytest.raises(KernelBug) as bug:
        debugging.kunmap_atomic(0, address, 2)
    assert bug.value.condition == "vaddr >= high_memory"


@pytest.mark.parametrize(("era", "types"), [("2.6.18", 13), ("2.6.24", 13)])
@pytest.mark.parametrize("debug", [False, True])
def test_there_are_only_so_many_types(era: str, types: int, debug: bool) -> None:
    slots = typed(era, debug=debug)
    slots.kmap_atomic(0, 7, types - 1)
    for wrong in (types, -1):
        with pytest.raises(UsageError, match=f"{era} has no KM type {wrong} .0 to {types - 1}"):
            slots.kmap_atomic(0, 7, wrong)


@pytest.mark.parametrize("debug", [False, True])
def test_lowmem_pages_need_no_slot(debug: bool) -> None:
    for era in ("2.6.18", "2.6.24"):
        slots = typed(era, debug=debug)
        assert slots.kmap_atomic(0, LOWMEM, 0) == 0xC0000005
        slots.kunmap_atomic(0, 0xC0000005, 0)
        assert slots.seen(0) == {}
    for era in ("5.10", "6.1"):
        stack, local = Stack(), stacked(era, debug=debug)
        assert local.kmap_local(stack, LOWMEM) == 0xC0000005
        local.kunmap_local(stack, 0xC0000005)
        assert (local.seen(0), stack.pages) == ({}, [])


@pytest.mark.parametrize(
    ("era", "debug", "indexes"),
    [
        ("5.10", False, [0, 1]),
        ("5.10", True, [0, 1]),
        ("6.1", False, [0, 1]),
        ("6.1", True, [1, 3]),
        ("7.2", True, [1, 3]),
    ],
)
def test_the_depth_decides(era: str, debug: bool, indexes: list[int]) -> None:
    """Source: KM_INCR in mm/highmem.c: with debugging every second slot is a guard."""
    slots, stack = stacked(era, nr_cpus=2, debug=debug), Stack(1)
    first, second = slots.kmap_local(stack, 7), slots.kmap_local(stack, 8)
    assert (first, second) == tuple(slots.address_of(index + slots.per_cpu) for index in indexes)
    assert slots.seen(1) == dict(zip(indexes, (7, 8), strict=True))
    assert slots.seen(0) == {}
    with pytest.raises(KernelBug, match="reverse order") as bug:
        slots.kunmap_local(stack, first)
    assert bug.value.condition == "addr != __fix_to_virt(FIX_KMAP_BEGIN + idx)"
    assert f"kunmap_local of {first:#x}, but the innermost mapping is at {second:#x}" in str(bug.value)
    slots.kunmap_local(stack, second)
    assert slots.seen(1) == {indexes[0]: 7}
    slots.kunmap_local(stack, first)
    assert (slots.seen(1), stack.pages) == ({}, [])
    with pytest.raises(KernelBug, match=f"kunmap_local of {first:#x}, and nothing is mapped") as bug:
        slots.kunmap_local(stack, first)
    assert bug.value.condition == "idx < 0"


@pytest.mark.parametrize(
    ("era", "debug", "depth", "condition"),
    [
        ("5.10", False, 20, "idx >= KM_TYPE_NR"),
        ("5.10", True, 41, "idx >= KM_TYPE_NR"),
        ("6.1", False, 15, "current->kmap_ctrl.idx >= KM_MAX_IDX"),
        ("6.1", True, 16, "current->kmap_ctrl.idx >= KM_MAX_IDX"),
    ],
)
def test_how_deep_one_may_go(era: str, debug: bool, depth: int, condition: str) -> None:
    """A task may not use the last slot: kmap_local_idx_push compares after it has added."""
    slots, stack = stacked(era, debug=debug), Stack()
    for page in range(100, 100 + depth):
        slots.kmap_local(stack, page)
    with pytest.raises(KernelBug, match=f"{depth} pages are mapped already") as bug:
        slots.kmap_local(stack, 99)
    assert bug.value.condition == condition
    assert len(stack.pages) == depth


@pytest.mark.parametrize(("debug", "indexes"), [(False, [0, 1]), (True, [1, 3])])
def test_a_tasks_mappings_go_and_come_with_it(debug: bool, indexes: list[int]) -> None:
    slots = stacked("6.1", debug=debug)
    one, other = Stack(), Stack()
    for page in (7, 8):
        slots.kmap_local(one, page)
    slots.sched_out(one)
    assert slots.seen(0) == {}
    address = slots.kmap_local(other, 9)
    assert slots.seen(0) == {indexes[0]: 9}
    with pytest.raises(KernelBug, match=f"slot {indexes[0]} is mapped already"):
        slots.kmap_local(Stack(), 9)
    slots.kunmap_local(other, address)
    slots.sched_out(other)
    slots.sched_in(one)
    assert slots.seen(0) == dict(zip(indexes, (7, 8), strict=True))
    assert (one.running, other.running, one.pages) == (True, False, [7, 8])


def test_a_switch_touches_the_tasks_own_slots_only() -> None:
    slots, task = stacked("6.1", nr_cpus=3), Stack(1)
    for page in (7, 8):
        slots.kmap_local(task, page)
    for slot, page in enumerate(slots.ptes):
        slots.ptes[slot] = page or 1000 + slot
    before = list(slots.ptes)
    slots.sched_out(task)
    assert [slot for slot, page in enumerate(slots.ptes) if page is None] == [16, 17]
    slots.sched_in(task)
    assert slots.ptes == before


def test_a_switch_that_cannot_be() -> None:
    slots, task = stacked("6.1"), Stack()
    assert (task.cpu, task.running) == (0, True)
    with pytest.raises(UsageError, match="the task runs already"):
        slots.sched_in(task)
    slots.sched_out(task)
    for call in (
        lambda: slots.sched_out(task),
        lambda: slots.kmap_local(task, 7),
        lambda: slots.kunmap_local(task, slots.address_of(0)),
    ):
        with pytest.raises(UsageError, match="the task does not run"):
            call()
    assert (slots.seen(0), task.pages) == ({}, [])
    for switch in (stacked("5.10").sched_out, stacked("5.10").sched_in):
        with pytest.raises(UsageError, match=r"5\.10 maps for a CPU"):
            switch(Stack())
