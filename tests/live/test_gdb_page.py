"""docs/gdb.md, typed at a terminal as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from console_blocks import environment, fits
from user_gdb import PROMPT, QUICKLY, Terminal

from kvmtools.boot.guests.agent import Agent
from kvmtools.boot.guests.record import Guest
from kvmtools.paths import cache_dir

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gdb.md"


def said(page: str) -> Iterator[tuple[str, str]]:
    """Every command of the session, the shell's first, and what is shown for it."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^(?:\$|\(gdb\)) ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


def test_the_session_of_the_page(pae_guest: Guest, tmp_path: Path) -> None:
    assert pae_guest.vmlinux is not None
    (tmp_path / "vmlinux").symlink_to(pae_guest.vmlinux)
    (tmp_path / "gdb.sock").symlink_to(pae_guest.gdb)
    with Agent(pae_guest.agent) as agent:
        agent.driver("free")
        agent.quiesce()
    (start, shown), *rest = said(PAGE.read_text(encoding="utf-8"))
    assert len(rest) > 12
    (tmp_path / ".gdbinit").write_text("".join(f"{line}\n" for line in QUICKLY))
    mine = environment(tmp_path, HOME=str(tmp_path), XDG_CACHE_HOME=str(cache_dir().parent))
    gdb = Terminal(["bash", "-c", f"exec {start}"], tmp_path, mine)
    try:
        printed = gdb.until(PROMPT).removesuffix(PROMPT)
        assert fits(shown.replace("/usr/src/linux/vmlinux", str(pae_guest.vmlinux)), printed), printed
        gdb.say("set pagination off")
        for command, shown in rest:
            printed = gdb.say(command)
            assert fits(shown, printed), f"(gdb) {command}\nshown:\n{shown}\nprinted:\n{printed}"
        gdb.say("detach")
    finally:
        gdb.close()
