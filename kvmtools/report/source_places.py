"""Where in the kernel's source a person looks first: at the declaration of what a rule's findings are about."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmtools.findings import Outcome, Result

_CITED = re.compile(r"(?:[\w-]+/)+[\w-]+\.(?:[chS]|rst)\b")
"""A file of the kernel in the citation of a rule."""


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A file from the root of the kernel's source, and a line of it; ``None`` if only the file is known."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


def source_place(outcome: Outcome, result: Result) -> SourcePlace | None:
    """The declaration by the vmlinux's DWARF, else the first file that the rule cites, else nothing."""
    file, _, line = result.declared.get(outcome.about, "").rpartition(":")
    if file:
        return SourcePlace(file, int(line))
    cited = _CITED.search(outcome.source)
    return SourcePlace(cited[0]) if cited else None
