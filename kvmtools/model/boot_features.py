"""What the command line leaves of the protections of a kernel: NX, page-table isolation, write-protected text.

Source: arch/i386/mm/init.c (noexec_setup), 2.6.18; arch/x86/mm/setup_nx.c, 2.6.32 and 5.10, gone in 6.1;
arch/x86/mm/pti.c (pti_check_boottime_disable, pti_parse_cmdline) and kernel/cpu.c (mitigations_parse_cmdline), 5.10 to
7.2; init/main.c (set_debug_rodata), 5.10 to 7.2, and lib/kstrtox.c (kstrtobool), 5.10.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from kvmtools.model.command_line import options, values
from kvmtools.model.eras import Era
from kvmtools.model.eras.dialects import PtiOption, RodataOption

AUTO, ON, OFF = "auto", "on", "off"
_MITIGATIONS = ("auto", "auto,nosmt", "off")
_VECTORS = ("no_user_kernel", "no_user_user", "no_guest_host", "no_guest_guest", "no_cross_thread")
"""``vector_mitigations``, 7.2."""


def nx_disabled(command_line: str, era: Era) -> bool:
    """Whether ``noexec=off`` is the last word on it, in an era that listens."""
    words = [value for value in values(command_line, "noexec") if value in (ON, OFF)]
    return era.noexec_option and words[-1:] == [OFF]


def rodata_enabled(command_line: str, era: Era) -> bool:
    """``rodata_enabled``: the kernel's text and rodata become read-only; the last ``rodata=`` that means something."""
    said = [_RODATA[era.rodata_option](value) for value in values(command_line, "rodata")]
    return ([True, *(meant for meant in said if meant is not None)])[-1]


def pti_mode(command_line: str, era: Era) -> str:
    """``pti_mode``: page-table isolation is forced ``"on"`` or ``"off"``, or the processor decides (``"auto"``)."""
    if era.pti_option is PtiOption.UNKNOWN:
        return AUTO
    if era.pti_option is PtiOption.BEFORE_NOPTI:
        said = values(command_line, "pti")[-1:]
        if said and said[0] in (AUTO, ON, OFF):
            return said[0]
        nopti = any(option == ("nopti", None) for option in options(command_line))
        return OFF if nopti or _mitigations(command_line) == "off" else AUTO
    mode = AUTO
    for name, value in options(command_line):
        if name == "nopti":
            mode = OFF
        elif name == "pti" and value in (AUTO, ON, OFF):
            mode = value
    if era.pti_option is PtiOption.BELOW_MITIGATIONS:
        return OFF if _mitigations(command_line) == "off" else mode
    return OFF if mode == AUTO and _users_are_trusted(command_line) else mode


def _letters(value: str) -> bool | None:
    """``strtobool``: one letter decides, or two where the first is an o."""
    meant = {"y": True, "1": True, "n": False, "0": False, "on": True, "of": False}
    return meant.get(value[:1].lower(), meant.get(value[:2].lower()))


_RODATA: dict[RodataOption, Callable[[str], bool | None]] = {
    RodataOption.UNKNOWN: lambda _value: None,
    RodataOption.LETTERS: _letters,
    RodataOption.WORDS: {ON: True, OFF: False}.get,
}
"""By :attr:`Era.rodata_option <kvmtools.model.eras.Era.rodata_option>`; ``None`` for a value that changes nothing."""


def _mitigations(command_line: str) -> str | None:
    """The last ``mitigations=`` that the kernel knows."""
    known = [value for value in values(command_line, "mitigations") if value in _MITIGATIONS]
    return known[-1] if known else None


def _users_are_trusted(command_line: str) -> bool:
    """Whether any ``mitigations=`` took CPU_MITIGATE_USER_KERNEL away, which no later one gives back."""
    return any(
        value.startswith(OFF) or "no_user_kernel" in _attack_vectors(value)
        for value in values(command_line, "mitigations")
    )


def _attack_vectors(value: str) -> list[str]:
    """What stands behind ``auto`` or ``auto,nosmt`` and a comma, up to the first word that the kernel does not know."""
    start = next(start for start in ("auto,nosmt", "auto", "") if value.startswith(start))
    before, *words = value[len(start) :].split(",")
    return [] if before else [*takewhile(_VECTORS.__contains__, words)]
