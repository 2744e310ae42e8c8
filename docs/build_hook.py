"""What hatchling asks while it builds a wheel: the man page goes with it, written anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPage(BuildHookInterface):  # type: ignore[type-arg]
    """Puts ``kvmtools.1`` under the environment's ``share/man``, where man(1) looks beside ``bin``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path[:0] = [self.root, str(Path(self.root) / "docs")]
        try:
            from man_page import man_page
        finally:
            del sys.path[:2]
        page = Path(self.root) / "build" / "kvmtools.1"
        page.parent.mkdir(exist_ok=True)
        page.write_text(man_page(), encoding="utf-8")
        build_data["shared_data"][str(page)] = "share/man/man1/kvmtools.1"
