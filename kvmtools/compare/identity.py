"""Who was looked at, for the head of a report."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvmtools.errors import Unobserved, UsageError
from kvmtools.observe.progress import state

if TYPE_CHECKING:
    from kvmtools.compare.case import Case


def identity(case: Case) -> dict[str, Any]:
    """``release``, ``build_id``, ``era`` (that the model took it for), ``paging`` (its features), ``slide`` (bytes,
    hexadecimal), ``ram_pages``, and the pfns ``max_low_pfn`` and ``max_pfn``, hexadecimal; nothing in it depends on the
    moment.

    What a damaged guest does not show is left out.
    """
    found: dict[str, Any] = {
        "release": case.observed.kernel.banner.decode("latin-1").partition(" (")[0],
        "build_id": case.vmlinux.build_id,
    }
    if said := state(case.observed.kernel, case.observed.registers):
        found["state"] = said
    with suppress(Unobserved, UsageError):
        found["era"] = case.prediction.era.name
    with suppress(Unobserved):
        found["paging"] = _paging(case)
    found["slide"] = f"{case.observed.kernel.slide:#x}"
    with suppress(Unobserved, UsageError):
        found |= _memory(case)
    return found


def _paging(case: Case) -> list[str]:
    configuration = case.observed.configuration
    features = {
        case.observed.kernel.paging.name: True,
        "NX": configuration.nx,
        "PTI": configuration.pti,
        "SPARSEMEM": configuration.sparsemem,
        "FLATMEM": not configuration.sparsemem,
    }
    return [name for name, has in features.items() if has]


def _memory(case: Case) -> dict[str, int | str]:
    layout = case.predicted
    return {
        "ram_pages": sum(len(pages) for pages in case.ram_ranges),
        "max_low_pfn": hex(layout.max_low_pfn),
        "max_pfn": hex(layout.max_pfn),
    }
