"""How the guest's processors read page tables: what their control registers, EFER and CPUID leave of the paging form.

Source: Intel SDM vol. 3A, 4.1.1 to 4.1.4; CR4.PSE, EFER.NXE, MAXPHYADDR.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from kvmtools.errors import Unobserved
from kvmtools.observe.kernel import Kernel
from kvmtools.observe.paging.forms import ANY_PHYSICAL_BITS, NO_EXECUTE, on_processor
from kvmtools.records import CR4_PSE, EFER_NXE, Registers

_CPU, _CPU_TYPE = "boot_cpu_data", "struct cpuinfo_x86"
_NX_SWITCH = "__supported_pte_mask"
_POSSIBLE_PHYSICAL_BITS = range(32, 53)
"""MAXPHYADDR of any processor, SDM vol. 3A, 4.1.4."""


def seen_by_processor(kernel: Kernel, registers: Sequence[Registers]) -> Kernel:
    """``kernel``, its page tables read as the first of these vCPUs that pages reads them.

    What nothing says is taken for granted: no vCPU, a kernel that has not looked at its CPU yet.
    """
    paging = next((one for one in registers if one.paged), None)
    form = on_processor(
        kernel.architecture.paging,
        pse=paging is None or bool(paging.cr4 & CR4_PSE),
        nx=_nx(kernel, None if paging is None else paging.efer),
        physical_bits=_physical_bits(kernel),
    )
    return replace(kernel, seen_paging=form)


def _nx(kernel: Kernel, efer: int | None) -> bool:
    """EFER.NXE; of a core, which has no EFER, whether the kernel uses the bit."""
    if efer is not None:
        return bool(efer & EFER_NXE)
    with suppress(Unobserved):
        return bool(kernel.variable(_NX_SWITCH) & NO_EXECUTE)
    return True


def physical_bits(kernel: Kernel) -> int:
    """MAXPHYADDR as the guest has it from CPUID, ``boot_cpu_data.x86_phys_bits``; whatever stands there."""
    return kernel.member(kernel.address(_CPU), _CPU_TYPE, "x86_phys_bits")


def _physical_bits(kernel: Kernel) -> int:
    """The same, if it is known and any processor has so many."""
    with suppress(Unobserved):
        if (said := physical_bits(kernel)) in _POSSIBLE_PHYSICAL_BITS:
            return said
    return ANY_PHYSICAL_BITS
