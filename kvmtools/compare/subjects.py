"""The canonical words for what a finding is about: rules that mean the same thing must say it alike."""

from __future__ import annotations

CONFIGURATION = "configuration"
"""All that the model is told of the guest."""


def slot(number: int) -> str:
    """A pkmap slot."""
    return f"slot {int(number)}"


def pfn(number: int) -> str:
    """A page frame."""
    return f"pfn {int(number):#x}"


def zone(title: str, order: int | None = None) -> str:
    """A zone by its title, or its free area of one order."""
    return title if order is None else f"{title} order {order}"


def pcp(zone_title: str, cpu: int) -> str:
    """A zone's page lists of one CPU."""
    return f"{zone_title} cpu {cpu}"


def node(number: int) -> str:
    """A memory node."""
    return f"node {number}"


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
