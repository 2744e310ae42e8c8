"""Whether a ``spinlock_t`` is taken.

Its first member is the lock word, what follows is there for debugging.  On SMP the word is a ``struct qspinlock``,
zero when nobody holds the lock or waits for it; on one CPU there is a word only with debugging, and it is 1 when the
lock is free.  Source: include/linux/spinlock_types_raw.h, spinlock_types_up.h, asm-generic/qspinlock_types.h, 6.1.
"""

from __future__ import annotations

from kvmtools.observe.symbols.vmlinux import Vmlinux

_LOCK_WORD = 4


def taken(vmlinux: Vmlinux, lock: bytes) -> bool | None:
    """Whether somebody holds the lock; ``None`` if it is empty: on one CPU, without debugging.

    :param lock: the bytes of the whole ``spinlock_t``
    """
    if not lock:
        return None
    smp = vmlinux.smp
    return any(lock[:_LOCK_WORD]) == smp
