"""Debian's kernel sources, each from the release that has it: fetched and verified by apt, kept in our cache.

The machine's own apt says where the archive is, and nothing of its configuration, lists and packages is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kvmtools.paths import cache_dir

SUITES = {
    "5.10": ("bullseye", "bullseye-security"),
    "6.1": ("bookworm", "bookworm-security"),
    "6.12": ("trixie", "trixie-security"),
    "7.2": ("sid",),
}
"""The kernels that we claim (rows of the era table that were held against booted ones), and who has their source."""
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CONFIGURATION = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
APT::Sandbox::User "";
"""


class NoSource(Exception):
    """The source of a kernel cannot be had; the text says why and what to do."""


def obtain(version: str, progress: Callable[[str], None]) -> Path:
    """The tarball of ``linux-source-VERSION``, from the cache or from Debian's archive.

    :raises NoSource: if apt does not offer it
    """
    kept = cache_dir() / "tarballs"
    name = f"linux-source-{version}"
    if found := sorted(kept.glob(f"{name}.tar.*")):
        return found[0]
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix=f".{name}-") as scratch:
        folder = Path(scratch)
        try:
            progress(f"{name}: asking apt for {', '.join(SUITES[version])}")
            unpacked = _tarball(_download(name, _archive_lines(version), folder), folder)
        except (OSError, NoSource) as error:
            raise NoSource(f"{error}; {kept}/{name}.tar.xz would be used if it were there") from error
        return unpacked.rename(kept / unpacked.name)


def _archive_lines(version: str) -> list[str]:
    """Lines for ``sources.list``: where the machine's apt finds Debian, under the names of other releases."""
    form = "$(CREATED_BY) $(REPO_URI) $(LABEL)"  # a label may have blanks, or be none
    lines = _run(["apt-get", "indextargets", "--format", form]).splitlines()
    sites = {label: uri for kind, uri, label in (line.split(" ", 2) for line in lines) if kind == "Packages"}
    if "Debian" not in sites:
        raise NoSource(
            "this machine's apt knows no archive of Debian's (apt-get update, if its lists are missing)"
        )
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    sites_of_suites = [
        (suite, sites.get("Debian-Security" if suite.endswith("-security") else "Debian"))
        for suite in SUITES[version]
    ]
    return [f"deb {signed}{site} {suite} main" for suite, site in sites_of_suites if site]


def _download(name: str, lines: list[str], folder: Path) -> Path:
    (folder / "sources.list").write_text("\n".join(lines) + "\n")
    (folder / "status").touch()
    for part in ("state/lists/partial", "cache/archives/partial", "none"):
        (folder / part).mkdir(parents=True)
    (folder / "apt.conf").write_text(_CONFIGURATION.format(folder=folder))
    private = {"APT_CONFIG": str(folder / "apt.conf")}
    said = _try(["apt-get", "update", "-qq"], private).stderr.partition("\n")[0]
    # Asked for by name and version: a name that apt does not have would be taken for a pattern.
    policy = _run(["apt-cache", "policy", name], private)
    candidate = re.search(r"^  Candidate: (\d\S*)$", policy, re.MULTILINE)
    if candidate is None:
        raise NoSource(f"apt offers no {name} (any more){said and ': '}{said}")
    _run(["apt-get", "download", "-qq", f"{name}={candidate[1]}"], private, folder)
    return next(folder.glob("*.deb"))


def _tarball(package: Path, folder: Path) -> Path:
    _run(["dpkg-deb", "--extract", str(package), str(folder / "package")])
    return next((folder / "package/usr/src").glob("linux-source-*.tar.*"))


def _run(command: list[str], variables: dict[str, str] | None = None, folder: Path | None = None) -> str:
    done = _try(command, variables, folder)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NoSource(f"{' '.join(command[:2])} failed: {said[0]}")
    return done.stdout


def _try(
    command: list[str], variables: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "LC_ALL": "C", **(variables or {})}
    return subprocess.run(command, env=told, cwd=folder, capture_output=True, text=True)
