"""``qemu/programs.sh`` on a machine made of stubs: what it asks apt for, what it says, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvmtools.paths import data_dir

SCRIPT = data_dir() / "programs.sh"
USED_BY_THE_SCRIPT = ("sh", "grep", "sort", "sed", "tr", "fold", "env", "cat")
LOOKED_FOR = ("qemu-system-i386", "gdb", "gcc", "make", "awk", "flex", "bison", "bc", "xz", "python3")
TARBALL = "usr/src/linux-source-6.12.tar.xz"
FILES = ("usr/include/stdio.h", "usr/lib/python3.13/ensurepip", TARBALL)

APT_CACHE = """
case $1 in
    pkgnames) shift; cat "$FAKE/names" | grep "^$1" ;;
    policy)
        echo "$2:"
        echo "  Installed: (none)"
        if grep -qx "$2" "$FAKE/offered"; then echo "  Candidate: 1.2-3"; else echo "  Candidate: (none)"; fi ;;
esac
"""
# What is installed is what is named, and one thing more.
APT_GET = """
echo "apt-get $*" >> "$FAKE/calls"
case $* in
    update*) [ ! -e "$FAKE/after-update" ] || cat "$FAKE/after-update" | tee -a "$FAKE/names" >> "$FAKE/offered" ;;
    *--simulate*)
        for word; do case $word in -*|install|apt-get) ;; *) echo "Inst $word (1.2-3 Debian:13 [amd64])" ;; esac; done
        echo "Inst libneeded (7-1 Debian:13 [amd64])"
        echo "Conf libneeded (7-1 Debian:13 [amd64])" ;;
esac
"""


@dataclass
class Stubs:
    """A folder of programs, a root of files, and what the fake apt knows and was told."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, text: str = "") -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def knows(self, *names: str, offered: tuple[str, ...] | None = None) -> None:
        """apt has heard of ``names`` (in a dependency, say), and can install those that are ``offered``."""
        for file, lines in (("names", names), ("offered", names if offered is None else offered)):
            (self.root / file).write_text("".join(f"{line}\n" for line in lines))

    def without(self, *things: str) -> None:
        for thing in things:
            (self.root / ("bin" if "/" not in thing else "") / thing).unlink()

    def run(self, code: int) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.root / "bin"),
            "FAKE": str(self.root),
            "KVMTOOLS_TEST_ROOT": str(self.root),
            **self.variables,
        }
        done = subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, text=True)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def calls(self) -> list[str]:
        """apt-get's, in order."""
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    """A user's machine with everything there, sudo and apt included."""
    made = Stubs(tmp_path)
    (tmp_path / "bin").mkdir()
    for name in USED_BY_THE_SCRIPT:
        found = shutil.which(name)
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    for name in LOOKED_FOR:
        made.program(name)
    for path in map(tmp_path.joinpath, FILES):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, text in (("apt-cache", APT_CACHE), ("apt-get", APT_GET)):
        made.program(name, f'PATH="$PATH:{os.defpath}"\n{text}')
    made.program("id", "echo 1000")
    made.program("sudo", 'echo sudo >> "$FAKE/calls"; exec "$@"')
    made.knows("linux-source-6.12")
    return made


def installed(stubs: Stubs) -> list[str]:
    """The packages of the one real ``apt-get install``."""
    real = [call.split() for call in stubs.calls() if " install " in call and "--simulate" not in call]
    assert len(real) == 1, stubs.calls()
    return [word for word in real[0][2:] if not word.startswith("-")]


def test_where_all_is_there_nothing_is_said_or_done(stubs: Stubs) -> None:
    done = stubs.run(0)
    assert (done.stdout, done.stderr, stubs.calls()) == ("", "", [])


@pytest.mark.parametrize(
    ("known", "offered", "taken"),
    [
        # Debian 13: a pattern 6.1 would find 6.12.
        (("linux-source-6.1", "linux-source-6.12"), ("linux-source-6.12",), "linux-source-6.12"),
        # The newest by number, not by letter, and of those that can be had.
        (("linux-source-6.9", "linux-source-6.12", "linux-source-6.8"), None, "linux-source-6.12"),
        (("linux-source-6.1", "linux-source-9.1"), ("linux-source-6.1",), "linux-source-6.1"),
        # Neither the metapackage nor another package of such a name; Ubuntu's versions have three numbers.
        (("linux-source", "linux-source-6.8.0", "linux-source-6.8.0-doc"), None, "linux-source-6.8.0"),
    ],
)
def test_the_newest_source_that_apt_really_offers_is_asked_for_exactly(
    stubs: Stubs, known: tuple[str, ...], offered: tuple[str, ...] | None, taken: str
) -> None:
    stubs.without(TARBALL)
    stubs.knows(*known, offered=offered)
    stubs.run(0)
    assert installed(stubs) == [taken]


def test_apts_lists_may_come_with_the_update(stubs: Stubs) -> None:
    """A new container's apt has none."""
    stubs.without(TARBALL)
    stubs.knows()
    (stubs.root / "after-update").write_text("linux-source-6.12\n")
    stubs.run(0)
    assert installed(stubs) == ["linux-source-6.12"]


def test_without_an_offered_source_one_line_says_the_way_out(stubs: Stubs) -> None:
    stubs.without(TARBALL, "gdb")
    stubs.knows("linux-source-6.1", offered=())
    done = stubs.run(3)
    assert done.stderr.splitlines() == [
        "apt offers no linux-source-VERSION: name a Linux tree or tarball, make run KVMTOOLS_SOURCE=PATH"
    ]
    assert [call for call in stubs.calls() if "install" in call] == []


def test_a_source_of_ones_own_needs_no_package(stubs: Stubs) -> None:
    stubs.without(TARBALL)
    stubs.knows()
    stubs.variables["KVMTOOLS_SOURCE"] = "/somewhere/linux"
    stubs.run(0)
    assert stubs.calls() == []


@pytest.mark.parametrize("name", ["linux-source-5.10.tar.bz2", "linux-source-6.8.0.tar.bz2"])
def test_any_installed_source_will_do(stubs: Stubs, name: str) -> None:
    stubs.without(TARBALL)
    (stubs.root / "usr/src" / name).touch()
    stubs.run(0)
    assert stubs.calls() == []


def test_what_will_be_installed_is_said_before_it_is(stubs: Stubs) -> None:
    stubs.without("gdb", "bc", TARBALL)
    # apt-get itself says nothing, so all that is printed stands between the calls.
    said = stubs.run(0).stdout
    lines = said.splitlines()
    assert lines[:2] == [
        "make: programs are missing: sudo apt-get update",
        "make: installing what is missing:",
    ]
    assert "  gdb: reads registers and writes memory through the guest (Debian: gdb)" in lines
    assert "make: sudo apt-get install" in said
    assert lines[-1] == "make: with what these need, that is: bc gdb libneeded linux-source-6.12 "
    assert installed(stubs) == ["gdb", "bc", "linux-source-6.12"]
    # Asked first, done last; and nothing is removed for it.
    kinds = ["update", "--simulate", "install"]
    calls = [call for call in stubs.calls() if call != "sudo"]
    assert [next(kind for kind in kinds if kind in call) for call in calls] == kinds
    assert "--no-remove" in calls[-1]


@pytest.mark.parametrize("lists", [True, False])
def test_no_install_only_names_what_is_missing(stubs: Stubs, lists: bool) -> None:
    stubs.without("gdb", "usr/include/stdio.h", TARBALL)
    if not lists:
        stubs.knows()
    stubs.variables["KVMTOOLS_NO_INSTALL"] = "1"
    done = stubs.run(3)
    assert stubs.calls() == []
    package = "linux-source-6.12" if lists else "linux-source-VERSION"
    assert done.stderr.splitlines() == [
        "KVMTOOLS_NO_INSTALL is set: nothing is installed, and this is missing:",
        "  gdb: reads registers and writes memory through the guest (Debian: gdb)",
        "  /usr/include/stdio.h: builds the programs that the kernel build runs (Debian: libc6-dev)",
        f"  /usr/src/linux-source-*.tar.*: is the source of the two guest kernels (Debian: {package})",
    ]


def test_no_install_is_content_where_nothing_is_missing(stubs: Stubs) -> None:
    stubs.variables["KVMTOOLS_NO_INSTALL"] = "1"
    stubs.run(0)


@pytest.mark.parametrize("absent", ["apt-get", "sudo"])
def test_where_nothing_can_be_installed_everything_missing_is_named(stubs: Stubs, absent: str) -> None:
    stubs.without(absent, "gdb", TARBALL)
    done = stubs.run(3)
    assert "programs are missing, and " in done.stderr
    assert "  gdb: " in done.stderr
    assert "linux-source-*.tar.*: is the source" in done.stderr
    assert stubs.calls() == []


def test_root_needs_no_sudo(stubs: Stubs) -> None:
    stubs.without("sudo", "gdb")
    stubs.program("id", "echo 0")
    assert "make: apt-get install" in stubs.run(0).stdout
    assert installed(stubs) == ["gdb"]
