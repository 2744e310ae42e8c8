"""What depends on the processor that a kernel was built for, as a value: one row each, no ``if``.

A word is C's ``unsigned long``: a pointer, a pfn, ``page->flags``, half of a ``struct list_head``.  Source of the rows:
arch/x86/include/asm/pgtable_32.h, pgtable-3level.h, sparsemem.h, elf.h, 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from kvmtools.attach.elf import EM_386
from kvmtools.errors import SymbolsError
from kvmtools.observe.paging.forms import NON_PAE, PAE, Form

Words = NDArray[np.unsignedinteger]
"""A column of words, of whatever size."""

UNSIGNED_INT = np.dtype("<u4")
INT = np.dtype("<i4")
"""C's ``int`` and ``unsigned int``: the same in every row."""
UNSIGNED_INT_SPAN = 1 << 32
"""How many values an ``unsigned int`` has."""


class Told(TypedDict):
    """What the model is told of it, as in :class:`kvmtools.records.Configuration`."""

    pae: bool


@dataclass(frozen=True, eq=False)
class Architecture:
    """One row."""

    name: str
    elf_machine: int
    """``e_machine`` of its vmlinux."""
    word: np.dtype[np.unsignedinteger]
    signed_word: np.dtype[np.signedinteger]
    paging: Form
    root: str
    """Symbol of the kernel's own top table, in the image."""
    boot_roots: tuple[str, ...]
    """Symbols of the top tables that serve while CPUs come up."""
    linear_map_end: str
    """Variable that holds the first address behind the linear map, which begins at ``PAGE_OFFSET``."""
    physical_bits: int
    """``MAX_PHYSMEM_BITS``: what SPARSEMEM has sections for."""
    vmcoreinfo: tuple[str, ...]
    """Lines by which VMCOREINFO tells this row from others."""
    told: Told

    @property
    def word_size(self) -> int:
        """Bytes of a word."""
        return self.word.itemsize

    @property
    def word_bits(self) -> int:
        """Bits of a word."""
        return 8 * self.word.itemsize

    @property
    def address_end(self) -> int:
        """The first number that is no virtual address any more; address arithmetic wraps there."""
        return 1 << self.word_bits


I386 = Architecture(
    name="i386",
    elf_machine=EM_386,
    word=np.dtype("<u4"),
    signed_word=np.dtype("<i4"),
    paging=NON_PAE,
    root="swapper_pg_dir",
    boot_roots=("initial_page_table",),
    linear_map_end="high_memory",
    physical_bits=32,
    vmcoreinfo=(),
    told={"pae": False},
)
I386_PAE = replace(
    I386,
    name="i386 PAE",
    paging=PAE,
    physical_bits=36,
    vmcoreinfo=("CONFIG_X86_PAE=y",),
    told={"pae": True},
)

ARCHITECTURES = (I386, I386_PAE)


def architecture_of(entry_size: int) -> Architecture:
    """The row of a kernel whose page table entries have ``entry_size`` bytes (``sizeof(pte_t)``).

    :raises SymbolsError: if there is none
    """
    for row in ARCHITECTURES:
        if row.paging.entry_size == entry_size:
            return row
    raise SymbolsError(
        f"this kernel's page table entries have {entry_size} bytes",
        hint="kvmtools knows i386, with PAE (8 bytes) and without (4)",
    )
