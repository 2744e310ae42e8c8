"""Two real guests, booted once for all live tests and stopped whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmtools.boot import guests

MEMORY = {"pae": "6G", "nopae": "2G"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


def _boot(kernel: str) -> Iterator[guests.Guest]:
    name = f"test-{kernel}-{os.getpid()}"
    with guests.booted(name, kernel=kernel, memory=MEMORY[kernel], progress=print) as guest:
        yield guest


@pytest.fixture(scope="session")
def pae_guest() -> Iterator[guests.Guest]:
    """A PAE guest with RAM above 4 GiB."""
    yield from _boot("pae")


@pytest.fixture(scope="session")
def nopae_guest() -> Iterator[guests.Guest]:
    """A guest without PAE, all its RAM below 4 GiB."""
    yield from _boot("nopae")


@pytest.fixture(scope="session", params=["pae", "nopae"])
def guest(request: pytest.FixtureRequest) -> guests.Guest:
    """Each of the two guests in turn."""
    found: guests.Guest = request.getfixturevalue(f"{request.param}_guest")
    return found
