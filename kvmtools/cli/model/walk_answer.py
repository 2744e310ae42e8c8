"""What ``kvmtools model walk`` says of an address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvmtools.cli.model.accesses import Processor
from kvmtools.cli.model.walk_tables import WalkableTables
from kvmtools.model.paging.access import Access, AccessFault, memory_type, pat_index
from kvmtools.model.paging.forms import PRESENT
from kvmtools.model.paging.walk import Fault, Step, translate
from kvmtools.records import Leaf
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal, permissions, size


class WalkAnswer:
    """One address: the entries on its way as they are before anything is done, and how it ends."""

    def __init__(self, tables: WalkableTables, processor: Processor | None, text: str, virtual: int) -> None:
        self.tables = tables
        self.text = text
        self.virtual = virtual
        self.steps: list[Step] = []
        self.found: Leaf | Fault = translate(
            tables.memory.read, tables.cr3, virtual, tables.form, steps=self.steps
        )
        self.met: Access | None = None
        if processor is not None:
            met = processor.access(virtual)
            if isinstance(met, AccessFault):
                self.found = met
            else:
                self.met = met

    @property
    def marked(self) -> list[tuple[Step, int]]:
        """Entries that the access has changed, and what they are now."""
        size_of_entry = self.tables.form.entry_size
        now = (
            (step, int.from_bytes(self.tables.memory.read(step.address, size_of_entry), "little"))
            for step in self.steps
        )
        return [(step, entry) for step, entry in now if entry != step.entry]

    def _entry(self, entry: int) -> str:
        return f"{entry:0{2 * self.tables.form.entry_size}x}"

    def json(self) -> dict[str, Any]:
        """One address as data."""
        found, leaf = self.found, None if isinstance(self.found, Fault) else self.found
        digits = 2 * self.tables.form.entry_size
        return {
            "argument": self.text,
            "virtual": hexadecimal(self.virtual),
            "region": self.tables.region(self.virtual),
            "steps": [
                {
                    "level": step.level.name,
                    "table": hexadecimal(step.table, 9),
                    "index": step.index,
                    "entry": hexadecimal(step.entry, digits),
                    "flags": _flags(step),
                }
                for step in self.steps
            ],
            "mapped": leaf is not None,
            "fault": fault_json(found, digits) if isinstance(found, Fault) else None,
            "physical": hexadecimal(leaf.physical + self.virtual % leaf.size, 9) if leaf else None,
            "page_size_bytes": leaf.size if leaf else None,
            "writable": leaf.writable if leaf else None,
            "user": leaf.user if leaf else None,
            "executable": leaf.executable if leaf else None,
            "memory_type": self._memory_type() if leaf else None,
            "marked": [
                {"level": step.level.name, "index": step.index, "entry": hexadecimal(entry, digits)}
                for step, entry in self.marked
            ],
        }

    def lines(self) -> Iterator[str]:
        """One address in text."""
        yield f"{paint(self.tables.digits(self.virtual), bold=True)}  {self.tables.region(self.virtual) or ''}".rstrip()
        for step in self.steps:
            raw = f"{self._entry(step.entry)}  {_flags(step)}"
            yield f"  {step.level.name}  table {step.table:09x} [{step.index:>4}]  {raw}"
        if isinstance(self.found, Fault):
            yield "  " + paint(_fault_text(self.found), fg="red")
        else:
            physical = self.found.physical + self.virtual % self.found.size
            access = permissions(self.found.writable, self.found.executable, self.found.user)
            yield (
                "  "
                + paint(f"physical {physical:#x}", bold=True)
                + f"  {size(self.found.size)} page  {access}  {self._memory_type()}"
                + ("  global" if self.met and self.met.is_global else "")
            )
        for step, entry in self.marked:
            yield f"  marked: {step.level.name}[{step.index}] = {self._entry(entry)}"

    def _memory_type(self) -> str:
        if self.met is not None:
            return self.met.memory_type
        return memory_type(self.tables.control.pat, pat_index(self.steps[-1]))


def _flags(step: Step) -> str:
    return " ".join(step.level.flags(step.entry)) if step.entry & PRESENT else "not present"


def _fault_text(fault: Fault) -> str:
    where = f"{fault.level}[{fault.index}] at {fault.table:#x}"
    if isinstance(fault, AccessFault) and fault.exception:
        return f"{fault.exception}({fault.error_code:#x}): {where}: {fault.reason}"
    return f"not mapped: {where}: {fault.reason}"


def fault_json(fault: Fault, digits: int) -> dict[str, Any]:
    """Why an address leads nowhere, as data."""
    raised = fault if isinstance(fault, AccessFault) else None
    return {
        "level": fault.level,
        "table": hexadecimal(fault.table, 9),
        "index": fault.index,
        "entry": hexadecimal(fault.entry, digits),
        "reason": fault.reason,
        "exception": raised.exception if raised else None,
        "error_code": raised.error_code if raised else None,
    }
