"""The verdict on a guest together with all that a report draws of it, both of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kvmtools.api.checking import declared, verdict
from kvmtools.api.layout import layout_of
from kvmtools.api.mappings import Mappings
from kvmtools.api.page_map import page_map
from kvmtools.api.page_tables import PageTable
from kvmtools.api.page_use import page_use
from kvmtools.api.pkmap import pkmap_slots
from kvmtools.api.zones import all_zones
from kvmtools.errors import Inconclusive, Unobserved, UsageError
from kvmtools.show.gaps import Gaps
from kvmtools.survey import (
    MappedStretch,
    PkmapGrid,
    PkmapSlot,
    ProcessName,
    SpaceMap,
    Survey,
    ZoneFill,
)

if TYPE_CHECKING:
    from kvmtools.api.session import Session
    from kvmtools.observe.observed import Observed

T = TypeVar("T")


def survey(session: Session, only: Sequence[str], skip: Sequence[str], samples: int) -> Survey:
    """What the last of the verdict's observations shows; of a damaged guest, what there is."""
    last: list[Observed] = []

    def observe() -> Observed:
        last[:] = [session.observe()]
        return last[0]

    result = verdict(session, only, skip, samples, observe=observe)
    parts = _Parts(last[0])
    return Survey(
        replace(result, declared=declared(session)),
        session.target.description,
        command_line=parts.read(parts.command_line) or "",
        space=parts.read(parts.space),
        pkmap=parts.read(parts.pkmap),
        pages=parts.read(lambda: page_map(page_use(parts.seen), parts.seen.configuration)),
        zones=parts.read(parts.zones) or (),
        processes=parts.read(parts.processes) or (),
        missing=tuple(parts.missing),
    )


class _Parts:
    """The parts of one observation, each by itself."""

    def __init__(self, seen: Observed) -> None:
        self.seen = seen
        self.missing: dict[str, None] = {}

    def read(self, part: Callable[[], T]) -> T | None:
        """A part; ``None`` if the guest is too damaged for it, or does not have it."""
        try:
            return part()
        except (Unobserved, UsageError, Inconclusive) as reason:
            self.missing[reason.message] = None
            return None

    def command_line(self) -> str:
        return self.seen.configuration.command_line

    def space(self) -> SpaceMap:
        """The kernel's half of the address space."""
        from kvmtools.observe.space.regions import regions_of

        seen, kernel = self.seen, self.seen.kernel
        layout = layout_of(seen.layout, seen.configuration)
        regions = regions_of(kernel, seen.layout)
        mappings = Mappings(PageTable(kernel.root, kernel.architecture.root), seen.walk, regions)
        return SpaceMap(
            start=kernel.page_offset,
            end=kernel.architecture.address_end,
            boundaries=layout.boundaries,
            limits=layout.limits,
            mapped=tuple(_stretches(mappings, kernel.page_offset)),
            era=layout.era,
            refusal=layout.refusal,
        )

    def pkmap(self) -> PkmapGrid | None:
        """The slots; ``None`` without CONFIG_HIGHMEM."""
        slots, gaps = pkmap_slots(self.seen), Gaps()
        if slots is None:
            return None
        used = {slot.slot: slot for slot in slots.used}
        columns = zip(slots.area.counts.tolist(), slots.area.ptes.tolist(), slots.present, strict=True)
        grid = PkmapGrid(
            tuple(
                PkmapSlot(number, count, present, pte, **_told(used.get(number), gaps))
                for number, (count, pte, present) in enumerate(columns)
            ),
            base=gaps.get(slots.area, "base"),
            cursor=gaps.get(slots.area, "cursor"),
        )
        self._note(gaps)
        return grid

    def zones(self) -> tuple[ZoneFill, ...]:
        """Every zone that has pages, as far as it is known."""
        gaps = Gaps()
        found = tuple(_zone(zone, gaps) for zone in all_zones(self.seen) if gaps.get(zone, "present") != 0)
        self._note(gaps)
        return found

    def processes(self) -> tuple[ProcessName, ...]:
        return tuple(ProcessName(each.pid, each.comm) for each in self.seen.processes)

    def _note(self, gaps: Gaps) -> None:
        self.missing.update(dict.fromkeys(gaps.document().get("missing", ())))


def _stretches(mappings: Mappings, start: int) -> Iterator[MappedStretch]:
    """Runs of the kernel's half; those that differ only in flags that are no permissions are one."""
    last: MappedStretch | None = None
    for run in mappings.runs():
        if run.end <= start:
            continue
        this = MappedStretch(
            run.virtual, run.end, run.page_size, run.writable, run.executable, run.user, run.region
        )
        if last is not None and last.end == this.start and _kind(last) == _kind(this):
            last = MappedStretch(last.start, this.end, *_kind(this))
            continue
        if last is not None:
            yield last
        last = this
    if last is not None:
        yield last


def _kind(stretch: MappedStretch) -> tuple[Any, ...]:
    return stretch.page_size, stretch.writable, stretch.executable, stretch.user, stretch.region


def _told(slot: Any, gaps: Gaps) -> dict[str, Any]:
    """What more is known of a slot that is not empty."""
    if slot is None:
        return {}
    return {name: gaps.get(slot, name) for name in ("pfn", "zone")}


def _zone(zone: Any, gaps: Gaps) -> ZoneFill:
    names = ("start_pfn", "end_pfn", "present", "managed", "watermarks")
    return ZoneFill(
        label=zone.place.label,
        title=zone.place.title,
        free=gaps.get(zone, "free_pages"),
        blocks=gaps.read(partial(_blocks, zone)),
        **{name: gaps.get(zone, name) for name in names},
    )


def _blocks(zone: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    areas = zone.free_area
    rows = (
        (each.migratetype, tuple(len(area.lists[number].pages) for area in areas))
        for number, each in enumerate(areas[0].lists)
    )
    return tuple((name, counts) for name, counts in rows if any(counts))
