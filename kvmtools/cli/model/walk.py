"""``kvmtools model walk``: page tables from a file or as a kernel ought to have them, walked by the model."""

from __future__ import annotations

import re

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from kvmtools.cli.model.accesses import AccessRequest, Processor, attempt_of, complete_attempt
from kvmtools.cli.model.options import MachineOptions, complete_file, machine_request_options
from kvmtools.cli.model.walk_answer import WalkAnswer
from kvmtools.cli.model.walk_list import listing
from kvmtools.cli.model.walk_tables import ADDRESS_HINT, WalkableTables, head, of_file, of_kernel, title
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json
from kvmtools.errors import UsageError
from kvmtools.model.paging.walk import Fault

MAPPED, FAULT = 0, 1
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0|[0-9a-fA-F]{8}|[0-9a-fA-F]{16}")


def complete_word(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file's name for the first word; nobody can guess the addresses after it."""
    return [] if ctx.params.get("words") else complete_file(ctx, _param, incomplete)


@click.command()
@click.argument("words", metavar="[FILE] [ADDRESS]...", nargs=-1, shell_complete=complete_word)
@click.option(
    "--access",
    "attempt",
    metavar="WORDS",
    shell_complete=complete_attempt,
    callback=lambda _ctx, _param, value: None if value is None else attempt_of(value),
    help="Let a processor do it: write,user or fetch,smep; see above.",
)
@machine_request_options
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    request: MachineOptions,
    words: tuple[str, ...],
    attempt: AccessRequest | None,
    form: str,
) -> int:
    """Walk page tables: every level with its raw entry, and where it ends or what stops it.

    Without a FILE the tables are those that the kernel described by the options ought to have, built by the model; it
    says what it had to choose.  Without an ADDRESS everything that they map is listed.  An ADDRESS is 0xc1000000 or
    c1000000; a word that looks like neither is the FILE, where - is stdin.  Exit code 1: some address is not mapped, or
    an entry is malformed; 0: all is well.

    \b
    A FILE has these lines, and comments that begin with #:
      form pae nx=off maxphyaddr=36
                          how tables are read, before any entry: non-pae, pae or
                          4-level; nx=off: no NX bit (not for non-pae); pse=off: no
                          large pages (non-pae); gib=off: no 1 GiB pages (4-level);
                          maxphyaddr=N: address bits, else 32 for non-pae, 52
      cr3 0x1000          the register, low bits included
      0x1000[3] = 0x2001  entry 3 of the table at physical 0x1000
      0x2000[0..511]=0x0  a range of entries
      control wp=off      for --access, where it is not as in Linux: wp smep smap ac
                          pge=on or =off, pat=0x7040600070406
    form, cr3 and each entry are said once.  A 4 KiB page that no entry is in is not
    RAM.  Other lines say what tests find in the tables, and do not count here:
      0x0 -> 0x7000 4K w-x                    a leaf (K, M, G) and its rights, w u x
      0x5000 stops at pte[5]: not present     or: reserved, no RAM, no such address
      leaves 2                                how many there are
      user write 0x10 meets 0x7010 WB global  or supervisor; read, fetch
      user read 0x10 raises #PF 0x5 at pte[0]
      then 0x2000[0] = 0x7063                 an entry after these accesses

    \b
    --access is a list of these, with commas:
      read (else) write fetch    what is done
      user                       at CPL 3; else by the supervisor
      smep smap ac no-wp         CR4.SMEP, CR4.SMAP, EFLAGS.AC; CR0.WP clear
    beside what a control line of the FILE says.
    A processor loads CR3 first, then marks entries accessed and dirty, address after address.

    \b
    kvmtools model walk fixtures/paging/pae-rights.txt 0x00200000 --access write,user
    kvmtools model walk --no-pae --memory 512M 0xc1000000 c0000000
    kvmtools model walk --era 2.4
    """
    tables, addresses = _asked(ctx, request, words)
    if attempt is not None and not addresses:
        raise UsageError("--access needs an address to go to")
    if not addresses:
        return FAULT if listing(tables, form) else MAPPED
    processor = None if attempt is None else _processor(tables, attempt)
    answers = [WalkAnswer(tables, processor, text, address) for text, address in addresses]
    _tell(tables, attempt, answers, form)
    return FAULT if any(isinstance(answer.found, Fault) for answer in answers) else MAPPED


def _tell(
    tables: WalkableTables, attempt: AccessRequest | None, answers: list[WalkAnswer], form: str
) -> None:
    if form == "json":
        access = None if attempt is None else attempt.text
        translations = [answer.json() for answer in answers]
        emit_json("model walk", page_table=head(tables), access=access, translations=translations)
    else:
        emit("\n".join([*title(tables), *(line for answer in answers for line in ("", *answer.lines()))]))


def _processor(tables: WalkableTables, attempt: AccessRequest) -> Processor:
    return Processor(tables.memory, tables.cr3, tables.form, attempt, tables.control)


def _asked(
    ctx: click.Context, request: MachineOptions, words: tuple[str, ...]
) -> tuple[WalkableTables, list[tuple[str, int]]]:
    """What to walk, and the addresses in it."""
    file = words[0] if words and words[0] and not _ADDRESS.fullmatch(words[0]) else None
    addresses = words if file is None else words[1:]
    for word in addresses:
        if not _ADDRESS.fullmatch(word):
            raise UsageError(f"'{word}' is not an address", hint=ADDRESS_HINT)
    tables = _tables(ctx, request, file)
    end = tables.form.windows[-1].end
    for word in addresses:
        if int(word, 16) >= end:
            raise UsageError(f"{word}: with {tables.form.name} paging addresses end at {end:#x}")
    return tables, [(word, int(word, 16)) for word in addresses]


def _tables(ctx: click.Context, request: MachineOptions, file: str | None) -> WalkableTables:
    if file is None:
        return of_kernel(request.configuration())
    for parameter in ctx.command.params:
        name = parameter.name or ""
        said = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if said and name not in ("words", "attempt", "form"):
            raise UsageError(f"{parameter.opts[0]} describes a machine, and {file} has its own tables")
    return of_file(file)
