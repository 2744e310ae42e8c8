"""``kvmtools rules``: what ``kvmtools check`` holds to be true."""

from __future__ import annotations

import click

from kvmtools.cli.check import complete_rule
from kvmtools.cli.options import format_option
from kvmtools.cli.output import emit, emit_json
from kvmtools.show.style import colour


@click.command()
@click.argument("words", metavar="[RULE]...", nargs=-1, shell_complete=complete_rule)
@format_option
def command(words: tuple[str, ...], form: str) -> None:
    """List the rules of `kvmtools check`: the truth, where it is written, and when it legally does not hold.

    A RULE is an id or a group of them, the part before the dot; without one, all are listed.

    \b
    kvmtools rules
    kvmtools rules pkmap memmap.zone
    kvmtools rules --format json
    """
    from kvmtools.api.checking import rules
    from kvmtools.report import rules_text, rules_to_dict

    wanted = rules(words)
    if form == "json":
        emit_json("rules", rules=rules_to_dict(wanted))
    else:
        emit(rules_text(wanted, color=colour()))
