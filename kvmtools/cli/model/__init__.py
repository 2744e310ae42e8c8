"""``kvmtools model``: the reference model by itself, without a guest; also ``python -m kvmtools.model``.

Nothing here may import NumPy, drgn or QEMU's libraries: the model is for machines that have none of them.
"""

from __future__ import annotations

import click

from kvmtools.cli.group import Commands


@click.group(cls=Commands, package=__name__)
def command() -> None:
    """What an i386 kernel ought to have: the reference model, without a guest, from 2.4 to 7.2.

    Every figure is worked out from the description of a machine: the era of its kernel, with or without PAE, its RAM,
    its split of the address space, its command line.  Nothing is booted, and neither QEMU nor drgn nor NumPy need be
    there.  The same commands are behind `python -m kvmtools.model`.

    \b
    kvmtools model layout --era 2.4 --memory 1G       where everything lies
    kvmtools model layout --diff 2.4 6.1              what changed between two kernels
    kvmtools model eras --field pkmap_base --sources  which constants, and says who
    kvmtools model walk --memory 512M 0xc1000000      which entries lead there
    kvmtools model pkmap                              kmap and kunmap, line by line, and the slots after each
    kvmtools model memmap --memory 64G                mem_map kept three ways, and what a conversion costs
    kvmtools model budget                             what mem_map leaves of lowmem, from 512 MiB to 64 GiB

    Each has --help, and --format json.
    """
