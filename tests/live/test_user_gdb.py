"""``kvm ...`` in a person's own gdb, which holds the gdbstub; nothing else of QEMU is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_gdb import INTERRUPT, PROMPT, Batch, batch, children, gdb_words, terminal

from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

KVMTOOLS = Path(sys.executable).with_name("kvmtools")
PAGE_OFFSET = 0xC000_0000


@pytest.fixture(autouse=True)
def _runs_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gdb lets a guest run when it leaves, whatever it was told before."""
    yield
    if "guest" in request.fixturenames:
        with QmpMonitor(str(request.getfixturevalue("guest").qmp)) as monitor:
            assert monitor.running()


def on(guest: Guest, folder: Path, *commands: str) -> Batch:
    return batch(folder, guest.vmlinux, str(guest.gdb), *commands)


def kvmtools(guest: Guest, *words: str) -> str:
    done = subprocess.run([KVMTOOLS, *words, "-g", guest.name], capture_output=True, text=True, check=True)
    return done.stdout.strip("\n")


def test_a_batch_file_is_told_what_the_command_line_is(guest: Guest, tmp_path: Path) -> None:
    with Agent(guest.agent) as agent:
        agent.driver("mix 40")
        agent.quiesce()
        done = on(
            guest,
            tmp_path,
            "kvm vtop init_task swapper_pg_dir+8",
            "kvm walk --region fixmap --raw",
            "kvm page 0x10 phys:0x100000",
            "kvm layout",
            "kvm pkmap",
            "kvm zones",
            "kvm check --only pkmap,pagetable --format json",
            "print $kvm_exit",
            "kvm regs --format json",
        )
        assert (done.code, done.complaints) == (0, "")
        vtop, walk, page, layout, pkmap, zones, check, code, regs = done.shown
        assert vtop == kvmtools(guest, "vtop", "init_task", "swapper_pg_dir+8")
        assert walk == kvmtools(guest, "walk", "--region", "fixmap", "--raw")
        assert page == kvmtools(guest, "memmap", "0x10", "phys:0x100000")
        assert layout == kvmtools(guest, "layout")
        assert pkmap == kvmtools(guest, "pkmap")
        assert zones.startswith("zone ")
        agent.driver("free")
    verdict = json.loads(check)
    assert verdict["exit_code"] == 0
    assert verdict["live"]["consistency"].endswith("gdb's continue lets it run")
    assert code.endswith(" = 0")
    vcpus = json.loads(regs)
    assert vcpus["source"].startswith("the human monitor alone: the gdbstub is your gdb's")
    assert len(vcpus["vcpus"]) == guest.smp


def test_values_for_gdbs_expressions(guest: Guest, tmp_path: Path) -> None:
    """``print/x`` and arithmetic; a cast to what gdb knows of the kernel; the values are the command line's."""
    done = on(
        guest,
        tmp_path,
        "kvm symbols",
        'print/x $kvm_pte("init_task")',
        "print/x $kvm_pte(&init_task)",
        "print/x $kvm_pte(&init_task, 1)",
        "print sizeof($)",
        "print $kvm_pte(0) & 1",
        "print $kvm_page(16)",
        "print/x $kvm_page(16)->flags",
        "output $kvm_page(17) - $kvm_page(16)",
    )
    assert (done.code, done.complaints) == (0, "")
    values = [each.rpartition(" = ")[2] for each in done.shown]
    (way,) = json.loads(kvmtools(guest, "vtop", "init_task", "--format", "json"))["translations"]
    (page,) = json.loads(kvmtools(guest, "memmap", "0x10", "--format", "json"))["pages"]
    assert [int(value, 16) for value in values[1:4]] == [int(way["steps"][-1]["entry"], 16)] * 3
    assert values[4:6] == ["8", "0"]
    assert values[6] == f"(struct page *) {page['page']}"
    assert int(values[7], 16) == int(page["flags"], 16)
    assert values[8] == "1"


def test_symbols_go_where_kaslr_has_put_the_kernel(guest: Guest, tmp_path: Path) -> None:
    done = on(
        guest,
        tmp_path,
        "kvm symbols",
        "print/x &linux_banner",
        "print (char *)linux_banner",
        "info symbol $pc",
    )
    assert (done.code, done.complaints) == (0, "")
    (way,) = json.loads(kvmtools(guest, "vtop", "linux_banner", "--format", "json"))["translations"]
    assert done.shown[1].endswith(way["virtual"])
    assert '"Linux version ' in done.shown[2]
    assert " in section .text" in done.shown[3]


def test_the_line_that_status_prints_works(guest: Guest) -> None:
    line = re.search(r"^ +(gdb .*)$", kvmtools_status(guest), re.MULTILINE)
    assert line is not None
    environment = {**os.environ, "PATH": f"{KVMTOOLS.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", f"{line[1].replace('gdb ', 'gdb -nx -batch ', 1)} -ex 'output (char *)init_task.comm'"],
        capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"swapper/0"' in done.stdout


def kvmtools_status(guest: Guest) -> str:
    done = subprocess.run(
        [KVMTOOLS, "guest", "status", guest.name], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_addresses_are_gdbs_too_and_what_is_selected_stays(guest: Guest, tmp_path: Path) -> None:
    done = on(
        guest,
        tmp_path,
        "kvm symbols",
        "thread 2",
        "up",
        "kvm vtop $esp --format json",
        "kvm vtop --thread &init_task --format json",
        "kvm walk --from=&init_task --to '(char *)&init_task + 4096' --raw",
        "print $kvm_page(16)",
        "kvm page $kvm_page(16) --format json",
        "thread",
        "frame",
    )
    assert (done.code, done.complaints) == (0, "")
    esp, task, walk = done.shown[3:6]
    (way,) = json.loads(esp)["translations"]
    assert (way["mapped"], int(way["virtual"], 16) >> 30) == (True, 3)
    assert json.loads(task)["page_table"]["name"] == "vCPU 1"
    assert " 4 KiB" in walk or " MiB" in walk
    (page,) = json.loads(done.shown[7])["pages"]
    assert page["pfn"] == 16
    assert "[Current thread is 2 " in done.shown[8]
    assert done.shown[9].startswith("#1 ")


ERRORS = {
    "kvm vtop zork": "'zork' is neither an address nor a symbol of the vmlinux (write 0xc1000000, ",
    "kvm vtop --cpu 99 0": "there is no vCPU 99 (the guest has 0, 1)",
    "kvm vtop $zork+1": "Argument to arithmetic operation not a number or boolean.",
    "kvm vtop --zork": "No such option",
    "kvm vtop": "Argument required: kvm vtop ADDRESS...",
    "kvm vtop -g other 0": "--guest names another guest than gdb's (leave it out)",
    "kvm page 0x7fffffff": "'0x7fffffff' names no page",
    "kvm check --only zork": "no rule is called 'zork'",
    "kvm zork": 'Undefined kvm command: "zork".  Try "help kvm".',
    "kvm symbols /dev/null": "/dev/null ",
    "kvm symbols a b": "kvm symbols takes one file",
    'print $kvm_pte("zork")': "'zork' is neither an address nor a symbol of the vmlinux (write 0xc1000000, ",
    "print $kvm_pte()": "$kvm_pte takes an address, and perhaps the number of a vCPU",
    "print $kvm_page(0x7fffffff)": "'0x7fffffff' names no page",
    "print $kvm_page()": "$kvm_page takes a pfn",
}


def test_errors_are_gdbs(nopae_guest: Guest) -> None:
    """One line each, and the next command is answered."""
    with terminal(gdb_words(nopae_guest.vmlinux, str(nopae_guest.gdb), "-ex", "set pagination off")) as gdb:
        for command, message in ERRORS.items():
            said = gdb.say(command)
            assert said.startswith(message), (command, said)
            assert said.count("\n") == 1, (command, said)
        assert gdb.say("print $kvm_exit") == "$1 = 2\n"
        gdb.say("detach")


def test_an_error_ends_a_batch_file(nopae_guest: Guest, tmp_path: Path) -> None:
    done = on(nopae_guest, tmp_path, "kvm vtop zork", "print 6 * 7")
    assert done.code == 1
    assert done.last().startswith("'zork' is neither an address nor a symbol")
    assert "42" not in str(done.shown)


def test_a_verdict_is_no_error_but_a_code(guest: Guest, tmp_path: Path) -> None:
    """A fault that the person plants with gdb itself, and mends; not mapped is an answer, too."""
    done = on(
        guest,
        tmp_path,
        "kvm symbols",
        "set $before = pkmap_count[5]",
        "set variable pkmap_count[5] = $before ? 0 : 3",
        "kvm check --only pkmap",
        "output $kvm_exit",
        "set variable pkmap_count[5] = $before",
        "kvm check --only pkmap",
        "output $kvm_exit",
        "kvm vtop 0",
        "output $kvm_exit",
    )
    assert (done.code, done.complaints) == (0, "")
    assert "✗ pkmap.pte-matches-count: 1 discrepancy" in done.shown[3]
    assert "✓ agrees with the model" in done.shown[6]
    assert "not mapped" in done.shown[8]
    assert [done.shown[place] for place in (4, 7, 9)] == ["1", "0", "1"]


def test_breakpoints_are_no_damage_and_may_ask(guest: Guest, tmp_path: Path) -> None:
    """One that gdb itself writes into the text, with the guest stopped, and one whose condition asks for a PTE."""
    place = "gdb.breakpoints()[0].locations[0].address"
    done = on(
        guest,
        tmp_path,
        "kvm symbols",
        "set remote software-breakpoint-packet off",
        "set breakpoint always-inserted on",
        "break schedule",
        f"python print(gdb.execute('monitor xp /1xb %#x' % ({place} - {PAGE_OFFSET:#x}), to_string=True))",
        "kvm check",
        "output $kvm_exit",
        "delete",
        "set remote software-breakpoint-packet auto",
        "set breakpoint always-inserted off",
        "tbreak schedule if ($kvm_pte(&init_task) & 1) && $kvm_exit == 0",
        "continue",
        "kvm check --only pagetable,memmap",
        "bt 1",
    )
    assert (done.code, done.complaints) == (0, "")
    assert done.shown[4].endswith(": 0xcc"), "gdb has written no int3"
    assert "✓ agrees with the model" in done.shown[5]
    assert done.shown[6] == "0"
    assert "Temporary breakpoint 2, " in done.shown[11]
    assert "✓ agrees with the model" in done.shown[12]
    assert done.shown[13].startswith("#0  schedule ")


def test_without_a_guest_there_is_none_to_ask(tmp_path: Path, nopae_guest: Guest) -> None:
    """Before a connection, after one, and while the guest runs behind the prompt."""
    for commands, message in (
        (("disconnect", "kvm regs"), "gdb is not connected to a QEMU (target remote ADDRESS)"),
        (
            ("kvm regs", "continue &", "kvm regs"),
            "gdb: Cannot execute this command while the target is running.",
        ),
    ):
        done = on(nopae_guest, tmp_path, *commands)
        assert done.code == 1
        assert message in done.complaints
        assert "Python" not in done.complaints


def test_at_a_terminal(guest: Guest) -> None:
    """Help, the tab key, an error that ends nothing, and Ctrl-C."""
    with terminal(gdb_words(guest.vmlinux, str(guest.gdb), "-ex", "set pagination off")) as gdb:
        assert "slide 0x" in gdb.say("kvm symbols")
        assert "kvm vtop -- Translate virtual addresses" in gdb.say("help kvm")
        assert "Usage: kvm walk" in gdb.say("help kvm walk")
        assert "as an unsigned long long" in gdb.say("help function kvm_pte")
        for typed, full in (
            ("kvm pk", "kvm pkmap "),
            ("kvm walk --reg", "kvm walk --region "),
            ("kvm walk --region=pk", "kvm walk --region=pkmap "),
            ("kvm check --only pkmap.count-n", "kvm check --only pkmap.count-not-negative "),
            ("kvm vtop --thr", "kvm vtop --thread "),
            ("kvm vtop swapper_pg_d", "kvm vtop swapper_pg_dir "),
            ("kvm vtop --pid 1 init_tas", "kvm vtop --pid 1 init_task "),
        ):
            gdb.type(f"{typed}\t")
            gdb.until(full[len(typed) :])
            gdb.type(INTERRUPT)
            gdb.until(PROMPT)
        assert "No such option" in gdb.say("kvm regs --zork")
        gdb.type("kvm check\n")
        gdb.until("\n")
        time.sleep(0.05)
        gdb.type(INTERRUPT)
        assert "Quit" in gdb.until(PROMPT)
        assert "kernel text" in gdb.say("kvm regs")
        gdb.say("detach")  # a gdb that is killed leaves the guest stopped
        gdb.type("detach\nquit\n")
        assert gdb.process.wait(30) == 0


def test_our_process_ends_with_gdb_however_that_ends(guest: Guest) -> None:
    with terminal(gdb_words(guest.vmlinux, str(guest.gdb), "-ex", "set pagination off")) as gdb:
        gdb.say("kvm regs")
        (ours,) = children(gdb.process.pid)
        gdb.process.kill()
        limit = time.monotonic() + 20
        while Path(f"/proc/{ours}").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert not Path(f"/proc/{ours}").exists()
    with QmpMonitor(str(guest.qmp)) as monitor:
        monitor.cont()  # QEMU leaves it stopped behind a gdb that does not say good-bye


def test_our_process_is_killed(nopae_guest: Guest) -> None:
    """That is said, and the next command has another."""
    with terminal(gdb_words(nopae_guest.vmlinux, str(nopae_guest.gdb), "-ex", "set pagination off")) as gdb:
        gdb.say("kvm regs")
        (ours,) = children(gdb.process.pid)
        os.kill(ours, 9)
        assert gdb.say("kvm regs") == "kvmtools ended: it does not say why\n"
        assert "kernel text" in gdb.say("kvm regs")
        gdb.say("detach")  # a gdb that is killed leaves the guest stopped
