"""Who was looked at, in a few words for the head of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmtools.compare.evidence import Evidence


def identity(evidence: Evidence) -> dict[str, str]:
    """Label and text, in order; nothing in it depends on the moment."""
    configuration = evidence.prediction.configuration
    features = {
        "PAE": configuration.pae,
        "non-PAE": not configuration.pae,
        "NX": configuration.nx,
        "PTI": configuration.pti,
        "SPARSEMEM": configuration.sparsemem,
        "FLATMEM": not configuration.sparsemem,
    }
    ram = sum(len(pages) for pages in evidence.ram_ranges)
    return {
        "kernel": evidence.facts.banner.decode("latin-1").partition(" (")[0],
        "build id": evidence.facts.build_id,
        "paging": ", ".join(name for name, has in features.items() if has),
        "slide": f"{configuration.image.slide:#x}",
        "memory": f"{ram:,} pages of RAM, max_low_pfn {evidence.predicted.max_low_pfn or 0:#x}, "
        f"max_pfn {evidence.predicted.max_pfn or 0:#x}",
    }
