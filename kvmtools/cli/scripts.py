"""Scripts that a person wrote: the text of a file, or of stdin."""

from __future__ import annotations

import sys

from kvmtools.errors import UsageError


def script_text(path: str | None) -> str:
    """The text of a script; ``None`` and ``-`` mean stdin.

    :raises UsageError: if it cannot be read, or is no text
    """
    name = "stdin" if path in (None, "-") else f"the script '{path}'"
    try:
        if path is not None and path != "-":
            with open(path, encoding="utf-8") as file:
                return file.read()
        if sys.stdin is None:
            raise UsageError("stdin is closed", hint="name a script")
        return sys.stdin.buffer.read().decode()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not text") from None
