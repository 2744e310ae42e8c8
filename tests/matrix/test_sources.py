"""Where a kernel's source comes from, with an apt made of stubs: private, exact, kept, and said if it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmtools.paths import data_dir
from matrix import sources
from matrix.sources import NoSource, obtain

APT_GET = r"""
echo "apt-get $*" >> "$FAKE/calls"
case $1 in
    indextargets)
        while IFS="|" read -r kind label uri; do
            echo "$3" | sed "s#\$(CREATED_BY)#$kind#; s#\$(LABEL)#$label#; s#\$(REPO_URI)#$uri#"
        done < "$FAKE/targets" ;;
    update) cat "$(dirname "$APT_CONFIG")/sources.list" > "$FAKE/asked"; cat "$FAKE/complaint" >&2; exit 100 ;;
    download) touch package.deb ;;
esac
"""
APT_CACHE = """
grep -q 'sourcelist "'"$(dirname "$APT_CONFIG")" "$APT_CONFIG" || exit 9
echo "$2:"
echo "  Candidate: $(cat "$FAKE/candidate")"
"""
DPKG_DEB = """
mkdir -p "$3/usr/src"
echo tarball > "$3/usr/src/linux-source-6.12.tar.xz"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the stubs know: all is well."""
    (tmp_path / "bin").mkdir()
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE), ("dpkg-deb", DPKG_DEB)):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh{text}")
        path.chmod(0o755)
    targets = [
        "Sources|Debian|x:/sources/",
        "Packages|Debian|x:/debian/",
        "Packages|Some Body's Packages|x:/others/",
        "Packages||x:/nameless/",
        "Packages|Debian-Security|x:/security/",
    ]
    (tmp_path / "targets").write_text("\n".join(targets) + "\n")
    (tmp_path / "candidate").write_text("6.12.3-1")
    (tmp_path / "complaint").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def calls(fake: Path) -> list[str]:
    return (fake / "calls").read_text().splitlines()


def test_a_source_is_fetched_once_by_its_exact_name_and_version(fake: Path) -> None:
    said: list[str] = []
    found = obtain("6.12", said.append)
    assert (found.name, found.read_text()) == ("linux-source-6.12.tar.xz", "tarball\n")
    assert said == ["linux-source-6.12: asking apt for trixie, trixie-security"]
    assert calls(fake)[-1] == "apt-get download -qq linux-source-6.12=6.12.3-1"
    # The archives are the machine's own, under the names of the releases that have this kernel.
    lines = (fake / "asked").read_text().splitlines()
    assert [line.split()[-3:] for line in lines] == [
        ["x:/debian/", "trixie", "main"],
        ["x:/security/", "trixie-security", "main"],
    ]
    before = calls(fake)
    assert obtain("6.12", said.append) == found
    assert (calls(fake), len(said)) == (before, 1)
    assert [path.name for path in found.parent.iterdir()] == [found.name]


def test_a_machine_without_the_security_archive_asks_the_other_alone(fake: Path) -> None:
    (fake / "targets").write_text("Packages|Debian|x:/debian/\n")
    obtain("6.12", print)
    assert len((fake / "asked").read_text().splitlines()) == 1


def test_a_source_that_is_gone_is_not_taken_from_a_name_like_it(fake: Path) -> None:
    (fake / "candidate").write_text("(none)")
    (fake / "complaint").write_text("E: no such release\nmore\n")
    with pytest.raises(
        NoSource, match=r"^apt offers no linux-source-7\.2 \(any more\): E: no such release; /"
    ) as caught:
        obtain("7.2", print)
    kept = fake / "cache/kvmtools/tarballs"
    assert f"{kept}/linux-source-7.2.tar.xz would be used" in str(caught.value)
    assert list(kept.iterdir()) == []
    assert not any("download" in call for call in calls(fake))


def test_without_an_archive_of_debians_there_is_a_way_out(fake: Path) -> None:
    (fake / "targets").write_text("Packages|Ubuntu|x:/ubuntu/\n")
    with pytest.raises(NoSource, match="knows no archive of Debian's"):
        obtain("6.12", print)


def test_without_apt_there_is_a_way_out(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake))
    with pytest.raises(NoSource, match=r"apt-get.*; .*linux-source-6\.12\.tar\.xz would be used"):
        obtain("6.12", print)


def test_every_kernel_that_the_readme_claims_has_a_release() -> None:
    *most, last = sources.SUITES
    readme = " ".join((data_dir().parent / "README.md").read_text().split())
    assert f"Its rows {', '.join(most)} and {last} were held against booted kernels" in readme
