"""What ``kvmtools model walk`` walks: the tables of a file, or those that a kernel ought to have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kvmtools.cli.model.refusal import note_refusal
from kvmtools.cli.scripts import STDIN, read_text
from kvmtools.errors import UsageError
from kvmtools.model import eras, kernel_tables
from kvmtools.model.paging import vectors
from kvmtools.model.paging.access import LINUX, Control
from kvmtools.model.paging.forms import PagingForm
from kvmtools.model.paging.physical import Memory
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration, Expectation
from kvmtools.show.printable import printable
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal

ADDRESS_HINT = "an address looks like 0xc1000000, or has all 8 or 16 digits: c1000000"


class WalkableTables(NamedTuple):
    """Something to walk."""

    name: str
    form: PagingForm
    memory: Memory
    cr3: int
    chosen: tuple[str, ...] = ()
    """What the model had to decide to build them."""
    regions: tuple[Expectation, ...] = ()
    control: Control = LINUX
    """The registers that decide what an access may do."""

    def region(self, virtual: int) -> str | None:
        """The name of the place of an address, where there is a kernel that gives it one."""
        inside = (each.name for each in self.regions if each.start <= virtual < each.end)
        return next(inside, "user space") if self.regions else None

    def digits(self, virtual: int) -> str:
        """An address, as wide as the form's are."""
        width = (self.form.windows[-1].end - 1).bit_length() // 4
        return f"{virtual:0{width}x}"


def of_kernel(configuration: Configuration) -> WalkableTables:
    """The tables of a kernel that nobody booted."""
    prediction = Prediction(configuration)
    note_refusal("this kernel", prediction)
    built = kernel_tables.build(prediction)
    name = f"{eras.shown(configuration.marks).name}, {built.form.name}"
    chosen = kernel_tables.choices(prediction)
    return WalkableTables(name, built.form, built.memory, built.root, chosen, prediction.expectations)


def of_file(path: str) -> WalkableTables:
    """The tables that are written down in a file, or on stdin if it is called ``-``.

    :raises UsageError: if it cannot be read
    """
    file = "stdin" if path == STDIN else path
    try:
        text = read_text(path, "the page tables" if path == STDIN else file, hint=vectors.HINT)
    except OSError as error:
        raise UsageError(
            f"'{file}' is neither an address nor a file that can be read: {error.strerror}", hint=ADDRESS_HINT
        ) from error
    vector = vectors.parse(file, text)
    name = f"{printable(file)}, {vector.form.name}"
    return WalkableTables(name, vector.form, vector.memory, vector.cr3, control=vector.control)


def title(tables: WalkableTables) -> Iterator[str]:
    """What was walked, in text."""
    yield paint(f"{tables.name}, cr3 {tables.cr3:#x}", bold=True)
    for choice in tables.chosen:
        yield paint(f"  chosen: {choice}", dim=True)


def head(tables: WalkableTables) -> dict[str, Any]:
    """What was walked, as data."""
    return {
        "name": tables.name,
        "form": tables.form.name,
        "cr3": hexadecimal(tables.cr3, 9),
        "chosen": list(tables.chosen),
    }
