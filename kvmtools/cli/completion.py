"""``kvmtools completion``: the script that teaches a shell our commands, options and guests' names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kvmtools.cli.output import emit
from kvmtools.errors import KvmtoolsError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the tab-completion script for SHELL.

    \b
    eval "$(kvmtools completion bash)"                                 # in ~/.bashrc
    kvmtools completion fish > ~/.config/fish/completions/kvmtools.fish
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise KvmtoolsError(f"click knows no completion for {shell}")
    emit(completion(ctx.find_root().command, {}, "kvmtools", "_KVMTOOLS_COMPLETE").source())
