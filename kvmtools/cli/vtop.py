"""``kvmtools vtop``: one virtual address, every level of its page tables, and what lies behind it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.page_tables import PageTableWords, page_table_options
from kvmtools.cli.words import batches, refuse_nothing
from kvmtools.errors import UsageError
from kvmtools.show.gaps import Gaps
from kvmtools.show.pages import page_json
from kvmtools.show.tables import hexadecimal
from kvmtools.show.translations import translation_lines

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.api.translations import TranslatedAddress

MAPPED, UNMAPPED, REFUSED = 0, 1, 2


@click.command()
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@target_options
@page_table_options
@format_option
def command(options: TargetOptions, addresses: tuple[str, ...], table: PageTableWords, form: str) -> int:
    """Translate virtual addresses: every level with its raw entry, the struct page, the region's name.

    An ADDRESS is 0xc1000000, c1000000, a symbol or symbol+0x10; without one, or for -, they are read from
    stdin and answered as they come; blank lines and # comments are skipped.  User addresses need the page
    table of a process (--pid) or of a vCPU (--cpu).  Exit code 2: a word of stdin is no address (stderr
    says which, the others are answered); 1: some address is not mapped (the reason is printed); 0: all are.
    Where the reader leaves (| head), no more of stdin is answered.

    \b
    kvmtools vtop -g pae 0xc1000000 linux_banner+0x10
    kvmtools vtop -g pae --pid 1 0x08049000
    kvmtools vtop -g pae --cpu 0 --format json init_task
    grep -o '0xc[0-9a-f]*' oops.txt | kvmtools vtop -c core -s vmlinux
    """
    refuse_nothing(addresses)
    found: list[TranslatedAddress] = []
    code = MAPPED
    with options.open() as kernel:
        for text in addresses:
            if text != "-":
                kernel.address(text)
        for batch in _batches(addresses):
            wanted = [text for text in batch if _is_address(kernel, text)]
            answers = kernel.vtop_each(wanted, **table)
            refused = len(wanted) < len(batch)
            unmapped = any(answer.fault is not None for answer in answers)
            code = max(code, REFUSED if refused else UNMAPPED if unmapped else MAPPED)
            if form == "text" and answers:
                shown = "\n\n".join("\n".join(translation_lines(answer)) for answer in answers)
                is_read = emit(f"\n{shown}" if found else shown)
                found = answers[-1:]
                if not is_read:  # stdin may be endless
                    break
            else:
                found += answers
        chosen = found[-1].page_table if found else kernel.page_table(**table)
        said = consistency(kernel, form)
    if form == "json":
        emit_json(
            "vtop",
            page_table={"name": chosen.name, "cr3": hexadecimal(chosen.cr3)},
            translations=[_json(answer) for answer in found],
            **said,
        )
    return code


def _is_address(kernel: OpenKernel, text: str) -> bool:
    """Whether it means a virtual address; if not, that is said.  Only stdin's may not: arguments were looked at."""
    try:
        kernel.address(text)
    except UsageError as error:
        note(error)
        return False
    return True


def _batches(addresses: tuple[str, ...]) -> Iterator[list[str]]:
    """The arguments, with what stdin has to say where one is ``-`` or there are none."""
    for from_stdin, texts in groupby(addresses or ("-",), lambda text: text == "-"):
        if from_stdin:
            yield from batches()
        else:
            yield list(texts)


def _json(way: TranslatedAddress) -> dict[str, Any]:
    gaps = Gaps()
    page = gaps.get(way, "page")
    return {
        "argument": way.argument,
        "virtual": hexadecimal(way.virtual),
        "region": way.region,
        "steps": [
            {
                "level": step.name,
                "table": hexadecimal(step.table, 9),
                "index": step.index,
                "entry": hexadecimal(step.entry, 2 * way.entry_size),
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
        "page": None if page is None else page_json(page),
        **gaps.document(),
    }
