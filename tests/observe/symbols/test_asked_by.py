"""Who asks a vmlinux: what was found by other code, or by another drgn, is asked again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from kvmtools.observe.symbols import facts_cache


def test_who_asks_is_the_code_and_its_drgn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts_cache.asked_by()
    assert before == facts_cache.asked_by()
    code = Path(facts_cache.__file__).parent
    library = tmp_path / "_drgn.so"
    library.write_bytes(b"a library")
    monkeypatch.setattr(facts_cache, "find_spec", lambda _: SimpleNamespace(origin=str(library)))
    (tmp_path / "drgn-0.3.0.dist-info").mkdir()
    first = facts_cache.asked_by()
    assert first != before
    (tmp_path / "drgn-0.3.0.dist-info").rename(tmp_path / "drgn-0.4.0.dist-info")
    another_version = facts_cache.asked_by()
    assert another_version != first
    os.utime(library, ns=(0, 1))
    another_build = facts_cache.asked_by()
    assert another_build != another_version
    library.write_bytes(b"a library with patches")
    os.utime(library, ns=(0, 1))
    newer = facts_cache.asked_by()
    assert newer != another_build
    copy = tmp_path / "symbols"
    shutil.copytree(code, copy)
    monkeypatch.setattr(facts_cache, "__file__", str(copy / "facts_cache.py"))
    assert facts_cache.asked_by() == newer
    with (copy / "debuginfo.py").open("a") as file:
        file.write("# cleverer")
    assert facts_cache.asked_by() != newer
