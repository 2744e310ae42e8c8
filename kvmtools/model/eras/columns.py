"""How the table of eras is written: a column for each constant or switch, a cell for each era that changed it.

A cell is ``(since, value, source)``, oldest first: the value holds from that era until the next cell's.  A source is
``version file``, and the symbol where the file has many; the versions are those whose trees were read: 2.4.0, 2.4.16,
2.4.18-14 (Red Hat's), 2.6.18 (CentOS 5's), 2.6.24, 2.6.32, 5.10.223, 6.1, 6.12 and 7.2.13 (Debian's).
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, Self, TypeVar, overload

#: Oldest first; each era is named after the kernel that was read for it.
NAMES = ("2.4", "2.6.18", "2.6.24", "2.6.32", "5.10", "6.1", "6.12", "7.2")

T_co = TypeVar("T_co", covariant=True)


class Cell(NamedTuple, Generic[T_co]):
    """One value, the first era that has it, and where it is written."""

    since: str
    value: T_co
    source: str


class Row(Protocol):
    """An era, as far as a column wants to know."""

    @property
    def name(self) -> str:
        """One of :data:`NAMES`."""


class Column(Generic[T_co]):
    """A field of every era; on the class it is the column itself."""

    def __init__(self, *cells: tuple[str, T_co, str]) -> None:
        self.cells = tuple(Cell(*cell) for cell in cells)

    def at(self, era: str) -> Cell[T_co]:
        """The cell that holds in the era of that name: the last one that does not begin after it."""
        until = NAMES.index(era)
        return [cell for cell in self.cells if NAMES.index(cell.since) <= until][-1]

    @overload
    def __get__(self, row: None, owner: type) -> Self: ...

    @overload
    def __get__(self, row: Row, owner: type) -> T_co: ...

    def __get__(self, row: Row | None, owner: type) -> Self | T_co:
        return self if row is None else self.at(row.name).value


class PairColumn(Column[T_co]):
    """A column whose value, where there is one, is a pair ``(non-PAE, PAE)``."""
