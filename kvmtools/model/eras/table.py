"""What differs between the eras of the i386 kernel: one table, every cell with its source.

A switch is a list of cells ``(since, value, source)``, oldest first: the value holds from that era until the
next cell's era.  What a switch means is said where :class:`kvmtools.model.eras.Era` declares it.  A source is
``version file``, and the symbol where the file has many; the versions are those whose trees were read: 2.4.0, 2.4.16,
2.4.18-14 (Red Hat's), 2.6.18 (CentOS 5's), 2.6.24, 2.6.32, 5.10.223, 6.1, 6.12 and 7.2.13 (Debian's).
"""

from __future__ import annotations

from kvmtools.model.eras.pages import PAGES
from kvmtools.model.eras.space import SPACE
from kvmtools.model.eras.zones import ZONES

Cell = tuple[str, object, str]

#: Oldest first; each era is named after the kernel that was read for it.
NAMES = ("2.4", "2.6.18", "2.6.24", "2.6.32", "5.10", "6.1", "6.12", "7.2")

#: The switches whose value is a pair ``(non-PAE, PAE)``, where it is one.
PAIRS = frozenset(("page_offsets", "section_size_bits", "max_physmem_bits"))

TABLE: dict[str, tuple[Cell, ...]] = {
    # Which members, symbols and enumerators a kernel of the era was the first to have.
    "marks": (
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
    ),
    **SPACE,
    **PAGES,
    **ZONES,
}
