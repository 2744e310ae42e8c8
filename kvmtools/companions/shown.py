"""What ``vtop()`` and ``page()`` return in a prompt: the records of the observers, which print as the commands do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvmtools.observe.paging.translate import Translation
from kvmtools.show.pages import page_lines
from kvmtools.show.tables import permissions, size


@dataclass(frozen=True, repr=False)
class ShownTranslation(Translation):
    """A translation whose text has a line for each level."""

    def __repr__(self) -> str:
        lines = [f"{self.virtual:08x}"]
        for step in self.steps:
            entry = "outside RAM" if step.entry is None else f"{step.entry:#x}  {step.flags}"
            lines.append(f"  {step.name}  table {step.table:#x} [{step.index}]  {entry}")
        if self.physical is None:
            lines.append(f"  not mapped: {self.fault}")
        else:
            access = permissions(self.writable, self.executable, self.user)
            lines.append(f"  physical {self.physical:#x}  {size(self.size)} page  {access}")
        return "\n".join(lines)


class ShownPage(dict[str, Any]):
    """A page, by the names of its fields, whose text is that of ``kvmtools memmap``."""

    def __repr__(self) -> str:
        return "\n".join(page_lines(self))
