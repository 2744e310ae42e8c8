"""``kvmtools rules``: what ``kvmtools check`` holds to be true."""

from __future__ import annotations

import click

from kvmtools.cli.options import format_option
from kvmtools.cli.output import colour, emit, emit_json


@click.command()
@format_option
def command(form: str) -> None:
    """List the rules of `kvmtools check`: the truth, where it is written, and when it legally does not hold.

    \b
    kvmtools rules
    kvmtools rules --format json
    """
    from kvmtools.report import rules_text, rules_to_dict

    if form == "json":
        emit_json("rules", rules=rules_to_dict())
    else:
        emit(rules_text(color=colour()))
