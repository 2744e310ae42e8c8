"""``python -m kvmtools.model``: the model's own commands, the same as ``kvmtools model``.

The door of the room, not a part of it: only here does the model know the command line.
"""

from __future__ import annotations

from kvmtools.cli import main

if __name__ == "__main__":
    main("model")
