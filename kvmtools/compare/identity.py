"""Who was looked at, in a few words for the head of a report."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kvmtools.errors import MemoryFault, UsageError

if TYPE_CHECKING:
    from kvmtools.compare.evidence import Evidence
    from kvmtools.records import Configuration


def identity(evidence: Evidence) -> dict[str, str]:
    """Label and text, in order; nothing in it depends on the moment.

    What a damaged guest does not show is left out.
    """
    found = {
        "kernel": evidence.facts.banner.decode("latin-1").partition(" (")[0],
        "build id": evidence.facts.build_id,
    }
    with suppress(MemoryFault):
        found["paging"] = _paging(evidence.observed.configuration)
    found["slide"] = f"{evidence.observed.kernel.slide:#x}"
    with suppress(MemoryFault, UsageError):
        found["memory"] = _memory(evidence)
    return found


def _paging(configuration: Configuration) -> str:
    features = {
        "PAE": configuration.pae,
        "non-PAE": not configuration.pae,
        "NX": configuration.nx,
        "PTI": configuration.pti,
        "SPARSEMEM": configuration.sparsemem,
        "FLATMEM": not configuration.sparsemem,
    }
    return ", ".join(name for name, has in features.items() if has)


def _memory(evidence: Evidence) -> str:
    ram = sum(len(pages) for pages in evidence.ram_ranges)
    layout = evidence.predicted
    return f"{ram:,} pages of RAM, max_low_pfn {layout.max_low_pfn or 0:#x}, max_pfn {layout.max_pfn or 0:#x}"
