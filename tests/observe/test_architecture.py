"""The two rows of the observer's architectures, written down a second time."""

from __future__ import annotations

from dataclasses import fields

import pytest

from kvmtools.errors import SymbolsError
from kvmtools.observe.architecture import ARCHITECTURES, I386, I386_PAE, Architecture, architecture_of

SHARED = {
    "word_size": 4,
    "word_bits": 32,
    "address_end": 0x1_0000_0000,
    "root": "swapper_pg_dir",
    "elf_machine": 3,
}
OWN = {
    "i386": {"physical_bits": 32, "vmcoreinfo": (), "told": {"pae": False}},
    "i386 PAE": {
        "physical_bits": 36,
        "vmcoreinfo": ("CONFIG_X86_PAE=y",),
        "told": {"pae": True},
    },
}


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.name)
def test_a_row_says_what_the_machine_is(row: Architecture) -> None:
    known = SHARED | OWN[row.name]
    assert {name: getattr(row, name) for name in known} == known
    assert (row.word.kind, row.signed_word.kind, row.signed_word.itemsize) == ("u", "i", 4)
    assert row.linear_map_end == "high_memory"
    assert row.paging.address_end == row.address_end
    assert {field.name for field in fields(row)} >= {"paging", "boot_roots"}


def test_the_size_of_an_entry_tells_the_row() -> None:
    assert (architecture_of(4), architecture_of(8)) == (I386, I386_PAE)
    with pytest.raises(SymbolsError, match="16 bytes"):
        architecture_of(16)
