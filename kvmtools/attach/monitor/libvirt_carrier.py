"""Who carries a line to the human monitor of a libvirt domain: libvirt's Python bindings, or the program ``virsh``.

Both call ``virDomainQemuMonitorCommand``, for which libvirt notes in its log that the domain is *tainted:
custom-monitor*.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import abstractmethod
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

from kvmtools.attach.closing import Closing
from kvmtools.attach.monitor.endings import postponed
from kvmtools.errors import AttachError

_SECONDS = 60.0
_OVERTAKING = 5.0
"""Seconds that a question waits for the one that it interrupts."""
_HMP = 1
"""``VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP`` (libvirt/libvirt-qemu.h)."""


class LibvirtError(AttachError):
    """libvirt's own words."""


class Carrier(Closing):
    """A way to a libvirt.

    :param uri: libvirt's, as for ``virsh -c``; without one, libvirt's own default
    """

    @abstractmethod
    def ask(self, domain: str, line: str) -> str:
        """What the human monitor of a domain answers.

        :param domain: its name, UUID or number
        :raises LibvirtError: if libvirt does not carry it
        """


class Virsh(Carrier):
    """A process for each question, 20 ms.

    :raises AttachError: if the program is not installed
    """

    def __init__(self, uri: str | None) -> None:
        program = shutil.which("virsh")
        if program is None:
            raise AttachError("the program virsh is not installed", hint="apt install libvirt-clients")
        self._command = [program, "--quiet", *(["--connect", uri] if uri is not None else [])]
        self._child: subprocess.Popen[str] | None = None

    def ask(self, domain: str, line: str) -> str:
        return self._run("qemu-monitor-command", f"--domain={domain}", "--hmp", "--", line)

    def domains(self) -> list[str]:
        """The names of those that run."""
        return [name for name in self._run("list", "--name").splitlines() if name]

    def close(self) -> None:
        """Every question has its own process."""

    def _run(self, *words: str) -> str:
        self._await_the_earlier()
        with ExitStack() as stack:
            with postponed():  # a handler that ran in between would not know of the process
                self._child = child = stack.enter_context(self._started(*words))
                stack.callback(child.wait)  # which Popen leaves out after Ctrl-C
                stack.callback(child.kill)  # unless it has ended
            try:
                out, err = child.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                raise LibvirtError(f"virsh did not answer within {_SECONDS:g} s") from None
        if child.returncode != 0:
            said = (re.sub(r"^error: ", "", line) for line in err.splitlines() if line)
            raise LibvirtError("; ".join(said))
        return out

    def _await_the_earlier(self) -> None:
        """A signal's handler asks while an answer is awaited: its ``cont`` must not overtake a ``stop``."""
        earlier = self._child
        if earlier is not None and earlier.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                earlier.communicate(timeout=_OVERTAKING)

    def _started(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            process_group=0,  # Ctrl-C is for us, who still have to let the guest run
        )


class Bindings(Carrier):
    """One connection, 1 ms a question.  A signal's handler runs when the answer is there: it overtakes no question.

    :raises ImportError: if they are not installed for this Python
    :raises LibvirtError: if libvirt does not answer
    """

    def __init__(self, uri: str | None) -> None:
        self._libvirt: Any = import_module("libvirt")
        self._qemu: Any = import_module("libvirt_qemu")
        self._libvirt.registerErrorHandler(lambda *_: None, None)  # else it tells every error to stderr, too
        try:
            self._connection = self._libvirt.open(uri)
        except self._libvirt.libvirtError as error:
            raise LibvirtError(str(error)) from None

    def ask(self, domain: str, line: str) -> str:
        try:
            return str(self._qemu.qemuMonitorCommand(self._found(domain), line, _HMP))
        except self._libvirt.libvirtError as error:
            raise LibvirtError(str(error)) from None

    def close(self) -> None:
        self._connection.close()

    def _found(self, domain: str) -> Any:
        """The domain, by what ``virsh`` takes as well."""
        connection = self._connection
        if domain.isdigit():
            return connection.lookupByID(int(domain))
        try:
            return connection.lookupByUUIDString(domain)
        except self._libvirt.libvirtError:
            return connection.lookupByName(domain)


def carrier(uri: str | None) -> Carrier:
    """The faster of the two that are installed.

    :raises AttachError: if none is
    """
    try:
        return Bindings(uri)
    except ImportError:
        return Virsh(uri)
