"""A make for tests of the cache: it obeys the few targets that we ask for, in milliseconds.

Its moods come from the tree it is pointed at: ``refuse`` holds options to drop, ``fail`` the line to end with,
``slow`` makes it wait until the file is gone.  ``$FAKE_MAKE`` is a folder: it logs there what it was asked for, and
takes from there the object file that passes for our driver.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

RELEASE = "6.1.0-fake"


def main(words: list[str]) -> int:
    shared = Path(os.environ["FAKE_MAKE"])
    tree = Path(words[words.index("-C") + 1])
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    output = Path(settings["O"])
    targets = {word for word in words if "=" not in word and not word.startswith("-")} - {str(tree)}
    with open(shared / "calls", "a") as calls:
        print(*words, file=calls)
    if "tinyconfig" in targets:
        (output / ".config").write_text("CONFIG_X86=y\n")
    if "olddefconfig" in targets:
        refused = (tree / "refuse").read_text().split() if (tree / "refuse").exists() else []
        lines = (output / ".config").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in refused]
        (output / ".config").write_text("\n".join(kept) + "\n")
    if "M" in settings:
        # What modules are built against: a real make says that a symbol is unknown, or that there is no configuration.
        if not (output / "Module.symvers").exists() or not (output / "include/config").is_dir():
            return 2
        if "#error" in (Path(settings["M"]) / "pages.c").read_text():
            print("pages.c:1:2: error: #error", flush=True)
            return 2
        # Our caller strips it: it must be an object file.
        (Path(settings["M"]) / "kvmtools.ko").write_bytes((shared / "prebuilt.ko").read_bytes())
    elif "bzImage" in targets:
        while (tree / "slow").exists():
            time.sleep(0.01)
        print("  CC      mm/highmem.o", flush=True)
        if (tree / "fail").exists():
            print((tree / "fail").read_text(), flush=True)
            return 2
        for name in ("arch/x86/boot/bzImage", "vmlinux", "include/config/kernel.release", "Module.symvers"):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text(RELEASE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
