"""What a kernel says of its parameters, of which only the person's own matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmtools.boot.guests.parameters import unknown

NOTICE = (
    "[    0.000000] Kernel command line: console=ttyS0 pti=on {append}\r\n"
    '[    0.000000] Unknown kernel command line parameters "{named}", will be passed to user space.\r\n'
)


@pytest.mark.parametrize(
    ("append", "named", "said"),
    [
        ("foo=bar", "pti=on foo=bar", ["foo=bar"]),
        ("usrpte=nohigh vmalloc=256M verbos", "verbos pti=on usrpte=nohigh", ["usrpte=nohigh", "verbos"]),
        ("foo foo", "foo foo", ["foo"]),
        ("vmalloc=256M", "pti=on", []),
        ("pti=off spectre_v2=off dis_ucode_ldr", "dis_ucode_ldr pti=off spectre_v2=off", []),
        ("", "pti=on", []),
    ],
)
def test_the_persons_own_words_are_named(tmp_path: Path, append: str, named: str, said: list[str]) -> None:
    log = tmp_path / "console.log"
    log.write_bytes((NOTICE.format(append=append, named=named) + "later\r\n" * 100_000).encode())
    assert unknown(log, append) == said


def test_a_kernel_that_says_nothing_is_not_guessed_about(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert unknown(log, "foo=bar") == []
    log.write_bytes(b'foo=bar\r\n[ 0.0] Unknown kernel command line parameters "foo=b')
    assert unknown(log, "foo=bar") == []
