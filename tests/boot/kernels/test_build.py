"""A build, with a fake make: an entry appears whole or not at all, whatever comes between."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from kernel_workplace import Workplace, rubbish, wait_until

from kvmtools.boot.kernels import reference
from kvmtools.errors import BuildError
from kvmtools.paths import cache_dir


@pytest.mark.parametrize("stripping", ["fails", "meets no object file"])
def test_a_driver_that_cannot_be_stripped_is_said(
    workplace: Workplace, tmp_path: Path, stripping: str
) -> None:
    strip = tmp_path / "bin" / "strip"
    if stripping == "fails":
        strip.write_text("#!/bin/sh\necho 'strip: no space' >&2\nexit 1\n")
        strip.chmod(0o755)
    else:
        (tmp_path / "prebuilt.ko").write_bytes(b"no object file")
    with pytest.raises(BuildError, match=r"driver cannot be stripped: .*strip: "):
        workplace.ensure()
    assert reference.listing() == []
    assert rubbish() == []


def test_a_failed_build_leaves_a_log_and_nothing_else(workplace: Workplace) -> None:
    (workplace.tree / "fail").write_text("mm/highmem.c:1:1: error: no such thing")
    with pytest.raises(BuildError, match=r"pae failed: mm/highmem\.c:1:1: error: no such thing") as caught:
        workplace.ensure()
    log = Path(caught.value.hint.removeprefix("the log is "))
    assert "no such thing" in log.read_text()
    assert reference.listing() == []
    assert rubbish() == []


def test_an_option_that_does_not_stick_is_named(workplace: Workplace) -> None:
    (workplace.tree / "refuse").write_text("CONFIG_COMPACTION CONFIG_X86_PAE")
    with pytest.raises(BuildError) as caught:
        workplace.ensure()
    for option in ("CONFIG_COMPACTION=y (became absent)", "CONFIG_X86_PAE=y (became absent)"):
        assert option in caught.value.message
    assert reference.find("pae", workplace.tree) is None


def test_of_two_builders_one_waits_and_both_get_the_same(workplace: Workplace) -> None:
    slow = workplace.tree / "slow"
    slow.write_text("")
    fork = multiprocessing.get_context("fork")
    first = fork.Process(target=workplace.ensure)
    first.start()
    wait_until(lambda: any("bzImage" in call for call in workplace.calls()))
    lines = fork.SimpleQueue()
    second = fork.Process(target=lambda: reference.ensure("pae", workplace.tree, progress=lines.put))
    second.start()
    assert lines.get() == "another kvmtools is building pae: waiting for it"
    slow.unlink()
    first.join()
    second.join()
    lines.close()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert sum("bzImage" in call for call in workplace.calls()) == 1
    assert len(reference.listing()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing_behind(workplace: Workplace, number: signal.Signals) -> None:
    (workplace.tree / "slow").write_text("")
    builder = multiprocessing.get_context("fork").Process(target=quietly, args=(workplace,))
    builder.start()
    wait_until(lambda: any("bzImage" in call for call in workplace.calls()))
    assert builder.pid is not None
    os.kill(builder.pid, number)
    builder.join()
    assert builder.exitcode != 0
    assert rubbish() == []
    assert reference.listing() == []
    (workplace.tree / "slow").unlink()
    # Its make is gone too, else the lock would still be held and this would wait.
    workplace.ensure()
    assert not any("waiting" in line for line in workplace.progress)


def quietly(workplace: Workplace) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        workplace.ensure()
    except KeyboardInterrupt:
        sys.exit(130)


def test_what_a_killed_build_left_is_swept_by_the_next(workplace: Workplace) -> None:
    left = cache_dir() / "kernels/.building-pae/entry"
    left.mkdir(parents=True)
    (left / "vmlinux").write_text("half")
    workplace.ensure()
    assert rubbish() == []


def test_a_full_disk_is_said_before_anything_starts(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=5 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BuildError, match="5 MiB free"):
        workplace.ensure()
    assert workplace.calls() == []
