"""``kvmtools walk``: everything that a page table maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.addresses import virtual_address
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.page_tables import PageTable, PageTableChoice, page_table_options
from kvmtools.cli.session import Session, attached
from kvmtools.cli.tables import columns, hexadecimal, paint, permissions, size, table
from kvmtools.errors import UsageError

if TYPE_CHECKING:
    from kvmtools.observe.paging import Walk
    from kvmtools.observe.regions import Regions

ALL = 1 << 32
RUNS = columns("virtual_range >size >pages physical access flags region")
ENTRIES = columns("virtual >page physical >table [index] entry access flags region")


@click.command()
@target_options
@page_table_options
@click.option(
    "--raw", is_flag=True, help="Every entry on a line of its own, with its raw value and its table."
)
@click.option("--from", "start", metavar="ADDRESS", help="Begin here: an address or a symbol.")
@click.option("--to", "end", metavar="ADDRESS", help="End before this one.")
@format_option
def command(
    options: TargetOptions, tables: PageTableChoice, raw: bool, start: str | None, end: str | None, form: str
) -> None:
    """List what a page table maps, by default the kernel's own (swapper_pg_dir).

    Neighbours with the same page size, flags and effective permissions are one line; where their frames do not follow
    each other the physical column says so.  The region's name is that of the first address.

    \b
    kvmtools walk -g pae
    kvmtools walk -g pae --pid 1 --to 0xc0000000
    kvmtools walk -g pae --raw --from _text --to _etext
    kvmtools walk -c core -s vmlinux --cr3 0x1473000 --format json
    """
    with attached(options) as session:
        address = session.kernel.address
        first = virtual_address(start, address) if start else 0
        last = virtual_address(end, address) if end else ALL
        if first >= last:
            raise UsageError(f"the range from {first:#x} to {last:#x} is empty")
        with session.target.paused():
            chosen = tables.find(session)
            walk, regions = _walked(session, chosen, first, last)
    rows = list(_entries(walk, regions) if raw else _runs(walk, regions))
    if form == "json":
        head = {"name": chosen.name, "cr3": hexadecimal(chosen.cr3), "form": walk.form.name}
        emit_json("walk", page_table=head, **{"entries" if raw else "runs": rows})
        return
    emit(paint(f"{chosen.name}, cr3 {chosen.cr3:#x}, {walk.form.name}: {_totals(walk)}", bold=True))
    if rows:
        emit(table(ENTRIES, map(_entry_text, rows)) if raw else table(RUNS, map(_run_text, rows)))


def _walked(session: Session, chosen: PageTable, start: int, end: int) -> tuple[Walk, Regions]:
    from kvmtools.observe.layout import observe_layout
    from kvmtools.observe.paging import walk
    from kvmtools.observe.regions import regions_of

    kernel = session.kernel
    found = walk(kernel.memory, chosen.cr3, pae=kernel.pae, start=start, end=end)
    return found, regions_of(kernel, observe_layout(kernel))


def _runs(walk: Walk, regions: Regions) -> Iterator[dict[str, Any]]:
    from kvmtools.observe.entry_bits import flags_text
    from kvmtools.observe.runs import runs

    found = runs(walk, boundaries=[region.start for region in regions], scattered=True)
    names = (
        "virtual",
        "physical",
        "size",
        "page_size",
        "count",
        "flags",
        "level",
        "linear",
        "writable",
        "user",
        "executable",
    )
    for row in zip(*(getattr(found, name).tolist() for name in names), strict=True):
        run = dict(zip(names, row, strict=True))
        yield {
            "virtual": hexadecimal(run["virtual"]),
            "end": hexadecimal(run["virtual"] + run["size"]),
            "size_bytes": run["size"],
            "page_size_bytes": run["page_size"],
            "pages": run["count"],
            "physical": hexadecimal(run["physical"], 9),
            "linear": run["linear"],
            "writable": run["writable"],
            "user": run["user"],
            "executable": run["executable"],
            "flags": flags_text(run["flags"], run["level"], walk.form),
            "region": regions.find(run["virtual"]).name,
        }


def _entries(walk: Walk, regions: Regions) -> Iterator[dict[str, Any]]:
    from kvmtools.observe.entry_bits import flags_text

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


def _run_text(run: dict[str, Any]) -> tuple[object, ...]:
    where = run["physical"] if run["linear"] else "scattered"
    pages = f"{run['pages']} × {size(run['page_size_bytes'])}"
    return (
        f"{run['virtual'][2:]}-{int(run['end'], 16) - 1:08x}", size(run["size_bytes"]), pages, where, _access(run),
        run["flags"], run["region"],
    )  # fmt: skip


def _entry_text(entry: dict[str, Any]) -> tuple[object, ...]:
    return (
        entry["virtual"][2:], size(entry["page_size_bytes"]), entry["physical"], entry["table"], f"[{entry['index']:>4}]",
        entry["entry"], _access(entry), entry["flags"], entry["region"],
    )  # fmt: skip


def _access(row: dict[str, Any]) -> str:
    return permissions(row["writable"], row["executable"], row["user"])


def _totals(walk: Walk) -> str:
    large = int((walk.level > 1).sum())
    return f"{len(walk):,} leaves, {large:,} of them large, map {size(int(walk.size.sum()))}"
