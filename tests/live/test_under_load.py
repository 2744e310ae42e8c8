"""A healthy guest is healthy while it works: no discrepancy, however often it is stopped in the middle of something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvmtools.boot.agent import Agent
from kvmtools.boot.guests import Guest
from kvmtools.cli.options import TargetOptions
from kvmtools.cli.session import attached
from kvmtools.compare import settle

RUNS = 50


@pytest.fixture
def working(guest: Guest) -> Iterator[Guest]:
    """The guest under memory load: processes come and go, files grow and shrink, pkmap is in use."""
    with Agent(guest.agent) as agent:
        agent.quiesce()
        agent.driver("free")
        agent.driver("mix 300")
        agent.workload("mixed", 4, 40)
        yield guest
        agent.quiesce()
        agent.driver("free")


def test_fifty_checks_in_a_row_agree(working: Guest) -> None:
    with attached(TargetOptions(working.name, None, None, None, None, True)) as session:
        for run in range(RUNS):
            result = settle(session.observe)
            assert [(run, finding) for finding in result.findings] == []
            assert result.exit_code == 0
