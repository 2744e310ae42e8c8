"""What may be repeated of a guest's text, or a person's: printable characters; in messages, no more than people read.

A guest names its processes, modules and memory, and writes its command line: none of it is to speak to the terminal, to
begin a line of its own, or to end an XML document.  Observers leave text as it is, renderers pass it through
:func:`printable`; JSON has escapes of its own and shows all.
"""

from __future__ import annotations

from kvmtools.errors import KvmtoolsError

LONGEST = 500
"""Characters of a message; in the middle of a longer one something is left out."""
_LEFT_OUT = " ... "


def printable(text: str) -> str:
    """``text`` for a line of a terminal or an XML document: what is no printable character is escaped as in Python.

    No control character is printable, no line break, nothing that turns the direction of writing, no lone surrogate.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(text: str) -> str:
    """``text``, printable, of :data:`LONGEST` characters at most."""
    return _cut(printable(_cut(text)))


def told(said: str | KvmtoolsError) -> str:
    """What is said, or what an error says, in one line; its hint names the way out, and stays whole."""
    message, hint = (said, "") if isinstance(said, str) else (said.message, said.hint)
    line = brief(_joined(message))
    return f"{line} ({printable(_joined(hint))})" if hint else line


def _joined(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - len(_LEFT_OUT)) // 2
    return text[:half] + _LEFT_OUT + text[-half:]
