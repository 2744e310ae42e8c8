"""The human monitor through a gdbstub: gdb's ``monitor`` command, which QEMU's stub passes on (``qRcmd``).

Mind what the stub does (QEMU ``gdbstub/``): it stops the guest when a client connects, and when it hears anything while
the guest runs; before it answers, it tells of that stop.  So a question to a running guest stops it for as long as the
answer takes, and here it is let run again.  Hanging up changes nothing.

A detach would do more than let the guest run: it forgets breakpoints that somebody left behind.  ``cont`` does not.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kvmtools.attach.monitor import address as addresses
from kvmtools.attach.monitor import answers, greeting, stub_registers
from kvmtools.attach.monitor.endings import Endings, postponed
from kvmtools.attach.monitor.host_process import pid_behind, switches
from kvmtools.attach.monitor.in_order import InOrder
from kvmtools.attach.monitor.listening import listener_at
from kvmtools.attach.monitor.monitor import Monitor, late
from kvmtools.attach.monitor.packets import ACKNOWLEDGED, INTERRUPT, PacketStream, packet
from kvmtools.attach.monitor.served import served_at
from kvmtools.errors import AttachError, GuestVanished, KvmtoolsError, MemoryFault
from kvmtools.records import Registers

T = TypeVar("T")

_SECONDS = 60.0
_FIRST_SECONDS = 5.0
_QUESTION = 1 << 20  # bytes
_GLANCE = 0.02  # seconds between two looks whether the stub is free
_STOPPED = re.compile(rb"[TS][0-9a-f]{2}")
_OUTPUT = re.compile(rb"O((?:[0-9a-f]{2})+)$")
_PACKET_SIZE = re.compile(rb"PacketSize=([0-9a-f]+)")
_PHYSICAL = b"qemu.PhyMemMode"
_SILENT_FROM = (8, 1)
_PAUSED = "paused"
_START = "start QEMU with -s, or -gdb unix:PATH,server=on,wait=off"


class StubMonitor(Monitor):
    """A connection to QEMU's gdbstub.  A guest that ran before runs as soon as this is made.

    :param address: path of a unix socket, or ``host:port``
    :param runs: whether its guest runs, if that is known
    :param threads: the vCPUs of that guest; another one that is found here is left as it was
    :raises AttachError: if nobody listens there, somebody else is being served, or it is no QEMU's gdbstub, or another
        guest's
    """

    name = "the human monitor"
    resumes = "gdb's continue"
    reads_memory = True

    def __init__(
        self,
        address: str,
        *,
        runs: bool | None = None,
        threads: dict[int, int | None] | None = None,
        seconds: float = _FIRST_SECONDS,
    ) -> None:
        self.address = addresses.plain(address)
        addresses.demand_socket(self.address, "gdb")
        listener = listener_at(self.address)
        if listener.taken:
            # Trying would do harm: QEMU would stop the guest for us when that client has left and we are long gone.
            other = served_at(self.address)
            raise AttachError(
                f"another client is connected to {self.address}" + (f": {other}" if other else ""),
                hint="the gdbstub serves one client at a time: end that gdb, or ask inside it",
            )
        self._seconds = seconds
        self._before = {} if listener.pid is None else switches(listener.pid)
        self._known, self._expected = runs, threads
        self._is_other = False
        self._packet_size = 0
        self._runs = False
        self._told = False
        self._tells = True
        self._closed = False
        self._late = False
        self._stream: PacketStream | None = None
        self._endings = Endings()
        self._endings.take()
        self._talk = InOrder(f"gdbstub {address}")
        try:
            self._do(self._connect)
        except BaseException:
            self.close()
            raise

    def hmp(self, line: str) -> str:
        return self._do(lambda: self._asking(lambda: self._output(line)))[0]

    def again(self, seconds: float) -> StubMonitor:
        if self._late:
            self.close()  # QEMU serves one client at a time, and that is still us, until it has noticed
            deadline = time.monotonic() + seconds
            while listener_at(self.address).taken and time.monotonic() < deadline:
                time.sleep(_GLANCE)
        return StubMonitor(self.address, seconds=seconds)

    def status(self) -> str:
        text, ran = self._do(lambda: self._asking(lambda: self._output("info status")))
        return answers.RUNNING if ran else answers.status(text)

    def stop(self) -> None:
        self._do(lambda: self._switch("stop"))

    def cont(self) -> None:
        self._do(lambda: self._switch("cont"))

    def close(self) -> None:
        """Hang up; the guest stays as it is.  A second call, or a QEMU that is gone already, is no error."""
        if self._closed:
            return
        try:
            with postponed():  # the guest stands until the last question is answered
                self._closed = True
                self._talk.close(_SECONDS)
                if self._stream is not None:
                    self._stream.close()
        finally:
            self._endings.give_back()

    def read_physical(self, address: int, size: int) -> bytes:
        return b"".join(
            self._read_question(at, min(_QUESTION, address + size - at))
            for at in range(address, address + size, _QUESTION)
        )

    def _read_question(self, address: int, size: int) -> bytes:
        """As much as an interrupted person may wait for."""
        return self._do(lambda: self._asking(lambda: self._read_physical(address, size)))[0]

    def registers(self) -> tuple[Registers, ...]:
        """Every vCPU's registers as gdb would see them, in vCPU order.

        :raises AttachError: if this stub does not show control registers
        """
        return self._do(lambda: self._asking(lambda: stub_registers.read(self._exchange)))[0]

    def _connection(self) -> socket.socket:
        return self._open().duplicate()

    def _do(self, work: Callable[[], T]) -> T:
        if self._late:
            raise late(self.address)
        if self._closed:
            raise AttachError(f"{self.address}: this gdbstub connection is closed")

        def done() -> T:
            if self._late:
                raise late(self.address)
            try:
                return work()
            except TimeoutError:
                self._give_up()
                raise AttachError(f"{self.address}: QEMU did not answer within {_SECONDS:g} s") from None
            except OSError:
                raise GuestVanished(
                    f"the guest at {self.address} is gone: QEMU ended or closed its gdbstub"
                ) from None

        try:
            return self._talk.do(done, _SECONDS + 1)
        except TimeoutError:
            self._late = True
            raise AttachError(f"{self.address}: QEMU did not answer within {_SECONDS:g} s") from None

    def _give_up(self) -> None:
        """The answer that comes next belongs to this question, not to the next one.

        QEMU may yet read what it was sent, and stop a guest that ran: it reads also that this shall run.
        """
        self._late = True
        if self._runs:
            with suppress(OSError):
                self._open().send(_command("cont") + ACKNOWLEDGED)

    def _connect(self) -> None:
        try:
            connection = addresses.connect(self.address, self._seconds)
        except OSError as error:
            raise greeting.explained(self.address, error, hint=_START) from None
        self._stream = PacketStream(connection)
        try:
            self._greet(connection)
            ran = self._ran_before(connection)
        except BaseException:
            # What a stub does not answer now, it may read later: it shall not leave a guest standing.
            greeting.detach(connection)
            raise
        self._finish(ran)
        if self._is_other:
            raise AttachError(
                f"{self.address} is the GDB socket of another guest", hint="name this one's with --gdb"
            )

    def _greet(self, connection: socket.socket) -> None:
        """Say hello to whoever listens.

        :raises AttachError: if it is no gdbstub
        """
        stream = self._open()
        stream.send(packet(b"qSupported:xmlRegisters=i386"))
        first = stream.first_byte(self._seconds)
        if first in (greeting.QMP, greeting.HUMAN[:1]):
            raise AttachError(
                f"{self.address} is a monitor's socket, not QEMU's GDB socket", hint="give it with --qemu"
            )
        if first not in greeting.GDB:
            raise AttachError(
                f"{self.address} does not answer as a GDB socket",
                hint=f"it serves one client at a time: is a gdb connected?  If not, {_START}",
            )
        reply = self._reply(stream, time.monotonic() + self._seconds)
        found = _PACKET_SIZE.search(reply)
        if found is None:
            raise AttachError(f"{self.address} does not answer as a GDB socket", hint=_START)
        self._packet_size = int(found[1], 16)

    def _ran_before(self, connection: socket.socket) -> bool:
        """Whether the guest ran before we came, now that it stands still.

        QEMU tells of the stop, but none from 8.1 on.  A stopped guest may be known by its state (``debug`` at a
        breakpoint, ``prelaunch``); or else by its vCPUs' threads, which a stop wakes, once, if they ran.
        """
        status = answers.status(self._output("info status"))
        version = answers.version(self._output("info version"))
        self._tells = tuple(map(int, version.split(".")))[:2] < _SILENT_FROM
        threads = answers.vcpu_threads(self._output("info cpus"))
        self._is_other = self._expected is not None and threads != self._expected
        if self._known is not None and not self._is_other:
            return self._known
        if self._told or status != _PAUSED or self._tells:
            return self._told
        with suppress(KvmtoolsError):
            now = switches(pid_behind(connection))
            if all(thread in self._before and thread in now for thread in threads.values()):
                return any(
                    now[thread] != self._before[thread] for thread in threads.values() if thread is not None
                )
        return True  # any gdb would let it run

    def _asking(self, question: Callable[[], T]) -> tuple[T, bool]:
        """What ``question`` finds out while the guest stands still, and whether it ran; then it does again."""
        self._interrupt()
        try:
            found = question()
        except KvmtoolsError:
            self._finish(self._ran())
            raise
        ran = self._ran()
        self._finish(ran)
        return found, ran

    def _ran(self) -> bool:
        """Whether the guest ran when it was interrupted; QEMU 8.1 to 9.2 do not tell of that stop either."""
        if self._runs and not self._told and not self._tells:
            return answers.status(self._output("info status")) == _PAUSED
        return self._told

    def _switch(self, command: str) -> None:
        self._interrupt()
        text = self._output(command)
        self._open().send(ACKNOWLEDGED)
        answers.silence(command, text)
        self._runs = command == "cont"

    def _interrupt(self) -> None:
        stream = self._open()
        self._told = False
        if stream.drain():
            stream.send(ACKNOWLEDGED)  # or QEMU takes no notice of the next byte
        stream.send(INTERRUPT)

    def _finish(self, ran: bool) -> None:
        """Let the guest run if it did.  QEMU waits for one acknowledgement: a second would stop the guest again."""
        if ran:
            answers.silence("cont", self._output("cont"))
        self._runs = ran
        self._open().send(ACKNOWLEDGED)

    def _output(self, line: str) -> str:
        """What the human monitor prints."""
        stream = self._open()
        stream.send(_command(line))
        deadline = time.monotonic() + _SECONDS
        printed = bytearray()
        while (reply := self._reply(stream, deadline)) != b"OK":
            output = _OUTPUT.match(reply)
            if output is None:
                raise AttachError(
                    f"the gdbstub at {self.address} carries no monitor commands", hint="is it a QEMU's?"
                )
            printed += bytes.fromhex(output[1].decode())
        return printed.decode(errors="replace").replace("\r\n", "\n")

    def _read_physical(self, address: int, size: int) -> bytes:
        before = self._exchange(b"q" + _PHYSICAL)
        if before not in (b"0", b"1"):
            raise AttachError(
                f"the gdbstub at {self.address} reads no physical memory", hint="before QEMU 4.1"
            )
        self._exchange(b"Q%b:1" % _PHYSICAL)
        try:
            step = self._packet_size // 2
            parts = [
                self._part(at, min(step, address + size - at)) for at in range(address, address + size, step)
            ]
        finally:
            self._exchange(b"Q%b:%b" % (_PHYSICAL, before))
        return b"".join(parts)

    def _part(self, address: int, size: int) -> bytes:
        reply = self._exchange(b"m%x,%x" % (address, size))
        try:
            data = bytes.fromhex(reply.decode())
        except ValueError:
            data = b""
        if len(data) != size:
            raise MemoryFault(address, f"the gdbstub answers {reply[:20]!r}")
        return data

    def _exchange(self, request: bytes) -> bytes:
        stream = self._open()
        stream.send(packet(request))
        return self._reply(stream, time.monotonic() + _SECONDS)

    def _reply(self, stream: PacketStream, deadline: float) -> bytes:
        """The next packet that is an answer; a stop that is told of before it is noted."""
        while _STOPPED.match(reply := stream.next(deadline)):
            self._told = True
        return reply

    def _open(self) -> PacketStream:
        if self._stream is None:
            raise ConnectionResetError
        return self._stream


def _command(line: str) -> bytes:
    """gdb's ``monitor``."""
    return packet(b"qRcmd," + line.encode().hex().encode())
