"""``kvmtools walk``: everything that a page table maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.consistency import consistency
from kvmtools.cli.mappings import entry_rows, entry_table, run_rows, run_table, totals
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.page_tables import PageTable, PageTableChoice, page_table_options
from kvmtools.cli.session import Session, attached
from kvmtools.errors import MemoryFault, UsageError
from kvmtools.show.addresses import virtual_address
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.observe.paging.walk import Walk
    from kvmtools.observe.space.regions import Regions

END_OF_ADDRESSES = 1 << 32


def complete_region(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of regions."""
    from kvmtools.observe.space.regions import REGION_NAMES

    return [CompletionItem(name) for name in map(_plain, REGION_NAMES) if name.startswith(incomplete)]


def _plain(name: str) -> str:
    """A region's name without blanks, for a word of the command line."""
    return name.replace(" ", "-")


@click.command()
@target_options
@page_table_options
@click.option(
    "--raw", is_flag=True, help="Every entry on a line of its own, with its raw value and its table."
)
@click.option("--from", "start", metavar="ADDRESS", help="Begin here: an address or a symbol.")
@click.option("--to", "end", metavar="ADDRESS", help="End before this one.")
@click.option(
    "--region",
    metavar="NAME",
    shell_complete=complete_region,
    help="Only this region, such as vmalloc or direct-map.",
)
@format_option
def command(
    options: TargetOptions,
    tables: PageTableChoice,
    raw: bool,
    start: str | None,
    end: str | None,
    region: str | None,
    form: str,
) -> None:
    """List what a page table maps, by default the kernel's own (swapper_pg_dir).

    Neighbours with the same page size, flags and effective permissions are one line; where their frames do
    not follow each other the physical column says so.  The region's name is that of the first address.

    \b
    kvmtools walk -g pae
    kvmtools walk -g pae --pid 1 --to 0xc0000000
    kvmtools walk -g pae --region pkmap --raw
    kvmtools walk -c core -s vmlinux --cr3 0x1473000 --from _text --to _etext --format json
    """
    from kvmtools.observe.paging.translate import is_ram

    with attached(options) as session:
        address = session.kernel.address
        first = virtual_address(start, address) if start else 0
        last = virtual_address(end, address) if end else END_OF_ADDRESSES
        if first >= last:
            raise UsageError(f"the range from {first:#x} to {last:#x} is empty")
        chosen, walk, regions = session.held(lambda: _walked(session, tables, first, last))
        root = chosen.cr3 & walk.form.cr3
        if not is_ram(session.kernel.memory, root):
            raise MemoryFault(root, f"the {walk.form.levels[0].name} table at {root:#x} lies outside RAM")
        said = consistency(session, form)
    rows = list(entry_rows(walk, regions) if raw else run_rows(walk, regions))
    if region is not None:
        _refuse_unknown(region, regions)
        rows = [row for row in rows if _plain(regions.find(int(row["virtual"], 16)).name) == _plain(region)]
    if form == "json":
        head = {"name": chosen.name, "cr3": hexadecimal(chosen.cr3), "form": walk.form.name}
        emit_json("walk", page_table=head, **{"entries" if raw else "runs": rows}, **said)
        return
    emit(paint(f"{chosen.name}, cr3 {chosen.cr3:#x}, {walk.form.name}: {totals(rows)}", bold=True))
    if rows:
        emit(entry_table(rows) if raw else run_table(rows))


def _walked(
    session: Session, tables: PageTableChoice, start: int, end: int
) -> tuple[PageTable, Walk, Regions]:
    from kvmtools.observe.paging.walk import walk
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of

    kernel = session.kernel
    chosen = tables.find(session)
    found = walk(kernel.memory, chosen.cr3, pae=kernel.pae, start=start, end=end)
    return chosen, found, regions_of(kernel, observe_layout(kernel))


def _refuse_unknown(region: str, regions: Regions) -> None:
    """:raises UsageError: if no region has the name, in this guest or in any"""
    from kvmtools.observe.space.regions import REGION_NAMES

    names = set(map(_plain, (*REGION_NAMES, *(each.name for each in regions))))
    if _plain(region) not in names:
        raise UsageError(f"no region is called '{region}'", hint=f"one of: {', '.join(sorted(names))}")
