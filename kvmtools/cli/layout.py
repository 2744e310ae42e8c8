"""``kvmtools layout``: a map of the kernel's address space, the model's boundaries beside the live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, format_option, target_options
from kvmtools.cli.output import emit, emit_json, note
from kvmtools.show.layout import BELOW, layout_text
from kvmtools.show.tables import hexadecimal

if TYPE_CHECKING:
    from kvmtools.api.layout import KernelLayout


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
    with options.open() as kernel:
        layout = kernel.layout()
        said = consistency(kernel, form)
    if layout.refusal:
        note(f"the model cannot predict this guest: {layout.refusal}")
    if form == "json":
        emit_json("layout", **_json(layout), **said)
    else:
        emit(layout_text(layout))


def _json(layout: KernelLayout) -> dict[str, Any]:
    return {
        "era": layout.era,
        "boundaries": [
            {
                "name": edge.name,
                "live": hexadecimal(edge.live),
                "model": hexadecimal(edge.model),
                "agrees": edge.agrees,
                "below": BELOW[edge.name],
            }
            for edge in layout.boundaries
        ],
        "limits": [
            {"name": limit.name, "live": limit.live, "model": limit.model, "agrees": limit.agrees}
            for limit in layout.limits
        ],
        "image": {
            "slide": hexadecimal(layout.slide),
            "sections": {
                name: {
                    "start": hexadecimal(section.start),
                    "end": hexadecimal(section.end),
                    "size_bytes": len(section),
                }
                for name, section in layout.image.items()
            },
        },
    }
