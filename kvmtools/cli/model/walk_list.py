"""What ``kvmtools model walk`` says of everything that is mapped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from kvmtools.cli.model.walk_answer import fault_json
from kvmtools.cli.model.walk_tables import WalkableTables, head, title
from kvmtools.cli.output import emit, emit_json
from kvmtools.errors import UsageError
from kvmtools.model.paging.walk import Fault, walk
from kvmtools.records import Leaf
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, hexadecimal, permissions, size, table

MOST = 1 << 20
"""Leaves that a list may have: all of 4 GiB.  Tables that lead to each other could have billions in long mode."""


def listing(tables: WalkableTables, form: str) -> list[Fault]:
    """Print all that is mapped, neighbours together, and all that is malformed; the latter is returned.

    :raises UsageError: if there are too many leaves to list
    """
    faults: list[Fault] = []
    leaves = list(islice(walk(tables.memory.read, tables.cr3, tables.form, faults=faults), MOST + 1))
    if len(leaves) > MOST:
        raise UsageError(f"{tables.name}: more than {MOST:,} leaves", hint="name addresses to walk to")
    runs = _runs(tables, leaves)
    digits = 2 * tables.form.entry_size
    if form == "json":
        emit_json(
            "model walk",
            page_table=head(tables),
            leaves=len(leaves),
            runs=[
                {
                    "virtual": hexadecimal(run.virtual),
                    "size_bytes": run.size,
                    "physical": hexadecimal(run.physical, 9),
                    "page_size_bytes": run.leaf.size,
                    "writable": run.leaf.writable,
                    "user": run.leaf.user,
                    "executable": run.leaf.executable,
                    "region": run.region,
                }
                for run in runs
            ],
            malformed=[
                {"virtual": hexadecimal(fault.virtual), **fault_json(fault, digits)} for fault in faults
            ],
        )
    else:
        emit("\n".join([*title(tables), "", *_text(tables, leaves, runs, faults)]))
    return faults


class _Run(NamedTuple):
    """What leaves alike that follow each other in both spaces hold of one region."""

    virtual: int
    physical: int
    size: int
    region: str | None
    leaf: Leaf
    """The first of them."""

    def kind(self) -> tuple[object, ...]:
        """What is the same in all of a run."""
        return self.region, self.leaf.size, self.leaf.writable, self.leaf.user, self.leaf.executable


def _runs(tables: WalkableTables, leaves: list[Leaf]) -> list[_Run]:
    runs: list[_Run] = []
    starts = [region.start for region in tables.regions]
    for leaf in leaves:
        for piece in _cut(tables, starts, leaf):
            if runs and _follows(runs[-1], piece):
                runs[-1] = runs[-1]._replace(size=runs[-1].size + piece.size)
            else:
                runs.append(piece)
    return runs


def _cut(tables: WalkableTables, starts: list[int], leaf: Leaf) -> Iterator[_Run]:
    """A leaf, or its parts if regions begin within it."""
    at, end = leaf.virtual, leaf.virtual + leaf.size
    while at < end:
        following = bisect_right(starts, at)
        stop = min([end, *starts[following : following + 1]])
        yield _Run(at, leaf.physical + at - leaf.virtual, stop - at, tables.region(at), leaf)
        at = stop


def _follows(run: _Run, piece: _Run) -> bool:
    after = (run.virtual + run.size, run.physical + run.size)
    return after == (piece.virtual, piece.physical) and run.kind() == piece.kind()


def _text(tables: WalkableTables, leaves: list[Leaf], runs: list[_Run], faults: list[Fault]) -> Iterator[str]:
    if runs:
        yield table(
            columns("virtual >physical >size >page access region"),
            [
                (
                    tables.digits(run.virtual),
                    f"{run.physical:x}",
                    size(run.size),
                    size(run.leaf.size),
                    permissions(run.leaf.writable, run.leaf.executable, run.leaf.user),
                    run.region or "",
                )
                for run in runs
            ],
        )
    large = sum(leaf.size > tables.form.levels[-1].span for leaf in leaves)
    yield f"{len(leaves)} {'leaf' if len(leaves) == 1 else 'leaves'}, {large} of them large"
    for fault in faults:
        yield paint(f"malformed: {fault}", fg="red")
