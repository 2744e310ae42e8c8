"""What a rule may need, and why a guest may not have it: presence is tested, never a version."""

from __future__ import annotations

from collections.abc import Callable

from kvmtools.compare.case import Case
from kvmtools.model.boot_features import rodata_enabled
from kvmtools.model.command_line import values
from kvmtools.observe.progress import panic

Need = Callable[[Case], str]
"""Returns why the need is not met, or nothing."""


def _pkmap(case: Case) -> str:
    if case.observed.pkmap is None:
        return "this kernel has no pkmap: it was built without CONFIG_HIGHMEM"
    return "" if case.prediction.pkmap is not None else "the model knows no pkmap area for this configuration"


def _nx(case: Case) -> str:
    if case.prediction.configuration.nx:
        return ""
    return "without NX (PAE only) everything that is mapped can be executed"


def _booting(case: Case, until: str, what: str) -> str:
    """What is not final before the kernel's ``system_state`` reaches ``until`` (init/main.c)."""
    state = case.observed.kernel.variable("system_state")
    states = case.vmlinux.enumerators("system_states")
    if state >= states[until]:
        return ""
    name = next((name for name, value in states.items() if value == state), str(state))
    if reason := panic(case.observed.kernel):
        return f"the kernel panicked while it booted ({name}): {reason}; its {what} not final"
    return f"the kernel is still booting ({name}): its {what} not final"


def _booted(case: Case) -> str:
    """The kernel seals itself last of all: ``mark_readonly`` comes just before SYSTEM_RUNNING."""
    return _booting(case, "SYSTEM_RUNNING", "page tables are")


def _scheduling(case: Case) -> str:
    """Pointers that are not set yet lead nowhere until the kernel has begun to schedule."""
    return _booting(case, "SYSTEM_SCHEDULING", "structures are")


def _pages(case: Case) -> str:
    """``mm_init`` fills mem_map, and frees memory page by page, long before the first task is scheduled."""
    return _booting(case, "SYSTEM_SCHEDULING", "struct pages are")


def _rodata(case: Case) -> str:
    command_line = case.prediction.configuration.command_line
    if rodata_enabled(command_line, case.prediction.era):
        return ""
    said = " ".join(f"rodata={value}" for value in values(command_line, "rodata"))
    return f"{said} on the command line: the kernel leaves its code, and that of modules, writable"


def _memmap(case: Case) -> str:
    return _pages(case) if case.memmap.length else "mem_map is empty"


def _zones(case: Case) -> str:
    return _pages(case) if case.populated_zones else "no zone has pages"


def _processes(case: Case) -> str:
    return "" if case.processes else "no process with an address space of its own was observed"


NEEDS: dict[str, Need] = {
    "pkmap": _pkmap,
    "nx": _nx,
    "booted": _booted,
    "scheduling": _scheduling,
    "rodata": _rodata,
    "memmap": _memmap,
    "zones": _zones,
    "processes": _processes,
}
