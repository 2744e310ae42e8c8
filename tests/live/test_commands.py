"""Every command, as a person types it, on both guests, in text and in JSON."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from json_documents import valid

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.records import PAGE_SIZE

Run = Callable[..., subprocess.CompletedProcess[str]]
Json = Callable[..., Any]


def words_of(guest: Guest, command: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "kvmtools", command, "-g", guest.name, *more]


@pytest.fixture
def run(guest: Guest) -> Run:
    """``run("vtop", "0xc0000000", code=0, stdin=None)``: the finished process; nothing on stderr if all is well."""

    def finish(
        command: str, *more: str, code: int = 0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = words_of(guest, command, *more)
        source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=120, env=environment, check=False, **source
        )
        assert done.returncode == code, (done.args, done.stdout[-2000:], done.stderr)
        assert code not in (0, 1) or done.stderr == "" or command == "shell", done.stderr
        return done

    return finish


@pytest.fixture
def document(run: Run) -> Json:
    """``document("walk", "--raw")``: the JSON of a command, its frame checked."""

    def load(command: str, *more: str, code: int = 0) -> Any:
        loaded = valid(run(command, *more, "--format", "json", code=code).stdout)
        assert loaded.pop("schema") == "kvmtools/1"
        assert loaded.pop("command") == command
        return loaded

    return load


@pytest.fixture
def agent(guest: Guest) -> Iterator[Agent]:
    with Agent(guest.agent) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _runs_on(guest: Guest) -> Iterator[None]:
    """Whatever a command did, the guest runs afterwards."""
    yield
    monitor = QmpMonitor(str(guest.qmp))
    try:
        assert monitor.command("query-status")["running"]
    finally:
        monitor.close()


def qemu_translates(guest: Guest, addresses: list[int]) -> list[int]:
    """QEMU's own answer, for a vCPU that uses the kernel's half of the page tables."""
    monitor = QmpMonitor(str(guest.qmp))
    try:
        for attempt in range(100):
            monitor.command("stop")
            answers = [
                monitor.command(
                    "human-monitor-command",
                    command_line=f"gva2gpa {address:#x}",
                    cpu_index=attempt % guest.smp,
                )
                for address in addresses
            ]
            monitor.command("cont")
            found = [re.match(r"gpa: (?:0x)?([0-9a-f]+)", str(answer)) for answer in answers]
            if all(found):
                return [int(match[1], 16) for match in found if match]
            time.sleep(0.05)
    finally:
        monitor.close()
    raise AssertionError(answers)


def test_vtop_says_what_qemu_says(guest: Guest, document: Json) -> None:
    asked = ["linux_banner", "init_task+0x8", "0xc0000000", "swapper_pg_dir", "ffffc000"]
    ways = document("vtop", *asked)["translations"]
    virtual = [int(way["virtual"], 16) for way in ways]
    assert [int(way["physical"], 16) for way in ways] == qemu_translates(guest, virtual)
    assert [way["region"] for way in ways] == [
        "kernel rodata",
        "kernel data",
        "direct map",
        "kernel bss",
        "fixmap slot FIX_APIC_BASE",
    ]
    assert ways[0]["page"]["flag_names"] == ["PG_reserved"]
    assert ways[0]["page"]["pfn"] == int(ways[0]["physical"], 16) >> 12


def test_vtop_in_text(run: Run, document: Json) -> None:
    """Every level, down to the entry that maps: of a large page in 7.2, which puts split ones together again."""
    text = run("vtop", "linux_banner").stdout
    assert "kernel rodata  [swapper_pg_dir]" in text
    levels = re.findall(r"^  (p[a-z]+)  table [0-9a-f]{9} \[ *\d+\]  [0-9a-f]+  P ", text, re.MULTILINE)
    (way,) = document("vtop", "linux_banner")["translations"]
    assert levels == [step["level"] for step in way["steps"]]
    assert (levels[-1] == "pte") == (way["page_size_bytes"] == PAGE_SIZE)
    assert ("4 KiB page" in text) == (levels[-1] == "pte")
    assert "struct page 0x" in text


def test_vtop_of_what_is_not_mapped(run: Run, document: Json) -> None:
    assert "not mapped: not present in the pgd" in run("vtop", "0x1000", code=1).stdout
    ways = document("vtop", "0x1000", "linux_banner", code=1)["translations"]
    assert [way["mapped"] for way in ways] == [False, True]


def test_vtop_reads_stdin(run: Run) -> None:
    done = run("vtop", "--format", "json", stdin="linux_banner\n0xc0000000 init_task\n")
    assert len(valid(done.stdout)["translations"]) == 3


@pytest.mark.parametrize("words", [["zork"], ["--cpu", "99", "c0000000"], ["--pid", "2", "c0000000"]])
def test_vtop_refuses_nonsense_in_one_line(run: Run, words: list[str]) -> None:
    done = run("vtop", *words, code=2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("kvmtools: ")


def test_walk_in_runs_and_in_entries_is_the_same_memory(guest: Guest, document: Json) -> None:
    entries = document("walk", "--raw")
    runs = document("walk")
    assert entries["page_table"]["form"] == ("PAE" if guest.kernel == "pae" else "non-PAE")

    def below_vmalloc(rows: list[dict[str, Any]]) -> int:  # what lies above comes and goes with the workload
        return sum(
            row.get("size_bytes", row["page_size_bytes"])
            for row in rows
            if row["region"].startswith(("direct map", "kernel"))
        )

    assert below_vmalloc(entries["entries"]) == below_vmalloc(runs["runs"]) > 512 << 20
    ends = [(int(row["virtual"], 16), int(row["end"], 16)) for row in runs["runs"]]
    assert all(start < end for start, end in ends)
    assert ends == sorted(ends)
    assert len(runs["runs"]) < len(entries["entries"]) / 5


def test_walk_of_a_process(run: Run, document: Json) -> None:
    user = document("walk", "--pid", "1", "--to", "0xc0000000", "--raw")
    assert user["page_table"]["name"] == "pid 1 (init)"
    assert user["entries"]
    assert all(entry["user"] and entry["region"] == "user" for entry in user["entries"])
    address = user["entries"][0]["virtual"]
    (way,) = document("vtop", "--pid", "1", address)["translations"]
    assert way["physical"] == user["entries"][0]["physical"]
    assert "r-x user" in run("walk", "--pid", "1", "--to", "0xc0000000").stdout


def test_walk_of_a_module_is_where_proc_modules_has_it(agent: Agent, document: Json) -> None:
    name, size, *_, address = agent.text("/proc/modules").split("(")[0].split()
    runs = document("walk", "--region", f"module {name}")["runs"]
    assert int(runs[0]["virtual"], 16) == int(address, 16)
    assert sum(run["size_bytes"] for run in runs) == int(size)


def test_pkmap_in_every_state(guest: Guest, agent: Agent, run: Run, document: Json) -> None:
    agent.driver("free")
    told = re.match(r"mixed (\d+) slots of (\d+)\n", agent.driver("mix 300"))
    assert told
    try:
        seen = document("pkmap")["pkmap"]
        text = run("pkmap").stdout
        ways = document("vtop", *(row["virtual"] for row in seen["used"][:20]))["translations"]
    finally:
        agent.driver("free")
    assert seen["slots"] == int(told[2]) == (512 if guest.kernel == "pae" else 1024)
    assert len(seen["used"]) == int(told[1]) >= 300
    assert {row["count"] for row in seen["used"]} == {1, 2, 4, 6}, "qemu/driver/pages.c, mix_users"
    assert seen["hash_entries"] == len(seen["used"])
    assert {row["zone"] for row in seen["used"]} == {"HIGHMEM"}
    assert sum(text.count(f"0x{int(row['virtual'], 16):08x}") for row in seen["used"]) == len(seen["used"])
    assert [way["region"] for way in ways] == [f"pkmap slot {row['slot']}" for row in seen["used"][:20]]
    assert [way["page"]["page"] for way in ways] == [row["page"] for row in seen["used"][:20]]


def test_memmap_counts_every_page_once(run: Run, document: Json) -> None:
    summary = document("memmap")
    assert sum(zone["page_count"] for zone in summary["zones"]) == summary["page_count"]
    assert all(sum(zone["states"].values()) == zone["page_count"] for zone in summary["zones"])
    states = {zone["zone"]: zone["states"] for zone in summary["zones"]}
    assert states["NORMAL"]["slab"] > 0
    assert states["HIGHMEM"]["free"] > states["HIGHMEM"]["reserved"] // 2
    assert f"{summary['page_count']:,} struct page of 32 bytes" in run("memmap").stdout


def test_memmap_of_one_page(run: Run, document: Json) -> None:
    (by_pfn,) = document("memmap", "0x1000")["pages"]
    (by_page,) = document("memmap", by_pfn["page"])["pages"]
    assert by_page["pfn"] == by_pfn["pfn"] == 0x1000
    assert f"struct page {by_pfn['page']}" in run("memmap", "4096").stdout
    assert "names no page" in run("memmap", "0xbffffff", code=2).stderr


def test_layout_agrees_with_the_model(run: Run, document: Json) -> None:
    shown = document("layout")
    judged = [*shown["boundaries"], *shown["limits"]]
    assert [edge["name"] for edge in judged if edge["agrees"] is False] == []
    assert len([edge for edge in judged if edge["agrees"]]) >= 12
    text = run("layout").stdout
    assert "≠" not in text
    assert "direct map" in text


def test_zones_are_those_of_proc_zoneinfo(agent: Agent, run: Run, document: Json) -> None:
    zones = {zone["zone"].lower(): zone for zone in document("zones")["zones"]}
    theirs = re.findall(
        r"zone +(\w+)\n.*?spanned +(\d+)\n +present +(\d+)\n +managed +(\d+)",
        agent.text("/proc/zoneinfo"),
        re.DOTALL,
    )
    assert len(theirs) >= 3
    for name, spanned, present, managed in theirs:
        ours = zones[name.lower()]
        assert (ours["spanned_pages"], ours["present_pages"], ours["managed_pages"]) == (
            int(spanned),
            int(present),
            int(managed),
        )
    text = run("zones").stdout
    assert all(name.upper() in text for name, *_ in theirs)


def test_registers_from_both_sides(guest: Guest, run: Run, document: Json) -> None:
    seen = document("regs")
    assert seen["source"] == "GDB, and QMP agrees"
    assert [cpu["cpu"] for cpu in seen["vcpus"]] == list(range(guest.smp))
    assert all(
        cpu["paging"].startswith("PAE, NX" if guest.kernel == "pae" else "32-bit") for cpu in seen["vcpus"]
    )
    assert all(cpu["page_table"] != "unknown" for cpu in seen["vcpus"])
    assert "read by GDB, and QMP agrees" in run("regs").stdout


def test_the_shell_runs_code(run: Run) -> None:
    code = "print([t.comm.string_().decode() for t in for_each_task(prog)][:2]); print(hex(vtop(0xc0000000).physical))"
    assert run("shell", "-e", code).stdout == "['init', 'kthreadd']\n0x0\n"
    done = run(
        "shell",
        stdin="print(page(page(1).page).pfn, prog['init_task'].comm.string_())\n1 / 0\n",
        code=1,
    )
    assert done.stdout == "1 b'swapper/0'\n"
    assert "ZeroDivisionError" in done.stderr


def test_the_shell_sees_a_process(run: Run, document: Json) -> None:
    first = document("walk", "--pid", "1", "--raw", "--to", "0xc0000000")["entries"][0]["virtual"]
    code = f"print(read({first}, 4) == physical(vtop({first}).physical, 4), prog.read({first}, 4) == read({first}, 4))"
    assert run("shell", "--pid", "1", "-e", code).stdout == "True True\n"


def test_the_prompt_on_a_terminal(guest: Guest) -> None:
    """A person at a terminal gets drgn's prompt, our names in it."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        words_of(guest, "shell"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)
    try:
        # drgn's own banner shows `>>>` before the names of its imports: ours is the last thing before the prompt.
        _until(ours, b"kvmtools adds:")
        _until(ours, b">>> ", b"print(6 * 7 + kernel.slide * 0, vtop(kernel.page_offset).fault)\n")
        assert b"42 None" in _until(ours, b"42 None", b"exit()\n")
        assert shell.wait(30) == 0
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def _until(terminal: int, wanted: bytes, answer: bytes = b"", seconds: float = 60) -> bytes:
    """What the terminal shows up to ``wanted``; then ``answer`` is typed.

    A byte at a time, so that what follows ``wanted`` is left for the next call.
    """
    seen, limit = b"", time.monotonic() + seconds
    while wanted not in seen:
        assert time.monotonic() < limit, seen
        seen += os.read(terminal, 1)
    os.write(terminal, answer)
    return seen


@pytest.mark.parametrize("command", [["walk", "--raw"], ["pkmap"], ["memmap"]])
def test_head_is_not_an_error(guest: Guest, command: list[str]) -> None:
    words = words_of(guest, *command)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_colour_on_request_only(guest: Guest) -> None:
    def shown(**wish: str) -> bytes:
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        return subprocess.run(
            words_of(guest, "vtop", "linux_banner"),
            env={**environment, **wish},
            capture_output=True,
            check=True,
        ).stdout

    assert b"\x1b[" not in shown()
    assert b"\x1b[" in shown(FORCE_COLOR="1")
    assert b"\x1b[" not in shown(FORCE_COLOR="1", NO_COLOR="1")


def test_pids_are_completed(guest: Guest) -> None:
    environment = {**os.environ, "_KVMTOOLS_COMPLETE": "bash_complete", "COMP_CWORD": "5"}
    environment["COMP_WORDS"] = f"kvmtools walk -g {guest.name} --pid 1"
    code = "import sys; sys.argv[0] = 'kvmtools'; from kvmtools.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "plain,1" in done.stdout.splitlines()
