"""``kvm ...`` inside a user's own gdb.

This folder runs in the Python that is built into gdb: it imports the standard library, gdb and itself, and nothing else
of ours.  What it is asked, it asks our own interpreter, a child process (:mod:`.companion`).  ``kvmtools gdb-script``
writes the few lines that a user sources; they load this folder as a package and call :func:`load`.
"""

from __future__ import annotations


def load(interpreter: str) -> None:
    """Give this gdb the ``kvm`` commands and functions.

    :param interpreter: the Python that kvmtools is installed for
    """
    from .commands import define_commands
    from .companion import Companion
    from .functions import define_functions

    companion = Companion(interpreter)
    define_commands(companion)
    define_functions(companion)
