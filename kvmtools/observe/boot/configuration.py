"""What the model is told about this guest: build configuration, CPU features, boot parameters, the RAM map.

Build configuration comes from the vmlinux's DWARF, the rest from what the kernel itself keeps of its boot.
"""

from __future__ import annotations

from collections.abc import Callable

from kvmtools.observe.architecture import UNSIGNED_INT
from kvmtools.observe.boot.ram import observe_e820
from kvmtools.observe.broken import reading
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.nodes import max_numnodes, observe_nodes
from kvmtools.observe.paging.forms import NO_EXECUTE
from kvmtools.observe.per_cpu import configured_cpus
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.records import MARKS, Configuration, Image

GLOBAL = 1 << 8
CR4_PSE, CR4_PGE = 1 << 4, 1 << 7
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


@reading("configuration")
def observe_configuration(kernel: Kernel) -> Configuration:
    """Read the configuration of a kernel that has booted.

    :raises SymbolsError: if the vmlinux lacks something that every i386 kernel since 4.20 has
    """
    vmlinux = kernel.vmlinux
    fixmap = vmlinux.enumerators("fixed_addresses")
    zones = _zone_names(kernel)
    features = _Features(kernel)
    return Configuration(
        **kernel.architecture.told,
        page_offset=kernel.page_offset,
        nr_cpus=configured_cpus(kernel),
        highmem="HIGHMEM" in zones,
        pti=features.pti,
        nx=features.nx,
        pge=features.pge,
        pse=features.pse,
        physical_bits=kernel.member(kernel.address("boot_cpu_data"), "struct cpuinfo_x86", "x86_phys_bits"),
        page_struct_size=vmlinux.sizeof("struct page"),
        cpu_entry_area_size=vmlinux.sizeof("struct cpu_entry_area"),
        end_of_permanent_fixed_addresses=fixmap["__end_of_permanent_fixed_addresses"],
        end_of_fixed_addresses=fixmap["__end_of_fixed_addresses"],
        zone_names=zones,
        sparsemem=vmlinux.has_symbol("mem_section"),
        max_order=vmlinux.array_length("struct zone", "free_area"),
        debug_pagealloc=_debug_pagealloc(kernel),
        command_line=_command_line(kernel),
        e820=observe_e820(kernel),
        image=observe_image(kernel),
        marks=observe_marks(vmlinux),
        nodes=observe_nodes(kernel),
        max_numnodes=max_numnodes(kernel),
        nr_pageflags=vmlinux.enumerators("pageflags")["__NR_PAGEFLAGS"],
    )


def observe_image(kernel: Kernel) -> Image:
    """Boundaries of the kernel image in this guest."""
    vmlinux = kernel.vmlinux
    present = {name: kernel.address(name) for name in SECTION_BOUNDARIES if vmlinux.has_symbol(name)}
    return Image(kernel.slide, present)


def observe_marks(vmlinux: Vmlinux) -> frozenset[str]:
    """What of :data:`~kvmtools.records.MARKS` this kernel has: members, with a dot in their name, and enumerators."""
    return frozenset(mark for mark in MARKS if _has_mark(vmlinux, *mark.split(".")))


def _has_mark(vmlinux: Vmlinux, name: str, member: str = "") -> bool:
    return vmlinux.has_member(f"struct {name}", member) if member else vmlinux.has_constant(name)


def _zone_names(kernel: Kernel) -> tuple[str, ...]:
    """``enum zone_type`` in order, without the prefix; the terminating ``__MAX_NR_ZONES`` has another."""
    zones = kernel.vmlinux.enumerators("zone_type")
    ordered = sorted(zones, key=lambda name: zones[name])
    return tuple(name.removeprefix("ZONE_") for name in ordered if name.startswith("ZONE_"))


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
        self._named = self._names()

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

    def _names(self) -> set[str] | None:
        """Names in ``/proc/cpuinfo`` of the features that are set; ``None`` without
        ``CONFIG_X86_FEATURE_NAMES``.

        Feature numbers differ between kernel versions and are no part of the DWARF, but the kernel's own
        table of names (``x86_cap_flags``) is indexed by them.
        """
        kernel, vmlinux = self._kernel, self._kernel.vmlinux
        if not vmlinux.has_symbol("x86_cap_flags"):
            return None
        capabilities = kernel.address("boot_cpu_data") + vmlinux.offset(
            "struct cpuinfo_x86", "x86_capability"
        )
        length = vmlinux.array_length("typeof(x86_cap_flags)")
        words = kernel.array(capabilities, UNSIGNED_INT, length // BITS_PER_CAPABILITY).tolist()
        names = kernel.array(kernel.address("x86_cap_flags"), kernel.architecture.word, length).tolist()
        return {
            kernel.string(name, 64)
            for number, name in enumerate(names)
            if name and words[number // BITS_PER_CAPABILITY] >> number % BITS_PER_CAPABILITY & 1
        }
