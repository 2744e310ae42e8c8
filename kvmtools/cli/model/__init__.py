"""``kvmtools model``: the reference model by itself, without a guest; also ``python -m kvmtools.model``.

Nothing here may import NumPy, drgn or QEMU's libraries: the model is for machines that have none of them.
"""

from __future__ import annotations

import click

from kvmtools.cli.group import Commands


@click.group(cls=Commands, package=__name__)
def command() -> None:
    """What an i386 kernel ought to have: the reference model, offline, from 2.4 to 7.2."""
