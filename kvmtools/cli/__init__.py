"""The command line: one small file per command, loaded when it is asked for.

Every module of this package that holds a ``command`` is a command of its own name; nothing registers it elsewhere.
Heavy imports (NumPy, drgn, asyncio) belong inside the command's function: ``--help`` imports every command's file.
This file itself imports next to nothing, so that Ctrl-C finds :func:`main` waiting from the first moment on.
"""

from __future__ import annotations

import errno
import gc
import os
import sys

TYPE_CHECKING = False  # typing itself would take longer to import than all of this

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from kvmtools.errors import KvmtoolsError

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
INTERNAL = 4
NO_OUTPUT = 3  # as where a guest, a vmlinux or a disk is not as it is needed


def main(*words: str) -> None:
    """Entry point: run the command and translate every outcome into one line and DESIGN.md's exit code.

    :param words: commands that stand before the person's own words
    """
    start_quickly()
    try:
        _occupy_standard_streams()
        if sys.stdout is None:
            complain("stdout is closed: there is nowhere to print to")
            sys.exit(NO_OUTPUT)
        leave(run_command([*words, *sys.argv[1:]]))
    except KeyboardInterrupt as interrupt:
        complain("interrupted")
        _complain_of_notes(interrupt)
        sys.exit(INTERRUPTED)
    except SystemExit as ending:
        _complain_of_notes(ending)
        raise


def start_quickly() -> None:
    """Leave out what a short command pays for and does not need: together a fifth of its time."""
    # What is imported lives until the end: to look through it for garbage every 700 objects finds none.  A long command
    # still collects its own.
    gc.set_threshold(200_000)
    # NumPy starts a thread a processor for linear algebra, which we do none of, and which takes time of the guest's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def complain(said: str | KvmtoolsError) -> None:
    """One line on stderr, in the form of every message of ours."""
    from kvmtools.show.printable import told

    to_stderr(f"kvmtools: {told(said)}\n")


def _complain_of_notes(ending: BaseException) -> None:
    """What else is to be said as we end, such as that a guest stays stopped."""
    for said in getattr(ending, "__notes__", ()):
        complain(said)


def to_stderr(text: str) -> None:
    """Write it; what is lost there is nobody's problem, and the output goes on."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        drain(sys.stderr)


def leave(code: int) -> None:
    """Exit with ``code``, unless the output cannot be written; without the interpreter's own complaint about that."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            code = _unwritten(error)
        drain(sys.stdout)
    to_stderr("")
    gc.freeze()  # the process ends: nothing is garbage now, or all is
    sys.exit(code)


def _unwritten(error: OSError) -> int:
    complain(f"cannot write the output: {error.strerror}")
    drain(sys.stdout)
    return NO_OUTPUT


def _failed(error: OSError) -> int:
    complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return INTERNAL


class UnwritableStdout(OSError):
    """Stdout cannot be written, as others than :func:`click.echo` found: a person's own code."""


def _is_of_output(error: OSError) -> bool:
    """Whether it is stdout that could not be written: all of ours that goes there goes through :func:`click.echo`."""
    if isinstance(error, UnwritableStdout):
        return True
    import click

    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is click.echo.__code__:
            return True
        trace = trace.tb_next
    return False


def drain(stream: IO[str]) -> None:
    """Lead to nowhere what a stream still holds: Python writes it as it ends, and since 3.13 exits 120 if it cannot."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    import select

    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)
    return bool(asked.poll(0))


def _occupy_standard_streams() -> None:
    """Give the descriptors of a closed stream to nothing, lest a socket of ours be taken for one."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (it is the stream of the whole process)


def run_command(words: list[str]) -> int:
    """The exit code of the command that the words name; what it could not do is said in one line."""
    from kvmtools.cli.group import cli

    return exit_code(lambda: cli.main(words, prog_name="kvmtools", standalone_mode=False))


def exit_code(work: Callable[[], object]) -> int:
    """The exit code of some work: what it returns, if that is a number; what it could not do is said in one line."""
    import io

    import click

    from kvmtools.cli.group import BrokenPipe
    from kvmtools.errors import KvmtoolsError
    from kvmtools.show.printable import brief

    try:
        result = work()
        return result if isinstance(result, int) else 0
    except KvmtoolsError as error:
        complain(error)
        return error.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        to_stderr("".join(f"{brief(line)}\n" for line in shown.getvalue().splitlines()))
        return 2
    except click.Abort as abort:
        # click's own, made from the interrupt.
        cause = abort.__cause__
        raise (cause if isinstance(cause, KeyboardInterrupt) else KeyboardInterrupt()) from None
    except BrokenPipe as broken:
        if reader_left():  # of --help, or of what a person's script printed
            return 0
        return _failed(broken.error)
    except OSError as error:
        return _unwritten(error) if _is_of_output(error) else _failed(error)
    except Exception as error:
        complain(
            f"internal error, please report it: {type(error).__name__}: {error} (KVMTOOLS_DEBUG=1 shows the traceback)"
        )
        if os.environ.get("KVMTOOLS_DEBUG"):
            import traceback

            traceback.print_exc()
        return INTERNAL
