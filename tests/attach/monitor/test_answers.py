"""The human monitor's words, as QEMU 7.2 said them, and as the sources of 10.0 do."""

from __future__ import annotations

from typing import Any

import pytest

from kvmtools.attach.monitor import answers
from kvmtools.attach.monitor.answers import Chardev
from kvmtools.errors import AttachError

CHARDEVS = """#chr001: filename=gdb
compat_monitor1: filename=disconnected:unix:qmp.sock,server=on
gdb: filename=unix:gdb: a.sock,server=on
serial0: filename=vc
"""
BACKENDS = """memory backend: ram
  size:  67108864
  merge: true
  share: true
  reserve: true
  policy: default
  host nodes: 
memory backend: dimm 1
  size:  1
  share: false
  host nodes: 0 1

"""  # noqa: W291
UNATTACHED = """type (string)
non-qdev-gpio[10] (child<irq>)
device[4] (child<PIIX3>)
device[0] (child<qemu32-{}-cpu>)
"""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("VM status: running\n", "running"),
        ("VM status: paused\n", "paused"),
        ("VM status: paused (prelaunch)\n", "prelaunch"),
        ("VM status: running (single step mode)\n", "running"),
        ("VM status: paused (single step mode) (guest-panicked)\n", "guest-panicked"),
    ],
)
def test_the_run_state(text: str, status: str) -> None:
    assert answers.status(text) == status


def test_the_version() -> None:
    assert answers.version("7.2.22Debian 1:7.2+dfsg-7+deb12u18+b3\n") == "7.2.22"
    assert answers.version("10.0.2\n") == "10.0.2"


def test_the_vcpus() -> None:
    text = "* CPU #0: thread_id=32744\n  CPU #1: thread_id=32745\n"
    assert answers.vcpu_threads(text) == {0: 32744, 1: 32745}
    assert answers.vcpu_threads("* CPU #0: thread_id=5 model=max\n") == {0: 5}, "since 11.0"
    assert answers.vcpu_threads("* CPU #3:\n") == {3: None}


def test_memory() -> None:
    assert answers.ram_bytes("base memory: 67108864\nplugged memory: 0\n") == 64 << 20
    assert answers.backends(BACKENDS) == {"ram": True, "dimm 1": False}
    assert answers.backends("\n") == {}
    assert answers.property_value('"/dev/shm/a \\"b\\""\n') == '/dev/shm/a "b"'


@pytest.mark.parametrize("arch", ["i386", "x86_64"])
def test_the_architecture(arch: str) -> None:
    assert answers.target_arch(UNATTACHED.format(arch)) == arch


def test_character_devices() -> None:
    assert answers.chardevs(CHARDEVS) == (
        Chardev("#chr001", "gdb"),
        Chardev("compat_monitor1", "disconnected:unix:qmp.sock,server=on"),
        Chardev("gdb", "unix:gdb: a.sock,server=on"),
        Chardev("serial0", "vc"),
    )
    assert answers.chardevs("") == ()


def test_a_command_that_should_say_nothing() -> None:
    answers.silence("stop", "\n")
    with pytest.raises(AttachError, match=r"QEMU refused pmemsave: Could not open /x$"):
        answers.silence("pmemsave", "Error: Could not open /x\n")


@pytest.mark.parametrize(
    "parse",
    [
        answers.status,
        answers.version,
        answers.vcpu_threads,
        answers.ram_bytes,
        answers.backends,
        answers.property_value,
        answers.target_arch,
        answers.chardevs,
    ],
)
@pytest.mark.parametrize("text", ["unknown command: 'info foo'\n", "Error: it is\nnot allowed\n"])
def test_what_is_something_else_is_said(parse: Any, text: str) -> None:
    with pytest.raises(
        AttachError, match=r"QEMU answers '.*' with: (unknown command|Error: it is not allowed)"
    ):
        parse(text)
    if parse not in (answers.backends, answers.chardevs):
        with pytest.raises(AttachError, match="with: nothing"):
            parse("\n")
