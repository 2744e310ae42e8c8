"""NX, page-table isolation and read-only text by command line: what each era listens to, and in which order."""

from __future__ import annotations

import pytest

from kvmtools.errors import UsageError
from kvmtools.model import eras
from kvmtools.model.boot_features import nx_disabled, pti_mode, rodata_enabled
from kvmtools.model.machine import configuration
from kvmtools.model.prediction import Prediction


def disabled(line: str, era: str = "5.10") -> bool:
    return nx_disabled(line, eras.named(era))


@pytest.mark.parametrize("era", eras.NAMES)
def test_noexec_is_an_option_of_2_6_to_5_10(era: str) -> None:
    # Documentation/admin-guide/kernel-parameters.txt lists it for X86 in 5.10, and for IA-64 alone in 6.1.
    listens = era in ("2.6.18", "2.6.24", "2.6.32", "5.10")
    assert disabled("noexec=off", era) is listens
    assert configuration(era, command_line="noexec=off").nx is (era != "2.4" and not listens)
    assert configuration(era, command_line="noexec=on").nx is (era != "2.4")
    assert not configuration(era, pae=False, command_line="noexec=on").nx


@pytest.mark.parametrize(
    ("line", "off"),
    [
        ("", False),
        ("noexec", False),
        ("noexec=on", False),
        ("noexec=off noexec=on", False),
        ("noexec=on noexec=off", True),
        ("noexec=off noexec=maybe", True),
        ("noexec=off -- noexec=on", True),
    ],
)
def test_the_last_noexec_counts(line: str, off: bool) -> None:
    assert disabled(line) is off


@pytest.mark.parametrize(
    ("line", "before_6_12", "in_6_12", "in_7_2"),
    [
        ("", "auto", "auto", "auto"),
        ("pti=on", "on", "on", "on"),
        ("pti=off", "off", "off", "off"),
        ("pti=auto", "auto", "auto", "auto"),
        ("nopti", "off", "off", "off"),
        ("mitigations=off", "off", "off", "off"),
        ("mitigations=auto", "auto", "auto", "auto"),
        ("mitigations=auto,nosmt", "auto", "auto", "auto"),
        ("pti", "auto", "auto", "auto"),
        ("pti=on pti=off", "off", "off", "off"),
        ("pti=off pti=on", "on", "on", "on"),
        # pti_check_boottime_disable() of 6.1 goes to its label, before it looks for nopti; later both are early_params.
        ("pti=on nopti", "on", "off", "off"),
        ("nopti pti=on", "on", "on", "on"),
        ("nopti pti=auto", "auto", "auto", "auto"),
        ("pti=auto nopti", "auto", "off", "off"),
        # Of a word that it does not know 6.1 takes no notice, but it is the last; later it is -EINVAL.
        ("pti=on pti=perhaps", "auto", "on", "on"),
        ("pti=perhaps nopti", "off", "off", "off"),
        ("pti=perhaps", "auto", "auto", "auto"),
        ("pti=on mitigations=off", "on", "off", "on"),
        ("pti=auto mitigations=off", "auto", "off", "off"),
        ("mitigations=off mitigations=auto", "auto", "auto", "off"),
        ("mitigations=auto mitigations=off", "off", "off", "off"),
        ("mitigations=off mitigations=some", "off", "off", "off"),
        ("mitigations=some mitigations=off", "off", "off", "off"),
        ("mitigations=off mitigations=auto,nosmt", "auto", "auto", "off"),
        # Attack vectors: 7.2 kernel/cpu.c.
        ("mitigations=auto,no_user_kernel", "auto", "auto", "off"),
        ("mitigations=auto,nosmt,no_user_kernel", "auto", "auto", "off"),
        ("mitigations=auto,no_user_user,no_user_kernel", "auto", "auto", "off"),
        ("mitigations=,no_user_kernel", "auto", "auto", "off"),
        ("mitigations=auto,no_user_user", "auto", "auto", "auto"),
        ("mitigations=no_user_kernel", "auto", "auto", "auto"),
        ("mitigations=some,no_user_kernel", "auto", "auto", "auto"),
        ("mitigations=off,no_user_user", "auto", "auto", "off"),
        ("mitigations=offside", "auto", "auto", "off"),
        # A word that it does not know ends what 7.2 reads of the value.
        ("mitigations=auto,nothing,no_user_kernel", "auto", "auto", "auto"),
        ("mitigations=autos,no_user_kernel", "auto", "auto", "auto"),
        ("mitigations=auto,nosmts,no_user_kernel", "auto", "auto", "auto"),
        ("mitigations=,nosmt,no_user_kernel", "auto", "auto", "auto"),
        (
            "mitigations=auto,no_cross_thread,no_guest_guest,no_guest_host,no_user_kernel",
            "auto",
            "auto",
            "off",
        ),
        ("mitigations=auto,no_user_kernel pti=on", "on", "on", "on"),
    ],
)
def test_words_about_isolation(line: str, before_6_12: str, in_6_12: str, in_7_2: str) -> None:
    found = [pti_mode(line, eras.named(era)) for era in ("5.10", "6.1", "6.12", "7.2")]
    assert found == [before_6_12, before_6_12, in_6_12, in_7_2]


@pytest.mark.parametrize("line", ["pti=on", "pti=off", "nopti", "mitigations=off"])
@pytest.mark.parametrize("era", ["2.4", "2.6.18", "2.6.24", "2.6.32"])
def test_there_is_nothing_to_say_before_4_15(era: str, line: str) -> None:
    assert pti_mode(line, eras.named(era)) == "auto"
    assert not configuration(era, command_line=line).pti


@pytest.mark.parametrize(
    ("line", "asked", "active"),
    [
        ("", False, False),
        ("", True, True),
        ("pti=auto", True, True),
        ("pti=auto", False, False),
        ("pti=on", False, True),
        ("pti=on", True, True),
        ("nopti", True, False),
        ("pti=off", True, False),
        ("mitigations=off", True, False),
    ],
)
def test_a_machine_with_isolation(line: str, asked: bool, active: bool) -> None:
    assert configuration(command_line=line, pti=asked).pti is active


def test_without_pae_there_is_no_isolation_to_force() -> None:
    # security/Kconfig: it depends on X86_64 || X86_PAE.
    assert not configuration(pae=False, command_line="pti=on").pti
    assert not configuration(pae=False, command_line="nopti", pti=True).pti
    with pytest.raises(UsageError, match="isolation on i386 needs PAE"):
        assert Prediction(configuration(pae=False, command_line="pti=on", pti=True)).layout


@pytest.mark.parametrize(
    ("line", "letters", "words"),
    [
        ("", True, True),
        ("rodata", True, True),
        ("rodata=", True, True),
        ("rodata=off", False, False),
        ("rodata=off rodata=on", True, True),
        ("rodata=on rodata=off", False, False),
        ("rodata=off rodata=maybe", False, False),
        ("rodata=off rodata=", False, False),
        ("rodata=off rodata=yes", True, False),
        ("rodata=off rodata=1", True, False),
        ("rodata=off rodata=ONE", True, False),
        ("rodata=0", False, True),
        ("rodata=no", False, True),
        ("rodata=Never", False, True),
        ("rodata=OF", False, True),
        ("rodata=o", True, True),
        ("rodata=10", True, True),
    ],
)
def test_rodata(line: str, letters: bool, words: bool) -> None:
    # lib/kstrtox.c: kstrtobool() looks at one letter, or two after an o; init/main.c compares words since 6.0.
    assert rodata_enabled(line, eras.named("5.10")) is letters
    assert [rodata_enabled(line, eras.named(era)) for era in ("6.1", "6.12", "7.2")] == [words] * 3


def test_nobody_listened_to_rodata_at_first() -> None:
    assert all(rodata_enabled("rodata=off", eras.named(era)) for era in ("2.4", "2.6.18", "2.6.24", "2.6.32"))


@pytest.mark.parametrize(("era", "sealed"), [("5.10", False), ("6.1", True)])
def test_text_is_sealed_as_the_era_reads_rodata(era: str, sealed: bool) -> None:
    regions = Prediction(configuration(era, command_line="rodata=0")).expectations
    text = next(region for region in regions if region.name == "kernel text")
    assert text.writable is not sealed
