"""Writing a recorded guest: an ELF core with its memory, its CPUs, its VMCOREINFO and a note of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kvmtools.attach.elf import Note
from kvmtools.attach.general_registers import NT_PRSTATUS, GeneralRegisters
from kvmtools.attach.memory import zstd
from kvmtools.attach.memory.core_header import Load, core_head
from kvmtools.attach.memory.physical import PhysicalMemory
from kvmtools.attach.memory.sparse import write_sparse
from kvmtools.attach.recording import Recording
from kvmtools.records import Range
from kvmtools.whole_file import whole_file

_CHUNK = 4 << 20


@dataclass(frozen=True)
class Contents:
    """What goes into the file.

    ``virtual`` has, for stretches of ``captured``, an address at which the kernel maps them: ``(virtual, physical
    range)``, sorted by physical address and disjoint but for those that are mapped more than once.
    """

    memory: PhysicalMemory
    captured: Sequence[Range]
    virtual: Sequence[tuple[int, Range]]
    recording: Recording
    cpus: Sequence[GeneralRegisters]
    vmcoreinfo: str

    def notes(self) -> Iterator[Note]:
        """One for each CPU first: debuggers make a thread of it."""
        for number, cpu in enumerate(self.cpus):
            yield Note("CORE", NT_PRSTATUS, cpu.prstatus(number + 1))
        yield Note("VMCOREINFO", 0, self.vmcoreinfo.encode("latin-1", "replace"))
        yield self.recording.note()

    def loads(self) -> Iterator[Load]:
        """The program headers of the memory; what is mapped nowhere has one, too."""
        places = {}
        at = 0
        for each in self.captured:
            places[each] = at
            at += len(each)
        for each, offset in places.items():
            mapped = [(virtual, physical) for virtual, physical in self.virtual if physical.start in each]
            covered = each.start
            for virtual, physical in mapped:
                if physical.start > covered:
                    yield _load(None, Range(covered, physical.start), each, offset)
                yield _load(virtual, physical, each, offset)
                covered = max(covered, physical.end)
            if covered < each.end:
                yield _load(None, Range(covered, each.end), each, offset)


def _load(virtual: int | None, physical: Range, home: Range, offset: int) -> Load:
    return Load(virtual, physical.start, len(physical), offset + physical.start - home.start)


def write(path: Path, contents: Contents, *, compress: bool, progress: Callable[[str], None]) -> None:
    """Write the file, whole or not at all.

    :param progress: is told how far it has come
    :raises OutputError: if it cannot be written
    :raises UsageError: if it is to be compressed, and there is no library for it
    """
    head = core_head(list(contents.loads()), list(contents.notes()))
    total = sum(map(len, contents.captured)) >> 20
    done = 0
    with whole_file(path) as file, _packing(file, compress) as (out, put):
        out.write(head)
        for stretch in contents.captured:
            for start in range(stretch.start, stretch.end, _CHUNK):
                size = min(_CHUNK, stretch.end - start)
                put(out, contents.memory.view(start, size))
                done += size
                progress(f"writing {done >> 20:,} of {total:,} MiB")


@contextmanager
def _packing(
    file: IO[bytes], compress: bool
) -> Iterator[tuple[IO[bytes], Callable[[IO[bytes], memoryview], object]]]:
    """Where to write to, and how: compressed, or with holes."""
    if compress:
        with zstd.compressing(file) as packed:
            yield packed, lambda out, data: out.write(data)
    else:
        yield file, write_sparse
        file.truncate()
