"""Guests to measure on: 2 GiB of each kernel, and 16 GiB with PAE; booted once, their pkmap filled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kvmtools
from kvmtools.api.session import Session
from kvmtools.boot.guests import lifecycle
from kvmtools.boot.guests.agent import Agent


def _boot(kernel: str, memory: str) -> Iterator[lifecycle.Guest]:
    name = f"bench-{kernel}-{memory}-{os.getpid()}"
    with kvmtools.booted(name, kernel=kernel, memory=memory) as guest:
        with Agent(guest.agent) as agent:
            agent.driver("mix 400")
        yield guest


@pytest.fixture(scope="module", params=["pae", "nopae"])
def guest(request: pytest.FixtureRequest) -> Iterator[lifecycle.Guest]:
    """524,288 pages."""
    yield from _boot(request.param, "2G")


@pytest.fixture(scope="module")
def large_guest() -> Iterator[lifecycle.Guest]:
    """4,194,304 pages."""
    yield from _boot("pae", "16G")


@pytest.fixture
def session(guest: lifecycle.Guest) -> Iterator[Session]:
    """Attached to the 2 GiB guest, and observed once: facts cached, RAM populated."""
    with kvmtools.open(guest=guest.name) as kernel:
        kernel.observe()
        yield kernel.session


@pytest.fixture(scope="session")
def run() -> Callable[[list[str]], None]:
    """``run(words)``: the command line as a user has it, with the byte code that the first run leaves."""
    program = Path(sys.executable).with_name("kvmtools")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def command(words: list[str]) -> None:
        done = subprocess.run([program, *words], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    return command
