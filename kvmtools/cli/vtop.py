"""``kvmtools vtop``: one virtual address, every level of its page tables, and what lies behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.page_tables import PageTable, PageTableChoice, page_table_options
from kvmtools.cli.session import Session, attached
from kvmtools.cli.words import batches, refuse_nothing
from kvmtools.errors import UsageError
from kvmtools.records import PAGE_SHIFT
from kvmtools.show.addresses import is_symbol, virtual_address
from kvmtools.show.pages import page_json, page_lines
from kvmtools.show.style import paint
from kvmtools.show.tables import hexadecimal, permissions, size

if TYPE_CHECKING:
    from kvmtools.observe.paging.translate import Translation
    from kvmtools.observe.space.regions import Regions

MAPPED, UNMAPPED, REFUSED = 0, 1, 2


@click.command()
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@target_options
@page_table_options
@format_option
def command(options: TargetOptions, addresses: tuple[str, ...], tables: PageTableChoice, form: str) -> int:
    """Translate virtual addresses: every level with its raw entry, the struct page, the region's name.

    An ADDRESS is 0xc1000000, c1000000, a symbol or symbol+0x10; without one, or for -, they are read from
    stdin and answered as they come; blank lines and # comments are skipped.  User addresses need the page
    table of a process (--pid) or of a vCPU (--cpu).  Exit code 2: a word of stdin is no address (stderr
    says which, the others are answered); 1: some address is not mapped (the reason is printed); 0: all are.

    \b
    kvmtools vtop -g pae 0xc1000000 linux_banner+0x10
    kvmtools vtop -g pae --pid 1 0x08048000
    kvmtools vtop -g pae --cpu 0 --format json init_task
    grep -o '0xc[0-9a-f]*' oops.txt | kvmtools vtop -c core -s vmlinux
    """
    refuse_nothing(addresses)
    found: list[_Answer] = []
    refused = unmapped = False
    with attached(options) as session:
        for text in addresses:
            if text != "-":
                virtual_address(text, session.kernel.address)
        for batch in _batches(addresses):
            wanted = []
            for text in batch:
                try:
                    wanted.append((text, virtual_address(text, session.kernel.address)))
                except UsageError as error:  # only of stdin: arguments were looked at before
                    note(error)
                    refused = True
            table, answers, regions = session.held(partial(_answers, session, tables, wanted))
            if form == "text":
                if found and answers:
                    emit("")
                if answers:
                    emit("\n\n".join("\n".join(one.lines(regions, table, tables)) for one in answers))
                    sys.stdout.flush()
                    found = answers[-1:]
            else:
                found += answers
            unmapped = unmapped or any(answer.way.fault is not None for answer in answers)
        said = consistency(session, form)
    if form == "json":
        emit_json(
            "vtop",
            page_table={"name": table.name, "cr3": hexadecimal(table.cr3)},
            translations=[answer.json(regions) for answer in found],
            **said,
        )
    if refused:
        return REFUSED
    return UNMAPPED if unmapped else MAPPED


def _batches(addresses: tuple[str, ...]) -> Iterator[list[str]]:
    """The arguments, with what stdin has to say where one is ``-`` or there are none."""
    for from_stdin, texts in groupby(addresses or ("-",), lambda text: text == "-"):
        if from_stdin:
            yield from batches()
        else:
            yield list(texts)


def _answers(
    session: Session, tables: PageTableChoice, wanted: list[tuple[str, int]]
) -> tuple[PageTable, list[_Answer], Regions]:
    from kvmtools.observe.space.layout import observe_layout
    from kvmtools.observe.space.regions import regions_of

    table = tables.find(session)
    answers = [_Answer(session, table, text, address) for text, address in wanted]
    return table, answers, regions_of(session.kernel, observe_layout(session.kernel))


def _page(session: Session, physical: int) -> dict[str, Any] | None:
    """The ``struct page``; ``None`` for memory that has none, such as a device's."""
    from kvmtools.observe.pages.memmap import page_at

    try:
        return page_at(session.kernel, physical >> PAGE_SHIFT)
    except IndexError:
        return None


class _Answer:
    """One address's translation and page, read while the guest is held."""

    def __init__(self, session: Session, table: PageTable, argument: str, address: int) -> None:
        from kvmtools.observe.paging.forms import paging_form
        from kvmtools.observe.paging.translate import translate

        kernel = session.kernel
        self.argument = argument
        self.entry_digits = 2 * paging_form(pae=kernel.pae).entry_size
        self.way: Translation = translate(kernel.memory, table.cr3, address, pae=kernel.pae)
        self.page = None if self.way.physical is None else _page(session, self.way.physical)

    def json(self, regions: Regions) -> dict[str, Any]:
        """One translation as data."""
        way = self.way
        return {
            "argument": self.argument,
            "virtual": hexadecimal(way.virtual),
            "region": regions.describe(way.virtual),
            "steps": [
                {
                    "level": step.name,
                    "table": hexadecimal(step.table, 9),
                    "index": step.index,
                    "entry": hexadecimal(step.entry, self.entry_digits),
                    "flags": step.flags,
                }
                for step in way.steps
            ],
            "mapped": way.fault is None,
            "fault": way.fault,
            "physical": hexadecimal(way.physical, 9),
            "page_size_bytes": way.size or None,
            "writable": way.writable,
            "user": way.user,
            "executable": way.executable,
            "page": page_json(self.page) if self.page else None,
        }

    def lines(self, regions: Regions, table: PageTable, tables: PageTableChoice) -> Iterator[str]:
        """One translation in text."""
        way = self.way
        symbol = f"{self.argument}  " if is_symbol(self.argument) else ""
        yield f"{paint(f'{way.virtual:08x}', bold=True)}  {symbol}{regions.describe(way.virtual)}  [{table.name}]"
        for step in way.steps:
            entry = (
                "outside RAM" if step.entry is None else f"{step.entry:0{self.entry_digits}x}  {step.flags}"
            )
            yield f"  {step.name}  table {step.table:09x} [{step.index:>4}]  {entry}"
        if way.physical is None:
            hint = ""
            if tables.of_kernel and regions.find(way.virtual).name == "user":
                hint = " (a process may map it: name one with --pid)"
            yield "  " + paint(f"not mapped: {way.fault}", fg="red") + hint
            return
        access = permissions(way.writable, way.executable, way.user)
        yield "  " + paint(f"physical {way.physical:#x}", bold=True) + f"  {size(way.size)} page  {access}"
        if self.page is None:
            yield "  no struct page: not RAM that the kernel manages (MMIO, firmware)"
            return
        yield from ("  " + line for line in page_lines(self.page))
