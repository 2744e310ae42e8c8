"""``kvmtools run``: the whole arrow in one command, on both reference guests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmtools.cli.files import unwritable, write_whole
from kvmtools.cli.options import TargetOptions, format_option
from kvmtools.cli.output import emit, emit_json, note, progress
from kvmtools.errors import AttachError, GuestVanished, OutputError, UsageError
from kvmtools.show.style import colour

if TYPE_CHECKING:
    from kvmtools.boot.guests.record import Guest
    from kvmtools.survey import Survey

WORST_FIRST = (4, 3, 1, 5, 0)  # of several exit codes, the one to exit with


@click.command()
@format_option
@click.option("--memory", default="2G", show_default=True, help="RAM of each guest.")
@click.option("--accel", type=click.Choice(["tcg", "kvm", "auto"]), default="auto", show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="List the rules that agree, too.")
def command(form: str, memory: str, accel: str, verbose: bool) -> int:
    """Boot both guests (building their kernels the first time), check them, stop them.

    Each guest is given work before it is looked at: some hundred highmem pages are mapped through kmap(), so that pkmap
    holds slots in every state.  An HTML page of each (see `kvmtools report`) is left in ~/.cache/kvmtools/reports.
    The exit code is the worst of the two checks.
    """
    from kvmtools.boot.guests import lifecycle
    from kvmtools.boot.kernels import reference
    from kvmtools.report import render, summary, to_dict

    show = progress()
    pages = _place_for_pages()
    results = {}
    for name in reference.NAMES:
        show(f"{name}: booting")
        own = f"run-{name}-{os.getpid()}"
        with lifecycle.booted(own, kernel=name, memory=memory, accel=accel, progress=show) as guest:
            _fill_pkmap(name, guest)
            show(f"{name}: checking")
            with TargetOptions(guest.name).open() as opened:
                survey = opened.survey()
            results[name] = survey.result
            show(f"{name}: stopping")
        show("")
        if form == "text":
            emit(f"{render(results[name], 'text', color=colour(), verbose=verbose)}\n")
            emit("")
        if pages is not None:
            _write_page(survey, pages / f"{name}.html")
    if form == "json":
        emit_json("run", guests={name: to_dict(result) for name, result in results.items()})
    else:
        emit(summary(results, color=colour()))
    codes = {result.exit_code for result in results.values()}
    note("both guests are stopped")
    return next(code for code in WORST_FIRST if code in codes)


def _place_for_pages() -> Path | None:
    """Where the pages go; ``None``, and that is said, if none can be made: the verdict does not depend on them."""
    from kvmtools.paths import cache_dir
    from kvmtools.report.page import needs

    place = cache_dir() / "reports"
    try:
        needs()
        place.mkdir(parents=True, exist_ok=True)
    except UsageError as missing:
        note(f"no pages are written: {missing}")
        return None
    except OSError as error:
        note(f"no pages are written: {unwritable(place, error).message}")
        return None
    return place


def _write_page(survey: Survey, path: Path) -> None:
    """What ``kvmtools report`` would write of the guest."""
    from kvmtools.report.page import to_html

    try:
        write_whole(path, to_html(survey).encode())
        note(f"{path.stem}: the page is {path}")
    except OutputError as error:
        note(f"{path.stem}: {error}")


def _fill_pkmap(name: str, guest: Guest) -> None:
    """Give pkmap slots in every state; a small guest has no highmem to map, and is worth a look all the same."""
    from kvmtools.boot.guests.agent import Agent

    try:
        Agent(guest.agent).driver("mix 400")
    except GuestVanished:
        raise
    except AttachError as error:
        note(f"{name}: pkmap stays as it is: {error}")
