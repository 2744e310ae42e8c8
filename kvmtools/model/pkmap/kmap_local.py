"""The fixmap slots of ``kmap_atomic`` and ``kmap_local_page``: mappings of one CPU, which need no lock and never sleep.

===================  ============================  ==========================================================
eras                 the slot is                   unmapping
===================  ============================  ==========================================================
2.4, 2.6.18          named by the caller (KM_*)    leaves the PTE; the next user overwrites it
2.6.24, 2.6.32       named by the caller (KM_*)    clears it; mapping a slot that is in use is a bug
5.10                 the depth of a CPU's stack    clears the innermost
6.1 and later        the depth of a task's stack   clears the innermost; a switch of tasks takes them along
===================  ============================  ==========================================================

With debugging there are fences: a slot that is never used before each one that is, except in 2.4; 5.10 uses the
room for greater depth instead.

Source: kmap_atomic and kunmap_atomic in include/asm-i386/highmem.h (2.4), arch/i386/mm/highmem.c (2.6.12),
arch/x86/mm/highmem_32.c (2.6.24, 2.6.32, 5.10); kmap_types.h (2.4.18, 2.6.24); kmap_atomic_idx_push in
include/linux/highmem.h (5.10); __kmap_local_pfn_prot, kunmap_local_indexed, __kmap_local_sched_out and _in in
mm/highmem.c (6.1, 6.12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.model.bugs import KernelBug
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import KmapSlotChoice, PageAddress
from kvmtools.model.space.layout import fixaddr_top
from kvmtools.records import PAGE_SIZE, Configuration


@dataclass(frozen=True, slots=True)
class KmapFixmap:
    """Where the slots of all CPUs lie in the fixmap; those of a CPU follow those of the CPU before."""

    first: int
    """Virtual address of slot 0."""
    per_cpu: int
    """``KM_TYPE_NR`` or ``KM_MAX_IDX``."""

    def address_of(self, slot: int) -> int:
        """``__fix_to_virt(FIX_KMAP_BEGIN + slot)``: addresses descend."""
        return self.first - slot * PAGE_SIZE

    def owner_of(self, slot: int) -> tuple[int, int]:
        """The slot's CPU, and which of the CPU's slots it is."""
        return divmod(slot, self.per_cpu)


def kmap_fixmap(configuration: Configuration) -> KmapFixmap | None:
    """The slots of this kernel; ``None`` if it has none.

    Source: enum fixed_addresses, arch/x86/include/asm/fixmap.h: so many for each of ``NR_CPUS``, 5.10 to 7.2.
    """
    slots = configuration.kmap_fixed_addresses
    if slots is None:
        return None
    first = fixaddr_top(configuration) - slots.start * PAGE_SIZE
    return KmapFixmap(first, len(slots) // configuration.nr_cpus)


class KmapSlots:
    """``FIX_KMAP_BEGIN`` to ``FIX_KMAP_END``: what is common to all eras.

    :param fix_kmap_begin: the fixmap index of the first slot
    :param debug: CONFIG_DEBUG_HIGHMEM, or CONFIG_DEBUG_KMAP_LOCAL
    """

    def __init__(
        self,
        era: Era,
        *,
        fix_kmap_begin: int,
        nr_cpus: int = 1,
        debug: bool = False,
        highmem: Callable[[int], bool] = lambda page: True,
        lowmem_address: Callable[[int], int] = lambda page: 0,
    ) -> None:
        self.era = era
        self.debug = debug
        self.fenced = debug and era.page_address is not PageAddress.MEMBER
        self.per_cpu = 2 * era.kmap_slots_per_cpu + 1 if self.fenced else era.kmap_slots_per_cpu
        """``KM_TYPE_NR`` or ``KM_MAX_IDX``."""
        self.ptes: list[int | None] = [None] * (self.per_cpu * nr_cpus)
        """The page that each slot maps; the slots of a CPU follow those of the CPU before."""
        self.highmem = highmem
        self.lowmem_address = lowmem_address
        self._fixmap = KmapFixmap(era.fixaddr_top - fix_kmap_begin * PAGE_SIZE, self.per_cpu)

    def address_of(self, slot: int) -> int:
        """Virtual address of a slot, those of all CPUs counted."""
        return self._fixmap.address_of(slot)

    def slot_of(self, address: int) -> int | None:
        """The slot of an address, ``None`` for one outside the slots."""
        slot = -((address - self._fixmap.first) // PAGE_SIZE)
        return slot if 0 <= slot < len(self.ptes) else None

    def seen(self, cpu: int) -> dict[int, int]:
        """The slots of a CPU that have a PTE, counted from its first, and their pages."""
        own = self.ptes[cpu * self.per_cpu : (cpu + 1) * self.per_cpu]
        return {index: page for index, page in enumerate(own) if page is not None}

    def set_pte(self, slot: int, page: int) -> int:
        """Map a page into a slot that must be empty; returns the address.

        :raises KernelBug: if it is not empty
        """
        if self.ptes[slot] is not None:
            raise KernelBug("!pte_none(*kmap_pte)", f"slot {slot} is mapped already")
        self.ptes[slot] = page
        return self.address_of(slot)


class TypedSlots(KmapSlots):
    """2.4 to 2.6.32: the caller says which of the CPU's slots to use."""

    def kmap_atomic(self, cpu: int, page: int, km_type: int) -> int:
        """Map a page into the slot of that type; returns the address.

        :raises KernelBug: if the slot is in use, where the era looks at that
        """
        if not self.highmem(page):
            return self.lowmem_address(page)
        slot = self._slot(cpu, km_type)
        if self.era.kmap_stale and not self.debug:
            self.ptes[slot] = None
        return self.set_pte(slot, page)

    def kunmap_atomic(self, cpu: int, address: int, km_type: int) -> None:
        """Give the slot back.  Old kernels do nothing at all, unless they debug.

        :raises KernelBug: if the address is another slot's, with debugging
        """
        if self.era.kmap_stale and not self.debug:
            return
        slot, meant = self._slot(cpu, km_type), self.slot_of(address)
        if meant == slot:
            self.ptes[slot] = None
        elif meant is not None and self.debug:
            condition = (
                "vaddr != __fix_to_virt(FIX_KMAP_BEGIN+idx)"
                if self.era.kmap_stale
                else "vaddr >= high_memory"
            )
            raise KernelBug(
                condition,
                f"kunmap_atomic of {address:#x} as slot {slot}, which is {self.address_of(slot):#x}",
            )

    def _slot(self, cpu: int, km_type: int) -> int:
        index = 2 * km_type + 1 if self.fenced else km_type
        if not 0 <= index < self.per_cpu:
            raise UsageError(
                f"{self.era.name} has no KM type {km_type}", hint=f"0 to {self.era.kmap_slots_per_cpu - 1}"
            )
        return index + cpu * self.per_cpu


class Stack:
    """``kmap_ctrl`` of a task, or ``__kmap_atomic_idx`` of a CPU: what is mapped, innermost last.

    :param cpu: where it runs; a task that has something mapped stays there
    """

    def __init__(self, cpu: int = 0) -> None:
        self.cpu = cpu
        self.pages: list[int] = []
        self.running = True


class StackedSlots(KmapSlots):
    """5.10 (one stack for each CPU) and later (one for each task): the depth decides."""

    @property
    def step(self) -> int:
        """``KM_INCR``: how many slots one mapping takes."""
        return 2 if self.debug and self.era.kmap_slots is KmapSlotChoice.PER_TASK else 1

    def kmap_local(self, stack: Stack, page: int) -> int:
        """Map a page into the next slot; returns the address.

        :raises KernelBug: if the stack is full.  A CPU's has room for KM_TYPE_NR pages, and only debugging kernels
            look at that, while others go on in the next CPU's slots; a task's may not reach KM_MAX_IDX
        :raises UsageError: if the task does not run
        """
        _require(stack, running=True)
        if not self.highmem(page):
            return self.lowmem_address(page)
        index = self._index(len(stack.pages) + 1)
        if self.era.kmap_slots is KmapSlotChoice.PER_TASK and index + 1 >= self.per_cpu:
            raise KernelBug(
                "current->kmap_ctrl.idx >= KM_MAX_IDX", f"{len(stack.pages)} pages are mapped already"
            )
        if index >= self.per_cpu:
            raise KernelBug("idx >= KM_TYPE_NR", f"{len(stack.pages)} pages are mapped already")
        address = self.set_pte(index + stack.cpu * self.per_cpu, page)
        stack.pages.append(page)
        return address

    def kunmap_local(self, stack: Stack, address: int) -> None:
        """Unmap the innermost mapping.

        :raises KernelBug: if the address is another's (the kernel only warns, and clears the wrong slot), or nothing is
            mapped
        :raises UsageError: if the task does not run
        """
        _require(stack, running=True)
        if self.slot_of(address) is None:
            return
        if not stack.pages:
            raise KernelBug("idx < 0", f"kunmap_local of {address:#x}, and nothing is mapped")
        slot = self._index(len(stack.pages)) + stack.cpu * self.per_cpu
        if self.slot_of(address) != slot:
            raise KernelBug(
                "addr != __fix_to_virt(FIX_KMAP_BEGIN + idx)",
                f"kunmap_local of {address:#x}, but the innermost mapping is at {self.address_of(slot):#x}",
                hint="unmap in the reverse order of mapping",
            )
        self.ptes[slot] = None
        stack.pages.pop()

    def sched_out(self, task: Stack) -> None:
        """The task leaves its CPU: its mappings leave the page table, and the task remembers them.

        :raises UsageError: if the era maps for a CPU, so that nobody may be switched out meanwhile, or the task is out
        """
        self._switchable(task, running=True)
        for depth in range(1, len(task.pages) + 1):
            self.ptes[self._index(depth) + task.cpu * self.per_cpu] = None
        task.running = False

    def sched_in(self, task: Stack) -> None:
        """The task comes back to its CPU, and so do its mappings.

        :raises UsageError: as :meth:`sched_out`, or if it runs already
        """
        self._switchable(task, running=False)
        for depth, page in enumerate(task.pages, 1):
            self.ptes[self._index(depth) + task.cpu * self.per_cpu] = page
        task.running = True

    def _index(self, depth: int) -> int:
        return depth * self.step - 1

    def _switchable(self, task: Stack, *, running: bool) -> None:
        if self.era.kmap_slots is not KmapSlotChoice.PER_TASK:
            raise UsageError(f"{self.era.name} maps for a CPU: nobody is switched while something is mapped")
        _require(task, running=running)


def _require(task: Stack, *, running: bool) -> None:
    if task.running is not running:
        raise UsageError("the task runs already" if task.running else "the task does not run")


def kmap_slots(era: Era) -> type[TypedSlots] | type[StackedSlots]:
    """The class that an era's slots are of."""
    return TypedSlots if era.kmap_slots is KmapSlotChoice.TYPED else StackedSlots
