"""The agent's protocol against an init of ours in a thread: in step, out of step, gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmtools.boot.guests.agent import Agent
from kvmtools.errors import AttachError, GuestVanished, UsageError

Reply = Callable[[str], bytes]


class FakeInit:
    """Answers one client at a time, as QEMU does; ``leftovers`` is what a new client finds in the line."""

    def __init__(self, path: Path, reply: Reply) -> None:
        self.leftovers = b""
        self.requests: list[str] = []
        self._reply = reply
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(5)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # A client may leave, or be sent away, at any point.
            with client, contextlib.suppress(OSError, EOFError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        client.sendall(self.leftovers)
        with client.makefile("rb") as lines:
            for line in lines:
                request = line.rpartition(b"\x15")[2].decode().rstrip("\n")
                self.requests.append(request)
                word, _, rest = request.partition(" ")
                answer = block(rest.encode()) + b"ok\n" if word == "sync" else self._reply(request)
                client.sendall(answer)


def block(data: bytes) -> bytes:
    return b"data %d\n%s" % (len(data), data)


def echo(request: str) -> bytes:
    return block(request.encode()) + b"ok\n"


def hang_up(request: str) -> bytes:
    raise EOFError


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Reply], tuple[FakeInit, Agent]]]:
    started: list[FakeInit] = []

    def start(reply: Reply) -> tuple[FakeInit, Agent]:
        path = tmp_path / f"agent{len(started)}.sock"
        started.append(FakeInit(path, reply))
        return started[-1], Agent(path, timeout=5.0)

    yield start
    for init in started:
        init.close()


Serve = Callable[[Reply], tuple[FakeInit, Agent]]


def test_requests_are_spelled_as_the_readme_says(serve: Serve) -> None:
    init, agent = serve(lambda request: block(b"4") + b"ok\n")
    with agent:
        agent.read("/proc/iomem")
        agent.read("/proc/kpageflags", 8, 16)
        agent.write("/proc/sys/vm/drop_caches", "3 or so")
        agent.driver("mix 400")
        agent.workload("mixed", 3, 16)
        assert agent.workers() == 4
        agent.stop_workload()
        agent.quiesce()
        agent.poweroff()
    assert init.requests[1:] == [
        "read /proc/iomem",
        "read /proc/kpageflags 8 16",
        "write /proc/sys/vm/drop_caches 3 or so",
        "driver mix 400",
        "workload mixed 3 16",
        "workload status",
        "workload stop",
        "workload quiesce",
        "poweroff",
    ]


def test_a_file_is_the_sum_of_its_blocks_whatever_bytes_it_holds(serve: Serve) -> None:
    blocks = [b"", b"ok\n", b"err 5 no\n", bytes(range(256)) * 300]
    _, agent = serve(lambda request: b"".join(map(block, blocks)) + b"ok\n")
    with agent:
        assert agent.read("/proc/kcore") == b"".join(blocks)
        assert agent.read("/proc/kcore") == b"".join(blocks)


def test_a_with_block_is_one_connection_and_a_bare_call_has_its_own(serve: Serve) -> None:
    init, agent = serve(echo)
    with agent:
        agent.version()
        agent.version()
    assert sum(request.startswith("sync") for request in init.requests) == 1
    agent.version()
    agent.version()
    assert sum(request.startswith("sync") for request in init.requests) == 3


def test_version_and_names_are_taken_apart(serve: Serve) -> None:
    answers = {"version": b"protocol 1\nkernel 6.1.0 x\n", "list /proc": b".\n..\nself\n1\n"}
    _, agent = serve(lambda request: block(answers[request]) + b"ok\n")
    assert agent.version() == {"protocol": "1", "kernel": "6.1.0 x"}
    assert agent.names("/proc") == ["1", "self"]


@pytest.mark.parametrize(
    "leftovers",
    [b"", b"ok\n", b"garbage without an end", block(b"x" * 9999) + b"ok\n", b"data 16\nsomebody else'sok\n"],
)
def test_what_an_earlier_client_left_in_the_line_is_skipped(serve: Serve, leftovers: bytes) -> None:
    init, agent = serve(echo)
    init.leftovers = leftovers
    assert agent.text("/proc/iomem") == "read /proc/iomem"


def test_a_refusal_names_the_request_and_the_reason_and_the_line_stays_usable(serve: Serve) -> None:
    init, agent = serve(lambda request: b"err 2 /nope\n" if "nope" in request else echo(request))
    with agent:
        with pytest.raises(AttachError, match=r"read /nope.*No such file or directory"):
            agent.read("/nope")
        assert agent.text("/yes") == "read /yes"
    assert sum(request.startswith("sync") for request in init.requests) == 1


def test_nonsense_is_reported_and_the_next_request_starts_afresh(serve: Serve) -> None:
    init, agent = serve(lambda request: b"HTTP/1.1 200\n" if "first" in request else echo(request))
    with agent:
        with pytest.raises(AttachError, match="HTTP"):
            agent.read("/first")
        assert agent.text("/second") == "read /second"
    assert sum(request.startswith("sync") for request in init.requests) == 2


def test_a_guest_that_dies_in_the_middle_has_vanished(serve: Serve) -> None:
    _, agent = serve(hang_up)
    with agent, pytest.raises(GuestVanished, match="hung up"):
        agent.read("/proc/iomem")


def test_silence_ends_in_an_error_and_not_in_waiting(serve: Serve, tmp_path: Path) -> None:
    serve(lambda request: b"data 10\nhalf")
    with pytest.raises(AttachError, match="says nothing"):
        Agent(tmp_path / "agent0.sock", timeout=0.2).read("/proc/iomem")


def test_a_guest_that_never_answers_is_called_again_until_time_is_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(5)
        with pytest.raises(AttachError, match="says nothing"):
            Agent(tmp_path / "agent.sock").wait_ready(timeout=0.3)


def test_no_socket_is_no_guest(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="cannot be reached") as caught:
        Agent(tmp_path / "agent.sock", timeout=0.2).version()
    assert "guest status" in caught.value.hint


def test_wait_ready_waits_for_the_socket_to_appear(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    started: list[FakeInit] = []
    timer = threading.Timer(0.2, lambda: started.append(FakeInit(path, echo)))
    timer.start()
    try:
        Agent(path).wait_ready(timeout=20.0)
    finally:
        timer.join()
        started[0].close()


@pytest.mark.parametrize("path", ["", "/two words", "/line\nend"])
def test_names_that_the_line_cannot_carry_are_refused_before_they_are_sent(serve: Serve, path: str) -> None:
    init, agent = serve(echo)
    with pytest.raises(UsageError):
        agent.read(path)
    assert not init.requests


def test_a_request_longer_than_inits_buffer_is_refused(serve: Serve) -> None:
    _, agent = serve(echo)
    with pytest.raises(UsageError, match="at most"):
        agent.write("/tmp/file", "x" * 5000)


def test_half_of_a_part_is_refused(serve: Serve) -> None:
    _, agent = serve(echo)
    with pytest.raises(UsageError, match="offset and a length"):
        agent.read("/proc/kpageflags", 8)


@pytest.mark.parametrize(("number", "hint"), [(34, "4096 pages"), (22, "alloc N"), (17, "free")])
def test_a_driver_command_that_makes_no_sense_is_the_users_to_change(
    serve: Serve, number: int, hint: str
) -> None:
    _, agent = serve(lambda request: b"err %d driver\n" % number)
    with agent, pytest.raises(UsageError, match="driver alloc 9999") as caught:
        agent.driver("alloc 9999")
    assert hint in caught.value.hint


def test_a_driver_that_cannot_is_no_fault_of_the_command(serve: Serve) -> None:
    _, agent = serve(lambda request: b"err 12 driver\n")
    with agent, pytest.raises(AttachError, match="Cannot allocate memory"):
        agent.driver("alloc 8")


@pytest.mark.parametrize(
    ("meminfo", "why", "way_out"),
    [
        ("MemTotal: 123 kB\nHighTotal:       0 kB\nHighFree: 0 kB\n", "has no highmem", "--memory 2G"),
        ("MemTotal: 123 kB\n", "has no highmem", "--append highmem=64M"),
        ("HighTotal: 65536 kB\nHighFree: 2044 kB\n", "2,044 KiB of highmem are free", "fewer pages"),
    ],
)
def test_a_driver_without_highmem_says_so(serve: Serve, meminfo: str, why: str, way_out: str) -> None:
    def answer(request: str) -> bytes:
        if request == "read /proc/meminfo":
            return b"data %d\n%sok\n" % (len(meminfo), meminfo.encode())
        return b"err 12 driver\n"

    _, agent = serve(answer)
    with agent, pytest.raises(AttachError, match=r"'driver mix 400'.*Cannot allocate memory; ") as caught:
        agent.driver("mix 400")
    assert why in caught.value.message
    assert way_out in caught.value.hint
