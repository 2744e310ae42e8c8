"""The verdict on a guest, and the rules behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmtools.api.session import Session
    from kvmtools.findings import Result, RuleEntry
    from kvmtools.observe.observed import Observed


def rules(only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[RuleEntry, ...]:
    """What :meth:`OpenKernel.check` holds to be true, in the order in which it is looked at.

    :param only: ids of rules, or groups of them (the part before the dot); all if empty
    :param skip: those to leave out
    :raises UsageError: if a word names no rule, or none is left
    """
    from kvmtools.compare.engine import chosen

    return chosen(only, skip)


def declared(session: Session) -> dict[str, str]:
    """Where in the kernel's source what the rules are about is declared, as far as that can be told: the guest is not
    asked, but the vmlinux, which may take gdb seconds the first time.
    """
    return session.kernel.vmlinux.declarations(sorted({rule.about for rule in rules()}))


def verdict(
    session: Session,
    only: Sequence[str],
    skip: Sequence[str],
    samples: int,
    *,
    observe: Callable[[], Observed] | None = None,
) -> Result:
    """One verdict on a guest: observed again while what was found may be a change under way.

    :param observe: instead of the session's own; the last observation is the one that counts
    """
    from kvmtools.compare.settle import settle

    rules(only, skip)  # before the guest is bothered
    asked = len(session.pauses)
    result = settle(observe or session.observe, only=only, skip=skip, runs=session.runs, attempts=samples)
    monitor, description = session.target.monitor, session.target.description
    core = "" if monitor is not None else description.removeprefix("core ")
    return replace(result, live=session.live(session.pauses[asked:]), core=core)
