"""``kvmtools layout``: a map of the kernel's address space, the model's boundaries beside the live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.cli.session import attached
from kvmtools.errors import UsageError
from kvmtools.records import PAGE_SHIFT, Layout
from kvmtools.show.drawing import Boundary, address_space_picture, beside
from kvmtools.show.style import paint
from kvmtools.show.tables import columns, hexadecimal, size, table

if TYPE_CHECKING:
    from kvmtools.records import Image

# Fields of records.Layout from the top of the address space down, each with what lies right below it.
_BELOW = {
    "fixaddr_top": "fixmap",
    "fixaddr_start": "boot-time fixmap",
    "fixaddr_tot_start": "(unused)",
    "cpu_entry_area_end": "CPU entry area",
    "cpu_entry_area_base": "(unused)",
    "ldt_end": "LDT",
    "ldt_base": "pkmap",
    "pkmap_base": "(guard)",
    "vmalloc_end": "vmalloc, ioremap, modules",
    "vmalloc_start": "(gap)",
    "high_memory": "direct map",
    "page_offset": "user",
}
_FRAMES = ("max_low_pfn", "highstart_pfn", "highend_pfn", "max_pfn", "max_mapnr")
_IMAGE = (
    ("text", "_text", "_etext"),
    ("rodata", "__start_rodata", "__end_rodata"),
    ("data", "_sdata", "_edata"),
    ("init (freed)", "__init_begin", "__init_end"),
    ("bss", "__bss_start", "__bss_stop"),
    ("brk", "__brk_base", "__brk_limit"),
)


@click.command()
@target_options
@format_option
def command(options: TargetOptions, form: str) -> None:
    """Draw the kernel's address space from the top down, and the limits of its memory.

    The left column is what the guest shows; = or ≠ says whether the model's prediction for this configuration
    agrees, ? marks a boundary that the guest does not show. `kvmtools check` judges; this command only shows.

    \b
    kvmtools layout -g pae
    kvmtools layout -c core -s vmlinux --format json
    """
    from kvmtools.model.prediction import Prediction
    from kvmtools.observe.boot.configuration import observe_configuration
    from kvmtools.observe.space.layout import observe_layout

    with attached(options) as session:
        kernel = session.kernel
        live, configuration = session.held(lambda: (observe_layout(kernel), observe_configuration(kernel)))
        said = consistency(session, form)
    model, era = Layout(), None
    try:
        prediction = Prediction(configuration)
        model, era = prediction.layout, prediction.era.name
    except UsageError as refusal:  # of the guest's configuration, not of the person's request
        note(f"the model cannot predict this guest: {refusal}")
    edges = _boundaries(live, model, tuple(_BELOW))
    frames = _boundaries(live, model, (*_FRAMES, "last_pkmap"))
    if form == "json":
        emit_json(
            "layout",
            era=era,
            boundaries=[_edge_json(edge) for edge in edges],
            limits=[{"name": f.name, "live": f.live, "model": f.model, "agrees": f.agrees} for f in frames],
            image=_image_json(configuration.image),
            **said,
        )
    else:
        emit(_text(edges, frames, configuration.image))


def _boundaries(live: Layout, model: Layout, names: tuple[str, ...]) -> list[Boundary]:
    """Those of the fields that one side knows, in the order given."""
    found = [Boundary(name, getattr(live, name), getattr(model, name)) for name in names]
    return [edge for edge in found if edge.live is not None or edge.model is not None]


def _text(edges: list[Boundary], frames: list[Boundary], image: Image) -> str:
    downwards = sorted(edges, key=lambda edge: -edge.place)
    below = [_BELOW[edge.name] for edge in downwards]
    if "pkmap_base" not in {edge.name for edge in edges}:
        below = ["(guard)" if name == "pkmap" else name for name in below]
    picture = address_space_picture([*downwards, Boundary("", 0, None)], below)
    rows = [
        (frame.name, frame.live if frame.live is not None else "?", _extent(frame), beside(frame, "d"))
        for frame in frames
    ]
    sections = [
        (name, f"{section['start'][2:]}-{section['end'][2:]}", size(section["size_bytes"]))
        for name, section in _image_json(image)["sections"].items()
    ]
    return "\n".join(
        [
            *picture,
            "",
            table(columns("limit >live >bytes model"), rows),
            "",
            paint(f"kernel image, moved by {image.slide:#x} (KASLR)", bold=True),
            table(columns("section addresses >size"), sections),
        ]
    )


def _extent(frame: Boundary) -> str:
    """Memory below a limit of pfns; ``last_pkmap`` counts slots."""
    return size(frame.place << PAGE_SHIFT)


def _edge_json(edge: Boundary) -> dict[str, Any]:
    return {
        "name": edge.name,
        "live": hexadecimal(edge.live),
        "model": hexadecimal(edge.model),
        "agrees": edge.agrees,
        "below": _BELOW[edge.name],
    }


def _image_json(image: Image) -> dict[str, Any]:
    known = image.sections
    return {
        "slide": hexadecimal(image.slide),
        "sections": {
            name: {
                "start": hexadecimal(known[first]),
                "end": hexadecimal(known[last]),
                "size_bytes": known[last] - known[first],
            }
            for name, first, last in _IMAGE
            if first in known and last in known
        },
    }
