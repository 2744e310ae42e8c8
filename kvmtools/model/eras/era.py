"""The eras of the i386 kernel: eight rows of constants and switches, chosen by name or by what a kernel shows.

``named("2.4").pkmap_base`` is 0xFE000000.  Values, sources and what each of them means are in
:mod:`~kvmtools.model.eras.space`, :mod:`~kvmtools.model.eras.pages` and :mod:`~kvmtools.model.eras.zones`.
A kernel between two eras is taken for the newest one all of whose marks it shows: 5.4 has no
``task_struct.kmap_ctrl`` yet and counts as 5.10, 5.15 and 6.6 have it and count as 6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmtools.errors import UsageError
from kvmtools.model.eras.columns import NAMES, Column
from kvmtools.model.eras.dialects import FixmapBootStart
from kvmtools.model.eras.pages import PageColumns
from kvmtools.model.eras.space import SpaceColumns
from kvmtools.model.eras.zones import ZoneColumns

_VERSION = re.compile(r"[1-9][0-9]{0,2}(\.(0|[1-9][0-9]{0,2})){1,3}")


@dataclass(frozen=True)
class Era(SpaceColumns, PageColumns, ZoneColumns):
    """One row of the table.  Addresses and sizes are in bytes; a pair is ``(non-PAE, PAE)``, indexed by ``pae``."""

    name: str

    marks = Column[tuple[str, ...]](
        ("2.4", ("page.flags",), "2.4.16 include/linux/mm.h"),
        ("2.6.18", ("zone.spanned_pages",), "2.6.18 include/linux/mmzone.h"),
        ("2.6.24", ("task_struct.se",), "2.6.24 include/linux/sched.h"),
        ("2.6.32", ("vmap_area.va_start",), "2.6.32 mm/vmalloc.c"),
        (
            "5.10",
            ("page.page_type", "cpu_entry_area.tss"),
            "5.10 include/linux/mm_types.h, arch/x86/include/asm/cpu_entry_area.h",
        ),
        ("6.1", ("task_struct.kmap_ctrl",), "6.1 include/linux/sched.h"),
        ("6.12", ("PGTY_buddy",), "6.12 include/linux/page-flags.h"),
        ("7.2", ("zone.trylock_free_pages",), "7.2 include/linux/mmzone.h"),
    )
    """Members, symbols and enumerators that no older era has and every newer one has too."""

    def fixmap(self, nr_cpus: int, *, pae: bool, highmem: bool = True) -> tuple[int, int]:
        """``(end_of_permanent_fixed_addresses, end_of_fixed_addresses)`` of an ordinary build, in slots."""
        permanent = self.fixmap_slots
        if highmem or self.kmap_slots_always:
            permanent += self.kmap_slots_per_cpu * nr_cpus
        boot = self.fixmap_boot_slots
        if not boot:
            return permanent, permanent
        table = 512 if pae else 1024
        fits = permanent // table == (permanent + boot - 1) // table
        begins = self.fixmap_boot_start
        next_one = begins is FixmapBootStart.NEXT or (begins is FixmapBootStart.ONE_TABLE and fits)
        # The last slot, after those for booting, is the one of the WP test.
        return permanent, (permanent if next_one else (permanent // boot + 1) * boot) + boot + 1


def named(name: str) -> Era:
    """The era of that name.

    :raises UsageError: if there is none
    """
    if name not in _ERAS:
        raise UsageError(
            f"no era is named {name!r}{_neighbours(name)}", hint=f"the eras are {', '.join(NAMES)}"
        )
    return _ERAS[name]


def _neighbours(name: str) -> str:
    """What to add about a kernel that is between two eras or outside them; nothing if ``name`` is no version."""
    if not _VERSION.fullmatch(name):
        return ""
    older = sum(_age(era) < _age(name) for era in NAMES)
    if older in (0, len(NAMES)):
        return f"; the oldest is {NAMES[0]}, the newest {NAMES[-1]}"
    return f"; it lies between {NAMES[older - 1]} and {NAMES[older]}"


def _age(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def shown(marks: frozenset[str]) -> Era:
    """The newest era all of whose own marks are among ``marks``; the answer to what a live kernel shows.

    :raises UsageError: if not even the oldest era's are
    """
    for name in reversed(NAMES):
        if marks.issuperset(_ERAS[name].marks):
            return _ERAS[name]
    raise UsageError(
        "this kernel shows no era's marks",
        hint=f"an i386 kernel of any era has {', '.join(_ERAS[NAMES[0]].marks)}",
    )


def source(era: str, field: str) -> str:
    """Where the value of ``field`` in the era of that name is taken from: version, file, symbol.

    :raises UsageError: if there is no such era or field
    """
    named(era)
    if field not in COLUMNS:
        raise UsageError(f"no era has a field {field!r}", hint=f"the fields are {', '.join(COLUMNS)}")
    return COLUMNS[field].at(era).source


def _columns() -> dict[str, Column[object]]:
    parts = (Era, SpaceColumns, PageColumns, ZoneColumns)
    return {name: each for part in parts for name, each in vars(part).items() if isinstance(each, Column)}


#: Every field of an era by its name, in the order in which they are written down.
COLUMNS = _columns()

_ERAS = {name: Era(name) for name in NAMES}
