from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvmtools.attach.monitor.host_process import pid_behind, pid_running
from kvmtools.errors import AttachError

SERVER = """
import socket, sys
server = socket.create_server(sys.argv[1:2] and (sys.argv[1], 0), family=int(sys.argv[2]))
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
client.sendall(b"accepted")
client.recv(1)
"""


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_the_process_at_the_other_end_of_a_tcp_connection(host: str, family: int) -> None:
    if family == socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
        host, family = "127.0.0.2", socket.AF_INET
    command = [sys.executable, "-c", SERVER, host, str(int(family))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with socket.create_connection((host, port)) as connection:
            connection.recv(8)
            assert pid_behind(connection) == server.pid


def test_a_socket_that_was_passed_on_leads_to_whoever_runs_the_cpus(tmp_path: Path) -> None:
    """libvirtd listens, and QEMU accepts: SO_PEERCRED names libvirtd."""
    name = tmp_path / "qemu-system-none"
    name.symlink_to(shutil.which("sleep") or "")
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there, subprocess.Popen([name, "60"]) as qemu:
        try:
            # The kernel closes Popen's pipe before it gives the process its new name.
            while not Path(f"/proc/{qemu.pid}/comm").read_text().startswith("qemu"):
                time.sleep(0.01)
            assert pid_running(None, qemu.pid) == qemu.pid
            assert pid_running(here, qemu.pid) == qemu.pid
            assert pid_running(here, threading.get_native_id()) == os.getpid()
            assert pid_running(here, None) == os.getpid()
        finally:
            qemu.kill()


def test_a_thread_that_is_not_the_first_of_its_process() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with here, there:
        assert thread.native_id not in (None, os.getpid())
        assert pid_running(here, thread.native_id) == os.getpid()
    stop.set()
    thread.join()


def test_a_socket_of_somebody_else_is_called_so() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    name = Path("/proc/self/comm").read_text().strip()
    with here, there, pytest.raises(AttachError, match=rf"made by {name} \(pid {os.getpid()}\), not by QEMU"):
        pid_running(here, 1 << 30)


def test_a_thread_number_of_another_host_leads_to_nobody() -> None:
    """The first process that has it here may be any."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there, subprocess.Popen(["sleep", "60"]) as other:
        with pytest.raises(AttachError, match="is not to be seen from here"):
            pid_running(here, other.pid)
        with pytest.raises(AttachError, match="can be seen from here"):
            pid_running(None, other.pid)
        other.kill()


def test_the_process_that_listens_on_a_unix_socket() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert pid_behind(here) == os.getpid()
