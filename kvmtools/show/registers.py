"""The vCPUs' registers in text."""

from __future__ import annotations

from typing import Any

from kvmtools.records import CR0_WP, CR4_PAE, CR4_PGE, CR4_PSE, EFER_NXE, Registers
from kvmtools.show.gaps import UNKNOWN, Gaps
from kvmtools.show.tables import columns, hexadecimal, table

_COLUMNS = columns(">cpu eip where cr0 cr3 page_table cr4 efer paging")


def registers_text(found: Any) -> str:
    """A line for each vCPU, and who was asked.

    :param found: :class:`kvmtools.Vcpus`
    """
    gaps = Gaps()
    rows = [
        [
            one.cpu, hexadecimal(one.eip), one.region, hexadecimal(one.cr0), hexadecimal(one.cr3),
            *gaps.cells(one, "page_table"), hexadecimal(one.cr4),
            UNKNOWN if one.efer is None else hexadecimal(one.efer), one.paging,
        ]
        for one in found.vcpus
    ]  # fmt: skip
    return "\n\n".join([table(_COLUMNS, rows), *gaps.paragraph(), f"read by {found.source}"])


def paging_mode(registers: Registers) -> str:
    """The mode and what bears on permissions: ``"PAE, NX, global, WP"``."""
    if not registers.paged:
        return "off"
    wide = registers.cr4 & CR4_PAE
    traits = {
        "PAE" if wide else "32-bit": True,
        "4 MiB pages": not wide and registers.cr4 & CR4_PSE,
        "NX": wide and registers.efer is not None and registers.efer & EFER_NXE,
        "global": registers.cr4 & CR4_PGE,
        "WP": registers.cr0 & CR0_WP,
    }
    return ", ".join(name for name, there in traits.items() if there)
