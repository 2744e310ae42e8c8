"""What names a thing of the cache: a digest of everything that it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def digest(*parts: str) -> str:
    """Twelve hexadecimal digits that change if one of the parts does."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def contents(files: Iterable[Path]) -> list[str]:
    """Name and text of each file, as parts of a digest."""
    return [f"{path.name}\n{path.read_text()}" for path in files]
