"""``kvmtools shell``: drgn on the guest, with i386 page tables."""

from __future__ import annotations

import errno
import os
import stat
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmtools.cli import UnwritableStdout, reader_left, to_stderr
from kvmtools.cli.options import TargetOptions, target_options
from kvmtools.cli.output import note
from kvmtools.cli.page_tables import PageTableWords, page_table_options
from kvmtools.cli.scripts import script_text
from kvmtools.errors import KvmtoolsError, UsageError
from kvmtools.show.printable import printable

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel
    from kvmtools.api.page_tables import PageTable

SCRIPT_FAILED = 1


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("-e", "code", metavar="CODE", help="Run this code instead of a prompt.")
@target_options
@page_table_options
def command(
    options: TargetOptions,
    script: Path | None,
    arguments: tuple[str, ...],
    code: str | None,
    table: PageTableWords,
) -> int:
    """A drgn prompt on the guest, or a script run on it.

    Runs CODE, a SCRIPT with its ARGUMENTS, or what stdin holds if it is no terminal.  drgn's helpers for
    Linux are imported, and the program translates virtual addresses, which drgn alone cannot do for i386.
    Ours besides: vtop(), page(), read(), physical(), program(), paused(), and kernel with check(), walk(), pkmap(), ...
    The guest runs on meanwhile.  Exit code 1: the code raised an exception.

    \b
    kvmtools shell -g pae
    kvmtools shell -g pae -e 'print(prog["init_task"].comm)'
    kvmtools shell -g pae --pid 1 -e 'print(read(0x08049000, 4))'
    kvmtools shell -c core -s vmlinux tasks.py --verbose
    """
    if code is not None and script is not None:
        raise UsageError("-e and a script were both given", hint="give one of them")
    text = _text(code, script)
    with options.open() as kernel:
        chosen = kernel.page_table(**table)
        if text is None:
            _prompt(kernel, chosen)
            return 0
        name = str(script) if script else "<code>"
        sys.argv = [name, *arguments]
        return _run(kernel, chosen, text, name)


def _text(code: str | None, script: Path | None) -> str | None:
    """What to run, if it is not a prompt that is wanted."""
    if code is not None:
        return code
    if script is not None:
        return script_text(str(script))
    if sys.stdin is None:
        raise UsageError("stdin is closed: there is no prompt", hint="give a script, or code with -e")
    return None if sys.stdin.isatty() else script_text(None)


def _prompt(kernel: OpenKernel, table: PageTable) -> None:
    _spare_a_simple_terminal()
    from drgn.cli import run_interactive, version_header

    from kvmtools.api.prompt import HELP, namespace

    names = namespace(kernel, table.cr3)
    to_stderr(f"{version_header()}\n")
    run_interactive(
        names["prog"],
        banner_func=lambda banner: f"{banner}\n{HELP.format(table=printable(table.name))}",
        globals_func=lambda found: {**found, **names},
    )


def _spare_a_simple_terminal() -> None:
    """drgn takes the line editor of Python 3.13, which ends in an exception on a terminal such as ``TERM=dumb``.

    This variable is Python's own way to ask for the plain one.
    """
    import curses

    try:
        curses.setupterm()
        able = curses.tigetstr("clear") and curses.tigetstr("cup")
    except curses.error:
        able = None
    if not able:
        os.environ.setdefault("PYTHON_BASIC_REPL", "1")


def _run(kernel: OpenKernel, table: PageTable, text: str, name: str) -> int:
    """Run the person's code as Python runs a script: what it raises is theirs, traceback and all."""
    import drgn

    from kvmtools.api.prompt import namespace

    names: dict[str, Any] = namespace(kernel, table.cr3)
    names["__name__"] = "__main__"
    drgn.set_default_prog(names["prog"])
    try:
        exec(compile(text, name, "exec"), names)
    except KvmtoolsError as error:  # of our helpers: an address that is not mapped, a symbol that is none
        note(error)
        return SCRIPT_FAILED
    except Exception as error:
        if isinstance(error, OSError):
            _demand_output(error)
        _show(error, name)
        return SCRIPT_FAILED
    finally:
        drgn.set_default_prog(None)
    return 0


def _demand_output(error: OSError) -> None:
    """Raise if it was stdout that failed, which is no fault of the code's.

    :raises UnwritableStdout: if it cannot be written
    :raises BrokenPipeError: if its reader left
    """
    try:
        sys.stdout.flush()  # what failed fails again
    except BrokenPipeError:
        raise
    except OSError as again:
        raise UnwritableStdout(again.errno, again.strerror) from error
    # An unbuffered stdout does not hold by now what it could not write.
    if error.filename is None and error.errno == errno.ENOSPC and _is_full(1):
        raise UnwritableStdout(error.errno, error.strerror) from error
    if error.filename is None and error.errno == errno.EPIPE and reader_left():
        raise error


def _is_full(descriptor: int) -> bool:
    """Whether nothing more can be written: to a file on a full disk, or to ``/dev/full``; a pipe has no such end."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return os.statvfs(descriptor).f_bavail == 0
    return stat.S_ISCHR(status.st_mode) and not os.isatty(descriptor)


def _show(error: Exception, name: str) -> None:
    """The traceback from the first line of the person's own."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != name:
        frames = frames.tb_next
    to_stderr("".join(traceback.format_exception(type(error), error, frames)))
