"""The list of modules is the guest's: whatever it holds, a prompt comes up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import drgn
import pytest

from kvmtools.api.module_symbols import add_modules
from kvmtools.observe.symbols.debug_file import I386

SOURCE = r"""
struct list_head { struct list_head *next, *prev; };
struct module { int state; struct list_head list; char name[56]; };
struct list_head %s;
struct module first, second;
int _start(void) { return first.state + second.state; }
"""


def program(path: Path, **words: int) -> drgn.Program:
    """A program whose memory holds zeros, and pointers at some symbols."""
    prog = drgn.Program(I386)
    prog.extra_module("vmlinux", create=True).try_file(path, force=True)
    memory = bytearray(1 << 16)
    base = prog.symbol("first").address & ~0xFFFF
    for name, value in words.items():
        at = prog.symbol(name).address - base
        at += 4 if name in ("first", "second") else 0
        memory[at : at + 4] = value.to_bytes(4, "little")
    prog.add_memory_segment(base, 1 << 16, lambda address, count, *_: bytes(memory[address - base :][:count]))
    return prog


@pytest.mark.parametrize("case", ["it turns in a circle", "it leads nowhere", "it is empty", "there is none"])
def test_a_list_that_is_none_gives_no_modules(case: str, compiled: Callable[..., Path]) -> None:
    path = compiled(SOURCE % ("other" if case == "there is none" else "modules"))
    plain = program(path)
    first, second = (plain.symbol(name).address + 4 for name in ("first", "second"))
    words = {
        "it turns in a circle": {"modules": first, "first": second, "second": first},
        "it leads nowhere": {"modules": first, "first": 0xDEAD_BEE0},
        "there is none": {},
    }
    head = {} if case == "there is none" else {"modules": plain.symbol("modules").address}
    prog = program(path, **words.get(case, head))
    add_modules(prog, (path,))
    assert not [each for each in prog.modules() if isinstance(each, drgn.RelocatableModule)]
