"""``kvmtools check``: observe the guest, ask the model, report every difference."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import emit, progress
from kvmtools.show.style import colour


def complete_rule(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Rule ids, and the groups before their dot."""
    from kvmtools.api.checking import rules

    words = {word for rule in rules() for word in (rule.id, rule.group)}
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


@click.command()
@target_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit", "sarif"]),
    default="text",
    show_default=True,
)
@click.option(
    "--only",
    metavar="RULE",
    multiple=True,
    shell_complete=complete_rule,
    help="Run only this rule or group; several with commas.",
)
@click.option(
    "--skip",
    metavar="RULE",
    multiple=True,
    shell_complete=complete_rule,
    help="Leave this rule or group out; several with commas.",
)
@click.option("-v", "--verbose", is_flag=True, help="List the rules that agree, too.")
def command(
    options: TargetOptions, form: str, only: tuple[str, ...], skip: tuple[str, ...], verbose: bool
) -> int:
    """Compare what the guest's kernel has with what it ought to have.

    The guest is paused only while its memory is captured.  Exit codes: 0 agree, 1 discrepancy, 3 cannot attach, no
    symbols or no way to write the output, 5 nothing could be compared, or what looks wrong may be a change under way.

    \b
    kvmtools check -g pae
    kvmtools check --qemu /tmp/qmp.sock -s vmlinux
    kvmtools check -c core -s vmlinux --format junit > report.xml
    kvmtools check -c core -s vmlinux --format sarif > kvmtools.sarif
    kvmtools check -g pae --only pkmap --skip pkmap.waiters
    """
    from kvmtools.api.checking import rules
    from kvmtools.report import render

    only, skip = separated(only), separated(skip)
    rules(only, skip)  # before the guest is bothered
    show = progress()
    show("attaching")
    with options.open() as kernel:
        show("observing and comparing")
        result = kernel.check(only=only, skip=skip, declared=form == "sarif")
    show("")
    emit(render(result, form, color=colour(), verbose=verbose))
    return result.exit_code


def separated(words: tuple[str, ...]) -> tuple[str, ...]:
    """``--only a,b`` is ``--only a --only b``."""
    return tuple(word for each in words for word in each.split(",") if word)
