"""``kvmtools guest``: what it prints, and what it makes of its words."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from json_documents import valid

from kvmtools.boot.guests import lifecycle, ram_location, registry, starting
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.guest_state import GuestState, VcpuThread
from kvmtools.boot.guests.record import Guest
from kvmtools.boot.guests.registry import DeadGuest
from kvmtools.boot.kernels import reference
from kvmtools.boot.kernels.reference import BuiltKernel
from kvmtools.cli import guest_text
from kvmtools.cli.guest import command, complete_kernel
from kvmtools.errors import AttachError, BuildError, GuestVanished, UsageError

DIRECTORY = Path("/run/kvmtools/pae")
GUEST = Guest(
    name="pae",
    pid=42,
    started=4711,
    directory=DIRECTORY,
    qmp=DIRECTORY / "qmp.sock",
    drgn_qmp=DIRECTORY / "drgn.sock",
    gdb=DIRECTORY / "gdb.sock",
    agent=DIRECTORY / "agent.sock",
    console=DIRECTORY / "console.log",
    ram=Path("/shm/pae.ram"),
    memory_bytes=6 << 30,
    smp=2,
    kernel="pae",
    vmlinux=Path("/cache/my kernels/vmlinux"),
    accel="tcg",
    command=("qemu-system-i386", "-nodefaults"),
)
STATE = GuestState("running", (VcpuThread(0, 43), VcpuThread(1, 44)), 200.25, 151 << 20)
FILES = Path("/cache/pae-0123")
KERNEL = BuiltKernel(
    *("pae", FILES / "bzImage", FILES / "vmlinux", FILES / "config", FILES / "initrd"),
    key="0123",
    pae=True,
    release="6.1.0-kvmtools-pae",
    built=0.0,
)


@pytest.fixture
def one_guest(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine with one guest, one kernel and one recent death; returns what was done to it."""
    done: list[Any] = []

    def start(name: str, **options: Any) -> Guest:
        done.append((name, options))
        return GUEST

    def find(name: str) -> Guest:
        if name == "dead":
            raise GuestVanished("guest 'dead' died (QEMU pid 7): killed")
        if name != "pae":
            raise AttachError(f"no guest '{name}' is running")
        return GUEST

    monkeypatch.setattr(starting, "start", start)
    monkeypatch.setattr(lifecycle, "stop", done.append)
    monkeypatch.setattr(registry, "find", find)
    monkeypatch.setattr(registry, "all_guests", lambda: [GUEST])
    monkeypatch.setattr(registry, "unreadable", list)
    monkeypatch.setattr(lifecycle, "state", {GUEST: STATE}.__getitem__)
    monkeypatch.setattr(registry, "sweep", lambda: [DeadGuest("old", 7, "out of memory")])
    monkeypatch.setattr(reference, "listing", lambda: [KERNEL])
    monkeypatch.setattr(reference, "current_keys", lambda: frozenset({"0123"}))
    monkeypatch.setattr(reference, "damaged", lambda: [Path("/cache/nopae-4567")])
    monkeypatch.setattr(reference, "older", lambda: [Path("/cache/pae-89ab"), Path("/cache/pae-cdef")])
    return done


def run(*words: str) -> tuple[str, str]:
    """What the command writes to stdout and to stderr."""
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize(
    ("words", "name", "kernel"),
    [
        ([], "pae", "pae"),
        (["nopae"], "nopae", "nopae"),
        (["big"], "big", "pae"),
        (["big", "--kernel", "nopae"], "big", "nopae"),
        (["--kernel", "nopae"], "nopae", "nopae"),
        (["--kernel", "/boot/vmlinuz"], "guest", "/boot/vmlinuz"),
        (["pae", "--kernel", "/boot/vmlinuz"], "pae", "/boot/vmlinuz"),
    ],
)
def test_name_and_kernel_default_to_each_other(
    one_guest: list[Any], words: list[str], name: str, kernel: str
) -> None:
    run("start", *words)
    ((started, options),) = one_guest
    assert (started, options["kernel"]) == (name, kernel)
    assert (options["memory"], options["smp"], options["accel"]) == ("2G", 2, "auto")


def test_parameters_that_the_kernel_does_not_know_are_noted(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    printed = tmp_path / "console.log"
    printed.write_text('Unknown kernel command line parameters "foo=bar", will be passed to user space.\n')
    monkeypatch.setattr(starting, "start", lambda _name, **_options: replace(GUEST, console=printed))
    monkeypatch.setattr(lifecycle, "state", lambda _guest: STATE)
    shown, said = run("start", "--append", "foo=bar vmalloc=256M")
    assert said == "kvmtools: its kernel does not know foo=bar: misspelt?\n"
    assert "foo" not in shown
    assert run("start", "--append", "vmalloc=256M")[1] == ""


def test_status_tells_how_to_attach(one_guest: list[Any]) -> None:
    shown, _ = run("status", "pae")
    assert shown.startswith("pae: running, up 3 min 20 s\n")
    assert "6 GiB in /shm/pae.ram, 151 MiB touched" in shown
    assert "gdb '/cache/my kernels/vmlinux' -ex 'target remote /run/kvmtools/pae/gdb.sock'" in shown
    assert "drgn --qemu /run/kvmtools/pae/drgn.sock -s '/cache/my kernels/vmlinux'" in shown


def test_a_socket_s_name_is_quoted_for_the_shell(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = replace(GUEST, gdb=Path("/it's/gdb.sock"))
    monkeypatch.setattr(registry, "find", lambda _name: odd)
    monkeypatch.setattr(lifecycle, "state", {odd: STATE}.__getitem__)
    (line,) = (line for line in run("status", "pae")[0].splitlines() if " -ex " in line)
    assert "target remote /it's/gdb.sock" in shlex.split(line)


def test_other_programs_are_not_told_to_read_a_packed_vmlinux(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = replace(GUEST, vmlinux=Path("/built/vmlinux.xz"))
    monkeypatch.setattr(registry, "find", lambda _name: packed)
    monkeypatch.setattr(lifecycle, "state", {packed: STATE}.__getitem__)
    shown, _ = run("status", "pae")
    assert "symbols  /built/vmlinux.xz" in shown
    assert "gdb /built" not in shown
    assert "drgn --qemu" not in shown
    assert "kvmtools shell -g pae" in shown


@pytest.mark.parametrize("name", ["start", "status", "list"])
def test_json_has_the_schema_and_units_in_its_keys(one_guest: list[Any], name: str) -> None:
    shown, _ = run(name, "--format", "json")
    data = valid(shown)
    assert data["schema"] == "kvmtools/1"
    assert data["command"] == f"guest {name}"
    (guest,) = data["guests"]
    assert guest["memory_bytes"] == 6 << 30
    assert guest["uptime_seconds"] == 200.2
    assert guest["started_ticks"] == 4711
    assert guest["vcpus"] == [{"index": 0, "thread_id": 43}, {"index": 1, "thread_id": 44}]
    assert guest["command"] == ["qemu-system-i386", "-nodefaults"]
    assert guest["panic"] is None


def test_list_shows_guests_and_kernels_and_tells_the_dead_apart(one_guest: list[Any]) -> None:
    shown, said = run("list")
    guest_head, guest_row, _, kernel_head, kernel_row = shown.splitlines()
    assert guest_row.split() == ["pae", "running", "42", "pae", "6", "GiB", "2", "tcg", "3", "min", "20", "s"]
    assert guest_row.index("running") == guest_head.index("state")
    name, release, *built, current, symbols = kernel_row.split()
    assert (name, release, current, symbols) == (
        *("pae", "6.1.0-kvmtools-pae", "current"),
        "/cache/pae-0123/vmlinux",
    )
    assert (built[1], built[-1]) == ("d", "ago")
    assert kernel_row.index("6.1.0") == kernel_head.index("release")
    assert "guest 'old' died (QEMU pid 7): out of memory" in said
    assert "old" not in shown
    assert "/cache/nopae-4567 is damaged" in said
    assert (
        "\nkvmtools: built by an older kvmtools, and may be removed from /cache: pae-89ab, pae-cdef\n" in said
    )
    assert "4567" not in shown


def test_kernels_of_one_name_are_told_apart(one_guest: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    older = replace(KERNEL, key="4567", built=-90_000.0)
    monkeypatch.setattr(reference, "listing", lambda: [older, KERNEL])
    rows = run("list")[0].splitlines()[-2:]
    assert ["current" in row for row in rows] == [False, True]
    kernels = valid(run("list", "--format", "json")[0])["kernels"]
    assert [(kernel["built"], kernel["current"]) for kernel in kernels] == [
        ("1969-12-30T23:00:00+00:00", False),
        ("1970-01-01T00:00:00+00:00", True),
    ]
    monkeypatch.setattr(reference, "current_keys", lambda: None)
    assert all(" ? " in row for row in run("list")[0].splitlines()[-2:])
    assert valid(run("list", "--format", "json")[0])["kernels"][1]["current"] is None


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_cache_that_cannot_be_used_hides_no_guest(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def refuse() -> list[BuiltKernel]:
        raise BuildError("the cache /cache cannot be used: Not a directory", hint="set XDG_CACHE_HOME")

    monkeypatch.setattr(reference, "damaged", refuse)
    shown, said = run("list", "--format", form)
    assert said.splitlines()[-1] == (
        "kvmtools: the cache /cache cannot be used: Not a directory (set XDG_CACHE_HOME)"
    )
    assert "running" in shown


def test_a_guest_that_panicked_is_called_so(one_guest: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    panic = "Kernel panic - not syncing: \x1b]0;VFS"
    monkeypatch.setattr(lifecycle, "state", lambda _guest: replace(STATE, panic=panic))
    assert run("list")[0].splitlines()[1].split()[:2] == ["pae", "panicked"]
    for name in ("status", "start"):
        shown, _ = run(name, "pae")
        assert shown.startswith("pae: panicked, up 3 min 20 s\n  panic    Kernel panic - not syncing: ")
        assert "\x1b" not in shown
    (guest,) = valid(run("status", "pae", "--format", "json")[0])["guests"]
    assert (guest["status"], guest["panic"]) == ("running", panic)


def test_a_ram_file_that_cannot_be_looked_at(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its folder is no folder any more (ENOTDIR), or it is gone (ENOENT): what it takes is not known."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "pae.ram", tmp_path / "gone.ram"):
        state = replace(STATE, ram_touched_bytes=ram_location.touched_bytes(path))
        monkeypatch.setattr(lifecycle, "state", lambda _guest, state=state: state)
        assert "6 GiB in /shm/pae.ram, ? touched" in run("status", "pae")[0]
        (shown,) = valid(run("status", "pae", "--format", "json")[0])["guests"]
        assert shown["ram_touched_bytes"] is None
        (shown,) = valid(run("list", "--format", "json")[0])["guests"]
        assert shown["ram_touched_bytes"] is None


def test_stop_takes_names_or_all(one_guest: list[Any]) -> None:
    run("stop", "pae", "pae")
    assert one_guest == [GUEST]
    run("stop", "--all")
    assert one_guest == [GUEST, GUEST]
    for words in ([], ["pae", "--all"]):
        with pytest.raises(UsageError, match="--all"):
            run("stop", *words)


def test_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "all_guests", list)
    monkeypatch.setattr(registry, "unreadable", list)
    shown, said = run("status")
    assert shown == ""
    assert "no guest runs" in said
    assert valid(run("status", "--format", "json")[0])["guests"] == []


def test_build_builds_both_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[tuple[str, Path | None]] = []

    def ensure(name: str, source: Path | None = None, *, progress: object) -> BuiltKernel:
        built.append((name, source))
        return KERNEL

    monkeypatch.setattr(reference, "ensure", ensure)
    shown, _ = run("build")
    assert sorted(built) == [("nopae", None), ("pae", None)]
    assert len(shown.splitlines()) == 2
    run("build", "pae", "--source", str(tmp_path))
    assert built[-1] == ("pae", tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (86400, "1 d"), (90061, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert guest_text.duration(seconds) == text


def test_the_tab_key_offers_our_kernels_and_then_files() -> None:
    option = next(parameter for parameter in command.commands["start"].params if parameter.name == "kernel")
    context = command.make_context("guest", ["start"])
    offered = [(item.value, item.type) for item in complete_kernel(context, option, "n")]
    assert offered == [("nopae", "plain"), ("numa", "plain"), ("n", "file")]


@pytest.mark.parametrize("name", ["nonpae", "no-pae", "npae", "PAE", "NoPAE"])
def test_a_misspelled_kernel_boots_no_other(one_guest: list[Any], name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a kernel") as caught:
        run("start", name)
    assert f"guest start {'pae' if name == 'PAE' else 'nopae'}," in caught.value.hint
    assert not one_guest
    run("start", name, "--kernel", "pae")
    assert one_guest[0][0] == name


def test_the_kernel_of_another_name_is_told(one_guest: list[Any]) -> None:
    assert "booted the pae kernel; --kernel nopae for the other" in run("start", "big")[1]
    assert "booted" not in run("start", "pae")[1] + run("start", "big", "--kernel", "pae")[1]


@pytest.mark.parametrize("words", [("--memory", "12"), ("--memory", "61G"), ("--smp", "0")])
def test_what_is_refused_is_not_announced(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(command, ["start", "x", *words])
    assert isinstance(result.exception, UsageError)
    assert result.stderr == ""


def test_memory_that_a_kernel_cannot_use_is_told(one_guest: list[Any]) -> None:
    assert "no memory above 4 GiB" in run("start", "nopae", "--memory", "6G")[1]
    assert "no memory above" not in run("start", "pae", "--memory", "6G")[1]


@pytest.mark.parametrize("seconds", ["0", "-1"])
def test_a_timeout_is_positive(one_guest: list[Any], seconds: str) -> None:
    assert CliRunner().invoke(command, ["start", "pae", "--timeout", seconds]).exit_code == 2
    assert not one_guest


def test_those_that_run_are_stopped_whoever_is_missing(one_guest: list[Any]) -> None:
    with pytest.raises(AttachError, match="no guest 'nosuch' is running"):
        run("stop", "nosuch", "pae")
    assert one_guest == [GUEST]


def test_a_guest_that_hangs_keeps_no_other_from_being_stopped(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is that of the worst, and every one is said."""

    def stop(guest: Guest) -> None:
        if guest.name == "hung":
            raise AttachError("guest 'hung' is not stopped")
        if guest.name == "busy":
            raise UsageError("guest 'busy' is being started")
        one_guest.append(guest.name)

    monkeypatch.setattr(registry, "find", lambda name: replace(GUEST, name=name))
    monkeypatch.setattr(lifecycle, "stop", stop)
    result = CliRunner().invoke(command, ["stop", "hung", "one", "busy", "two"])
    assert one_guest == ["one", "two"]
    assert isinstance(result.exception, AttachError)
    assert "'hung'" in str(result.exception)
    assert result.stderr.splitlines() == [
        "kvmtools: guest 'one' is stopped",
        "kvmtools: guest 'two' is stopped",
        "kvmtools: guest 'busy' is being started",
    ]


def test_stopping_the_dead_cleans_up(one_guest: list[Any]) -> None:
    assert "guest 'dead' died (QEMU pid 7): killed; cleaned up" in run("stop", "dead")[1]
    assert not one_guest


@pytest.mark.parametrize("words", [["kmap", "0", "-3"], ["--", "kmap", "0", "-3"]])
def test_the_driver_gets_its_words_as_they_are(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(Agent, "driver", lambda _agent, line: f"<{line}>")
    assert run("driver", "pae", *words)[0] == "<kmap 0 -3>\n"


def test_the_driver_of_a_guest_that_panicked_is_not_waited_for(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "state", lambda _guest: replace(STATE, panic="No working init found"))
    with pytest.raises(AttachError, match="'pae' has panicked: No working init found"):
        run("driver", "pae", "status")


def test_a_paused_guests_driver_is_not_waited_for(
    one_guest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "state", lambda _guest: replace(STATE, status="paused"))
    with pytest.raises(AttachError, match="'pae' is paused"):
        run("driver", "pae", "status")
