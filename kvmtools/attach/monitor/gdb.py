"""A gdb of our own on QEMU's gdbstub, spoken to in GDB/MI: registers, and reads and writes of *virtual*
memory.

Mind what the stub does (QEMU gdbstub/): it stops the guest when a client connects and resumes it when the
client detaches, whatever the guest did before.  And gdb moves about 3 MB/s, so this is never for bulk
memory.
"""

from __future__ import annotations

import re
import select
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvmtools.attach.closing import Closing
from kvmtools.attach.monitor.address import plain
from kvmtools.attach.monitor.gdbstub import is_taken, not_gdb
from kvmtools.attach.monitor.greeting import monitor_at
from kvmtools.attach.monitor.monitor import Monitor
from kvmtools.errors import AttachError, GuestVanished, KvmtoolsError, MemoryFault
from kvmtools.records import Registers

_SECONDS = 30.0
_CONNECT_SECONDS = 5
_READ_CHUNK = 1 << 16
_WRITE_CHUNK = 1 << 12
_LOST = re.compile(r"Remote connection closed|Remote communication error|Target disconnected")
_LONG_HEX = re.compile(r"([0-9a-fA-F]{16})[0-9a-fA-F]{16,}")  # a whole register file, in gdb's complaints
_NAMES = ("eip", "cr0", "cr3", "cr4", "efer")


class Gdb(Closing):
    """One gdb process, connected; a context manager.  The guest stands still for as long as it is open.

    :param address: the gdbstub's socket: a path, or ``host:port``
    :param vmlinux: symbols for the commands that want them
    :param monitor: a way to ask the same QEMU, to leave the guest's run state as it was found;
        without one, the guest runs afterwards
    :raises AttachError: if there is no gdb, or nobody answers at ``address``
    """

    def __init__(self, address: str, vmlinux: Path | None = None, *, monitor: Monitor | None = None) -> None:
        from pygdbmi.gdbcontroller import GdbController

        if shutil.which("gdb") is None:
            raise AttachError("the program gdb is not installed", hint="apt install gdb")
        self.address = plain(address)
        self._monitor = monitor
        self._token = 0
        self._connected = False
        self._closed = False
        self._was_running = True if monitor is None else monitor.running()
        # pygdbmi would wait 0.2 s after every command for more output; we wait for the command's own result
        # instead.
        self._gdb = GdbController(
            ["gdb", "--nx", "--quiet", "--interpreter=mi3"], time_to_check_for_additional_output_sec=0
        )
        try:
            self._connect(vmlinux)
        except BaseException:
            self.close()
            raise

    def registers(self) -> tuple[Registers, ...]:
        """Every vCPU's registers, in vCPU order.

        :raises AttachError: if this QEMU's stub does not show control registers (before QEMU 4.1)
        """
        names = self._command("-data-list-register-names")["register-names"]
        missing = [name for name in _NAMES if name not in names and name != "eip"]
        if missing:
            raise AttachError(
                f"the gdbstub at {self.address} does not show {', '.join(missing)}", hint="use QMP"
            )
        wanted = {str(names.index(name if name in names else "rip")): name for name in _NAMES}
        threads = sorted(int(thread["id"]) for thread in self._command("-thread-info")["threads"])
        found = []
        for cpu, thread in enumerate(threads):
            reply = self._command(f"-data-list-register-values --thread {thread} x {' '.join(wanted)}")
            values = {wanted[v["number"]]: int(v["value"], 16) for v in reply["register-values"]}
            found.append(Registers(cpu=cpu, **values))
        return tuple(found)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of virtual memory, as the first vCPU's page tables map it.

        :raises MemoryFault: if any of them is not mapped
        """
        return b"".join(self._read(at, length) for at, length in _chunks(address, size, _READ_CHUNK))

    def write(self, address: int, data: bytes) -> None:
        """Overwrite virtual memory of the guest.

        :raises MemoryFault: if any byte is not mapped; what lies before it may have been written
        """
        for at, length in _chunks(address, len(data), _WRITE_CHUNK):
            part = data[at - address : at - address + length]
            try:
                self._command(f"-data-write-memory-bytes {at:#x} {part.hex()}")
            except _GdbError as error:
                raise MemoryFault(at, f"gdb cannot write it: {error.message}", space="virtual") from None

    def close(self) -> None:
        """End gdb, and see that the guest's run state is as it was found.  A second call does nothing.

        :raises GuestVanished: if QEMU is gone
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._connected:
                self._connected = False
                # A disconnect, unlike a detach, says nothing to the stub: the guest stays stopped.
                with suppress(KvmtoolsError):
                    self._command("-target-detach" if self._was_running else "-target-disconnect")
        finally:
            self._end_gdb()
            self._restore()

    def _connect(self, vmlinux: Path | None) -> None:
        for setting in ("confirm off", "auto-load off", f"remotetimeout {_CONNECT_SECONDS}"):
            self._command(f"-gdb-set {setting}")
        self._command(f"-gdb-set tcp connect-timeout {_CONNECT_SECONDS}")
        if vmlinux is not None:
            quoted = str(vmlinux).replace("\\", "\\\\").replace('"', '\\"')
            self._command(f'-file-exec-and-symbols "{quoted}"')
        if self._is_64_bit():
            # An i386 vmlinux makes gdb expect an i386's register file, and this stub sends the longer one.
            self._command("-gdb-set architecture i386:x86-64")
        if self._monitor is not None and self._monitor.address == self.address:
            raise not_gdb(self.address, self._monitor.name)
        if self._monitor is not None and is_taken(self.address, self._monitor):
            # Trying would do harm: QEMU would stop the guest for us when that client has left and we are long gone.
            raise AttachError(
                f"another client is connected to {self.address}",
                hint="the gdbstub serves one client at a time",
            )
        path = Path(self.address)
        where = path.absolute() if path.exists() else self.address  # gdb takes the rest of the line as it is
        try:
            self._command(f"-target-select remote {where}", seconds=2 * _CONNECT_SECONDS)
        except AttachError as error:
            self._end_gdb()  # it holds what it is connected to
            if kind := monitor_at(self.address):
                raise not_gdb(self.address, kind) from None
            raise AttachError(
                f"gdb cannot connect to {self.address}: {error.message}",
                hint="the gdbstub serves one client at a time; is another gdb connected?",
            ) from None
        self._connected = True

    def _is_64_bit(self) -> bool:
        """Whether it is qemu-system-x86_64, whatever its guest is."""
        return self._monitor is not None and self._monitor.target_arch() == "x86_64"

    def _read(self, address: int, size: int) -> bytes:
        try:
            (block,) = self._command(f"-data-read-memory-bytes {address:#x} {size}")["memory"]
        except (_GdbError, ValueError):
            raise MemoryFault(address, f"gdb cannot read {size} bytes", space="virtual") from None
        data = bytes.fromhex(block["contents"])
        if int(block["begin"], 16) != address or len(data) != size:
            raise MemoryFault(address, f"gdb can read only part of {size} bytes", space="virtual")
        return data

    def _command(self, line: str, *, seconds: float = _SECONDS) -> Any:
        """Send one MI command; the payload of its result, as soon as it is there.

        :raises _GdbError: if gdb says ``^error``
        :raises GuestVanished: if gdb ended, or lost its target
        """
        self._token += 1
        manager = self._gdb.io_manager
        deadline = time.monotonic() + seconds
        try:
            manager.write(f"{self._token}{line}", read_response=False)
            while True:
                readable, _, _ = select.select(
                    [manager.stdout_fileno], [], [], max(0.0, deadline - time.monotonic())
                )
                if not readable:
                    raise AttachError(f"gdb did not answer {line.split()[0]} within {seconds:g} s")
                records = manager.get_gdb_response(0, raise_error_on_timeout=False)
                for record in records:
                    if record["type"] == "result" and record["token"] == self._token:
                        return self._result(record)
                process = self._gdb.gdb_process
                if not records and (process is None or process.poll() is not None):
                    raise GuestVanished(f"gdb ended while it was connected to {self.address}")
        except (BrokenPipeError, ValueError) as error:
            raise GuestVanished(f"gdb ended while it was connected to {self.address}") from error

    def _result(self, record: dict[str, Any]) -> Any:
        if record["message"] != "error":
            return record["payload"]
        message = str(record["payload"].get("msg", "an error"))
        if _LOST.search(message):
            raise GuestVanished(f"the guest at {self.address} is gone: {message}")
        raise _GdbError(_LONG_HEX.sub(r"\1...", message))

    def _end_gdb(self) -> None:
        process = self._gdb.gdb_process
        if process is not None:
            process.kill()  # it may hang on its connection, and is needed no more
            self._gdb.exit()

    def _restore(self) -> None:
        """The stub has been told; now make sure, also if gdb died and could tell it nothing."""
        if self._monitor is None:
            return
        if self._monitor.running() != self._was_running:
            (self._monitor.cont if self._was_running else self._monitor.stop)()


class _GdbError(AttachError):
    """gdb answered ``^error``."""


def _chunks(address: int, size: int, limit: int) -> Iterator[tuple[int, int]]:
    for done in range(0, size, limit):
        yield address + done, min(limit, size - done)
