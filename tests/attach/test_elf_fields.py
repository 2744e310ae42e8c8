"""Every field of an ELF file's headers, each with every value that is likely to be wrong: an answer, or our own error.

Whatever reads ELF files is asked: the reader itself, a vmlinux, a core, and the look at a guest that does not answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_elf
from small_elf import BASE, PHYSICAL, Place, SmallElf

from kvmtools.attach.elf import ElfError, ElfFile
from kvmtools.attach.memory.elf_core import ElfCore
from kvmtools.boot.guests import cpu_places
from kvmtools.errors import KvmtoolsError
from kvmtools.observe.symbols.vmlinux_file import read_vmlinux
from kvmtools.records import Registers

Reader = Callable[[Path], object]

PAGED, UNPAGED = (Registers(0, eip, cr0, 0, 0, None) for eip, cr0 in ((BASE, 1 << 31), (PHYSICAL, 0)))


def read_all(path: Path) -> object:
    """All that :class:`ElfFile` can be asked."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        elf = ElfFile(descriptor)
        contents = [elf.content(each) for each in elf.sections]
        places = [elf.nearest_symbol(at) for at in (0, BASE, BASE + 70, BASE + 4096, (1 << 64) - 1)]
        reads = [elf.read(at, 16) for at in (0, BASE, BASE + 90, (1 << 64) - 8)]
        return elf.segments, contents, list(elf.notes()), places, reads, elf.section(".rodata")
    finally:
        os.close(descriptor)


def read_as_vmlinux(path: Path) -> object:
    found = read_vmlinux(path)
    return found, found.read(BASE, 16), found.read(BASE + 90, 16)


def read_as_core(path: Path) -> object:
    core = ElfCore(path)
    try:
        everything = [core.read(each.start, min(len(each), 4096)) for each in core.ranges]
        views = [bytes(core.view(each.start, min(len(each), 16))) for each in core.ranges]
        return core.registers(), core.vmcoreinfo(), everything, views, core.next_data(core.ranges[0].start)
    finally:
        core.close()


def look_for_it(path: Path) -> object:
    """Where the CPUs of a guest are whose vmlinux this is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        kernel = cpu_places.loaded(ElfFile(descriptor), path.with_name("ram"))
        return kernel and (kernel.slide, kernel.panic(), kernel.symbol(PAGED), kernel.symbol(UNPAGED))
    finally:
        os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Beside it, the RAM of a guest that has loaded the kernel of :mod:`small_elf`."""
    with (tmp_path / "ram").open("wb") as ram:
        ram.truncate(PHYSICAL + (1 << 20))
        os.pwrite(ram.fileno(), small_elf.BANNER, PHYSICAL)
        os.pwrite(ram.fileno(), b"Kernel panic - not syncing: of a test\n", PHYSICAL + len(small_elf.BANNER))
    return tmp_path / "file"


SMALL = {
    f"{make.__name__} {bits}": make(bits) for make in (small_elf.vmlinux, small_elf.core) for bits in (32, 64)
}
READERS: list[tuple[Reader, str]] = [
    *((read_all, name) for name in SMALL),
    (read_as_vmlinux, "vmlinux 32"),
    (look_for_it, "vmlinux 32"),
    (look_for_it, "vmlinux 64"),
    (read_as_core, "core 32"),
    (read_as_core, "core 64"),
]  # fmt: skip


def wrong(value: int, place: Place) -> Iterator[int]:
    """Nothing, all bits, one off, half of it, the ends of a signed number."""
    largest = place.largest
    candidates = (
        *(0, largest, largest - 7, largest >> 1),
        *(value + 1, value - 1, value + 4096),
    )
    yield from sorted({each for each in candidates if 0 <= each <= largest} - {value})


def outcome(reader: Reader, file: Path, data: bytes) -> object:
    """What it answers; the text of an error that it may raise."""
    file.write_bytes(data)
    try:
        return reader(file)
    except (ElfError, KvmtoolsError) as error:
        return str(error)


@pytest.mark.parametrize(("reader", "name"), READERS)
def test_the_whole_file_is_read(reader: Reader, name: str, file: Path) -> None:
    file.write_bytes(SMALL[name].data)
    assert reader(file)


def test_what_it_says(file: Path) -> None:
    file.write_bytes(SMALL["vmlinux 32"].data)
    assert look_for_it(file) == (0, "Kernel panic - not syncing: of a test", *["linux_banner+0x0"] * 2)
    assert read_as_vmlinux(file)[0].build_id == bytes(range(20)).hex()  # type: ignore[index]
    file.write_bytes(SMALL["core 64"].data)
    assert read_as_core(file)[0] == (Registers(0, BASE, 0x8005_0033, 0x1000, 0x10, None, 0xFFC0_0000),)  # type: ignore[index]


@pytest.mark.parametrize(("reader", "name"), READERS)
def test_no_field_makes_a_reader_fail_in_its_own_way(reader: Reader, name: str, file: Path) -> None:
    small: SmallElf = SMALL[name]
    whole = outcome(reader, file, bytes(small.data))
    different = 0
    for what, place in small.places.items():
        for value in wrong(small.get(what), place):
            try:
                different += outcome(reader, file, small.changed(what, value)) != whole
            except Exception as error:
                raise AssertionError(f"{what} = {value:#x}: {error!r}") from error
    assert different > 20, "the reader looks at what is changed"


@pytest.mark.parametrize(("reader", "name"), READERS)
def test_no_two_fields_do(reader: Reader, name: str, file: Path) -> None:
    """A size that is all right alone may not be behind another offset; the same value in all fields of one row."""
    small: SmallElf = SMALL[name]
    for row in {what.rpartition(" ")[0] for what in small.places} & {
        "header",
        "segment 0",
        "segment 1",
        "section 1",
    }:
        fields = [what for what in small.places if what.rpartition(" ")[0] == row]
        for first in fields:
            for second in fields:
                copy = SmallElf(small.bits, bytearray(small.data), small.places)
                copy.put(first, copy.places[first].largest)
                copy.put(second, copy.places[second].largest >> 1)
                try:
                    outcome(reader, file, bytes(copy.data))
                except Exception as error:
                    raise AssertionError(f"{first} and {second}: {error!r}") from error


@pytest.mark.parametrize(
    ("what", "value", "why"),
    [
        ("section 2 sh_link", 6, "has no section 6, which its symbol table names"),
        ("header e_phentsize", 31, "has program headers of 31 bytes, not 32"),
        ("header e_shentsize", 0, "has section headers of 0 bytes, not 40"),
    ],
)
def test_what_is_wrong_is_named(file: Path, what: str, value: int, why: str) -> None:
    assert outcome(read_all, file, SMALL["vmlinux 32"].changed(what, value)) == why
