"""``make bench-peers``: the table.  Each tool does the same work on the same core, one after the other."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kvmtools
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.observe.paging.walk import walk
from peers.task import PAGE_OFFSET, PG_RESERVED, ROWS, TRANSLATE, Task

HERE = Path(__file__).parent
VOLATILITY = os.environ.get("KVMTOOLS_VOLATILITY", sys.executable)
"""A Python that has volatility3, if this one has not."""
PEERS = {
    "kvmtools": (sys.executable, "ours"),
    "QEMU's monitor": (sys.executable, "qemu_monitor"),
    "drgn, lowmem only": (sys.executable, "drgn_lowmem"),
    "volatility3": (VOLATILITY, "volatility"),
}
GUESTS = (("nopae", "2G"), ("pae", "6G"))
TRANSLATIONS = 1000
READ = 64 << 20


def main() -> None:
    for kernel, memory in GUESTS:
        print(f"\n{kernel}, {memory}")
        with (
            tempfile.TemporaryDirectory(prefix="kvmtools-peers-") as folder,
            kvmtools.booted(f"peers-{os.getpid()}", kernel=kernel, memory=memory) as guest,
        ):
            core = Path(folder) / "core"
            with QmpMonitor(str(guest.qmp)) as monitor:
                monitor.command("stop")
                monitor.command("dump-guest-memory", paging=False, protocol=f"file:{core}", detach=True)
                while monitor.command("query-dump")["status"] == "active":
                    time.sleep(0.5)
            task = task_of(core, guest)
            show({name: answers(*peer, task) for name, peer in PEERS.items()})


def task_of(core: Path, guest: Any) -> Task:
    with kvmtools.open(core=core, symbols=guest.vmlinux) as opened:
        kernel = opened.session.kernel
        root = kernel.physical(kernel.address("swapper_pg_dir"))
        leaves = walk(kernel.memory, root, kernel.paging)
        ram = tuple((r.start, r.end) for r in kernel.memory.ranges)
        mapped = [
            int(virtual)
            for virtual, physical in zip(leaves.virtual, leaves.physical, strict=True)
            if virtual >= PAGE_OFFSET and any(start <= physical < end for start, end in ram)
        ]
        memmap = opened.memmap().memmap
        return Task(
            core=str(core),
            vmlinux=str(guest.vmlinux),
            pae=kernel.paging.entry_size == 8,
            root=root,
            ram=ram,
            addresses=tuple(random.Random(20061).sample(mapped, k=TRANSLATIONS)),
            map_start=kernel.pointer(kernel.address("mem_map")),
            map_pages=memmap.length,
            page_size=kernel.vmlinux.sizeof("struct page"),
            reserved=1 << kernel.vmlinux.constant(PG_RESERVED),
            read=PAGE_OFFSET + (16 << 20),
            read_size=READ,
            qmp=str(guest.qmp),
        )


def answers(python: str, module: str, task: Task) -> dict[str, Any]:
    """What a peer answered; nothing if it is not installed."""
    done = subprocess.run(
        [python, "-m", f"peers.{module}"],
        input=task.text(),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        check=False,
    )
    if done.returncode:
        return {"": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def show(table: dict[str, dict[str, Any]]) -> None:
    ours = table["kvmtools"]
    print("".join(f"{cell:>20}" for cell in ("", *table)))
    for row in ROWS:
        print(f"{row:>20}" + "".join(f"{cell(row, found, ours):>20}" for found in table.values()))
    for name, found in table.items():
        for row, told in found.items():
            if not row or "failed" in told:
                print(f"{name}: {told if not row else told['failed']}", file=sys.stderr)


def cell(row: str, found: dict[str, Any], ours: dict[str, Any]) -> str:
    if row not in found:
        return "-"
    told = found[row]
    if "failed" in told:
        return "fails"
    if told["answer"] != ours[row].get("answer"):
        print(f"{row}: {str(told['answer'])[:70]} for {str(ours[row].get('answer'))[:70]}", file=sys.stderr)
        return "differs"
    seconds = told["seconds"]
    return f"{seconds * 1e6:,.1f} us" if row == TRANSLATE else f"{seconds * 1e3:,.1f} ms"


main()
