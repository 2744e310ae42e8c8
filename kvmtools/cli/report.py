"""``kvmtools report``: one verdict in as many files as are wanted, and everything that was there to be judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmtools.cli.check import complete_rule, separated
from kvmtools.cli.files import look_writable, write_whole
from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import emit, note, progress
from kvmtools.errors import UsageError
from kvmtools.show.style import colour
from kvmtools.show.tables import size

if TYPE_CHECKING:
    from kvmtools.survey import Survey

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@target_options
@click.option("--html", metavar="FILE", type=FILE, help="A page to look at (needs kvmtools[html]).")
@click.option("--sarif", metavar="FILE", type=FILE, help="SARIF 2.1.0, as by check.")
@click.option("--junit", metavar="FILE", type=FILE, help="JUnit XML, as by check.")
@click.option("--json", metavar="FILE", type=FILE, help="JSON, as by check.")
@click.option("--only", metavar="RULE", multiple=True, shell_complete=complete_rule, help="As for check.")
@click.option("--skip", metavar="RULE", multiple=True, shell_complete=complete_rule, help="As for check.")
def command(
    options: TargetOptions, only: tuple[str, ...], skip: tuple[str, ...], **files: Path | None
) -> int:
    """Check a guest once, and write the verdict into one file or several.

    The page of --html needs no network and no other file.  It draws the moment that was judged: the address space to
    scale, the model beside the guest; the slots of pkmap; physical memory by what its pages are doing; zones and free
    blocks; and every finding is linked to its place.  The verdict is printed, too; the exit code is that of check.

    \b
    kvmtools report -g pae --html pae.html
    kvmtools report -c core -s vmlinux --html core.html --sarif kvmtools.sarif --junit kvmtools.xml
    """
    from kvmtools.api.checking import rules
    from kvmtools.report.page import needs
    from kvmtools.report.summary import verdict

    wanted = {form: file for form, file in files.items() if file is not None}
    if not wanted:
        raise UsageError("no file is named", hint="--html FILE, or one of --sarif, --junit, --json")
    only, skip = separated(only), separated(skip)
    rules(only, skip)  # before the guest is bothered, and so are these
    if "html" in wanted:
        needs()
    _look_different(wanted)
    for file in wanted.values():
        look_writable(file)
    show = progress()
    show("attaching")
    with options.open() as kernel:
        show("observing and comparing")
        survey = kernel.survey(only=only, skip=skip)
    show("writing")
    documents = {file: _document(survey, form) for form, file in wanted.items()}
    show("")
    for file, data in documents.items():
        write_whole(file, data)
    emit(verdict(survey.result, colour()))
    for file, data in documents.items():
        note(f"wrote {file}, {size(len(data))}")
    return survey.result.exit_code


def _look_different(wanted: dict[str, Path]) -> None:
    """Refuse one file for two reports, by whatever names: the second would replace the first."""
    taken: dict[str, str] = {}
    for form, file in wanted.items():
        other = taken.setdefault(os.path.realpath(file), form)
        if other != form:
            raise UsageError(
                f"--{other} and --{form} name the same file, {file}", hint="name a file for each"
            )


def _document(survey: Survey, form: str) -> bytes:
    """What is to be in the file, with a line end behind it."""
    from kvmtools.report import render
    from kvmtools.report.page import to_html

    return f"{to_html(survey) if form == 'html' else render(survey.result, form)}\n".encode()
