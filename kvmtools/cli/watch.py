"""``kvmtools watch``: a live guest changing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import emit
from kvmtools.show.watching import look_line, look_screen


@click.command()
@target_options
@click.option(
    "-n",
    "--interval",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--count", type=click.IntRange(1), help="How many looks; until Ctrl-C if it is not given.")
def command(options: TargetOptions, interval: float, count: int | None) -> int:
    """Show pkmap, the zones and their free blocks as they change, with the flushes of pkmap that were seen.

    On a terminal the screen is drawn anew at each look; elsewhere a look is a line.  The guest is held for some
    milliseconds each time, and runs on when this ends.

    \b
    kvmtools watch -g pae
    kvmtools watch -g pae --interval 0.2 --count 100 > log
    """
    from kvmtools.api.watching import looks
    from kvmtools.boot.host.interrupts import ending_raises

    with ending_raises(), options.open() as kernel:
        seen = looks(kernel, interval, count)
        if sys.stdout.isatty():
            _draw(seen, kernel.release)
        else:
            for look in seen:
                if not emit(look_line(look)):
                    break  # nobody reads on
    return 0


def _draw(seen: Iterable[Any], heading: str) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as live:
        for look in seen:
            live.update(
                Text.from_ansi(look_screen(look, heading), no_wrap=True, overflow="crop"), refresh=True
            )
