"""The other end of ``kvm ...`` in a user's gdb: our commands, on the guest that gdb holds.

Gdb starts this file as a child (kvmtools/companions/gdb/companion.py says what they tell each other) and ends it with
its connection to QEMU.  The kernel stays open between two questions; but the guest may have run, and been rebooted, so
it is found anew for each.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Any

from kvmtools.cli import exit_code, run_command, start_quickly
from kvmtools.cli.options import OPENER, TargetOptions
from kvmtools.errors import AttachError, MemoryFault, SymbolsError, UsageError

if TYPE_CHECKING:
    from kvmtools.api.open_kernel import OpenKernel

Json = dict[str, Any]
_NAME_NO_GUEST = ("symbols", "pause")


class Service:
    """Answers one gdb.

    :param channel: to it
    :param address: where it has reached QEMU
    :param to_qemu: its socket to QEMU, if it found that
    """

    def __init__(self, channel: socket, address: str, to_qemu: socket | None = None) -> None:
        self._lines = channel.makefile("r", encoding="utf-8", newline="\n")
        self._channel = channel
        self._address, self._to_qemu = address, to_qemu
        self._symbols: str | None = None
        self._kept: tuple[str | None, OpenKernel] | None = None
        OPENER.set(self._lend)

    def serve(self) -> None:
        """Answer until gdb hangs up."""
        requests: dict[str, Callable[[Json], Json]] = {
            "command": self._command,
            "complete": self._complete,
            "slide": self._slide,
            "entry": self._entry,
            "page": self._page,
        }
        while line := self._lines.readline():
            request = json.loads(line)
            self._symbols = request["symbols"]
            self._send(_answered(partial(requests[request["request"]], request)))
        if self._kept is not None:
            self._kept[1].close()

    def ask(self, line: str) -> str:
        """QEMU's human monitor, by gdb's ``monitor`` command."""
        self._send({"monitor": line})
        answer = json.loads(self._lines.readline() or '{"refused": "gdb has hung up"}')
        if "refused" in answer:
            raise AttachError(f"gdb: {answer['refused'].rstrip('.')}")
        return str(answer["answer"])

    def _send(self, message: Json) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _lend(self, options: TargetOptions) -> AbstractContextManager[OpenKernel]:
        for option, value in asdict(options).items():
            if option not in _NAME_NO_GUEST and value is not None:
                raise UsageError(f"--{option} names another guest than gdb's", hint="leave it out")
        return nullcontext(self._kernel(None if options.symbols is None else str(options.symbols)))

    def _kernel(self, symbols: str | None = None) -> OpenKernel:
        from kvmtools.api.opening import open_in_gdb

        wanted = symbols or self._symbols
        if self._kept is not None:
            symbols_of, kernel = self._kept
            with suppress(
                SymbolsError
            ):  # it is another kernel now: its vmlinux may be a new file of that name
                if symbols_of == wanted:
                    kernel.session.find_again()
                    return kernel
            self._kept = None
            kernel.close()
        connection = None if self._to_qemu is None else self._to_qemu.dup()
        kernel = open_in_gdb(self.ask, self._address, connection, symbols=wanted)
        self._kept = wanted, kernel
        return kernel

    def _command(self, request: Json) -> Json:
        return {"code": run_command(request["words"])}

    def _complete(self, request: Json) -> Json:
        from click.shell_completion import ShellComplete

        from kvmtools.cli.group import cli

        shell = ShellComplete(cli, {}, "kvmtools", "")
        found = shell.get_completions(request["words"], request["incomplete"])
        return {"value": [item.value for item in found]}

    def _slide(self, _request: Json) -> Json:
        from kvmtools.boot.kernels.kernel_folder import is_packed

        kernel = self._kernel()
        if kernel.vmlinux is not None and is_packed(kernel.vmlinux):
            raise SymbolsError(
                f"{kernel.vmlinux} is packed, and gdb reads no such file",
                hint="unpack it, and name what comes out: kvm symbols VMLINUX",
            )
        return {"value": [kernel.slide, str(kernel.vmlinux)]}

    def _entry(self, request: Json) -> Json:
        way = self._kernel().vtop(request["address"], cpu=request["cpu"])
        step = way.steps[-1]
        if step.entry is None:
            raise MemoryFault(step.table, f"the {step.name} table lies outside RAM")
        return {"value": step.entry}

    def _page(self, request: Json) -> Json:
        return {"value": self._kernel().page(request["pfn"]).page}


def _answered(work: Callable[[], Json]) -> Json:
    """What some work prints, complains of and returns."""
    answer: Json = {}
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = exit_code(lambda: answer.update(work()))
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), **answer}


def main() -> None:
    """Arguments: where gdb has reached QEMU, the descriptor of the channel to gdb, and that of gdb's socket to QEMU."""
    address, channel, *to_qemu = sys.argv[1:]
    start_quickly()
    os.environ["NO_COLOR"] = "1"  # what gdb prints may go to a file
    sys.stdin = None  # nobody writes there, and no command waits for it
    Service(socket(fileno=int(channel)), address, *(socket(fileno=int(one)) for one in to_qemu)).serve()


if __name__ == "__main__":
    main()
