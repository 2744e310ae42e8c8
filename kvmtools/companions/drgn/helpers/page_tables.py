"""What an i386 kernel's page tables say, and memory at addresses that drgn would cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from drgn import FaultError, IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_object_or_program_or_default, takes_program_or_default

from kvmtools.api.adopted import kernel_of
from kvmtools.errors import MemoryFault

if TYPE_CHECKING:
    from kvmtools.api.mappings import MappedPage, MappedRun, Mappings
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.api.translations import TranslatedAddress

__all__ = ("for_each_mapping", "for_each_mapping_run", "open_kernel", "read_physical", "translate_address")


@takes_program_or_default
def open_kernel(prog: Program) -> OpenKernel:
    """
    Get the kernel of a program as :func:`kvmtools.open` returns it, with everything that kvmtools can ask.

    >>> open_kernel(prog).pae
    True

    :return: :class:`kvmtools.OpenKernel`; it is the program's, and must not be closed
    :raises kvmtools.UsageError: if the program is not of an i386 kernel, or was opened without kvmtools' plugin
    :raises kvmtools.SymbolsError: if no vmlinux has been loaded
    """
    return kernel_of(prog)


@takes_program_or_default
def read_physical(prog: Program, address: IntegerLike, size: IntegerLike) -> bytes:
    """
    Read guest-physical memory, above 4 GiB too, where :meth:`drgn.Program.read` would cut the address to 32 bits.

    >>> read_physical(prog, 0x140000000, 4)
    b'\\x00\\x00\\x00\\x00'

    :param address: ``phys_addr_t``
    :param size: Number of bytes.
    :raises FaultError: if a byte of them is not RAM
    :raises kvmtools.SymbolsError: if no vmlinux has been loaded
    """
    try:
        return kernel_of(prog).physical(_number(address), _number(size))
    except MemoryFault as fault:
        raise FaultError(fault.message, fault.address) from None


@takes_object_or_program_or_default
def translate_address(prog: Program, mm: Object | None, addr: IntegerLike | str) -> TranslatedAddress:
    """
    Translate a virtual address: every level of the page table with its raw entry, the effective permissions, the
    ``struct page``.

    This is what :func:`drgn.helpers.linux.mm.follow_phys` cannot do for i386.

    >>> translate_address(prog, "init_task").physical
    0xd7adec0
    >>> translate_address(find_task(1).mm, 0x8048000).fault

    :param mm: ``struct mm_struct *`` of the process that the address belongs to; the kernel's own page table if not
        given.
    :param addr: ``void *``, or a symbol: ``"init_task+8"``
    :return: :class:`kvmtools.TranslatedAddress`.  An address that is not mapped is an answer: its ``fault`` says why.
    :raises kvmtools.UsageError: if *addr* is no address
    """
    kernel = kernel_of(prog)
    return kernel.vtop(_address(addr), cr3=_pgd(kernel, mm))


@takes_object_or_program_or_default
def for_each_mapping(
    prog: Program,
    mm: Object | None,
    *,
    start: IntegerLike | str = 0,
    end: IntegerLike | str | None = None,
    region: str | None = None,
) -> Iterator[MappedPage]:
    """
    Iterate over everything that a page table maps, page by page, in order of address.

    >>> next(for_each_mapping(prog, region="pkmap")).physical
    0x7f800000

    :param mm: ``struct mm_struct *`` of a process; the kernel's own page table if not given.
    :param start: ``void *``
    :param end: ``void *``, the first address behind the range; that of the address space if not given.
    :param region: Only what begins in this region, such as ``"vmalloc"``.
    :return: Iterator of :class:`kvmtools.MappedPage`: ``virtual``, ``physical``, ``size`` (bytes), ``entry`` (raw),
        ``level`` (1 for a table of 4 KiB pages), ``table`` (physical), ``index``, ``writable``, ``user``,
        ``executable``, ``flags``, ``region``.
    :raises kvmtools.UsageError: if the range is empty, or there is no such region
    """
    return _mappings(prog, mm, start, end, region).pages()


@takes_object_or_program_or_default
def for_each_mapping_run(
    prog: Program,
    mm: Object | None,
    *,
    start: IntegerLike | str = 0,
    end: IntegerLike | str | None = None,
    region: str | None = None,
) -> Iterator[MappedRun]:
    """
    Iterate over runs of neighbouring pages that are mapped alike; arguments are those of :func:`for_each_mapping`.

    :return: Iterator of :class:`kvmtools.MappedRun`: ``virtual``, ``end``, ``page_size`` (bytes), ``pages``,
        ``physical``, ``linear``, ``writable``, ``user``, ``executable``, ``flags``, ``region``.
    """
    return _mappings(prog, mm, start, end, region).runs()


def _mappings(
    prog: Program,
    mm: Object | None,
    start: IntegerLike | str,
    end: IntegerLike | str | None,
    region: str | None,
) -> Mappings:
    kernel = kernel_of(prog)
    behind = None if end is None else _address(end)
    return kernel.walk(_address(start), behind, region=region, cr3=_pgd(kernel, mm))


def _pgd(kernel: OpenKernel, mm: Object | None) -> int | None:
    """Physical address of a process's page table, which lies in the direct map."""
    return None if mm is None else int(mm.pgd.value_()) - kernel.page_offset


def _number(value: IntegerLike) -> int:
    return int(value.value_()) if isinstance(value, Object) else int(value)


def _address(value: IntegerLike | str) -> int | str:
    return value if isinstance(value, str) else _number(value)
