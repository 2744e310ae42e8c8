"""What is asked of a QEMU, whoever carries the question there.

A carrier brings one line to QEMU's human monitor and its answer back: QMP, the monitor's own socket, a gdbstub, a gdb
that holds the stub, libvirt.  All questions are put in the human monitor's words here; a carrier that has better ones
(QMP) overrides them.
"""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from kvmtools.attach.closing import Closing
from kvmtools.attach.monitor import answers
from kvmtools.attach.monitor.answers import Chardev
from kvmtools.errors import AttachError


def late(address: str) -> AttachError:
    """What to say where answers carry no number: after one that was late, nobody knows whose the next is."""
    return AttachError(f"{address}: QEMU did not answer earlier", hint="attach again")


class Monitor(Closing):
    """One way to ask QEMU.

    Every question raises :exc:`AttachError` if QEMU refuses it, or answers what is not understood, and
    :exc:`GuestVanished` if QEMU is gone.
    """

    name: str
    """Who answers, for a person: ``"QMP"`` or ``"the human monitor"``."""
    address: str
    """Where QEMU was reached."""
    resumes: str = "the monitor's cont"
    """What a person lets the guest run with, there."""
    reads_memory = False
    """Whether it has :meth:`read_physical`."""

    @abstractmethod
    def hmp(self, line: str) -> str:
        """The human monitor's answer to ``line``, with plain line feeds; what it refuses is in the answer."""

    @abstractmethod
    def again(self, seconds: float) -> Monitor:
        """Another connection of the same kind to the same QEMU, if this one carries nothing any more."""

    def running(self) -> bool:
        """Whether the guest's CPUs run."""
        return self.status() == answers.RUNNING

    def status(self) -> str:
        """QEMU's word for the run state (qapi/run-state.json): ``running``, ``paused``, ``prelaunch``."""
        return answers.status(self.hmp("info status"))

    def stop(self) -> None:
        """Let the guest's CPUs stand still; no error if they do already."""
        answers.silence("stop", self.hmp("stop"))

    def cont(self) -> None:
        """Let them run."""
        answers.silence("cont", self.hmp("cont"))

    def quit(self) -> None:
        """End QEMU, and with it this connection."""
        self.hmp("quit")

    def version(self) -> str:
        """``7.2.22``."""
        return answers.version(self.hmp("info version"))

    def vcpu_threads(self) -> dict[int, int | None]:
        """The vCPUs by number, each with the host's thread that runs it, as QEMU's own namespace numbers it."""
        return answers.vcpu_threads(self.hmp("info cpus"))

    def ram_bytes(self) -> int:
        """The RAM that the guest was started with."""
        return answers.ram_bytes(self.hmp("info memory_size_summary"))

    def backends(self) -> dict[str, bool]:
        """The memory backends by id; whether each is shared."""
        return answers.backends(self.hmp("info memdev"))

    def property(self, path: str, name: str) -> str:
        """A property of an object (``/objects/ram``, ``mem-path``)."""
        return answers.property_value(self.hmp(f"qom-get {path} {name}"))

    def target_arch(self) -> str:
        """``i386`` or ``x86_64``: which qemu-system it is, whatever its guest is."""
        return answers.target_arch(self.hmp("qom-list /machine/unattached"))

    def chardevs(self) -> tuple[Chardev, ...]:
        """The character devices."""
        return answers.chardevs(self.hmp("info chardev"))

    def peer_pid(self) -> int:
        """The pid of QEMU.

        :raises AttachError: if it is not a process of this host that we can see
        """
        from kvmtools.attach.monitor.host_process import pid_running

        thread = next((thread for thread in self.vcpu_threads().values() if thread is not None), None)
        connection = self._connection()
        with connection or nullcontext():
            return pid_running(connection, thread)

    def _connection(self) -> socket.socket | None:
        """The socket that leads to QEMU, once more, for the caller to close; None if somebody else holds it."""
        return None

    @contextmanager
    def lent(self, descriptor: int) -> Iterator[str]:
        """Lend an open file to QEMU for the length of a ``with``: the path under which QEMU can open it.

        :raises AttachError: if QEMU cannot open files of ours
        """
        from kvmtools.attach.monitor.host_process import is_qemu, same_namespace

        pid = self.peer_pid()
        if not is_qemu(pid):
            # An end of a tunnel: whoever has our pid on QEMU's host would find that file of its own overwritten.
            raise AttachError(f"no file can be lent to QEMU: pid {pid} at the other end is not called so")
        if not same_namespace(pid):
            raise AttachError(f"no file can be lent to QEMU (pid {pid}), which is in another pid namespace")
        yield f"/proc/{os.getpid()}/fd/{descriptor}"

    def save_memory(self, address: int, size: int, path: str) -> None:
        """Write guest-physical memory to a file of QEMU's: ``pmemsave``."""
        # A size and a path without quotes would be a division.
        answers.silence("pmemsave", self.hmp(f'pmemsave {address:#x} {size:#x} "{path}"'))

    def read_physical(self, address: int, size: int) -> bytes:
        """Guest-physical memory, as the carrier itself shows it; it may be wrong above 4 GiB.

        :raises MemoryFault: if it shows none there
        """
        raise NotImplementedError

    def dump(self, path: str, begin: int, length: int) -> None:
        """Write an ELF core of guest-physical memory to a file of QEMU's: ``dump-guest-memory``, which stops the guest
        meanwhile."""
        answers.silence("dump-guest-memory", self.hmp(f'dump-guest-memory "{path}" {begin:#x} {length:#x}'))
