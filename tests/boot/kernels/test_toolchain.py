"""The programs that a build takes, and what they are told by the environment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kernel_workplace import Workplace

from kvmtools.boot.kernels import toolchain
from kvmtools.errors import BuildError


def test_missing_programs_are_named_together_with_their_purpose(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("gcc", "ld", "as", "strip", "gzip"):
        found = shutil.which(name)
        assert found
        (bare / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(BuildError) as caught:
        workplace.ensure()
    assert "flex (makes the configuration's scanner), bison (" in caught.value.message
    assert "gcc" not in caught.value.message
    assert "apt install" in caught.value.hint
    assert workplace.calls() == []


def test_the_callers_environment_does_not_steer_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARCH", "MAKEFLAGS", "KBUILD_OUTPUT", "CROSS_COMPILE"):
        monkeypatch.setenv(name, "mine")
    environment = toolchain.environment()
    assert "mine" not in environment.values()
    assert environment["LC_ALL"] == "C"
