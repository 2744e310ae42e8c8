"""kvmtools(1): every command with every option, in roff that says nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvmtools

WRITER = Path(__file__).resolve().parents[2] / "docs" / "man_page.py"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a wheel's build has it, where nothing but click is installed."""
    path = tmp_path_factory.mktemp("man") / "kvmtools.1"
    code = """
import runpy, sys
for absent in ("numpy", "drgn", "pygdbmi", "qemu", "jinja2"):
    sys.modules[absent] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    subprocess.run([sys.executable, "-c", code, str(WRITER), str(path)], check=True)
    return path


def options_of(*command: str) -> set[str]:
    """As ``--help`` has them."""
    words = [sys.executable, "-m", "kvmtools", *command, "--help"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env={"COLUMNS": "200"}).stdout
    return set(re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", said, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize(
    "command",
    [("check",), ("guest", "start"), ("guest", "driver"), ("model", "layout"), ("vtop",), ("report",)],
)
def test_every_option_of_a_command_is_there(page: Path, command: tuple[str, ...]) -> None:
    text = page.read_text(encoding="utf-8").replace(r"\-", "-")
    sections = dict(
        re.findall(r"^\.SS (kvmtools(?: [a-z]+)+)(.*?)(?=^\.S[SH])", text, re.MULTILINE | re.DOTALL)
    )
    found = set(
        re.findall(r"^\\fB(?:-\w, )?(--[a-z0-9-]+)", sections[" ".join(("kvmtools", *command))], re.MULTILINE)
    )
    assert found == options_of(*command)


def test_it_is_of_this_version_and_has_every_part(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f'.TH KVMTOOLS 1 "" "kvmtools {kvmtools.__version__}"')
    parts = re.findall(r"^\.SH (.+)$", text, re.MULTILINE)
    assert parts == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"),
    ]
    assert "\b" not in text


def test_what_the_environment_says_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8").partition(".SH ENVIRONMENT")[2]
    asked = {"LIBVIRT_DEFAULT_URI"}  # by libvirt
    for path in (WRITER.parents[1] / "kvmtools").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for name in re.findall(r"environ\.get\(([\w\"]+)", source):
            asked |= (
                {name.strip('"')} if '"' in name else set(re.findall(rf'^{name} = "(\w+)"', source, re.M))
            )
    asked -= {"TMPDIR", "TERM", "PYTEST_XDIST_WORKER"}  # what they say is others' business
    assert asked >= {"KVMTOOLS_DEBUG", "DEBUGINFOD_URLS", "KVMTOOLS_SOURCE"}
    assert [name for name in sorted(asked) if name not in text] == []


def test_the_changelog_is_of_this_version() -> None:
    changelog = (WRITER.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## ([\d.]+)", changelog, re.MULTILINE)
    assert versions[0] == kvmtools.__version__


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_has_nothing_to_say_against_it(page: Path) -> None:
    words = ["groff", "-K", "utf8", "-man", "-Tutf8", "-ww", str(page)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--kvm" not in done.stdout
    assert "kvmtools guest start" in re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
