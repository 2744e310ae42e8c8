"""What our plugin costs drgn where it has nothing to do: on a core of another architecture."""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from core_file import CoreFile

ROUNDS = 20
HOOK = """
import time, drgn, drgn.commands, importlib.metadata
prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
entry, = importlib.metadata.entry_points(group="drgn.plugins", name="kvmtools")
start = time.perf_counter()
entry.load().drgn_prog_set(prog)
print((time.perf_counter() - start) * 1000)
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A core of an x86_64 kernel, as far as its headers go."""
    core = CoreFile(tmp_path / "core")
    core.machine = 62
    core.loads = [(0, struct.pack("<Q", 0))]
    note = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82000000\n"
    core.notes = [("VMCOREINFO", 0, note)]
    return core.write()


@pytest.mark.benchmark(
    group="drgn's start on another architecture: with the plugin, without, and the plugin's own"
)
def test_start(benchmark: Any, other: Path) -> None:
    """By turns, so that a busy machine slows both; medians and the plugin's own time are in the extra info."""
    times: dict[str, list[float]] = {"with": [], "without": [], "hook": []}

    def start(disabled: str) -> float:
        words = [str(Path(sys.executable).with_name("drgn")), "-q", "--no-default-symbols", "-c", str(other)]
        begin = perf_counter()
        subprocess.run(
            [*words, "-e", "pass"], check=True, env={**os.environ, "DRGN_DISABLE_PLUGINS": disabled}
        )
        return (perf_counter() - begin) * 1000

    def both() -> None:
        times["with"].append(start("nothing"))
        times["without"].append(start("kvmtools"))
        done = subprocess.run([sys.executable, "-c", HOOK], check=True, capture_output=True, text=True)
        times["hook"].append(float(done.stdout))

    rounds = 1 if benchmark.disabled else ROUNDS
    benchmark.pedantic(both, rounds=rounds, warmup_rounds=1)
    milliseconds = {name: round(statistics.median(values), 2) for name, values in times.items()}
    milliseconds["best with"], milliseconds["best without"] = (
        round(min(times[k]), 2) for k in ("with", "without")
    )
    benchmark.extra_info["milliseconds"] = milliseconds
