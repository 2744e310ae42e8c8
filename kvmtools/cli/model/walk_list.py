"""What ``kvmtools model walk`` says of everything that is mapped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from kvmtools.cli.model.walk_answer import fault_json
from kvmtools.cli.model.walk_tables import Tables, head, title
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.tables import columns, hexadecimal, paint, permissions, size, table
from kvmtools.errors import UsageError
from kvmtools.model.paging import Fault, walk
from kvmtools.records import Mapping

MOST = 1 << 20
"""Leaves that a list may have: all of 4 GiB.  Tables that lead to each other could have billions in long mode."""


def listing(tables: Tables, form: str) -> list[Fault]:
    """Print all that is mapped, neighbours together, and all that is malformed; the latter is returned.

    :raises UsageError: if there are too many leaves to list
    """
    faults: list[Fault] = []
    leaves = list(islice(walk(tables.memory.read, tables.cr3, tables.form, faults=faults), MOST + 1))
    if len(leaves) > MOST:
        raise UsageError(f"{tables.name}: more than {MOST:,} leaves", hint="name addresses to walk to")
    runs = _runs(leaves)
    digits = 2 * tables.form.entry_size
    if form == "json":
        emit_json(
            "model walk",
            page_table=head(tables),
            leaves=len(leaves),
            runs=[
                {
                    "virtual": hexadecimal(run.leaf.virtual),
                    "size_bytes": run.size,
                    "physical": hexadecimal(run.leaf.physical, 9),
                    "page_size_bytes": run.leaf.size,
                    "writable": run.leaf.writable,
                    "user": run.leaf.user,
                    "executable": run.leaf.executable,
                    "region": tables.region(run.leaf.virtual),
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
    """Leaves alike that follow each other in both spaces."""

    leaf: Mapping
    size: int


def _runs(leaves: list[Mapping]) -> list[_Run]:
    runs: list[_Run] = []
    for leaf in leaves:
        if runs and _follows(runs[-1], leaf):
            runs[-1] = _Run(runs[-1].leaf, runs[-1].size + leaf.size)
        else:
            runs.append(_Run(leaf, leaf.size))
    return runs


def _follows(run: _Run, leaf: Mapping) -> bool:
    first = run.leaf
    after = (first.virtual + run.size, first.physical + run.size)
    return after == (leaf.virtual, leaf.physical) and _kind(first) == _kind(leaf)


def _kind(leaf: Mapping) -> tuple[int, bool, bool, bool]:
    return leaf.size, leaf.writable, leaf.user, leaf.executable


def _text(tables: Tables, leaves: list[Mapping], runs: list[_Run], faults: list[Fault]) -> Iterator[str]:
    if runs:
        yield table(
            columns("virtual >physical >size >page access region"),
            [
                (
                    tables.digits(run.leaf.virtual),
                    f"{run.leaf.physical:x}",
                    size(run.size),
                    size(run.leaf.size),
                    permissions(run.leaf.writable, run.leaf.executable, run.leaf.user),
                    tables.region(run.leaf.virtual) or "",
                )
                for run in runs
            ],
        )
    large = sum(leaf.size > tables.form.levels[-1].span for leaf in leaves)
    yield f"{len(leaves)} leaves, {large} of them large"
    for fault in faults:
        yield paint(f"malformed: {fault}", fg="red")
