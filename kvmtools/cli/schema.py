"""``kvmtools schema``: what the JSON of all commands looks like, for a program that reads it."""

from __future__ import annotations

import click

from kvmtools.cli.output import emit


@click.command()
def command() -> None:
    """Print the JSON Schema (2020-12) of what commands print with --format json.

    A document names the command that printed it; a later version of kvmtools may add keys, and takes none away.

    \b
    kvmtools schema > kvmtools.schema.json
    """
    from kvmtools.report.json_schema import json_schema_text

    emit(json_schema_text())
