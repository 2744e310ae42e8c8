from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from kvmtools.attach.monitor.host_process import pid_behind

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


def test_the_process_that_listens_on_a_unix_socket() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert pid_behind(here) == os.getpid()
