"""A healthy guest under memory load has nothing to report, however often it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

KVMTOOLS = Path(sys.executable).with_name("kvmtools")
RUNS = int(os.environ.get("KVMTOOLS_HEALTHY_RUNS", "20"))


@pytest.mark.timeout(1200)
def test_checks_in_a_row_agree_under_load(guest: Guest) -> None:
    failures = []
    examined_users = 0
    with Agent(guest.agent) as agent:
        agent.driver("mix 400")
        agent.workload("mixed", workers=4, mebibytes=16)
        try:
            for number in range(RUNS):
                done = subprocess.run(
                    [KVMTOOLS, "check", "-g", guest.name, "--format", "json"], capture_output=True, text=True
                )
                if done.returncode:
                    failures.append((number, done.returncode, done.stdout[-4000:], done.stderr))
                    continue
                outcomes = {each["rule"]: each for each in json.loads(done.stdout)["outcomes"]}
                # Without the load the test would prove little: processes with page tables of their own must be there.
                examined_users = max(examined_users, outcomes["pagetable.tables-typed"]["examined"])
        finally:
            agent.quiesce()
    assert not failures, failures
    assert examined_users > 20
