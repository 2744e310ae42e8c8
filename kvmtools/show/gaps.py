"""What this kernel lacks of what is to be shown: ``?`` stands in its place, ``null`` in a document, and below is why.

What is there and cannot be read is no gap: a fault is not to be overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, overload

from kvmtools.errors import Absent
from kvmtools.show.printable import printable

T = TypeVar("T")
U = TypeVar("U")

UNKNOWN = "?"


class Gaps:
    """Asks for what is to be shown, and remembers why some of it is not."""

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}

    @overload
    def read(self, read: Callable[[], T]) -> T | None: ...

    @overload
    def read(self, read: Callable[[], T], otherwise: U) -> T | U: ...

    def read(self, read: Callable[[], object], otherwise: object = None) -> object:
        """What ``read`` returns, ``otherwise`` if the kernel has no such thing."""
        try:
            return read()
        except Absent as reason:
            self._reasons[reason.why] = None
            return otherwise

    def get(self, thing: object, name: str) -> Any:
        """An attribute, ``None`` if the kernel has no such thing."""
        return self.read(partial(getattr, thing, name))

    def cells(self, thing: object, names: str) -> list[Any]:
        """Attributes for a person, by their names with blanks between."""
        return [self.read(partial(getattr, thing, name), UNKNOWN) for name in names.split()]

    def lines(self) -> Iterator[str]:
        """A line for each reason."""
        return (f"{UNKNOWN} {printable(reason)}" for reason in self._reasons)

    def paragraph(self) -> list[str]:
        """The lines in one, if there are any."""
        return ["\n".join(self.lines())] if self._reasons else []

    def document(self) -> dict[str, list[str]]:
        """The reasons as data: nothing if all was there."""
        return {"missing": list(self._reasons)} if self._reasons else {}
