"""The model against real kernels on machines of many shapes: every RAM size and boot option that moves a boundary.

Each machine is booted, put to work so that pkmap holds something, and checked; what decides is the model alone.
A 48 GiB guest touches about 0.5 GiB of its sparse RAM file.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guest_says import firmware_map, zoneinfo
from layouts import edges

import kvmtools
from kvmtools.boot.guests import lifecycle
from kvmtools.boot.guests.agent import Agent
from kvmtools.model import Prediction, predict
from kvmtools.model import machine as model_machine
from kvmtools.model.managed import predict as predict_managed
from kvmtools.observe.pages.stable_page_flags import KPF
from kvmtools.records import PAGE_SIZE

KVMTOOLS = Path(sys.executable).with_name("kvmtools")


@dataclass(frozen=True)
class Machine:
    """RAM, and what stands on the kernel's command line."""

    memory: str
    append: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.memory, self.append)))


MACHINES = (
    *map(Machine, ("64M", "512M", "896M", "1G", "4G", "16G", "48G")),
    Machine("2G", "vmalloc=256M"),
    Machine("2G", "highmem=64M"),
    Machine("2G", "mem=700M"),
    Machine("4G", "movablecore=50%"),  # of 4 GiB an unsigned long cannot say so: PAE gets 372 MiB
    Machine("2G", "memmap=64M$512M"),  # a hole in lowmem, in the middle of a SPARSEMEM section
    Machine("2G", "memmap=3M$0x50100000"),  # a hole in highmem that is aligned to no buddy block
    Machine("2G", "percpu_alloc=page"),  # per-CPU areas in vmalloc
)
SAYS = "memblock=debug"
"""Lets the boot-time allocator say what it gives to whom."""
WHOLE = (
    "layout.matches-model",
    "zones.spans",
    "memmap.zone",
    "memmap.holes-reserved",
    "pagetable.direct-map",
    "pagetable.presence",
    "pagetable.permissions",
)
"""Rules that hold every entry of what they are about against the model."""
OF_OTHERS = {
    "memmap.section",  # of SPARSEMEM
    "memmap.node",  # of several nodes
    "kmap-local.entries",  # up to the first kmap_local_page(), 5.11 and later
}
OF_NX = {"pagetable.write-xor-execute"}
"""Rules that may be skipped, for these are kernels of other kinds; and without PAE."""


@dataclass(frozen=True)
class Subject:
    """A machine that runs, and what one check of it said."""

    guest: lifecycle.Guest
    agent: Agent
    document: dict[str, Any]
    prediction: Prediction
    mem_map: int
    """Physical address of the guest's own map."""

    @property
    def has_highmem(self) -> bool:
        return has_highmem(self.prediction)

    def outcome(self, rule: str) -> dict[str, Any]:
        return next(each for each in self.document["outcomes"] if each["rule"] == rule)


def has_highmem(prediction: Prediction) -> bool:
    return edges(prediction.layout).highstart_pfn != edges(prediction.layout).highend_pfn


@pytest.fixture(scope="module", params=("pae", "nopae"))
def kernel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=MACHINES, ids=str)
def subject(kernel: str, request: pytest.FixtureRequest) -> Iterator[Subject]:
    machine: Machine = request.param
    name = f"test-machine-{kernel}-{os.getpid()}"
    with (
        kvmtools.booted(
            name, kernel=kernel, memory=machine.memory, append=f"{machine.append} {SAYS}"
        ) as guest,
        Agent(guest.agent) as agent,
    ):
        with kvmtools.open(guest=guest.name) as live:
            prediction = predict(live.configuration())
            mem_map = live.memmap().memmap.physical
        if has_highmem(prediction):
            agent.driver("mix 100")
        done = subprocess.run(
            [KVMTOOLS, "check", "-g", name, "--format", "json"], capture_output=True, text=True
        )
        assert done.returncode in (0, 1, 5), done.stderr  # else there is no verdict to look at
        yield Subject(guest, agent, json.loads(done.stdout), prediction, mem_map)


def test_its_check_agrees_and_leaves_nothing_out(
    subject: Subject, record_property: Callable[[str, object], None]
) -> None:
    """A rule that was skipped has not agreed: no other may be than those about what these kernels do not have."""
    document = subject.document
    counts = ", ".join(f"{number} {status}" for status, number in document["rules"].items() if number)
    record_property("check", counts)
    found = [finding for outcome in document["outcomes"] for finding in outcome.get("findings", ())]
    assert (document["exit_code"], found) == (0, []), counts
    skipped = {each["rule"]: each["reason"] for each in document["outcomes"] if each["status"] == "skipped"}
    may = OF_OTHERS | (set() if subject.prediction.configuration.pae else OF_NX)
    if not subject.has_highmem:
        may |= {
            rule for rule in skipped if rule.startswith("pkmap.") and "nothing to examine" in skipped[rule]
        }
    assert {rule: skipped[rule] for rule in skipped if rule not in may} == {}


def test_every_entry_agrees_with_the_model(subject: Subject) -> None:
    """Not a sample: as many things are compared as the guest itself says there are."""
    assert {rule: subject.outcome(rule)["status"] for rule in WHOLE} == dict.fromkeys(WHOLE, "agree")
    console = subject.guest.console.read_text(errors="replace")
    low_mib = int(re.findall(r"(\d+)MB LOWMEM available", console)[-1])
    last_pfn = int(re.findall(r"last_pfn = 0x([0-9a-f]+)", console)[-1], 16)
    # The kernel prints whole MiB of 256 pages.
    assert subject.prediction.layout.max_low_pfn // 256 == low_mib
    assert subject.prediction.layout.max_pfn <= last_pfn
    assert subject.outcome("memmap.zone")["examined"] == sum(map(len, subject.prediction.memmap.valid))
    assert subject.outcome("pagetable.direct-map")["examined"] >= low_mib
    highmem = subject.prediction.layout.max_pfn - subject.prediction.layout.max_low_pfn
    assert subject.outcome("pkmap.pte-in-highmem")["examined"] >= 50 * (highmem > 0)


def test_the_budget_meets_reality(subject: Subject) -> None:
    """What is arithmetic is exact; what boot-time allocations decide lies within the margin that names them."""
    theirs = zoneinfo(subject.agent.text("/proc/zoneinfo"))
    managed = predict_managed(subject.prediction.configuration)
    assert [zone.zone for zone in managed] == list(theirs)
    for zone in managed:
        said = theirs[zone.zone]
        assert (said["spanned"], said["present"]) == ([zone.spanned], [zone.present]), zone.zone
        assert zone.lower <= said["managed"][0] <= zone.upper, (said["managed"], zone)


def test_mem_map_is_as_large_as_predicted(subject: Subject) -> None:
    """It is the largest that anybody takes from memblock without asking for zeros; 5.10 asks, and names the taker."""
    taken = re.findall(
        r"memblock_alloc\w*(?:_raw: (\d+) bytes|: (\d+) bytes.* alloc_node_mem_map)",
        subject.guest.console.read_text(errors="replace"),
    )
    assert max(int(raw or zeroed) for raw, zeroed in taken) == subject.prediction.memmap.size


def test_mem_map_is_reserved(subject: Subject) -> None:
    """The guest says so of every page of it, from the first to the last that the model has.

    It begins where memblock had room, which need not be a page's first byte.
    """
    first, size = subject.mem_map // PAGE_SIZE, subject.prediction.memmap.size
    assert size is not None
    end = -(-(subject.mem_map + size) // PAGE_SIZE)
    flags = subject.agent.read("/proc/kpageflags", 8 * first, 8 * (end - first))
    reserved = [bool(word >> KPF["RESERVED"] & 1) for word in struct.unpack(f"<{end - first}Q", flags)]
    assert all(reserved)


def test_an_imagined_machine_has_the_firmware_of_a_real_one(subject: Subject) -> None:
    """``kvmtools model --memory`` speaks of the machine that QEMU makes."""
    firmware = firmware_map(subject.guest.console.read_text(errors="replace"))
    assert firmware == model_machine.e820_of(subject.guest.ram.stat().st_size)
