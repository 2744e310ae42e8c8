"""What a walk found, as rows for a program and for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kvmtools.records import PAGE_SIZE
from kvmtools.show.tables import columns, hexadecimal, permissions, size, table

if TYPE_CHECKING:
    from kvmtools.observe.paging.walk import Walk
    from kvmtools.observe.space.regions import Regions

_RUNS = columns("virtual_range >size >pages physical access flags region")
_ENTRIES = columns("virtual >page physical >table [index] entry access flags region")


def run_rows(walk: Walk, regions: Regions) -> Iterator[dict[str, Any]]:
    """Neighbouring leaves that are alike, one row; none goes across the boundary of a region."""
    from kvmtools.observe.paging.entry_bits import flags_text
    from kvmtools.observe.paging.runs import Runs, runs

    found = runs(walk, boundaries=[region.start for region in regions], scattered=True)
    names = [field.name for field in fields(Runs)]
    for values in zip(*(getattr(found, name).tolist() for name in names), strict=True):
        run = dict(zip(names, values, strict=True))
        yield {
            "virtual": hexadecimal(run["virtual"]),
            "end": hexadecimal(run["virtual"] + run["size"]),
            "size_bytes": run["size"],
            "page_size_bytes": run["page_size"],
            "pages": run["count"],
            "physical": hexadecimal(run["physical"], 9),
            "linear": run["linear"],
            **{name: run[name] for name in ("writable", "user", "executable")},
            "flags": flags_text(run["flags"], run["level"], walk.form),
            "region": regions.find(run["virtual"]).name,
        }


def entry_rows(walk: Walk, regions: Regions) -> Iterator[dict[str, Any]]:
    """Every leaf, with its raw entry and where that stands."""
    from kvmtools.observe.paging.entry_bits import flags_text

    for leaf in walk.mappings():
        yield {
            "virtual": hexadecimal(leaf.virtual),
            "page_size_bytes": leaf.size,
            "physical": hexadecimal(leaf.physical, 9),
            "table": hexadecimal(leaf.table, 9),
            "index": leaf.index,
            "entry": hexadecimal(leaf.entry, 2 * walk.form.entry_size),
            "writable": leaf.writable,
            "user": leaf.user,
            "executable": leaf.executable,
            "flags": flags_text(leaf.entry, leaf.level, walk.form),
            "region": regions.describe(leaf.virtual),
        }


def run_table(rows: Sequence[dict[str, Any]]) -> str:
    """Runs in text."""
    return table(_RUNS, map(_run_cells, rows))


def entry_table(rows: Sequence[dict[str, Any]]) -> str:
    """Single entries in text."""
    return table(_ENTRIES, map(_entry_cells, rows))


def totals(rows: Sequence[dict[str, Any]]) -> str:
    """How much the rows map, runs or entries."""
    if not rows:
        return "nothing is mapped here"
    leaves = [(row.get("pages", 1), row["page_size_bytes"]) for row in rows]
    large = sum(number for number, page in leaves if page > PAGE_SIZE)
    mapped = size(sum(number * page for number, page in leaves))
    total = sum(number for number, _page in leaves)
    return f"{total:,} {'leaf' if total == 1 else 'leaves'}, {large:,} of them large, map {mapped}"


def _run_cells(run: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{int(run['virtual'], 16):08x}-{int(run['end'], 16) - 1:08x}",
        size(run["size_bytes"]),
        f"{run['pages']} × {size(run['page_size_bytes'])}",
        run["physical"] if run["linear"] else "scattered",
        _access(run),
        run["flags"],
        run["region"],
    )


def _entry_cells(entry: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{int(entry['virtual'], 16):08x}",
        size(entry["page_size_bytes"]),
        entry["physical"],
        entry["table"],
        f"[{entry['index']:>4}]",
        entry["entry"],
        _access(entry),
        entry["flags"],
        entry["region"],
    )


def _access(row: dict[str, Any]) -> str:
    return permissions(row["writable"], row["executable"], row["user"])
