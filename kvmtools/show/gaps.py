"""What this kernel lacks of what is to be shown: ``?`` stands in its place, ``null`` in a document, and below is why.

What is there and cannot be read is no gap: a fault is not to be overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from kvmtools.errors import Absent
from kvmtools.show.printable import printable

T = TypeVar("T")

UNKNOWN = "?"


class Gaps:
    """Asks for what is to be shown, and remembers why some of it is not."""

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}

    def read(self, read: Callable[[], T]) -> T | None:
        """What ``read`` returns, ``None`` if the kernel has no such thing."""
        try:
            return read()
        except Absent as reason:
            self._reasons[reason.why] = None
            return None

    def get(self, thing: object, name: str) -> Any:
        """An attribute, ``None`` likewise."""
        return self.read(partial(getattr, thing, name))

    def cell(self, read: Callable[[], object]) -> object:
        """The same for a person."""
        value = self.read(read)
        return UNKNOWN if value is None else value

    def cells(self, thing: object, names: str) -> list[object]:
        """Attributes for a person, by their names with blanks between."""
        return [self.cell(partial(getattr, thing, name)) for name in names.split()]

    def lines(self) -> Iterator[str]:
        """A line for each reason."""
        return (f"{UNKNOWN} {printable(reason)}" for reason in self._reasons)

    def document(self) -> dict[str, list[str]]:
        """The same as data: nothing if all was there."""
        return {"missing": list(self._reasons)} if self._reasons else {}
