"""What a recorded guest tells beside its memory: the ``KVMTOOLS`` note of the core that ``kvmtools snapshot`` writes.

The note is one JSON document (docs/recordings.md), so that any program can read it.  Numbers of the guest's are hex
strings, as in all JSON of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from kvmtools.attach.elf import Note
from kvmtools.errors import AttachError
from kvmtools.records import Range, Registers

NOTE_NAME, NOTE_TYPE = "KVMTOOLS", 0x4B56_4D54
SCHEMA = "kvmtools-recording/1"
_PHYSICAL_END, _REGISTER_END = 1 << 52, 1 << 64


@dataclass(frozen=True)
class Recording:
    """One guest at one moment, without its memory."""

    source: str
    """What was recorded, for a person: ``QEMU 7.2.22 at PATH: 2 vCPUs, 6144 MiB``."""
    registers: tuple[Registers, ...]
    ram: tuple[Range, ...]
    """Where the guest has RAM, recorded or not."""
    slide: int
    """What KASLR added to every address of the vmlinux, in bytes."""
    facts: Mapping[str, Any]
    """What was asked of the vmlinux: :meth:`kvmtools.observe.symbols.vmlinux.Vmlinux.to_json`."""
    log: str | None = None
    """What the kernel had printed; ``None`` if it could not be read."""
    full: bool = False
    """Whether all RAM is there, not only what the observers read."""

    def note(self) -> Note:
        """The note of a core."""
        document = {
            "schema": SCHEMA,
            "source": self.source,
            "full": self.full,
            "slide": hex(self.slide),
            "ram": [[hex(each.start), hex(each.end)] for each in self.ram],
            "registers": [_spelled(each) for each in self.registers],
            "log": self.log,
            "facts": self.facts,
        }
        return Note(NOTE_NAME, NOTE_TYPE, json.dumps(document, separators=(",", ":")).encode())


def parse(data: bytes) -> Recording:
    """The recording in a note.

    :raises AttachError: if it is damaged, or of a form that we do not know; the message goes behind the file's name
    """
    try:
        document = json.loads(data)
        if document["schema"] != SCHEMA:
            raise AttachError(
                f"is a recording of the form {document['schema']!s:.40}, not {SCHEMA}",
                hint="open it with the kvmtools that recorded it",
            )
        facts = document["facts"]
        if not isinstance(facts, dict):
            raise TypeError("facts are no object")
        return Recording(
            source=str(document["source"]),
            registers=tuple(map(_registers, document["registers"])),
            ram=_ranges(document["ram"]),
            slide=_number(document["slide"]),
            facts=facts,
            log=None if document["log"] is None else str(document["log"]),
            full=bool(document["full"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AttachError(f"has a damaged {NOTE_NAME} note: {type(error).__name__} {error}") from None


def _spelled(registers: Registers) -> dict[str, int | str | None]:
    values = {field.name: getattr(registers, field.name) for field in fields(Registers)}
    return {name: value if name == "cpu" or value is None else hex(value) for name, value in values.items()}


def _registers(document: Mapping[str, Any]) -> Registers:
    values = {name: None if value is None else _number(value) for name, value in document.items()}
    for name, value in values.items():
        if value is not None and not 0 <= value < _REGISTER_END:
            raise ValueError(f"{name} has no such value: {value:#x}")
    return Registers(**values)  # type: ignore[arg-type]


def _ranges(document: Iterable[Any]) -> tuple[Range, ...]:
    ranges = tuple(Range(_number(start), _number(end)) for start, end in document)
    last = 0
    for each in ranges:
        if not last <= each.start < each.end <= _PHYSICAL_END:
            raise ValueError(f"RAM cannot lie at {each.start:#x}-{each.end:#x}")
        last = each.end
    return ranges


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value, 16)
