"""A synchronous monitor over ``qemu.qmp``.

``qemu.qmp`` is asynchronous; its event loop runs in a thread of its own.  So a Ctrl-C interrupts only the
waiting, never the protocol in mid-message, and whoever caught it can still tell QEMU to let the guest run.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from kvmtools.attach.monitor.address import plain
from kvmtools.attach.monitor.answers import Chardev
from kvmtools.attach.monitor.greeting import greeted
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished

if TYPE_CHECKING:
    import asyncio

    from qemu.qmp import QMPClient

T = TypeVar("T")

GREETING_SECONDS = 5.0
"""QEMU greets at once, unless it is serving other clients: so long we wait for them."""
COMMAND_SECONDS = 60.0


_open: weakref.WeakSet[QmpMonitor] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Hang up for who never did, such as a person at a prompt: asyncio complains of tasks that end with Python."""
    for monitor in list(_open):
        with suppress(Exception):
            monitor.close()


class QmpMonitor(Monitor):
    """One QMP connection.

    :param address: path of a unix socket, or ``host:port``
    :param greeting_seconds: how long to wait while QEMU serves other clients
    :param connection: was made there already, and QEMU has begun to speak on it
    :raises AttachError: if nobody listens there, somebody else is being served, or it is not QMP
    :raises UsageError: if the address is empty
    """

    name = "QMP"
    resumes = "QMP's cont"

    def __init__(
        self,
        address: str,
        *,
        greeting_seconds: float = GREETING_SECONDS,
        connection: socket.socket | None = None,
    ) -> None:
        # asyncio and qemu.qmp take 45 ms to import: only those who attach pay.
        import asyncio

        from qemu.qmp import QMPClient

        # What goes wrong is said by our exceptions; without a handler, logging would say it a second time
        # on stderr.
        logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
        self.address = plain(address)
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"qmp {address}", daemon=True)
        self._thread.start()
        self._client: QMPClient = QMPClient()
        try:
            self._connect(connection or greeted(self.address, greeting_seconds), greeting_seconds)
        except BaseException:
            self._stop_loop()
            raise
        _open.add(self)

    def command(self, name: str, **arguments: Any) -> Any:
        """Execute a QMP command and return its value; ``_`` in argument names becomes ``-``.

        :raises AttachError: if QEMU refuses the command
        :raises GuestVanished: if the connection is gone, or goes before the reply comes
        """
        wanted = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self._execute(name, wanted)

    def hmp(self, line: str) -> str:
        """The answer of the human monitor, with plain line feeds; raises as :meth:`command`."""
        answer = self._execute("human-monitor-command", {"command-line": line})
        return str(answer).replace("\r\n", "\n")

    def again(self, seconds: float) -> QmpMonitor:
        return QmpMonitor(self.address, greeting_seconds=seconds)

    def status(self) -> str:
        return str(self.command("query-status")["status"])

    def running(self) -> bool:
        return bool(self.command("query-status")["running"])

    def stop(self) -> None:
        self.command("stop")

    def cont(self) -> None:
        self.command("cont")

    def quit(self) -> None:
        self.command("quit")

    def version(self) -> str:
        version = self.command("query-version")["qemu"]
        return f"{version['major']}.{version['minor']}.{version['micro']}"

    def vcpu_threads(self) -> dict[int, int | None]:
        return {int(cpu["cpu-index"]): cpu.get("thread-id") for cpu in self.command("query-cpus-fast")}

    def ram_bytes(self) -> int:
        return int(self.command("query-memory-size-summary")["base-memory"])

    def backends(self) -> dict[str, bool]:
        return {
            str(each["id"]): bool(each.get("share")) for each in self.command("query-memdev") if "id" in each
        }

    def property(self, path: str, name: str) -> str:
        return str(self.command("qom-get", path=path, property=name))

    def target_arch(self) -> str:
        return str(self.command("query-target")["arch"])

    def chardevs(self) -> tuple[Chardev, ...]:
        return tuple(Chardev(each["label"], each["filename"]) for each in self.command("query-chardev"))

    def save_memory(self, address: int, size: int, path: str) -> None:
        self.command("pmemsave", val=address, size=size, filename=path)

    def dump(self, path: str, begin: int, length: int) -> None:
        self.command("dump-guest-memory", paging=False, protocol=f"file:{path}", begin=begin, length=length)

    def _connection(self) -> socket.socket:
        transport = self._client._writer.transport if self._client._writer else None
        if transport is None:
            raise self._vanished()
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    @contextmanager
    def lent(self, descriptor: int) -> Iterator[str]:
        """The ``/proc/self/fd/N`` of a file that is passed through the socket, which a TCP connection does not do.

        QEMU would keep it, and with it what was written there, for as long as anybody is connected to any monitor.

        :raises AttachError: if QEMU refuses
        """
        from qemu.qmp import QMPError

        with self._connection() as connection:
            passes_files = connection.family == socket.AF_UNIX
        if not passes_files:
            with super().lent(descriptor) as path:
                yield path
            return

        async def send() -> None:
            self._client.send_fd_scm(descriptor)

        try:
            self._run(send(), COMMAND_SECONDS)
        except (QMPError, OSError) as error:
            raise AttachError(f"{self.address}: no file can be passed to QEMU here: {error}") from error
        added = self.command("add-fd")
        try:
            yield f"/proc/self/fd/{added['fd']}"
        finally:
            # A monitor that is closed, or a QEMU that is gone, has nothing of ours any more.
            with suppress(AttachError):
                self.command("remove-fd", fdset_id=added["fdset-id"])

    def close(self) -> None:
        """Hang up; a second call, or a QEMU that is gone already, is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            # disconnect() repeats what ended the connection; that was told when it mattered.
            with suppress(Exception):
                self._run(self._client.disconnect(), GREETING_SECONDS)
        finally:
            self._stop_loop()

    def _connect(self, connection: socket.socket, seconds: float) -> None:
        import asyncio

        from qemu.qmp import ConnectError

        try:
            self._run(asyncio.wait_for(self._client.connect(connection), seconds), seconds + 5)
        except TimeoutError as error:
            connection.close()
            raise AttachError(f"{self.address}: QMP does not go on within {seconds:g} s") from error
        except ConnectError as error:
            connection.close()
            raise _explained(self.address, error.exc) from error

    def _execute(self, name: str, arguments: dict[str, Any]) -> Any:
        from qemu.qmp import ExecInterruptedError, ExecuteError, QMPError, StateError

        if self._closed:
            raise AttachError(f"{self.address}: this monitor connection is closed")
        try:
            return self._run(self._client.execute(name, arguments or None), COMMAND_SECONDS)
        except ExecuteError as error:
            raise AttachError(f"QEMU refused {name}: {error}") from error
        except (ExecInterruptedError, StateError, OSError, EOFError) as error:
            raise self._vanished() from error
        except QMPError as error:
            raise AttachError(f"{self.address}: QMP went wrong at {name}: {error}") from error

    def _vanished(self) -> GuestVanished:
        return GuestVanished(f"the guest at {self.address} is gone: QEMU ended or closed its monitor")

    def _run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Let the loop's thread do ``work``, and wait for it.

        A signal handler may come in here while its own thread waits here already (:mod:`pause`).  A
        ``concurrent.futures.Future`` would deadlock then: the waiting thread may hold the lock that the
        loop's thread needs to deliver.  ``SimpleQueue`` is written for this.
        """
        done: SimpleQueue[asyncio.Task[T]] = SimpleQueue()
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            started.append(self._loop.create_task(work))
            started[0].add_done_callback(deliver)

        def deliver(task: asyncio.Task[T]) -> None:
            if not task.cancelled():
                task.exception()  # asked for now, in case an interrupted waiter never does
            done.put(task)

        self._loop.call_soon_threadsafe(start)
        try:
            return done.get(timeout=seconds).result()
        except Empty:
            self._loop.call_soon_threadsafe(lambda: started[0].cancel())
            raise AttachError(f"{self.address}: QEMU did not answer within {seconds:g} s") from None

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _explained(address: str, error: Exception) -> AttachError:
    """Why a connection that spoke came to nothing."""
    if isinstance(error, EOFError):
        return AttachError(f"{address}: closed by the other side before any QMP greeting")
    if isinstance(error, OSError):
        return AttachError(f"cannot connect to {address}: {error.strerror or error}")
    return AttachError(
        f"{address} does not speak QMP",
        hint="-qmp makes the right kind of socket",
    )
