"""The canonical words for what a finding is about: rules that mean the same thing must say it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvmtools.compare.finding import Finding

if TYPE_CHECKING:
    from kvmtools.compare.evidence import Evidence
    from kvmtools.observe.memmap import MemMap


CONFIGURATION = "configuration"
"""All that the model is told of the guest."""


def slot(number: int) -> str:
    """A pkmap slot."""
    return f"slot {int(number)}"


def pfn(number: int) -> str:
    """A page frame."""
    return f"pfn {int(number):#x}"


def zone(name: str, order: int | None = None) -> str:
    """A zone, or its free area of one order."""
    return f"zone {name}" if order is None else f"zone {name} order {order}"


def pcp(zone_name: str, cpu: int) -> str:
    """A zone's page lists of one CPU."""
    return f"zone {zone_name} cpu {cpu}"


def virtual(address: int) -> str:
    """A virtual address of the kernel's half."""
    return f"virtual {int(address):#x}"


def table(physical: int) -> str:
    """A page table, by its physical address."""
    return f"table {int(physical):#x}"


def field(name: str) -> str:
    """A field of the layout."""
    return f"field {name}"


def bucket(index: int) -> str:
    """A bucket of the page-address hash."""
    return f"page_address_htable[{index}]"


def of_page(memmap: MemMap, number: int, member: str, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a member of the ``struct page`` of a pfn; ``raw`` is its word."""
    number = int(number)
    address = memmap.pfn_to_page(number) + memmap.offsets[member]
    return Finding(
        pfn(number),
        expected,
        observed,
        pfn=number,
        virtual=address,
        physical=address - memmap.base + memmap.physical,
        symbol=f"mem_map[{number:#x}].{member}",
        raw=int(memmap.column(member)[number]),
        **more,
    )


def of_slot(evidence: Evidence, number: int, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a pkmap slot; where and ``raw`` are its PTE unless given."""
    number, pkmap = int(number), evidence.pkmap
    fields = {
        "virtual": evidence.area.address_of(number),
        "physical": pkmap.page_table_physical + number * evidence.entry_size,
        "symbol": f"pkmap_page_table[{number}]",
        "raw": int(pkmap.ptes[number]),
        "virtual_is": "maps virtual",
        "physical_is": "PTE at physical",
    }
    return Finding(slot(number), expected, observed, **{**fields, **more})
