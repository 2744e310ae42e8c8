"""``python -m kvmtools.model``: the model's own commands, the same as ``kvmtools model``.

Not a part of the model: only here does it know the command line.
"""

from __future__ import annotations

from kvmtools.cli import main

if __name__ == "__main__":
    main("model")
