"""What a person types as an address is one, or is refused in his words."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from kvmtools.attach.monitor.address import connect, host_and_port, is_tcp, plain
from kvmtools.attach.monitor.connecting import open_monitor
from kvmtools.attach.monitor.stub_monitor import StubMonitor
from kvmtools.errors import AttachError, UsageError

Open = Callable[[str], Any]
either = pytest.mark.parametrize("attach", [open_monitor, StubMonitor])


@either
@pytest.mark.parametrize(
    "address", ["host:0", "host:65536", "host:99999", "tcp::99999", "host:" + "9" * 5000]
)
def test_a_port_that_cannot_be(attach: Open, address: str) -> None:
    with pytest.raises(UsageError, match=r"is no port \(they go from 1 to 65535\)"):
        attach(address)


@either
def test_a_digit_of_no_number_is_part_of_a_path(attach: Open) -> None:
    assert not is_tcp("host:\N{SUPERSCRIPT TWO}")
    with pytest.raises(AttachError, match="there is no socket host:"):
        attach("host:\N{SUPERSCRIPT TWO}")


@either
@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_name_that_no_host_can_have(attach: Open, host: str) -> None:
    with pytest.raises(AttachError, match=f"cannot connect to {host}:1"):
        attach(f"{host}:1")


def test_what_is_in_brackets_is_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain("tcp:[::1]:9,server=on") == "[::1]:9"
    assert host_and_port("[::1]:9") == ("::1", 9)
    assert host_and_port(":9") == ("localhost", 9)
    tried: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda place, timeout: tried.append(place))
    connect("[::1]:9", 1)
    assert tried == [("::1", 9)]
