"""The command line: one small file per command, loaded when it is asked for.

Every module of this package that holds a ``command`` is a command of its own name; nothing registers it elsewhere.
Heavy imports (NumPy, drgn, asyncio) belong inside the command's function: ``--help`` imports every command's file.
"""

from __future__ import annotations

import errno
import os
import pkgutil
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

from kvmtools import __version__
from kvmtools.errors import KvmtoolsError

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
INTERNAL = 4


class Commands(click.Group):
    """A group whose commands are the modules of this package that define ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name for name in names if self.get_command(ctx, name) is not None)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if not cmd_name.isidentifier() or not any(m.name == cmd_name for m in pkgutil.iter_modules(__path__)):
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), "command", None)
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderLeft from None  # click would answer the original with exit code 1


class ReaderLeft(Exception):
    """Whoever read our output has seen enough: ``| head`` is not an error."""


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

    Exit codes: 0 agree, 1 discrepancy, 2 usage, 3 cannot attach or no symbols, 4 internal error, 5 inconclusive.
    """


def complain(message: str) -> None:
    """One line on stderr, in the form of every message of ours; a lost stderr is nobody's problem."""
    with suppress(OSError):
        click.echo(f"kvmtools: {' '.join(message.split())}", err=True)


def leave(code: int) -> NoReturn:
    """Exit with ``code``, without the interpreter's own complaint about a stdout that is gone."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            complain(f"cannot write the output: {error.strerror}")
            code = INTERNAL
    sys.exit(code)


def main() -> NoReturn:
    """Entry point: run the command and translate every outcome into one line and DESIGN.md's exit code."""
    code = 0
    try:
        result = cli.main(prog_name="kvmtools", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except KvmtoolsError as error:
        complain(str(error))
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        code = INTERRUPTED
    except ReaderLeft:
        pass
    except OSError as error:
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        code = INTERNAL
    except Exception as error:
        complain(
            f"internal error, please report it: {type(error).__name__}: {error} (KVMTOOLS_DEBUG=1 shows the traceback)"
        )
        if os.environ.get("KVMTOOLS_DEBUG"):
            traceback.print_exc()
        code = INTERNAL
    leave(code)
