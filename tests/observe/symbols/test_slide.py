"""Finding a kernel in memory: a small one, linked as a kernel is, put where KASLR might."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images import load_image

from kvmtools.errors import MemoryFault, SymbolsError
from kvmtools.observe.architecture import I386_PAE
from kvmtools.observe.kernel import Kernel, locate
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.paths import cache_dir
from kvmtools.records import Registers

SOURCE = r"""
const char linux_banner[] = "Linux version 6.1.0-test (somebody@somewhere) %s\n";
void *high_memory = (void *)0xc8000000;
struct pair { short small; int counter; } pair = { -2, -3 };
unsigned long long wide = 0x1122334455667788;
char text[] = "some text";
struct pair *pointer = &pair;
typedef struct { unsigned pte; } pte_t;
pte_t entry;
char *stop_here(void) { return text + linux_banner[0] + pair.small + wide + (int)pointer; }
"""

SCRIPT = """
ENTRY(stop_here)
PHDRS { load PT_LOAD; note PT_NOTE; }
SECTIONS {
    . = 0xc1000000;
    _stext = .;
    .text : AT(ADDR(.text) - 0xc0000000) { *(.text*) } :load
    .rodata : AT(ADDR(.rodata) - 0xc0000000) { *(.rodata*) *(.eh_frame) } :load
    .notes : AT(ADDR(.notes) - 0xc0000000) { __start_notes = .; *(.note.*) __stop_notes = .; } :load :note
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.bss*) *(.got*) } :load
}
"""

Build = Callable[[str], Path]


@pytest.fixture
def kernel_of(compiled: Callable[..., Path], tmp_path: Path) -> Build:
    """A vmlinux whose banner ends in the given word."""
    script = tmp_path / "kernel.lds"
    script.write_text(SCRIPT)

    def build(word: str) -> Path:
        return compiled(SOURCE % word, "-m32", "-g", "-Wl,--build-id", f"-Wl,-T,{script}")

    return build


@pytest.fixture
def memory(little_memory: Callable[..., Any]) -> Any:
    return little_memory((0, 0xA0000), (0x100000, 128 << 20))


@pytest.mark.parametrize("slide", [0, 0x20_0000, 0x260_0000, 0x2000, 0x10_6000])
def test_the_slide_is_found_by_what_stands_in_memory(kernel_of: Build, memory: Any, slide: int) -> None:
    vmlinux = kernel_of("one")
    load_image(memory, vmlinux, slide)
    kernel = locate(memory, Vmlinux.load(vmlinux))
    assert kernel.slide == slide
    assert kernel.page_offset == 0xC000_0000
    assert kernel.lowmem_end == 0xC800_0000
    assert kernel.architecture is not I386_PAE
    assert kernel.address("_stext") == 0xC100_0000 + slide


def test_vmcoreinfo_names_a_slide_that_no_search_would_try(kernel_of: Build, memory: Any) -> None:
    vmlinux = kernel_of("one")
    load_image(memory, vmlinux, 0x123000)
    note = "OSRELEASE=6.1.0-test\nSYMBOL(_stext)=c1123000\nCONFIG_X86_PAE=y\n"
    assert locate(memory, Vmlinux.load(vmlinux), note).slide == 0x123000


def test_a_stale_vmcoreinfo_is_not_believed(kernel_of: Build, memory: Any) -> None:
    vmlinux = kernel_of("one")
    load_image(memory, vmlinux, 0x40_0000)
    assert locate(memory, Vmlinux.load(vmlinux), "SYMBOL(_stext)=c1a00000\n").slide == 0x40_0000


def test_a_copy_of_the_banner_is_not_a_kernel(kernel_of: Build, memory: Any) -> None:
    path = kernel_of("one")
    vmlinux = Vmlinux.load(path)
    memory.write(vmlinux.symbol("linux_banner") - 0xC000_0000, vmlinux.banner + b"\0")
    load_image(memory, path, 0x60_0000)
    assert locate(memory, vmlinux).slide == 0x60_0000


def test_only_the_banner_is_needed(kernel_of: Build, memory: Any) -> None:
    """A vmlinux without the other names: the note is passed over, and the banner has to do."""
    path = kernel_of("one")
    load_image(memory, path, 0x60_0000)
    facts = Vmlinux.load(path)
    locate(memory, facts)
    absent = dict.fromkeys((f"symbol {name}" for name in ("_stext", "__start_notes", "__stop_notes")), None)
    answers = {**facts.to_json()["answers"], **absent}
    vmlinux = Vmlinux.from_json({**facts.to_json(), "answers": answers})
    assert locate(memory, vmlinux, "SYMBOL(_stext)=c1a00000\n").slide == 0x60_0000


def test_another_kernels_vmlinux_is_refused_with_both_build_ids(kernel_of: Build, memory: Any) -> None:
    booted, other = kernel_of("one"), kernel_of("two")
    load_image(memory, booted, 0x20_0000)
    vmlinux, guest = Vmlinux.load(other), Vmlinux.load(booted).build_id
    with pytest.raises(SymbolsError) as by_note:
        locate(memory, vmlinux, f"OSRELEASE=6.1.0-test\nBUILD-ID={guest}\nPAGESIZE=4096\n")
    assert vmlinux.build_id in by_note.value.message
    assert guest in by_note.value.message
    memory.write(0x500_0FF0, f"OSRELEASE=6.1.0-test\nBUILD-ID={guest}\nPAGESIZE=4096\n".encode())
    with pytest.raises(SymbolsError, match=guest):
        locate(memory, vmlinux)


def test_only_of_a_kernel_that_a_guest_runs_something_is_kept(kernel_of: Build, memory: Any) -> None:
    booted, other = Vmlinux.load(kernel_of("one")), Vmlinux.load(kernel_of("two"))
    load_image(memory, kernel_of("one"), 0x20_0000)
    with pytest.raises(SymbolsError):
        locate(memory, other)
    locate(memory, booted)
    for vmlinux in (other, booted):
        vmlinux.save()
    assert [each.stem for each in (cache_dir() / "facts").iterdir()] == [booted.build_id]


def test_a_guest_that_wrote_no_note_is_named_by_its_banner(kernel_of: Build, memory: Any) -> None:
    load_image(memory, kernel_of("one"), 0)
    with pytest.raises(SymbolsError, match=r"somebody@somewhere\) one"):
        locate(memory, Vmlinux.load(kernel_of("two")))


@pytest.mark.parametrize(("paging", "said"), [(0, "no kernel runs"), (1 << 31, "not the guest's kernel")])
def test_a_kernel_that_is_still_unpacked_is_no_other_kernel(
    kernel_of: Build, memory: Any, paging: int, said: str
) -> None:
    memory.write(0x123_4560, b"Linux version 6.1.0-test (somebody@somewhere) #\n")
    cpu = Registers(0, 0x124_0000, paging | 0x11, 0, 0, 0, idt=0)
    with pytest.raises(SymbolsError, match=said):
        locate(memory, Vmlinux.load(kernel_of("one")), None, [cpu])


def test_memory_without_a_kernel(kernel_of: Build, memory: Any) -> None:
    with pytest.raises(SymbolsError, match="no Linux kernel") as caught:
        locate(memory, Vmlinux.load(kernel_of("one")))
    assert "booted" in caught.value.hint


@pytest.fixture
def kernel(kernel_of: Build, memory: Any) -> Kernel:
    vmlinux = kernel_of("one")
    load_image(memory, vmlinux, 0x40_0000)
    return locate(memory, Vmlinux.load(vmlinux))


def test_reads_of_the_linear_map(kernel: Kernel) -> None:
    pair = kernel.address("pair")
    assert kernel.member(pair, "struct pair", "counter", signed=True) == -3
    assert kernel.member(pair, "struct pair", "small") == 0xFFFE
    assert kernel.variable("wide") == kernel.integer(kernel.address("wide"), 8) == 0x1122_3344_5566_7788
    assert kernel.integer(pair + 4, 4, signed=True) == -3
    assert kernel.u32(pair + 4) == 0xFFFF_FFFD
    assert kernel.array(kernel.address("wide"), "<u2", 4).tolist() == [0x7788, 0x5566, 0x3344, 0x1122]
    assert kernel.array(pair, np.dtype("<i2"), 1).tolist() == [-2]
    assert kernel.read(kernel.address("text"), 4) == b"some"
    assert kernel.virtual(kernel.physical(pair)) == pair


def test_strings_end_at_their_nul_their_limit_or_the_last_page(kernel: Kernel, memory: Any) -> None:
    assert kernel.string(kernel.address("text")) == "some text"
    assert kernel.string(kernel.address("text"), limit=6) == "some t"
    memory.write(0x500_0FFA, b"across the page\0")
    assert kernel.string(0xC500_0FFA) == "across the page"
    memory.write((128 << 20) - 3, b"end")
    assert kernel.string(0xC7FF_FFFD) == "end"


def test_outside_the_linear_map_there_is_nothing(kernel: Kernel) -> None:
    for address in (0xBFFF_FFFF, 0xC800_0000, 0xFFFF_F000):
        with pytest.raises(MemoryFault, match="linear map") as caught:
            kernel.read(address, 1)
        assert caught.value.space == "virtual"
    with pytest.raises(MemoryFault, match="linear map"):
        kernel.virtual(0x800_0000)
    with pytest.raises(MemoryFault):
        kernel.read(0xC00A_0000, 1)  # in the linear map, but no RAM


def test_one_cpu_has_no_per_cpu_offsets(kernel: Kernel) -> None:
    assert kernel.per_cpu(0xC123_4560, 0) == 0xC123_4560
