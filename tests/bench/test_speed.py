"""How long things take; nothing here asserts a time.  `make bench` prints the table, `make test` runs each once.

Two walkers of the same tables are measured side by side: on a noisy machine their ratio says more than either figure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmtools.api.open_kernel import OpenKernel
from kvmtools.api.session import Session
from kvmtools.boot.guests import lifecycle
from kvmtools.model.paging import walk as model_walk
from kvmtools.model.prediction import Prediction
from kvmtools.observe.boot.configuration import observe_configuration
from kvmtools.observe.observed import observe, prepare
from kvmtools.observe.pages.memmap import observe_memmap
from kvmtools.observe.pages.stable_page_flags import kpageflags
from kvmtools.observe.paging.walk import walk

Run = Callable[[list[str]], None]


@pytest.mark.benchmark(group="walk of the kernel's page tables, 2 GiB")
class TestWalk:
    def test_observer(self, benchmark: Any, session: Session) -> None:
        kernel = session.kernel
        root = kernel.physical(kernel.address("swapper_pg_dir"))
        leaves = benchmark(walk, kernel.memory, root, kernel.paging)
        assert len(leaves.virtual) > 1000

    def test_model(self, benchmark: Any, session: Session) -> None:
        kernel = session.kernel
        root = kernel.physical(kernel.address("swapper_pg_dir"))
        form = Prediction(observe_configuration(kernel)).form
        leaves = benchmark(lambda: list(model_walk.walk(kernel.memory.read, root, form, 0, 1 << 32)))
        assert len(leaves) > 1000


@pytest.mark.benchmark(group="full decode of mem_map, 2 GiB")
def test_memmap(benchmark: Any, session: Session) -> None:
    with prepare(session.kernel) as capture, session.target.paused():
        snapshot = capture.take()
    kernel = session.kernel.with_memory(snapshot)

    def decode() -> int:
        pages = observe_memmap(kernel)
        return int(pages.buddy.sum()) + int(kpageflags(pages, kernel).max())

    assert benchmark(decode)


@pytest.mark.benchmark(group="guest paused for a recording, 2 GiB")
def test_recording(benchmark: Any, session: Session, tmp_path: Path) -> None:
    """The time until the file is there; what the guest itself lost is in the extra info."""
    kernel, earlier = OpenKernel(session), len(session.pauses)
    benchmark.pedantic(kernel.snapshot, args=(tmp_path / "vmcore",), rounds=5, warmup_rounds=1)
    lost = sorted(pause.milliseconds for pause in session.pauses[earlier:])
    benchmark.extra_info["paused_milliseconds"] = {
        "median": round(lost[len(lost) // 2], 1),
        "max": round(lost[-1], 1),
    }


@pytest.mark.benchmark(group="guest paused for a full check, 2 GiB")
def test_pause(benchmark: Any, session: Session) -> None:
    """The time of the whole capture; what the guest itself lost is in the extra info."""

    def capture() -> None:
        session.observe()

    benchmark.pedantic(capture, rounds=10, warmup_rounds=2)
    lost = sorted(pause.milliseconds for pause in session.pauses)
    assert all(pause.was_running for pause in session.pauses)
    benchmark.extra_info["paused_milliseconds"] = {
        "median": round(lost[len(lost) // 2], 1),
        "max": round(lost[-1], 1),
    }


@pytest.mark.benchmark(group="decode and compare a captured guest, 2 GiB")
def test_compare(benchmark: Any, session: Session) -> None:
    from kvmtools.compare.engine import check

    with prepare(session.kernel) as capture, session.target.paused():
        snapshot = capture.take()
    result = benchmark(lambda: check(observe(session.kernel, snapshot)))
    assert result.exit_code == 0


@pytest.mark.benchmark(group="whole processes, 2 GiB")
@pytest.mark.parametrize("command", ["--help", "vtop 0xc0100000", "check"])
def test_process(benchmark: Any, guest: lifecycle.Guest, command: str, run: Run) -> None:
    words = command.split()
    if words[0] != "--help":
        words[1:1] = ["-g", guest.name]
    benchmark.pedantic(run, args=(words,), rounds=7, warmup_rounds=1)


@pytest.mark.benchmark(group="whole processes, 16 GiB")
def test_large_check(benchmark: Any, large_guest: lifecycle.Guest, run: Run) -> None:
    benchmark.pedantic(run, args=(["check", "-g", large_guest.name],), rounds=5, warmup_rounds=1)
