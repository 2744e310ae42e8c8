"""What is shown on a page is compared: another word, line or sign is noticed, another number is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_blocks import Typed, environment, fits, run, typed

PAGE = """
```console
$ echo 1
1
$ printf 'a\\n' \\
>   b
a
```

.. code-block:: console

   $ echo c
   c
"""


def test_commands_and_what_is_shown_for_them() -> None:
    assert list(typed(PAGE)) == [
        Typed("echo 1", "1\n"),
        Typed("printf 'a\\n' b", "a\n"),
        Typed("echo c", "c\n"),
    ]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", ""),
        ("pfn 0x12, 3 pages", "pfn 0x1234, 512 pages\n"),
        ("5.9 GiB  3744 KiB", "5.9 GiB  9.9 MiB"),
        ("c1000000  direct map", "dfca6000    direct map"),
        ("first\n...\nlast", "first\nanything\nat all\nlast"),
        ("... and so on", "1 2 3 and so on"),
    ],
)
def test_these_fit(shown: str, printed: str) -> None:
    assert fits(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", "something"),
        ("3 pages free", "3 pages used"),
        ("one line", "one line\nand another"),
        ("✓ agrees", "✗ differs"),
        ("first\n...\nlast", "first\nanything"),
        ("rw- kernel", "rwx kernel"),
    ],
)
def test_these_do_not(shown: str, printed: str) -> None:
    assert not fits(shown, printed)


def test_a_command_that_prints_something_else_is_told_with_both(tmp_path: Path) -> None:
    run(Typed("echo to stderr >&2; false", "to stderr\n"), tmp_path, environment(tmp_path))
    with pytest.raises(AssertionError, match=r"shown:\nyes\n\nprinted .0.:\nno"):
        run(Typed("echo no", "yes\n"), tmp_path, environment(tmp_path))
