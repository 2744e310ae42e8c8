"""``kvmtools snapshot``: one moment of a guest as a file."""

from __future__ import annotations

from pathlib import Path

import click

from kvmtools.cli.consistency import consistency
from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import emit, progress
from kvmtools.show.printable import printable
from kvmtools.show.tables import size


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@target_options
@click.option("--full", is_flag=True, help="All RAM; the guest is held until it is written.")
@click.option("--zstd", "compress", is_flag=True, help="Compress with Zstandard.")
def command(options: TargetOptions, out: Path, full: bool, compress: bool) -> int:
    """Record one moment of the guest in OUT, an ELF core.

    It holds the memory that kvmtools looks at, and all that is to be known of the vmlinux: -c OUT needs no -s.  The
    guest is held only while that memory is copied.  drgn and gdb open the file, too; with --zstd, after `zstd -d`.
    Exit code 3 if it cannot be written: then nothing is left of it.

    \b
    kvmtools snapshot before.vmcore -g pae
    kvmtools check -c before.vmcore
    kvmtools snapshot all.vmcore.zst -g pae --full --zstd
    """
    from kvmtools.boot.host.interrupts import ending_raises

    show = progress()
    show("attaching")
    with ending_raises(), options.open() as kernel:
        kernel.snapshot(out, full=full, compress=compress, progress=show)
        pauses = kernel.pauses
        show("")
        consistency(kernel, "text")
    held = f", held for {pauses[-1].milliseconds:.1f} milliseconds" if pauses and pauses[-1].held else ""
    emit(f"{printable(str(out))}: {size(out.stat().st_size)}{held}")
    return 0
