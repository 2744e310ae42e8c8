"""The way of one virtual address through its page tables, in text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmtools.show.gaps import Gaps
from kvmtools.show.pages import page_lines
from kvmtools.show.printable import printable
from kvmtools.show.style import paint
from kvmtools.show.tables import permissions, size


def translation_lines(way: Any) -> Iterator[str]:
    """A line for each level, then what lies behind the address.

    :param way: a :class:`kvmtools.TranslatedAddress`
    """
    symbol = f"{way.symbol}  " if way.symbol else ""
    place = printable(f"{symbol}{way.region}  [{way.page_table.name}]")
    yield f"{paint(f'{way.virtual:08x}', bold=True)}  {place}"
    for step in way.steps:
        entry = "outside RAM" if step.entry is None else f"{step.entry:0{2 * way.entry_size}x}  {step.flags}"
        yield f"  {step.name}  table {step.table:09x} [{step.index:>4}]  {entry}"
    if way.physical is None:
        yield "  " + paint(f"not mapped: {way.fault}", fg="red") + (f" ({way.hint})" if way.hint else "")
        return
    access = permissions(way.writable, way.executable, way.user)
    yield "  " + paint(f"physical {way.physical:#x}", bold=True) + f"  {size(way.size)} page  {access}"
    gaps = Gaps()
    page = gaps.get(way, "page")
    if page is not None:
        yield from ("  " + line for line in page_lines(page))
    elif missing := list(gaps.lines()):
        yield from ("  struct page " + line for line in missing)
    else:
        yield "  no struct page: not RAM that the kernel manages (MMIO, firmware)"
