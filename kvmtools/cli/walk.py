"""``kvmtools walk``: everything that a page table maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json
from kvmtools.cli.page_tables import PageTableWords, page_table_options
from kvmtools.show.mappings import page_table, run_table
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.api.mappings import MappedPage, MappedRun


def complete_region(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of regions."""
    from kvmtools.api.mappings import region_names

    return [CompletionItem(name) for name in region_names() if name.startswith(incomplete)]


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
    table: PageTableWords,
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
    with options.open() as kernel:
        found = kernel.walk(start or 0, end, region=region, **table)
        said = consistency(kernel, form)
    if form == "json":
        chosen = found.page_table
        head = {"name": chosen.name, "cr3": hexadecimal(chosen.cr3), "form": found.walk.form.name}
        rows = map(_page_json, found.pages()) if raw else map(_run_json, found.runs())
        emit_json("walk", page_table=head, **{"entries" if raw else "runs": list(rows)}, **said)
        return
    emit(paint(found.summary, bold=True))
    if len(found):
        emit(page_table(found.pages()) if raw else run_table(found.runs()))


def _run_json(run: MappedRun) -> dict[str, Any]:
    return {
        "virtual": hexadecimal(run.virtual),
        "end": hexadecimal(run.end),
        "size_bytes": run.end - run.virtual,
        "page_size_bytes": run.page_size,
        "pages": run.pages,
        "physical": hexadecimal(run.physical, 9),
        "linear": run.linear,
        "writable": run.writable,
        "user": run.user,
        "executable": run.executable,
        "flags": run.flags,
        "region": run.region,
    }


def _page_json(page: MappedPage) -> dict[str, Any]:
    return {
        "virtual": hexadecimal(page.virtual),
        "page_size_bytes": page.size,
        "physical": hexadecimal(page.physical, 9),
        "table": hexadecimal(page.table, 9),
        "index": page.index,
        "entry": hexadecimal(page.entry, 2 * page.entry_size),
        "writable": page.writable,
        "user": page.user,
        "executable": page.executable,
        "flags": page.flags,
        "region": page.region,
    }
