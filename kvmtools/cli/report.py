"""``kvmtools report``: the verdict and everything that was there to be judged, as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from kvmtools.cli.check import complete_rule, separated
from kvmtools.cli.files import look_writable, write_whole
from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import emit, note, progress
from kvmtools.show.style import colour
from kvmtools.show.tables import size


@click.command()
@target_options
@click.option(
    "--html",
    "page",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there.",
)
@click.option("--only", metavar="RULE", multiple=True, shell_complete=complete_rule, help="As for check.")
@click.option("--skip", metavar="RULE", multiple=True, shell_complete=complete_rule, help="As for check.")
def command(options: TargetOptions, page: Path, only: tuple[str, ...], skip: tuple[str, ...]) -> int:
    """Check a guest, and write all that there is to see of it into one page.

    The page needs no network and no other file: the address space to scale, the model beside the guest; the slots of
    pkmap; physical memory by what its pages are doing; zones and free blocks; and every finding, linked to its place.
    It shows the moment that was judged.  Needs jinja2 (pip install 'kvmtools[html]').  Prints the verdict, and exits
    as check does.

    \b
    kvmtools report --html pae.html -g pae
    kvmtools report --html core.html -c core -s vmlinux
    """
    from kvmtools.api.checking import rules
    from kvmtools.report.page import needs, to_html
    from kvmtools.report.summary import verdict

    only, skip = separated(only), separated(skip)
    rules(only, skip)  # before the guest is bothered, and so are these
    needs()
    look_writable(page)
    show = progress()
    show("attaching")
    with options.open() as kernel:
        show("observing and comparing")
        survey = kernel.survey(only=only, skip=skip)
    show("drawing")
    data = to_html(survey).encode()
    show("")
    write_whole(page, data)
    emit(verdict(survey.result, colour()))
    note(f"wrote {page}, {size(len(data))}")
    return survey.result.exit_code
