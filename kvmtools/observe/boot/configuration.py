"""What the model is told about this guest: build configuration, CPU features, boot parameters, the RAM map.

Build configuration comes from the vmlinux's DWARF, the rest from what the kernel itself keeps of its boot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from kvmtools.errors import Absent
from kvmtools.observe.architecture import UNSIGNED_INT
from kvmtools.observe.boot.ram import observe_e820
from kvmtools.observe.broken import Broken
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.kmap.kmap_local import kmap_fixed_addresses
from kvmtools.observe.nodes import max_numnodes, observe_nodes
from kvmtools.observe.pages.page_flags import lru_generations, zone_names
from kvmtools.observe.paging.forms import NO_EXECUTE
from kvmtools.observe.partial import Lookup, Partial, known
from kvmtools.observe.per_cpu import configured_cpus
from kvmtools.observe.processor import physical_bits
from kvmtools.observe.symbols.memory_model import has_sections
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import CR4_PGE, CR4_PSE, MARKS, Configuration, Image

T = TypeVar("T")

GLOBAL = 1 << 8
BITS_PER_CAPABILITY = 32

#: Boundary symbols of arch/x86/kernel/vmlinux.lds.S; a kernel has those that its configuration gives it.
SECTION_BOUNDARIES = (
    "_text",
    "_stext",
    "__entry_text_start",
    "__entry_text_end",
    "_etext",
    "__start_rodata",
    "__end_rodata",
    "_sdata",
    "_edata",
    "__init_begin",
    "_sinittext",
    "_einittext",
    "__per_cpu_start",
    "__per_cpu_end",
    "__init_end",
    "__bss_start",
    # No boundary, but a page of its own in bss: the one that is read-only.
    "idt_table",
    "__bss_stop",
    "__brk_base",
    "__brk_limit",
    "__end_of_kernel_reserve",
    "_end",
)


class PartialConfiguration(Partial, Configuration):
    """A configuration of which this guest may not show all; the model that asks for such a field learns why."""

    __slots__ = ()


def observe_configuration(kernel: Kernel, broken: list[Broken] | None = None) -> Configuration:
    """Read the configuration of a kernel that has booted; a field that cannot be had raises the reason when asked for.

    :param broken: takes what cannot be read
    """
    vmlinux = kernel.vmlinux
    features = _Features(kernel)

    def told(read: Callable[[], T]) -> T:
        return known(read, "configuration", broken)

    def fixed(limit: str) -> int:
        return told(lambda: vmlinux.enumerators("fixed_addresses")[limit])

    return PartialConfiguration(
        **kernel.architecture.told,
        page_offset=kernel.page_offset,
        nr_cpus=told(lambda: configured_cpus(kernel)),
        highmem=told(lambda: "HIGHMEM" in zone_names(vmlinux)),
        pti=told(lambda: features.pti),
        nx=told(lambda: features.nx),
        pge=told(lambda: features.pge),
        pse=told(lambda: features.pse),
        physical_bits=told(lambda: physical_bits(kernel)),
        page_struct_size=told(lambda: vmlinux.sizeof("struct page")),
        cpu_entry_area_size=told(lambda: vmlinux.sizeof("struct cpu_entry_area")),
        end_of_permanent_fixed_addresses=fixed("__end_of_permanent_fixed_addresses"),
        end_of_fixed_addresses=fixed("__end_of_fixed_addresses"),
        zone_names=told(lambda: zone_names(vmlinux)),
        sparsemem=has_sections(vmlinux),
        max_order=told(lambda: vmlinux.array_length("struct zone", "free_area")),
        debug_pagealloc=told(lambda: _debug_pagealloc(kernel)),
        command_line=told(lambda: _command_line(kernel)),
        e820=told(lambda: observe_e820(kernel)),
        image=observe_image(kernel),
        marks=told(lambda: observe_marks(vmlinux)),
        nodes=told(lambda: observe_nodes(kernel)),
        max_numnodes=told(lambda: max_numnodes(kernel)),
        lru_generations=told(lambda: lru_generations(vmlinux)),
        nr_pageflags=told(lambda: vmlinux.enumerators("pageflags")["__NR_PAGEFLAGS"]),
        kmap_fixed_addresses=told(lambda: kmap_fixed_addresses(vmlinux)),
        hugetlb=vmlinux.has_symbol("hstates"),
    )


def observe_image(kernel: Kernel) -> Image:
    """Boundaries of the kernel image in this guest."""
    return Image(kernel.slide, Lookup(kernel.address, SECTION_BOUNDARIES))


#: What came with a mark: a kernel that has it and not the mark is one of which not all is known.
_CAME_WITH = {"task_struct.kmap_ctrl": "struct kmap_ctrl"}


def observe_marks(vmlinux: Vmlinux) -> frozenset[str]:
    """What of :data:`~kvmtools.records.MARKS` this kernel has: members, with a dot in their name, and enumerators.

    :raises Absent: if one is missing that must be there
    """
    marks = frozenset(mark for mark in MARKS if _has_mark(vmlinux, *mark.split(".")))
    for mark in _CAME_WITH.keys() - marks:
        if vmlinux.has_type(_CAME_WITH[mark]):
            raise Absent(mark, vmlinux.build_id)
    return marks


def _has_mark(vmlinux: Vmlinux, name: str, member: str = "") -> bool:
    return vmlinux.has_member(f"struct {name}", member) if member else vmlinux.has_constant(name)


def _debug_pagealloc(kernel: Kernel) -> bool:
    """``debug_pagealloc_enabled`` (include/linux/mm.h): the variable exists with CONFIG_DEBUG_PAGEALLOC only.

    Before 5.5 it had the name that a static key has now.
    """
    for name in ("_debug_pagealloc_enabled_early", "_debug_pagealloc_enabled"):
        if kernel.vmlinux.has_symbol(name):
            return bool(kernel.integer(kernel.address(name), 1))
    return False


def _command_line(kernel: Kernel) -> str:
    """``saved_command_line``, as in ``/proc/cmdline``; the boot-time copy is freed with the init memory."""
    return kernel.string(kernel.variable("saved_command_line"))


class _Features:
    """CPU features as this kernel uses them, which is not always what the CPU offers (``nopti``,
    ``noexec=off``).
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def pse(self) -> bool:
        """4 MiB pages without PAE."""
        return self._has("pse", otherwise=lambda: self._masked("mmu_cr4_features", CR4_PSE))

    @property
    def pge(self) -> bool:
        """Global pages."""
        return self._has("pge", otherwise=lambda: self._masked("mmu_cr4_features", CR4_PGE))

    @property
    def pti(self) -> bool:
        """Page-table isolation, which keeps kernel pages from being global (``probe_page_size_mask``)."""
        return self._has(
            "pti", otherwise=lambda: self.pge and not self._masked("__default_kernel_pte_mask", GLOBAL)
        )

    @property
    def nx(self) -> bool:
        """Pages that cannot be executed; only PAE entries have the bit."""
        return self._masked("__supported_pte_mask", NO_EXECUTE)

    def _has(self, name: str, *, otherwise: Callable[[], bool]) -> bool:
        return otherwise() if self._named is None else name in self._named

    def _masked(self, variable: str, bit: int) -> bool:
        return bool(self._kernel.variable(variable) & bit)

    @cached_property
    def _named(self) -> set[str] | None:
        """Names in ``/proc/cpuinfo`` of the features that are set; ``None`` without
        ``CONFIG_X86_FEATURE_NAMES``.

        Feature numbers differ between kernel versions and are no part of the DWARF, but the kernel's own
        table of names (``x86_cap_flags``) is indexed by them.
        """
        kernel, vmlinux = self._kernel, self._kernel.vmlinux
        try:
            table, length = kernel.address("x86_cap_flags"), vmlinux.array_length("typeof(x86_cap_flags)")
            offset = vmlinux.offset("struct cpuinfo_x86", "x86_capability")
            capabilities = kernel.address("boot_cpu_data") + offset
        except Absent:
            return None
        words = kernel.array(capabilities, UNSIGNED_INT, length // BITS_PER_CAPABILITY).tolist()
        names = kernel.array(table, kernel.architecture.word, length).tolist()
        return {
            kernel.string(name, 64)
            for number, name in enumerate(names)
            if name and words[number // BITS_PER_CAPABILITY] >> number % BITS_PER_CAPABILITY & 1
        }
