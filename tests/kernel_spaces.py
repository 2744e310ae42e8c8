"""Kernel spaces for tests, of any RAM map, without a configuration behind them."""

from __future__ import annotations

from kvmtools.model.memmaps.metered_memory import KernelSpace
from kvmtools.model.memory.ram import Ram
from kvmtools.model.paging.forms import non_pae, pae
from kvmtools.records import Range

PAGE_OFFSET = 0xC0000000
IMAGE = Range(0x100, 0x110)
"""At 1 MiB, as 2.4 had it, so that little RAM suffices."""


def kernel_space(*ram: Range, with_pae: bool = True, max_low_pfn: int = 0x30000) -> KernelSpace:
    """RAM in large pages where it fills them; lowmem ends at 768 MiB."""
    form = pae() if with_pae else non_pae()
    lowmem = Ram(ram, ram[-1].end).below(max_low_pfn)
    pages = form.levels[-2].span >> 12
    return KernelSpace(
        form,
        ram,
        page_offset=PAGE_OFFSET,
        mapped=lowmem,
        may_be_large=lambda start: lowmem.pages(start >> 12, (start >> 12) + pages) == pages,
        image=IMAGE,
    )
