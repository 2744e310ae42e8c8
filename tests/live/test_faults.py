"""Our driver plants a bug in a running kernel: the rule that qemu/README.md names finds it, and no other; undone, all
agrees.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmtools
from kvmtools import AttachError, OpenKernel, UsageError
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

README = Path(__file__).resolve().parents[2] / "qemu" / "README.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| .* \| `([a-z-]+\.[a-z-]+)` \|$", re.MULTILINE)
FAULTS = dict(ROW.findall(README.read_text()))


@pytest.fixture
def driver(guest: Guest) -> Iterator[Agent]:
    with Agent(guest.agent) as agent:
        agent.driver("free")
        agent.quiesce()
        yield agent
        if "fault " in agent.driver("status"):
            agent.driver("fault undo")


@pytest.fixture
def kernel(guest: Guest, driver: Agent) -> Iterator[OpenKernel]:
    with kvmtools.open(guest=guest.name) as kernel:
        yield kernel


def found(kernel: OpenKernel) -> list[str]:
    return [finding.rule for finding in kernel.check().findings]


def test_every_fault_is_in_the_readme(driver: Agent) -> None:
    assert [line.partition(":")[0] for line in driver.driver("fault list").splitlines()] == list(FAULTS)
    assert len(FAULTS) > 10
    assert set(FAULTS.values()) <= {rule.id for rule in kvmtools.rules()}


@pytest.mark.parametrize("fault", FAULTS)
def test_its_rule_finds_the_fault_and_no_other_does(kernel: OpenKernel, driver: Agent, fault: str) -> None:
    if "executable" in fault and not kernel.pae:
        with pytest.raises(UsageError, match="no NX"):
            driver.driver(f"fault {fault}")
        return
    said = driver.driver(f"fault {fault}")
    assert said.startswith(f"fault {fault}: ")
    assert said in driver.driver("status")
    result = kernel.check()
    assert [finding.rule for finding in result.findings] == [FAULTS[fault]]
    assert result.exit_code == 1
    assert driver.driver("fault undo") == f"fault {fault} undone\n"
    assert "fault" not in driver.driver("status")
    assert found(kernel) == []


def test_one_fault_at_a_time(kernel: OpenKernel, driver: Agent) -> None:
    driver.driver("fault text-writable")
    with pytest.raises(UsageError, match="one fault at a time"):
        driver.driver("fault slot-emptied")
    assert found(kernel) == ["pagetable.permissions"]
    driver.driver("fault undo")
    with pytest.raises(UsageError, match="no fault is planted"):
        driver.driver("fault undo")
    with pytest.raises(UsageError, match="fault NAME"):
        driver.driver("fault nonsense")


NAME = f"faulty-{os.getpid()}"


def test_a_kernel_boots_with_a_fault() -> None:
    with (
        kvmtools.booted(NAME, memory="64M", append="kvmtools.fault=text-writable") as guest,
        kvmtools.open(guest=guest.name) as kernel,
    ):
        assert found(kernel) == ["pagetable.permissions"]


@pytest.mark.parametrize(
    ("parameter", "refusal"),
    [
        ("kvmtools.fault=nonsense", "its driver says error 22 to kvmtools.fault=nonsense"),
        ("kvmtools.fualt=text-writable", "its driver does not know kvmtools.fualt=text-writable"),
    ],
)
def test_a_fault_that_there_is_not_is_said_at_the_start(parameter: str, refusal: str) -> None:
    with (
        pytest.raises(AttachError, match=re.escape(refusal)),
        kvmtools.booted(NAME, memory="64M", append=parameter),
    ):
        pass
