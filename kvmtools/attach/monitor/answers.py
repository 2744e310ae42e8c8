"""What the human monitor's answers say: its text, which is the same from QEMU 7.2 and 10.0.

Source: ``monitor/hmp-cmds.c``, ``hw/core/machine-hmp-cmds.c``, ``qom/qom-hmp-cmds.c``, ``chardev/char-hmp-cmds.c``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from kvmtools.errors import AttachError

RUNNING = "running"
# Compiled when they are needed: to do it for all takes 3 ms, and QMP needs none of them.
_STATUS = r"(?m)^VM status: (running|paused)(?: \(single step mode\))?(?: \(([a-z-]+)\))?\s*$"
_VERSION = r"(?m)^(\d+\.\d+\.\d+)"
_CPU = r"(?m)^[* ] CPU #(\d+):(?:.*\bthread_id=(-?\d+))?"
_RAM = r"(?m)^base memory: (\d+)\s*$"
_BACKEND = r"(?m)^memory backend: (.+?)\s*$((?:\n(?!memory backend:).*)*)"
_SHARED = r"(?m)^  share: true\s*$"
_CPU_TYPE = r"\(child<[^>]*-(i386|x86_64)-cpu>\)"
_CHARDEV = r"(?m)^(.+?): filename=(.*?)\s*$"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Chardev:
    """A character device: ``gdb`` and ``disconnected:unix:PATH,server=on``."""

    label: str
    filename: str


def silence(command: str, answer: str) -> None:
    """Return if a command that answers nothing answered nothing.

    :raises AttachError: if not, with its words
    """
    if text := answer.strip():
        raise AttachError(f"QEMU refused {command}: {text.removeprefix('Error: ')}")


def status(text: str) -> str:
    """Of ``info status``."""
    found = _found(_STATUS, text, "info status")
    return found[2] or found[1]


def version(text: str) -> str:
    """Of ``info version``."""
    return _found(_VERSION, text, "info version")[1]


def vcpu_threads(text: str) -> dict[int, int | None]:
    """Of ``info cpus``; at least one."""
    _found(_CPU, text, "info cpus")
    return {int(cpu): int(thread) if thread else None for cpu, thread in re.findall(_CPU, text)}


def ram_bytes(text: str) -> int:
    """Of ``info memory_size_summary``."""
    return int(_found(_RAM, text, "info memory_size_summary")[1])


def backends(text: str) -> dict[str, bool]:
    """Of ``info memdev``, which is empty where RAM has no backend of the user's."""
    if text.strip():
        _found(_BACKEND, text, "info memdev")
    return {name: bool(re.search(_SHARED, body)) for name, body in re.findall(_BACKEND, text)}


def property_value(text: str) -> str:
    """Of ``qom-get``."""
    try:
        return str(json.loads(text))
    except ValueError:
        raise not_understood("qom-get", text) from None


def target_arch(text: str) -> str:
    """Of ``qom-list /machine/unattached``, where the first vCPU is: a CPU's type names the qemu-system it is of."""
    return _found(_CPU_TYPE, text, "qom-list /machine/unattached")[1]


def chardevs(text: str) -> tuple[Chardev, ...]:
    """Of ``info chardev``."""
    if text.strip():
        _found(_CHARDEV, text, "info chardev")
    return tuple(Chardev(label, filename) for label, filename in re.findall(_CHARDEV, text))


def not_understood(line: str, text: str) -> AttachError:
    """What to say if QEMU answers ``line`` with something else."""
    return AttachError(f"QEMU answers '{line}' with: {' '.join(text.split())[:_SHOWN] or 'nothing'}")


def _found(pattern: str, text: str, line: str) -> re.Match[str]:
    found = re.search(pattern, text)
    if found is None:
        raise not_understood(line, text)
    return found
