"""Which blocks lie on a CPU's n-th list of free pages: the model's word, for the lists as they were observed.

Nothing in a guest stores it.  If the model has an order wrong, ``pcp.count`` counts other pages than the kernel does.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from kvmtools.errors import Unobserved
from kvmtools.model.buddy.per_cpu_lists import list_orders
from kvmtools.observe.partial import exchanged, known
from kvmtools.observe.zones.per_cpu_pages import PerCpuPages
from kvmtools.observe.zones.zones import Zone
from kvmtools.records import Configuration


def with_orders(zones: tuple[Zone, ...], configuration: Configuration) -> tuple[Zone, ...]:
    """``zones``, whose CPUs' lists were told their orders; who asks for one that cannot be told learns why."""

    def told(zone: Zone) -> Zone:
        with suppress(Unobserved):
            return exchanged(zone, pcp=tuple(_told(each, configuration) for each in zone.pcp))
        return zone

    return tuple(map(told, zones))


def _told(pageset: PerCpuPages, configuration: Configuration) -> PerCpuPages:
    count = len(pageset.lists)

    def order(number: int) -> int:
        return list_orders(configuration, count)[number]

    lists = (
        exchanged(each, order=known(partial(order, number), "per_cpu_pages.lists"))
        for number, each in enumerate(pageset.lists)
    )
    return exchanged(pageset, lists=tuple(lists))
