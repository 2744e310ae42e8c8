"""``kvmtools model budget``: what mem_map costs, kept in each of the ways that there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kvmtools.cli.model.options import MachineOptions, machine_request_options
from kvmtools.cli.model.ram_in_use import ram_in_use
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.errors import UsageError
from kvmtools.model import budget, machine
from kvmtools.model.budget import Budget, Kind, Limit
from kvmtools.model.prediction import Prediction
from kvmtools.records import Configuration
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, hexadecimal, size, table

SIZES = tuple(1 << shift for shift in range(29, 37))
"""512 MiB to 64 GiB."""
NO_BOOT = "no boot"
_SHORT = "4K/high, 2M/low, ...: a virtual map, with leaves of that size, backed by highmem or lowmem"
_LEFT = (
    "left: lowmem (zones DMA and NORMAL) without mem_map; NORMAL: that without zone DMA",
    "lost: what mem_map costs lowmem; virtual: kernel virtual space that it takes, in lowmem or",
    "as a window; share: how much of all of it that is",
)
_TAKEN = (
    "window: virtual space outside lowmem; memory: wherever it is; in lowmem: what of it is there",
    "tables: page tables of the window, which are part of the memory",
    _SHORT,
)


@click.command()
@machine_request_options
@format_option
@click.option(
    "--plot",
    "picture",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the curves from 512 MiB to 64 GiB into FILE.svg or FILE.png (needs matplotlib).",
)
@click.pass_context
def command(ctx: click.Context, request: MachineOptions, form: str, picture: Path | None) -> None:
    """Work out what mem_map costs, and what it leaves of lowmem.

    Compared are FLATMEM, SPARSEMEM and the virtual mem_map that linux-mm argued about in September 2006, with leaves
    of 4 KiB or large ones, its memory from highmem or from lowmem.  Without --memory and --e820 there is a row for
    each of QEMU's machines from 512 MiB to 64 GiB; with one of them that machine's bill in full.  "No boot" means that
    the map has no room at all; a kernel needs some lowmem besides.

    \b
    kvmtools model budget                                 # 512 MiB to 64 GiB
    kvmtools model budget --memory 16G --split 2G
    kvmtools model budget --e820 0-2G,32G-34G             # a hole of 30 GiB
    kvmtools model budget --era 2.4                       # a struct page of 64 bytes
    kvmtools model budget --plot budget.svg
    """
    configuration = request.configuration()
    one = request.e820 is not None or ctx.get_parameter_source("memory") is not ParameterSource.DEFAULT
    if picture is not None and one:
        raise UsageError(
            "--plot draws QEMU's machines of every size; --memory and --e820 describe one machine",
            hint="leave one out",
        )
    if picture is not None:
        from kvmtools.cli.model.curves import draw

        draw(configuration, picture)
        note(f"drew {picture}")
    if one:
        _one(request, configuration, form)
    else:
        _all_sizes(request, configuration, form)


def _one(request: MachineOptions, configuration: Configuration, form: str) -> None:
    bills = [budget.budget(configuration, kind) for kind in budget.kinds(configuration)]
    if form == "json":
        emit_json(
            "model budget", **_kernel(request, configuration), machines=[_machine(request.memory, bills)]
        )
        return
    left = [
        (
            _short(configuration, bill.kind),
            size(bill.left) if bill.boots else NO_BOOT,
            size(bill.normal_left) if bill.boots else "-",
            size(bill.lost) if bill.boots else "-",
            size(bill.virtual),
            f"{bill.share:.1%}",
        )
        for bill in bills
    ]
    taken = [
        (
            _short(configuration, bill.kind),
            *map(size, (bill.window, bill.physical, bill.from_lowmem, bill.page_tables)),
        )
        for bill in bills
    ]
    emit(
        "\n".join(
            [
                _heading(request, configuration),
                *_spent_on(configuration, bills[0]),
                "",
                table(columns("kind >left >NORMAL >lost >virtual >share"), left),
                "",
                *(paint(line, dim=True) for line in _LEFT),
                "",
                table(columns("kind >window >memory >in_lowmem >tables"), taken),
                "",
                *(paint(line, dim=True) for line in _TAKEN),
                *(f"{bill.kind.name} does not boot: {bill.refusal}" for bill in bills if not bill.boots),
                "",
                *_both_sides(configuration),
            ]
        )
    )


def _all_sizes(request: MachineOptions, configuration: Configuration, form: str) -> None:
    kinds = budget.kinds(configuration)
    sizes = [memory for memory in SIZES if memory <= budget.BIGGEST_MEMORY[configuration.pae]]
    machines = [replace(configuration, e820=machine.e820_of(memory)) for memory in sizes]
    bills = [[budget.budget(each, kind) for kind in kinds] for each in machines]
    limits = [budget.limit(configuration, kind) for kind in kinds]
    if form == "json":
        emit_json(
            "model budget",
            **_kernel(request, configuration),
            machines=[_machine(memory, row) for memory, row in zip(sizes, bills, strict=True)],
            limits=[
                {
                    "kind": kind.name,
                    "memory_bytes": None if limit is None else limit.memory,
                    "reason": _why(configuration, limit) or None,
                }
                for kind, limit in zip(kinds, limits, strict=True)
            ],
        )
        return
    rows: list[tuple[str, ...]] = [
        (size(memory), size(row[0].memory), *(size(bill.left) if bill.boots else NO_BOOT for bill in row))
        for memory, row in zip(sizes, bills, strict=True)
    ]
    heads = " ".join(f">{_short(configuration, kind)}" for kind in kinds)
    most = [
        (
            _short(configuration, kind),
            "never" if limit is None else size(limit.memory),
            _why(configuration, limit),
        )
        for kind, limit in zip(kinds, limits, strict=True)
    ]
    emit(
        "\n".join(
            [
                _heading(request, configuration),
                "",
                paint("lowmem (zones DMA and NORMAL) that mem_map leaves", bold=True),
                table(columns(f">RAM >used {heads}"), rows),
                "",
                table(columns("kind >boots_up_to because_then"), most),
                "",
                paint(_SHORT, dim=True),
            ]
        )
    )


def _why(configuration: Configuration, limit: Limit | None) -> str:
    if limit is None:
        return ""
    most = Prediction(replace(configuration, e820=machine.e820_of(limit.memory)))
    return limit.reason or ram_in_use(most).unused or "the command line leaves no more RAM"


def _short(configuration: Configuration, kind: Kind) -> str:
    """The name of a kind, for a column."""
    if kind.memory_model != "virtual":
        return kind.name
    large = "2M" if configuration.pae else "4M"
    return f"{large if kind.large else '4K'}/{'low' if kind.lowmem_backed else 'high'}"


def _heading(request: MachineOptions, configuration: Configuration) -> str:
    words = [
        f"kernel {request.era}",
        "PAE" if configuration.pae else "no PAE",
        f"PAGE_OFFSET {configuration.page_offset:08x}",
        f"struct page of {configuration.page_struct_size} bytes",
    ]
    return paint(", ".join(words), bold=True)


def _spent_on(configuration: Configuration, bill: Budget) -> list[str]:
    """What there is to spend, and what of the RAM is not there for this kernel."""
    words = f"{size(bill.memory)} of RAM in use, lowmem {size(bill.lowmem_without)} if the map were free"
    unused = ram_in_use(Prediction(configuration)).unused
    return [paint(line, bold=True) for line in (words, unused) if line]


def _both_sides(configuration: Configuration) -> list[str]:
    """What either side of the debate would read out of the figures."""
    kinds = [kind for kind in (budget.FLATMEM, budget.SPARSEMEM) if kind in budget.kinds(configuration)]
    virtual, *others = (budget.budget(configuration, kind) for kind in (budget.VIRTUAL, *kinds))
    flat = others[0]
    saved = size(max(0, flat.backing - virtual.backing))
    losses = [f"{_loss(virtual)} with it", *(f"{_loss(bill)} with {bill.kind.name}" for bill in others)]
    return [
        f"Lameter    a virtual map needs {size(virtual.from_lowmem)} of lowmem's memory,"
        f" FLATMEM {size(flat.from_lowmem)}; holes save it {saved}",
        f"Whitcroft  but its window needs {size(virtual.window)} of virtual space, holes included",
        f"           so lowmem's loss: {', '.join(losses)}",
    ]


def _loss(bill: Budget) -> str:
    return size(bill.lost) if bill.boots else NO_BOOT


def _kernel(request: MachineOptions, configuration: Configuration) -> dict[str, Any]:
    return {
        "era": request.era,
        "pae": configuration.pae,
        "page_offset": hexadecimal(configuration.page_offset),
        "sizeof_page_bytes": configuration.page_struct_size,
    }


def _machine(memory: int | None, bills: list[Budget]) -> dict[str, Any]:
    return {"memory_bytes": memory, "used_bytes": bills[0].memory, "kinds": [_bill(bill) for bill in bills]}


def _bill(bill: Budget) -> dict[str, Any]:
    return {
        "kind": bill.kind.name,
        "memory_model": bill.kind.memory_model,
        "large_leaves": bill.kind.large,
        "lowmem_backed": bill.kind.lowmem_backed,
        "boots": bill.boots,
        "refusal": bill.refusal or None,
        "lowmem_left_bytes": bill.left,
        "normal_left_bytes": bill.normal_left,
        "lost_bytes": bill.lost,
        "lowmem_bytes": bill.lowmem,
        "virtual_bytes": bill.virtual,
        "virtual_share": round(bill.share, 6),
        "window_bytes": bill.window,
        "physical_bytes": bill.physical,
        "from_lowmem_bytes": bill.from_lowmem,
        "from_highmem_bytes": bill.from_highmem,
        "page_tables_bytes": bill.page_tables,
        "mem_section_bytes": bill.mem_section,
        "usemap_bytes": bill.usemap,
    }
