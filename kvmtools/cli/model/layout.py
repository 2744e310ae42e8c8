"""``kvmtools model layout``: the kernel's address space as it ought to be, and how it changed from era to era."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from kvmtools.cli.model.address_space import Area, address_space
from kvmtools.cli.model.eras import beside, differs, era_json
from kvmtools.cli.model.options import MachineOptions, complete_era, era_name, machine_request_options
from kvmtools.cli.model.ram_in_use import RamInUse, ram_in_use
from kvmtools.cli.model.refusal import note_refusal, refusal
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json
from kvmtools.errors import UsageError
from kvmtools.model.eras import COLUMNS
from kvmtools.model.prediction import Prediction
from kvmtools.model.space.layout import TOP
from kvmtools.records import PAGE_SHIFT, PAGE_SIZE, Configuration, ZoneSpan
from kvmtools.show.drawing import Edge, staircase
from kvmtools.show.printable import printable
from kvmtools.show.style import paint
from kvmtools.show.tables import Heading, columns, hexadecimal, size, table

_LIMITS = ("max_low_pfn", "max_pfn", "max_mapnr")
_NOT_SWITCHES = {"marks"}


@click.command()
@machine_request_options
@click.option(
    "--diff",
    metavar="ERA ERA",
    nargs=2,
    type=era_name,
    shell_complete=complete_era,
    help="What changed between two eras, for this machine.",
)
@format_option
@click.pass_context
def command(ctx: click.Context, request: MachineOptions, diff: tuple[str, str] | None, form: str) -> None:
    """Draw the kernel's address space from the top down, with its guard holes, and its zones.

    Everything is worked out from the description of the machine; nothing is booted.  With --diff the two eras'
    boundaries stand side by side, then the switches and constants in which the eras differ, with their sources.

    \b
    kvmtools model layout --era 2.4 --memory 1G
    kvmtools model layout --memory 64G --append "vmalloc=256M"
    kvmtools model layout --no-pae --split 2G_OPT --e820 0-640K,1M-3G
    kvmtools model layout --diff 2.4 6.1
    """
    if diff is not None:
        if ctx.get_parameter_source("era") is not ParameterSource.DEFAULT:
            raise UsageError("--diff names two eras, --era a third", hint="leave --era out")
        _show_difference(request, diff, form)
        return
    prediction = Prediction(request.configuration())
    note_refusal("this kernel", prediction)
    if form == "json":
        emit_json("model layout", **_json(prediction))
    else:
        emit("\n".join(_text(prediction)))


def _text(prediction: Prediction) -> Iterator[str]:
    areas = address_space(prediction)
    yield paint(f"{prediction.era.name}, {_machine(prediction)}", bold=True)
    edges = [Edge(TOP, "4 GiB   ", ""), *(Edge(a.start, f"{a.start:08x}", a.boundary) for a in areas)]
    yield from staircase(edges, [area.name for area in areas])
    yield ""
    heads = columns("zone >start_pfn >end_pfn >spanned >present >present_bytes")
    yield table(heads, [_zone_row(prediction, zone) for zone in prediction.zones])
    yield ""
    yield table(columns("limit >value >bytes"), list(_limits(prediction)))


def _machine(prediction: Prediction) -> str:
    """The machine in one line."""
    c = prediction.configuration
    words = ["PAE" if c.pae else "no PAE", f"NR_CPUS={c.nr_cpus}", "SPARSEMEM" if c.sparsemem else "FLATMEM"]
    words += ["PTI"] if c.pti else []
    words.append(str(ram_in_use(prediction)))
    return ", ".join([*words, *([printable(c.command_line)] if c.command_line else [])])


def _machine_json(configuration: Configuration) -> dict[str, Any]:
    """What the options said, each under its own name."""
    return {
        "pae": configuration.pae,
        "nr_cpus": configuration.nr_cpus,
        "sparsemem": configuration.sparsemem,
        "highmem": configuration.highmem,
        "pti": configuration.pti,
        "page_offset": hexadecimal(configuration.page_offset),
        "append": configuration.command_line,
    }


def _zone_row(prediction: Prediction, zone: ZoneSpan) -> tuple[object, ...]:
    spanned, present = zone.end_pfn - zone.start_pfn, prediction.present(zone)
    return (
        zone.name,
        f"{zone.start_pfn:#x}",
        f"{zone.end_pfn:#x}",
        spanned,
        present,
        size(present * PAGE_SIZE),
    )


def _limits(prediction: Prediction) -> Iterator[tuple[object, ...]]:
    edges = dict(prediction.layout.items())
    for name in _LIMITS:
        value = edges[name]
        if value is not None:
            yield name, f"{value:#x}", size(value << PAGE_SHIFT)
    if prediction.pkmap is not None:
        slots = prediction.pkmap.slots
        yield "LAST_PKMAP", slots, size(slots * PAGE_SIZE)
    if prediction.memmap.length is not None and prediction.memmap.size is not None:
        yield "mem_map", prediction.memmap.length, size(prediction.memmap.size)


def _json(prediction: Prediction) -> dict[str, Any]:
    edges = dict(prediction.layout.items())
    return {
        "era": prediction.era.name,
        **_machine_json(prediction.configuration),
        "refusal": refusal(prediction) or None,
        "ram": _ram_json(ram_in_use(prediction)),
        "boundaries": {name: _data(name, value) for name, value in edges.items() if not _counts(name)},
        "limits": {name: _data(name, value) for name, value in edges.items() if _counts(name)},
        "areas": [_area_json(area) for area in address_space(prediction)],
        "zones": [
            {
                "name": zone.name,
                "start_pfn": zone.start_pfn,
                "end_pfn": zone.end_pfn,
                "present_pages": prediction.present(zone),
            }
            for zone in prediction.zones
        ],
        "mem_map": {"entries": prediction.memmap.length, "size_bytes": prediction.memmap.size},
    }


def _ram_json(ram: RamInUse) -> dict[str, Any]:
    return {
        "used_bytes": ram.used,
        "unused_from": hexadecimal(ram.unused_from),
        "why_unused": ram.why or None,
    }


def _area_json(area: Area) -> dict[str, Any]:
    return {
        "name": area.name,
        "boundary": area.boundary or None,
        "start": hexadecimal(area.start),
        "end": hexadecimal(area.end),
        "size_bytes": area.end - area.start,
    }


def _counts(field: str) -> bool:
    """Whether a field of the layout is a number of pages or slots, not an address."""
    return field.endswith(("_pfn", "_mapnr")) or field == "last_pkmap"


def _show_difference(request: MachineOptions, names: tuple[str, str], form: str) -> None:
    old, new = both = [Prediction(request.configuration(name)) for name in names]
    for name, prediction in zip(names, both, strict=True):
        note_refusal(name, prediction)
    moved = [
        (name, before, after)
        for (name, before), (_, after) in zip(old.layout.items(), new.layout.items(), strict=True)
        if before != after
    ]
    switches = [field for field in COLUMNS if field not in _NOT_SWITCHES and differs(field, names)]
    if form == "json":
        emit_json(
            "model layout",
            eras=list(names),
            refusals={name: refusal(each) or None for name, each in zip(names, both, strict=True)},
            boundaries=[
                {"name": name, "old": _data(name, before), "new": _data(name, after)}
                for name, before, after in moved
            ],
            zones={name: _json(each)["zones"] for name, each in zip(names, both, strict=True)},
            switches=[era_json(name, switches) for name in names],
        )
        return
    heads = (
        Heading("boundary"),
        *(Heading(name, right=True) for name in names),
        Heading("moved", right=True),
    )
    rows = [(n, _value(n, a) or "-", _value(n, b) or "-", _distance(n, a, b)) for n, a, b in moved]
    lines = [paint(line, bold=True) for line in _machines(names, both)]
    if rows:
        lines += [table(heads, rows), ""]
    if switches:
        lines += beside(names, switches, True)
    emit("\n".join(lines if rows or switches else [*lines, "nothing differs"]))


def _machines(names: tuple[str, str], predictions: list[Prediction]) -> list[str]:
    """The machine in one line, or one for each era if they do not use the same RAM of it."""
    lines = [_machine(prediction) for prediction in predictions]
    if lines[0] == lines[1]:
        return lines[:1]
    return [f"{name}: {line}" for name, line in zip(names, lines, strict=True)]


def _value(name: str, value: int | None) -> str | None:
    """An address or a pfn in hex; ``None`` where an era has no such boundary."""
    return hexadecimal(value) if value is None or name != "last_pkmap" else str(value)


def _data(name: str, value: int | None) -> int | str | None:
    """An address in hex, a number of pages or slots as a number."""
    return value if _counts(name) else hexadecimal(value)


def _distance(name: str, old: int | None, new: int | None) -> str:
    """How far a boundary moved, in bytes."""
    if old is None or new is None:
        return "new" if old is None else "gone"
    return f"{'up' if new > old else 'down'} {size(abs(new - old) * (PAGE_SIZE if _counts(name) else 1))}"
