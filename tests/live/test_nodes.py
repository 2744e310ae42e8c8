"""Two nodes, made up by the kernel (``numa=fake=2``): the model and /proc/zoneinfo say what we see of each.

And two that the firmware tells of.

The kernel is a variant: ``kvmtools guest build numa`` (a few minutes).  Without it these tests are skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from bare_qemu import MIB, Start
from guest_says import zoneinfo

import kvmtools
from kvmtools.boot.guests import lifecycle
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.kernels import reference
from kvmtools.errors import AttachError
from kvmtools.records import PAGE_SIZE

pytestmark = pytest.mark.skipif(
    reference.find("numa") is None, reason="the numa kernel is not built: kvmtools guest build numa"
)
MACHINES = (
    ("1G", ""),
    ("2G", "kernelcore=40%"),
    ("4G", "movablecore=1G"),
    ("2G", "memmap=64M$0x20000000 kernelcore=1G"),  # a hole in lowmem
    ("2G", "memmap=3M$0x50100000 movablecore=512M"),  # a hole in highmem that is aligned to no buddy block
)


@dataclass(frozen=True)
class Subject:
    guest: lifecycle.Guest
    agent: Agent


@pytest.fixture(scope="module", params=MACHINES, ids=" ".join)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    memory, append = request.param
    name = f"test-numa-{os.getpid()}"
    with (
        lifecycle.booted(name, kernel="numa", memory=memory, append=f"numa=fake=2 {append}") as guest,
        Agent(guest.agent) as agent,
    ):
        # A node without highmem for the kernel gives lowmem before another node is asked.
        with suppress(AttachError):
            agent.driver("mix 100")
        agent.quiesce()
        yield Subject(guest, agent)


def test_it_agrees_with_the_model(subject: Subject) -> None:
    with kvmtools.open(guest=subject.guest.name) as kernel:
        result = kernel.check()
    assert [finding.subject for finding in result.findings] == []
    assert result.exit_code == 0
    outcomes = {outcome.rule: outcome for outcome in result.outcomes}
    for rule in ("zones.spans", "zones.present", "memmap.zone", "memmap.node", "memmap.section"):
        assert outcomes[rule].status.value == "agree"
        assert outcomes[rule].examined >= 8


def test_zoneinfo_says_the_same_of_every_node(subject: Subject) -> None:
    with kvmtools.open(guest=subject.guest.name) as kernel:
        zones = kernel.zones()
    text = subject.agent.text("/proc/zoneinfo")
    assert len(zones) == 8
    for zone in zones:
        said = zoneinfo(text, zone.place.node)[zone.name]
        assert (said["spanned"], said["present"], said["managed"]) == (
            [zone.spanned],
            [zone.present],
            [zone.managed],
        )
        assert said.get("start_pfn", [zone.start_pfn]) == [zone.start_pfn]
    assert {zone.place.node for zone in zones if zone.present} == {0, 1}


def test_there_is_memory_that_can_be_moved_if_it_is_asked(subject: Subject) -> None:
    command_line = subject.agent.text("/proc/cmdline")
    with kvmtools.open(guest=subject.guest.name) as kernel:
        movable = [zone.present for zone in kernel.zones() if zone.name == "MOVABLE"]
    assert any(movable) == any(word in command_line for word in ("kernelcore=", "movablecore="))


SRAT = 512 * MIB
"""Where node 1 begins: a section's border, so that each section has a node of its own."""


def test_nodes_that_the_firmware_tells_of(start: Start, tmp_path: Path) -> None:
    """By its SRAT, from QEMU's ``-numa``: the kernel makes nothing up, and each vCPU is of another node."""
    kernel = reference.find("numa")
    assert kernel is not None
    nodes = [
        word
        for node in (0, 1)
        for word in (
            "-object", f"memory-backend-file,id=ram{node},size={SRAT},share=on,mem-path={tmp_path / str(node)}",
            "-numa", f"node,nodeid={node},cpus={node},memdev=ram{node}",
        )
    ]  # fmt: skip
    console = tmp_path / "console"
    machine = start(
        "-cpu", "max", "-m", "1G", "-smp", "2", "-machine", "pc", *nodes, "-device", "virtio-serial-pci",
        "-serial", f"file:{console}", "-kernel", str(kernel.bzimage), "-initrd", str(kernel.initrd),
        "-append", "console=ttyS0 pti=on tsc=reliable",
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while "kvmtools: ready" not in console.read_text(errors="replace"):
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
        assert machine.process.poll() is None
        time.sleep(0.1)
    with kvmtools.open(qemu=machine.qmp, symbols=kernel.vmlinux) as opened:
        result = opened.check()
        spans = [(span.number, span.start_pfn, span.end_pfn) for span in opened.configuration().nodes]
        border = SRAT // PAGE_SIZE
        pages = [(page.node, page.section, page.zone) for page in opened.pages([border - 1, border])]
    assert (result.exit_code, [finding.subject for finding in result.findings]) == (0, [])
    assert spans == [(0, 1, border), (1, border, 0x3FFE0)], "the firmware keeps 128 KiB at the end"
    assert pages == [(0, 0, "NORMAL"), (1, 1, "NORMAL")]
    assert "SRAT: Node 1 PXM 1 [mem 0x20000000-0x3fffffff]" in console.read_text(errors="replace")
