"""The released drgn with our plugin, as a user runs it: on running guests, on their cores, and where it must refuse."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_drgn import Terminal, dump, live, run_drgn

import kvmtools
from kvmtools.attach.elf import ElfFile
from kvmtools.attach.monitor.qmp import QmpMonitor
from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest

COUNT = 1000
READ_ALL = """
import json, sys
print(json.dumps([prog.read(address, 16).hex() for address in json.load(open(sys.argv[1]))]))
"""
LOOK = """
import json
task = prog["init_task"]
print(json.dumps({
    "address": task.address_,
    "comm": task.comm.string_().decode(),
    "banner": prog["linux_banner"].string_().decode(),
    "symbol": prog.symbol("init_task").address,
    "name": prog.symbol(task.address_).name,
    "file": prog.source_location(prog.symbol("panic").address)[0].filename,
    "pids": sorted(task.pid.value_() for task in for_each_task()),
    "cpus": len(list(for_each_online_cpu())),
    "module": prog.module("kvmtools").debug_file_status.name,
    "modules": len(list(prog.modules())),
}))
"""


@dataclass(frozen=True)
class Still:
    """A guest that stands still, its core, and what 1,000 of its kernel addresses hold by our own reading."""

    @property
    def on_core(self) -> tuple[str, ...]:
        """The options by which drgn opens the core; QEMU may have written it as ELF64."""
        return "--architecture", "i386", "-c", str(self.core)

    @property
    def ways(self) -> tuple[tuple[str, ...], ...]:
        """The options for the guest, and for its core."""
        return live(self.guest), (*self.on_core, "-s", str(self.guest.vmlinux))

    guest: Guest
    core: Path
    addresses: Path
    expected: list[str]


@pytest.fixture(scope="module", params=["pae", "nopae"])
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Still]:
    guest: Guest = request.getfixturevalue(f"{request.param}_guest")
    folder = tmp_path_factory.mktemp(request.param)
    core, addresses = folder / "core", folder / "addresses.json"
    Agent(guest.agent).driver("mix 300")  # pkmap is in use
    with kvmtools.open(guest=guest.name) as kernel, kernel.paused():
        with QmpMonitor(str(guest.drgn_qmp)) as monitor:
            dump(monitor, core)
        chosen = _addresses(kernel)
        addresses.write_text(json.dumps(chosen))
        try:
            yield Still(guest, core, addresses, [kernel.read(each, 16).hex() for each in chosen])
        finally:
            core.unlink()
    Agent(guest.agent).driver("free")


def _addresses(kernel: kvmtools.OpenKernel) -> list[int]:
    """Addresses of mapped RAM, a third of them outside the direct map, where pages lie anywhere."""
    pick = random.Random(COUNT)
    found: list[int] = []
    rows = [row for row in kernel.walk(kernel.page_offset).pages() if _is_ram(kernel, row.physical)]
    elsewhere = [row for row in rows if row.region != "direct map"]
    for place in (rows, rows, elsewhere):
        found += [
            row.virtual + pick.randrange(row.size - 16) for row in pick.choices(place, k=COUNT // 3 + 1)
        ]
    return found[:COUNT]


def _is_ram(kernel: kvmtools.OpenKernel, physical: int) -> bool:
    try:
        kernel.physical(physical, 1)
    except kvmtools.MemoryFault:
        return False
    return True


def look(done: subprocess.CompletedProcess[str]) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_live_guest_and_its_core_show_what_the_guest_holds(still: Still, tmp_path: Path) -> None:
    script = tmp_path / "read_all.py"
    script.write_text(READ_ALL)
    for options in still.ways:
        assert look(run_drgn(*options, script, still.addresses)) == still.expected
    assert len(still.expected) == COUNT
    assert len(set(still.expected)) > COUNT // 4


def test_symbols_lie_where_kaslr_put_them(still: Still) -> None:
    with kvmtools.open(core=still.core, symbols=still.guest.vmlinux) as kernel:
        address, release = kernel.address("init_task"), kernel.release
        pids = [process.pid for process in kernel.processes()]
    for options in still.ways:
        seen = look(run_drgn(*options, "-e", LOOK))
        assert (seen["address"], seen["symbol"], seen["name"]) == (address, address, "init_task")
        assert seen["banner"].startswith(release)
        assert seen["comm"] == "swapper/0"
        assert seen["file"].endswith("kernel/panic.c")
        assert set(pids) <= set(seen["pids"])
        assert seen["cpus"] == 2
        assert (seen["module"], seen["modules"]) == ("HAVE", 3), "the kernel, the vmlinux, and our driver"


PHYSICAL = """
for address in (0x0, 0x1000, 0x100001000):
    try:
        print(prog.read(address, 16, physical=True).hex())
    except FaultError as error:
        print(error)
"""


def test_a_physical_address_is_whole_or_refused(still: Still) -> None:
    """A program of 32 bits cuts 0x100001000 to 0x1000: right is what is there, or a refusal."""
    shown = look_text(run_drgn(*still.ways[0], "-e", PHYSICAL)).splitlines()
    assert look_text(run_drgn(*still.ways[1], "-e", PHYSICAL)).splitlines() == shown
    if still.guest.kernel == "pae":
        assert all("kvmtools.drgn.read_physical" in line for line in shown)
    else:
        with kvmtools.open(core=still.core, symbols=still.guest.vmlinux) as kernel:
            assert shown[:2] == [kernel.physical(address, 16).hex() for address in (0, 0x1000)]


def test_an_elf64_core_is_whole_and_warned_of(still: Still) -> None:
    done = run_drgn("-c", still.core, "-s", still.guest.vmlinux, "-e", PHYSICAL)
    with still.core.open("rb") as core:
        wide = ElfFile(core.fileno()).form.bits == 64
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == wide
    if wide:
        assert "drgn --architecture i386 -c CORE" in done.stderr
        with kvmtools.open(core=still.core, symbols=still.guest.vmlinux) as kernel:
            above = ["no RAM"] if still.guest.kernel == "nopae" else [kernel.physical(0x100001000, 16).hex()]
            expected = [kernel.physical(address, 16).hex() for address in (0, 0x1000)] + above
        assert all(map(str.__contains__, done.stdout.splitlines(), expected))


def look_text(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_drgn_finds_the_vmlinux_where_it_looks_for_one(still: Still, tmp_path: Path) -> None:
    code = 'print(prog["init_task"].address_)'
    address = look_text(run_drgn(*live(still.guest), "-e", code))
    with kvmtools.open(core=still.core, symbols=still.guest.vmlinux) as kernel:
        build_id = kernel.session.kernel.vmlinux.build_id
    folder = tmp_path / ".build-id" / build_id[:2]
    folder.mkdir(parents=True)
    (folder / f"{build_id[2:]}.debug").symlink_to(still.guest.vmlinux)
    assert look_text(run_drgn(*still.on_core, "--debug-directory", tmp_path, "-e", code)) == address
    by_name = f"prog.load_debug_info([{str(still.guest.vmlinux)!r}]); {code}"
    assert look_text(run_drgn(*still.on_core, "--no-default-symbols", "-e", by_name)) == address


def test_without_the_right_vmlinux_one_line_says_so(
    still: Still, pae_guest: Guest, nopae_guest: Guest
) -> None:
    other = nopae_guest if still.guest is pae_guest else pae_guest
    with kvmtools.open(core=still.core, symbols=still.guest.vmlinux) as kernel:
        release = kernel.release.split()[-1]
    missing = f"warning: kvmtools: missing debugging symbols for kernel {release}: "
    done = run_drgn(*still.on_core, "-e", "pass")
    assert (done.returncode, done.stderr) == (0, f"{missing}give its vmlinux with -s PATH\n")
    done = run_drgn(*still.on_core, "-s", other.vmlinux, "-e", "pass")
    assert len(done.stderr.splitlines()) == 2
    assert "did not match" in done.stderr
    assert missing in done.stderr
    assert run_drgn("-q", *still.on_core, "-e", "pass").stderr == ""
    read = run_drgn("-q", *still.on_core, "-e", "print(prog.read(0xc0001000, 4))")
    assert read.returncode == 0, "addresses need no symbols"


def test_half_a_core_is_refused_and_never_read(still: Still, tmp_path: Path) -> None:
    half = tmp_path / "half"
    with still.core.open("rb") as whole:
        half.write_bytes(whole.read(1 << 20))
    code = "prog.read(0xc0001000, 4)"
    for words in (code, code.replace("4)", "4, physical=True)")):
        done = run_drgn("--architecture", "i386", "-c", half, "-s", still.guest.vmlinux, "-e", words)
        assert done.returncode == 1
        assert "is truncated" in done.stderr.splitlines()[0]
        assert "is truncated" in done.stderr.splitlines()[-1]


COMMANDS = {
    "kvm-vtop swapper_pg_dir init_task+8 0x1000": "vtop swapper_pg_dir init_task+8 0x1000",
    "kvm-vtop 0x08048000 --pid 1": "vtop 0x08048000 --pid 1",
    "kvm-walk --region pkmap": "walk --region pkmap",
    "kvm-walk _text _etext --cpu 0": "walk --from _text --to _etext --cpu 0",
    "kvm-page 0x1000 phys:0x5000": "memmap 0x1000 phys:0x5000",
    "kvm-page": "memmap",
    "kvm-pkmap": "pkmap",
    "kvm-zones": "zones",
    "kvm-layout": "layout",
    "kvm-check --only pkmap --skip pkmap.waiters": "check --only pkmap --skip pkmap.waiters",
}
"""Of drgn's prompt, and of a shell."""
RUN_ALL = """
import contextlib, io, json, sys
from drgn.commands import run_command

def shown(work):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        work()
    return out.getvalue()

answers = {}
for line in json.load(open(sys.argv[1])):
    code = shown(lambda: run_command(prog, f"{line} --drgn"))
    answers[line] = [shown(lambda: run_command(prog, line)), shown(lambda: exec(code, {"prog": prog}))]
print(json.dumps(answers))
"""


def test_commands_show_what_the_shell_does_and_so_does_the_code_that_they_print(
    still: Still, tmp_path: Path
) -> None:
    script, lines = tmp_path / "run_all.py", tmp_path / "lines.json"
    script.write_text(RUN_ALL)
    lines.write_text(json.dumps(list(COMMANDS)))
    answers = look(run_drgn(*still.ways[1], script, lines))
    for line, words in COMMANDS.items():
        told, by_code = answers[line]
        command, *rest = words.split()
        options = ["-c", str(still.core), "-s", str(still.guest.vmlinux)]
        done = subprocess.run(
            [sys.executable, "-m", "kvmtools", command, *options, *rest],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told == by_code, line
        assert told.split() == done.stdout.split(), line


def test_a_prompt_on_the_running_guest(still: Still) -> None:
    with Terminal(*still.ways[0]) as terminal:
        assert "warning" not in terminal.banner
        assert terminal.type('prog["init_task"].comm') == '(char [16])"swapper/0"\n'
        assert "4 KiB page  rw" in terminal.type("%kvm-vtop swapper_pg_dir")
        assert terminal.type("%kvm-pkmap | head -1").startswith("pkmap at ff")
        assert terminal.type("%kvm-zones --drgn").splitlines()[-1] == "print(kernel_zones(prog))"
        assert terminal.type("%kvm-check --only pkmap").splitlines()[-1].startswith("✓ agrees with the model")
        assert terminal.type("%kvm-vtop no_such_symbol").startswith("drgn: error: ")
        assert len(terminal.type("%kvm-walk --region nowhere").splitlines()) == 1
        assert "required: address" in terminal.type("%kvm-vtop")
        assert terminal.type("from kvmtools.drgn import *; len(list(pkmap_slots()))") == (
            "512\n" if still.guest.kernel == "pae" else "1024\n"
        )


HELP_YOURSELF = """
from kvmtools.drgn import *
from drgn.helpers.linux.mm import page_to_pfn

slots = list(pkmap_slots())
assert [slot.count for slot in slots] == [count.value_() for count in prog["pkmap_count"]]
mapped = {page.virtual: page for page in for_each_mapping(prog, region="pkmap")}
in_use = [slot for slot in pkmap_slots(prog, used=True) if slot.page is not None]
assert len(in_use) > 100
for slot in in_use:
    leaf = mapped[slot.address.value_()]
    assert (leaf.entry, leaf.physical >> 12) == (slot.pte, page_to_pfn(slot.page).value_())
    assert slot.page.type_.type_name() == "struct page *" and slot.page.type_.size == 4
runs = list(for_each_mapping_run(prog, region="pkmap"))
assert sum(run.pages for run in runs) == len(mapped)

for zone in prog["contig_page_data"].node_zones:
    if zone.present_pages:
        name = zone.name.string_().decode().upper()
        blocks = list(for_each_free_block(prog, zone=name))
        for order, area in enumerate(zone.free_area):
            assert sum(block.order == order for block in blocks) == area.nr_free.value_(), (name, order)
        for block in blocks[:2]:
            assert page_to_pfn(block.page).value_() == block.pfn and page_in_full(block.page).pfn == block.pfn
            assert page_state(block.page) == "free"
assert [zone.name for zone in kernel_zones()][:2] == ["DMA", "NORMAL"]

page = prog["mem_map"] + 5
assert page_in_full(page).flags == page.flags.value_() and page_in_full(5).pfn == 5
assert page_state(page) == "reserved"
states = page_states()
assert states.states.shape == (states.memmap.length,) and sum(states.total.values()) == states.page_count

mm = find_task(1).mm
argument = translate_address(mm, mm.arg_start)
assert argument.user and read_physical(argument.physical, 5) == b"/init"
assert any(leaf.virtual == argument.virtual & ~0xfff for leaf in for_each_mapping(mm, end=0xc0000000))
assert translate_address(mm, mm.start_code).executable
assert translate_address(prog, mm.start_code).fault
assert translate_address("init_task").virtual == prog["init_task"].address_
assert kernel_layout()["pkmap_base"].agrees
assert check_kernel(only=["pkmap"]).exit_code == 0
assert open_kernel().release.startswith("Linux version")
for work in (lambda: read_physical(1 << 40, 1), lambda: read_physical(prog, 0xfee00000, 4)):
    try:
        work()
    except FaultError as error:
        assert "no RAM" in str(error)
    else:
        raise AssertionError("read what is no RAM")
print("all of it")
"""


def test_helpers_agree_with_what_drgn_reads_by_itself(still: Still, tmp_path: Path) -> None:
    script = tmp_path / "help_yourself.py"
    script.write_text("from drgn.helpers.linux import *\nfrom drgn import FaultError\n" + HELP_YOURSELF)
    for options in still.ways:
        assert look_text(run_drgn(*options, script)) == "all of it"


def test_what_the_kernel_lacks_is_named(still: Still, tmp_path: Path) -> None:
    lesser = tmp_path / "vmlinux"
    subprocess.run(["objcopy", "--strip-symbol", "pkmap_count", still.guest.vmlinux, lesser], check=True)
    code = 'from drgn.commands import run_command; run_command(prog, "kvm-pkmap")'
    done = run_drgn(*still.on_core, "-s", lesser, "-e", code, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "has no symbol pkmap_count" in done.stderr.splitlines()[-1]
    lesser.unlink()


def test_without_symbols_commands_say_so(still: Still) -> None:
    code = 'from drgn.commands import run_command; run_command(prog, "kvm-zones")'
    done = run_drgn("-q", *still.on_core, "-e", code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("was found (give it to drgn with -s PATH)")


def test_a_kernel_that_notes_no_build_id(still: Still) -> None:
    """Before 5.9: the one in its memory is taken, and drgn does not say that it ignores the vmlinux."""
    code = 'print(prog["init_task"].comm.string_().decode())'
    with still.core.open("r+b") as file:
        at = file.read(1 << 16).index(b"\nBUILD-ID=")
        try:
            file.seek(at)
            file.write(b"\nBUILD-XX=")
            file.flush()
            assert look_text(run_drgn(*still.ways[1], "-e", code)) == "swapper/0"
        finally:
            file.seek(at)
            file.write(b"\nBUILD-ID=")
