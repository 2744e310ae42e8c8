"""The lists that a CPU keeps of free pages, told by the model which order each is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_guest import RecordedGuest, exchanged

from kvmtools.compare import list_orders
from kvmtools.compare.engine import check
from kvmtools.compare.list_orders import with_orders
from kvmtools.errors import Absent
from kvmtools.findings import Status
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.observed import Observed

ORDERS = {
    "pae": [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [10] * 2,
    "nopae": [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3,
}
"""The PAE kernel has transparent huge pages; without hugetlbfs a pageblock is the largest block."""


def check_count(seen: Observed) -> Status:
    (outcome,) = check(seen, only=["pcp.count"]).outcomes
    return outcome.status


def test_every_list_is_told_its_order(recorded: RecordedGuest) -> None:
    zones = recorded.healthy.populated_zones
    assert [zone.name for zone in zones] == ["DMA", "NORMAL", "HIGHMEM"]
    wanted = ORDERS["pae" if recorded.kernel.architecture is I386_PAE else "nopae"]
    assert [[each.order for each in one.lists] for zone in zones for one in zone.pcp] == [wanted] * 6
    for zone in zones:
        assert [one.pages for one in zone.pcp] == [one.count for one in zone.pcp]
        assert len(set(zone.pcp_pages.tolist())) == sum(one.count for one in zone.pcp)


def test_who_asks_for_an_order_that_cannot_be_told_learns_why(recorded: RecordedGuest) -> None:
    lost = Absent("zone.free_area", "a vmlinux")
    told = replace(recorded.healthy.prediction.configuration)
    object.__setattr__(told, "max_order", lost)
    zones = with_orders(recorded.observe().zones, told)
    with pytest.raises(Absent, match=r"zone\.free_area"):
        _ = zones[1].pcp[0].pages
    assert zones[1].pcp[0].lists[0].broken is None


def test_a_wrong_order_is_found_by_the_kernels_count(
    recorded: RecordedGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorded.observe()
    assert check_count(seen) is Status.AGREE
    monkeypatch.setattr(list_orders, "list_orders", lambda _configuration, lists: (1,) * lists)
    assert check_count(exchanged(seen)) is Status.DISCREPANCY
