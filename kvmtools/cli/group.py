"""The group of all commands: each is the module of this package that has its name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from kvmtools import __version__


class Group(click.Group):
    """A group that knows what a misspelt command was meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name)):
            from difflib import get_close_matches  # slow to import, and seldom wanted

            near = get_close_matches(name, self.list_commands(ctx))
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)


class Commands(Group):
    """A group whose commands are the modules of a package that define ``command``.

    :param package: the package's dotted name
    """

    def __init__(self, *args: Any, package: str = "kvmtools.cli", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for name in self._modules() if self.get_command(ctx, name) is not None)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules():
            return None
        module = cmd_name.replace("-", "_")
        command = getattr(import_module(f"{self.package}.{module}"), "command", None)
        return command if isinstance(command, click.Command) else None

    def _modules(self) -> set[str]:
        return {
            module.name.replace("_", "-")
            for module in pkgutil.iter_modules(import_module(self.package).__path__)
        }

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _hidden_from_click():  # --help and --version print here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        with _hidden_from_click():
            return super().invoke(ctx)


class BrokenPipe(Exception):
    """A :exc:`BrokenPipeError` in disguise: click would exit with 1, whatever pipe it was of."""

    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _hidden_from_click() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise BrokenPipe(error) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kvmtools")
def cli() -> None:
    """Does the memory management of this running i386 kernel look the way it must?

    kvmtools boots a QEMU i386 guest (PAE or not) or attaches to one that runs, reads its page tables, mem_map and
    pkmap, works out on its own what they ought to be, and reports every difference with the evidence.

    \b
    kvmtools run                         boot both reference guests, check them, stop them
    kvmtools guest start pae             a guest that outlives the command
    kvmtools check -g pae                observe, compare, report
    kvmtools vtop -g pae 0xc1000000      one address, every level
    kvmtools check --qemu qmp.sock -s vmlinux    anybody's QEMU
    kvmtools check -c core -s vmlinux            a dump-guest-memory core

    Exit codes: 0 agree, 1 discrepancy, 2 usage, 3 cannot attach, no symbols or no way to write the output, 4 internal
    error, 5 inconclusive.
    """
