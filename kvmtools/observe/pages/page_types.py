"""What ``page->page_type`` says of a page that is not mapped to user space.

Two encodings (include/linux/page-flags.h).  Up to 6.9 a type *clears* its bit in a word that is otherwise
all ones; the bits are macros.  From 6.12 on the top byte is the type, and ``enum pagetype`` names it; in between
the enumeration names the bits.  Either way a type is a mask and a value, and which encoding it is shows in
whether the enumeration exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvmtools.observe.architecture import UNSIGNED_INT_SPAN
from kvmtools.observe.symbols.vmlinux import Vmlinux

_BITS_BASE = 0xF000_0000
_BITS_MAPCOUNT_RESERVE = -128
# 6.1: PG_table moved down when PG_kmemcg went away in 5.11.
_BITS = {"buddy": 0x80, "offline": 0x100, "table": 0x200, "guard": 0x400}
_BITS_WITH_KMEMCG = {"buddy": 0x80, "offline": 0x100, "kmemcg": 0x200, "table": 0x400, "guard": 0x800}
_ENUM_BITS_BASE = 0x8000_0000
_BYTE_SHIFT = 24
_UNDERFLOW = "mapcount_underflow"


@dataclass(frozen=True)
class PageTypes:
    """``codes[name]`` is ``(mask, value)``: a page is of that type if ``page_type & mask == value``."""

    codes: dict[str, tuple[int, int]]
    reserve: int
    """A ``page_type`` below this, as a signed number, is some type; from here to -1 it is a mapcount."""

    def of(self, page_type: NDArray[np.uint32], name: str) -> NDArray[np.bool_]:
        """Which pages are of type ``name``; none, if this kernel does not have the type."""
        if name not in self.codes:
            return np.zeros(page_type.shape, np.bool_)
        mask, value = self.codes[name]
        pages: NDArray[np.bool_] = (page_type & np.uint32(mask)) == np.uint32(value)
        return pages

    def any(self, page_type: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which pages have some type (``page_has_type``)."""
        return page_type.view(np.int32) < self.reserve

    def names_of(self, page_type: int) -> tuple[str, ...]:
        """The types of one page; more than one only where the word is damaged."""
        return tuple(name for name, (mask, value) in self.codes.items() if page_type & mask == value)


def page_types(vmlinux: Vmlinux) -> PageTypes:
    """The encoding that the kernel of ``vmlinux`` uses."""
    if not vmlinux.has_constant("PGTY_buddy") and not vmlinux.has_constant("PG_buddy"):
        return _cleared_bits(_BITS_BASE, _BITS_WITH_KMEMCG if _has_kmemcg(vmlinux) else _BITS)
    types = vmlinux.enumerators("pagetype")
    if "PG_buddy" in types:
        bits = {name.removeprefix("PG_"): value % UNSIGNED_INT_SPAN for name, value in types.items()}
        return _cleared_bits(_ENUM_BITS_BASE, bits)
    bytes_ = {name.removeprefix("PGTY_"): value for name, value in types.items()}
    codes = {n: (0xFF << _BYTE_SHIFT, v << _BYTE_SHIFT) for n, v in bytes_.items() if n != _UNDERFLOW}
    return PageTypes(codes, (bytes_[_UNDERFLOW] << _BYTE_SHIFT) - UNSIGNED_INT_SPAN)


def _cleared_bits(base: int, bits: dict[str, int]) -> PageTypes:
    return PageTypes({name: (base | bit, base) for name, bit in bits.items()}, _BITS_MAPCOUNT_RESERVE)


def _has_kmemcg(vmlinux: Vmlinux) -> bool:
    """Whether this is a kernel with ``PG_kmemcg``.

    The macro leaves no trace; ``struct per_cpu_pageset`` went away soon after it (5.14), ``page->memcg_data``
    came in its place.  A kernel from 5.11 to 5.13 without MEMCG is taken for an older one.
    """
    return vmlinux.has_type("struct per_cpu_pageset") and not vmlinux.has_member("struct page", "memcg_data")
