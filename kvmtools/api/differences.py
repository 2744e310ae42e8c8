"""What is different between two looks at a guest, or between two guests: ``kvmtools.diff()``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.opening import open_kernel
from kvmtools.api.page_use import page_use
from kvmtools.errors import Unobserved, UsageError
from kvmtools.observe.changes.mapping_changes import CHANGES, MappingChanges, mapping_changes
from kvmtools.observe.pages.page_states import STATES
from kvmtools.observe.space.regions import regions_of
from kvmtools.show.differences import differences_text
from kvmtools.show.style import uncoloured

if TYPE_CHECKING:
    from kvmtools.observe.observed import Observed
    from kvmtools.observe.paging.walk import Walk
    from kvmtools.observe.zones.zones import Zone


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    target: str
    release: str
    build_id: str
    slide: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where the first page of a stretch leads, and by which (effective) rights."""

    physical: int
    entry: int
    """Raw."""
    writable: bool
    user: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class MappingChange:
    """A stretch ``[virtual, end)`` of the kernel's address space that is mapped otherwise."""

    change: str
    """``"appeared"``, ``"gone"`` or ``"changed"``."""
    virtual: int
    end: int
    region: str
    before: Mapped | None
    after: Mapped | None


@dataclass(frozen=True, slots=True)
class ProcessChange:
    """A process that came, went, or has another address space than before; sizes in bytes."""

    change: str
    pid: int
    name: str
    appeared: int = 0
    gone: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class SlotChange:
    """A slot of pkmap: its ``pkmap_count`` and its raw entry, before and after."""

    slot: int
    counts: tuple[int, int]
    ptes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class NumberChange:
    """Any other number."""

    name: str
    before: int | None
    after: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Differences:
    """All that is different; prints as ``kvmtools diff`` does, and is true if there is any difference."""

    before: Side
    after: Side
    mappings: tuple[MappingChange, ...] = ()
    """Of the kernel's own page table; those of pkmap are among :attr:`slots`."""
    processes: tuple[ProcessChange, ...] = ()
    flow: NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(STATES), len(STATES)), np.int64))
    """Pages that did what the row says and do what the column says, shape ``(states, states)``; the diagonal stayed."""
    states: tuple[str, ...] = STATES
    slots: tuple[SlotChange, ...] = ()
    cursor: tuple[int, int] | None = None
    """``last_pkmap_nr`` before and after, if it moved."""
    zones: Mapping[str, tuple[NumberChange, ...]] = field(default_factory=dict)
    """By zone: its sizes and free blocks that are others; one that only one side has has all of its own."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """What could not be compared, and why."""

    @property
    def moved(self) -> int:
        """Pages that do something else."""
        return int(self.flow.sum() - np.trace(self.flow))

    def __bool__(self) -> bool:
        found = (self.mappings, self.processes, self.moved, self.slots, self.cursor, self.zones)
        return any(map(bool, found)) or self.before.build_id != self.after.build_id

    def __repr__(self) -> str:
        return uncoloured(differences_text(self))


def diff(before: OpenKernel | str | Path, after: OpenKernel | str | Path) -> Differences:
    """Compare two looks: what came, went and changed of the kernel's and the processes' mappings, what pages do,
    pkmap's slots and the zones.

    :param before: a kernel that is open, live or not, or the path of a recording
    :param after: the same; a live one is looked at again, if it is the same as before
    :raises AttachError: if a path is no core
    """
    first, one = _look(before)
    second, other = _look(after)
    return differences(first, second, one, other)


def _look(which: OpenKernel | str | Path) -> tuple[Observed, Side]:
    if isinstance(which, OpenKernel):
        seen = which.observe()
        vmlinux = which.session.kernel.vmlinux
        return seen, Side(which.session.target.description, which.release, vmlinux.build_id, which.slide)
    with open_kernel(core=which) as kernel:
        return _look(kernel)


def differences(before: Observed, after: Observed, one: Side, other: Side) -> Differences:
    """Compare two observations."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    parts: dict[str, Callable[[Observed, Observed], dict[str, Any]]] = {
        "mappings": _mappings,
        "processes": _processes,
        "pages": _pages,
        "pkmap": _pkmap,
        "zones": _zones,
    }
    for name, compare in parts.items():
        try:
            found.update(compare(before, after))
        except (Unobserved, UsageError) as error:
            missing[name] = error.message
    return Differences(one, other, **found, missing=missing)


def _mappings(before: Observed, after: Observed) -> dict[str, Any]:
    regions = regions_of(after.kernel, after.layout)
    changes = mapping_changes(before.walk, after.walk, [region.start for region in regions])

    def rows() -> Iterator[MappingChange]:
        for row in range(len(changes)):
            virtual = int(changes.virtual[row])
            if regions.find(virtual).name == "pkmap":
                continue  # its slots are told one by one
            yield MappingChange(
                change=CHANGES[changes.change[row]],
                virtual=virtual,
                end=virtual + int(changes.size[row]),
                region=regions.find(virtual).name,
                before=_leaf(before.walk, int(changes.before[row]), virtual),
                after=_leaf(after.walk, int(changes.after[row]), virtual),
            )

    return {"mappings": tuple(rows())}


def _leaf(walk: Walk, row: int, virtual: int) -> Mapped | None:
    if row < 0:
        return None
    leaf = walk.mapping(row)
    physical = leaf.physical + virtual - leaf.virtual
    return Mapped(physical, leaf.entry, leaf.writable, leaf.user, leaf.executable)


def _processes(before: Observed, after: Observed) -> dict[str, Any]:
    # A pid may be another process's by now: the task and its page table tell.
    old, new = (
        {(each.pid, each.task, each.pgd): each.comm for each in seen.processes} for seen in (before, after)
    )
    found = [ProcessChange("gone", key[0], name) for key, name in old.items() if key not in new]
    for key, name in new.items():
        pid = key[0]
        if key not in old:
            found.append(ProcessChange("appeared", pid, name))
        elif pid in before.user_walks and pid in after.user_walks:
            changes = mapping_changes(before.user_walks[pid], after.user_walks[pid])
            if len(changes):
                found.append(ProcessChange("changed", pid, name, *_sizes(changes)))
    return {"processes": tuple(sorted(found, key=lambda each: each.pid))}


def _sizes(changes: MappingChanges) -> tuple[int, ...]:
    """Bytes by kind of change."""
    return tuple(int(changes.size[changes.change == kind].sum()) for kind in range(len(CHANGES)))


def _pages(before: Observed, after: Observed) -> dict[str, Any]:
    old, new = page_use(before), page_use(after)
    count = min(len(old.states), len(new.states))
    both = old.memmap.valid[:count] & new.memmap.valid[:count]
    kinds = len(STATES)
    pairs = old.states[:count][both].astype(np.int64) * kinds + new.states[:count][both]
    return {"flow": np.bincount(pairs, minlength=kinds * kinds).reshape(kinds, kinds)}


def _pkmap(before: Observed, after: Observed) -> dict[str, Any]:
    old, new = before.pkmap, after.pkmap
    if old is None or new is None:
        return {}
    count = min(len(old.counts), len(new.counts))
    changed = (old.counts[:count] != new.counts[:count]) | (old.ptes[:count] != new.ptes[:count])
    slots = tuple(
        SlotChange(
            slot,
            (int(old.counts[slot]), int(new.counts[slot])),
            (int(old.ptes[slot]), int(new.ptes[slot])),
        )
        for slot in np.flatnonzero(changed).tolist()
    )
    return {"slots": slots, "cursor": (old.cursor, new.cursor) if old.cursor != new.cursor else None}


def _zones(before: Observed, after: Observed) -> dict[str, Any]:
    old, new = ({zone.place.label: _numbers(zone) for zone in seen.zones} for seen in (before, after))
    found = {}
    for label in dict.fromkeys((*old, *new)):
        was, now = old.get(label, {}), new.get(label, {})
        changes = tuple(
            NumberChange(name, was.get(name), now.get(name))
            for name in dict.fromkeys((*was, *now))
            if was.get(name) != now.get(name)
        )
        if changes:
            found[label] = changes
    return {"zones": found}


def _numbers(zone: Zone) -> dict[str, int]:
    """What there is to be said of a zone, in pages, or in blocks of an order."""
    numbers = {
        **{name: getattr(zone, name) for name in ("start_pfn", "spanned", "present", "managed")},
        "free": zone.free_pages,
        **{f"watermark {name}": pages for name, pages in zone.watermarks.items()},
        "per-CPU": sum(each.count for each in zone.pcp),
    }
    return numbers | {f"free blocks of order {area.order}": area.blocks for area in zone.free_area}
