"""gdb tells where things are declared, of a small program with the shape of a kernel's source."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kvmtools.observe.symbols import declarations as module
from kvmtools.observe.symbols.declarations import declarations
from kvmtools.observe.symbols.vmlinux import Vmlinux
from kvmtools.observe.symbols.vmlinux_file import VmlinuxFile

NAMES = ("pkmap_count", "struct page", "kmap_high", "high_memory", "no_such_thing", "struct nothing")

SOURCE = {
    "include/linux/mm_types.h": "\n\nstruct page {\n  int flags;\n};\n",
    "init/main.c": "int start_kernel(void) { return 0; }\n",
    "mm/highmem.c": (
        '#include "../include/linux/mm_types.h"\n'
        "struct page *mem_map;\n"
        "static int pkmap_count[512];\n"
        "int kmap_high(int x)\n{\n  return pkmap_count[x];\n}\n"
        '#line 7 "/usr/elsewhere/memory.c"\n'
        "void *high_memory;\n"
    ),
}
TOLD = {
    "pkmap_count": "mm/highmem.c:3",
    "struct page": "include/linux/mm_types.h:3",
    "kmap_high": "mm/highmem.c:4",
    "high_memory": None,
    "no_such_thing": None,
    "struct nothing": None,
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a source with 'blanks'")
    for name, text in SOURCE.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    sources = [str(root / name) for name in SOURCE if name.endswith(".c")]
    command = ["gcc", "-g", "-nostdlib", "-Wl,-e,start_kernel", "-o", str(root / "vmlinux"), *sources]
    subprocess.run(command, check=True, capture_output=True)
    return root / "vmlinux"


def test_files_are_told_from_the_root_of_the_source(program: Path) -> None:
    assert declarations(program, NAMES) == TOLD


def test_what_gdb_cannot_read_is_not_told(tmp_path: Path) -> None:
    nothing = tmp_path / "vmlinux"
    nothing.write_bytes(b"no ELF file")
    assert declarations(nothing, NAMES) is None


def test_without_gdb_nothing_is_told(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert declarations(program, NAMES) is None


def test_a_gdb_that_hangs_or_fails_tells_nothing(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    for text in ("#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\necho null\n", "#!/bin/sh\nexit 1\n"):
        gdb = tmp_path / "gdb"
        gdb.write_text(text)
        gdb.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        assert declarations(program, NAMES) is None


def test_they_are_asked_once(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = VmlinuxFile(program, program, "0" * 40, 0, has_image=True, has_dwarf=True)
    vmlinux = Vmlinux(file.build_id, {}, file)
    told = {name: place for name, place in TOLD.items() if place is not None}
    assert vmlinux.declarations(NAMES) == told
    monkeypatch.setattr(shutil, "which", lambda _name: pytest.fail("asked again"))
    assert vmlinux.declarations(NAMES) == told


def test_recorded_facts_tell_what_they_hold() -> None:
    recorded = Vmlinux("0" * 40, {"declaration pkmap_count": "mm/highmem.c:130", "declaration mem_map": None})
    assert recorded.declarations(["pkmap_count", "mem_map", "struct page"]) == {
        "pkmap_count": "mm/highmem.c:130"
    }
