"""A kernel that boots, stopped on its way from its first instruction to init: every command has an answer.

The answer may be that it is too early; it is never an internal error, and never a finding about a kernel that is well.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import pytest
from bare_qemu import RAM, Machine, Start, shared
from click.testing import CliRunner

from kvmtools.attach.monitor.gdb import Gdb
from kvmtools.boot.kernels import reference
from kvmtools.cli.group import cli
from kvmtools.errors import KvmtoolsError
from kvmtools.observe.symbols.vmlinux import Vmlinux

STOPS = (
    "startup_32",
    "i386_start_kernel",
    "start_kernel",
    "boot_cpu_init",
    "page_address_init",
    "setup_arch",
    "early_cpu_init",
    "e820__memory_setup",
    "parse_early_param",
    "x86_configure_nx",
    "e820__memblock_setup",
    "init_mem_mapping",
    "initmem_init",
    "x86_numa_init",
    "paging_init",
    "native_pagetable_init",
    "pagetable_init",
    "sparse_init",
    "zone_sizes_init",
    "free_area_init",
    "e820__reserve_resources",
    "setup_per_cpu_areas",
    "build_all_zonelists",
    "trap_init",
    "mem_init",
    "kmem_cache_init",
    "pti_init",
    "vmalloc_init",
    "sched_init",
    "early_irq_init",
    "console_init",
    "setup_per_cpu_pageset",
    "poking_init",
    "rest_init",
    "kernel_init",
    "kernel_init_freeable",
    "smp_init",
    "page_alloc_init_late",
    "do_basic_setup",
    "mark_rodata_ro",
    "run_init_process",
    "panic",
    "kmsg_dump",
    "kmsg_dump_desc",
)
"""Functions in the order in which the kernel comes to them; a kernel that lacks one is not stopped there."""

COMMANDS = (
    ("check",), ("regs",), ("vtop", "linux_banner"), ("walk",), ("layout",), ("memmap",), ("zones",), ("pkmap",),
)  # fmt: skip
NO_WAY, TOO_EARLY, NOT_MAPPED = 3, 5, 1
ANSWERS = {
    "check": {0, TOO_EARLY},
    "regs": {0},
    "vtop": {0, NOT_MAPPED},
    "walk": {0},
    "layout": {0},
    "memmap": {0, NO_WAY, TOO_EARLY},
    "zones": {0, NO_WAY, TOO_EARLY},
    "pkmap": {0, NO_WAY, TOO_EARLY},
}
"""Exit codes; a pointer that is not set yet leads nowhere, and early on swapper_pg_dir maps nothing."""

WORDS = {
    "startup_32": "it is still booting: before paging",
    "setup_arch": "it is still booting: before it knows its memory",
    "sched_init": "it is still booting: SYSTEM_BOOTING",
    "smp_init": "it is still booting: SYSTEM_SCHEDULING",
}
LAST = ("kmsg_dump", "kmsg_dump_desc")
"""What panic() calls after it has said why."""


class Stepper(Gdb):
    """A gdb that lets the guest run from one place to the next."""

    def stop_at(self, address: int) -> None:
        """Stop once when a CPU comes to ``address``, whether that is virtual or, before paging, physical."""
        self._command(f"-break-insert -h -t *{address:#x}")

    def next_stop(self, seconds: float = 60.0) -> int:
        """Let the guest run; the address where it stopped.

        :raises TimeoutError: if it runs on for that long
        """
        manager, deadline = self._gdb.io_manager, time.monotonic() + seconds
        manager.write("-exec-continue", read_response=False)  # it may have stopped before the answer is read
        while time.monotonic() < deadline:
            select.select([manager.stdout_fileno], [], [], 0.5)
            for record in manager.get_gdb_response(0, raise_error_on_timeout=False):
                if record["type"] == "notify" and record["message"] == "stopped":
                    return int(record["payload"]["frame"]["addr"], 16)
        raise TimeoutError("the guest came to none of the places")


@pytest.fixture
def booting(start: Start) -> Callable[[str], tuple[Machine, reference.BuiltKernel]]:
    """``booting("pae")``: a machine that has not executed its first instruction, with the kernel it will boot."""

    def begin(name: str) -> tuple[Machine, reference.BuiltKernel]:
        kernel = reference.find(name)
        if kernel is None:
            pytest.skip(f"the {name} kernel is not built")
        machine = start(
            "-S", "-smp", "2", "-cpu", "max", "-machine", "pc,memory-backend=ram", *shared(512, RAM),
            "-kernel", str(kernel.bzimage), "-append", "nokaslr panic=0",
        )  # fmt: skip
        return machine, kernel

    return begin


def answered(machine: Machine, kernel: reference.BuiltKernel, *words: str) -> Any:
    """The exit code of a command and what it said."""
    target = ("--qemu", machine.qmp, "-s", str(kernel.vmlinux))
    result = CliRunner().invoke(cli, [*words, *target], standalone_mode=False)
    if isinstance(result.exception, KvmtoolsError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None, (words, result.exception)
    code = result.return_value if isinstance(result.return_value, int) else 0
    return code, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["pae", "nopae", "sparse"])
def test_at_every_stop_every_command_has_an_answer(
    name: str, booting: Callable[[str], tuple[Machine, reference.BuiltKernel]]
) -> None:
    machine, kernel = booting(name)
    vmlinux = Vmlinux.load(kernel.vmlinux)
    places = {vmlinux.symbol(stop): stop for stop in STOPS if vmlinux.has_symbol(stop)}
    first = vmlinux.symbol("startup_32") - vmlinux.page_offset
    places[first] = "startup_32"
    reached: list[str] = []
    said: dict[tuple[str, str], tuple[int, str]] = {}
    with Stepper(machine.gdb, kernel.vmlinux) as gdb:
        for place in places:
            gdb.stop_at(place)
        while not (reached and reached[-1] in LAST):
            stop = places[gdb.next_stop()]
            reached.append(stop)
            for command in COMMANDS:
                said[stop, command[0]] = answered(machine, kernel, *command)
    wrong = [(place, answer) for place, answer in said.items() if answer[0] not in ANSWERS[place[1]]]
    assert wrong == []
    assert len(reached) >= 30, reached
    assert "paging not yet on" in said["startup_32", "regs"][1]
    for stop, words in WORDS.items():
        if stop in reached:
            for command in ("check", "regs", "walk", "layout"):
                assert words in said[stop, command][1], (stop, command, said[stop, command])
    # The last of them is a panic: there is no initrd.
    for command in COMMANDS:
        code, text = said[reached[-1], command[0]]
        assert code == 0
        assert "it has panicked: No working init found." in text, command
