"""Which options of the kernel's command line the model follows, and which of them a kernel would not."""

from __future__ import annotations

from collections.abc import Iterator

from kvmtools.model import eras
from kvmtools.model.command_line import options
from kvmtools.model.eras.dialects import PtiOption, Reservetop, RodataOption, VmallocOption
from kvmtools.records import Configuration

FOLLOWED = {
    "mem": "no RAM from there on (mem=nopentium: no large pages)",
    "memmap": "edits the RAM map",
    "highmem": "pages of highmem",
    "vmalloc": "room for the vmalloc area",
    "reservetop": "room above the fixmap",
    "kernelcore": "what is not zone MOVABLE",
    "movablecore": "what is zone MOVABLE",
    "rodata": "rodata=off leaves the image writable",
    "noexec": "noexec=off: no NX bit",
    "pti": "pti=on, pti=off: page-table isolation",
    "nopti": "as pti=off",
    "mitigations": "mitigations=off: no page-table isolation",
}
"""All that the model reads, and what it does."""


def without_effect(configuration: Configuration) -> Iterator[str]:
    """A line for every option on the command line that the model knows and this kernel has no use for."""
    era = eras.shown(configuration.marks)
    useless = {
        "memmap": not era.memmap_forms,
        "vmalloc": era.vmalloc_option is VmallocOption.UNKNOWN,
        "reservetop": era.reservetop_option is Reservetop.UNKNOWN,
        "kernelcore": "MOVABLE" not in configuration.zone_names,
        "movablecore": "MOVABLE" not in configuration.zone_names,
        "rodata": era.rodata_option is RodataOption.UNKNOWN,
        "noexec": not era.noexec_option,
        **dict.fromkeys(("pti", "nopti", "mitigations"), era.pti_option is PtiOption.UNKNOWN),
    }
    for name in dict.fromkeys(name for name, _ in options(configuration.command_line)):
        if useless.get(name):
            yield f"{_written(name)} has no effect in {era.name}"
        elif name == "highmem" and not configuration.highmem:
            yield "highmem= has no effect without HIGHMEM"
        elif name in ("noexec", "pti") and not configuration.pae:
            yield f"{name}= has no effect without PAE"


def followed() -> str:
    """The options, as they are written."""
    return ", ".join(map(_written, FOLLOWED))


def _written(name: str) -> str:
    return name if name == "nopti" else f"{name}="
