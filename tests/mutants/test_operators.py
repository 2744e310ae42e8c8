"""The mistakes that are made of a line: all that are meant, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.operators import mutants_of

MODEL = Path(__file__).resolve().parents[2] / "kvmtools" / "model"


def changed(source: str) -> list[str]:
    """The lines that replace those of ``source``, one for each mutant."""
    return [mutant.after for mutant in mutants_of("x.py", source.encode())]


@pytest.mark.parametrize(
    ("line", "mistakes"),
    [
        ("a < b", ["a <= b", "a >= b", "pass"]),
        ("x = a <= b", ["x = a < b", "x = a > b"]),
        ("x = a == b", ["x = a != b"]),
        ("x = a is not None", ["x = a is None"]),
        ("x = a  not  in b", ["x = a  in b"]),
        ("x = a + b << c", ["x = a + b >> c", "x = a - b << c"]),
        ("x = (a) - (b)", ["x = (a) + (b)"]),
        ("x = a and b and c", ["x = a or b and c", "x = a and b or c"]),
        ("x = not a", ["x = (a)"]),
        ("x = -a", ["x = (a)"]),
        ("x = 7", ["x = 8", "x = 6"]),
        ("x = 0x10", ["x = 0x11", "x = 0xf"]),
        ("x = 0", ["x = 1"]),
        ("x = True", ["x = False"]),
        ("x = None", []),
        ("x = 'PG_buddy'", ['x = ""']),
        ("x = ''", ['x = "mutant"']),
        ("x = f'{a + 1}'", ['x = ""']),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x += a", ["x -= a", "x = a", "pass"]),
        ("x.y = a", ["pass"]),
        ("x[a] = b", ["pass"]),
        ("call(a)", ["pass"]),
        ("raise E('why', hint='how')", ["raise E(\"\", hint='how')", "pass"]),
        ("x = a if b else c", ["x = a if not b else c"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if not a]"]),
        ("x: int | None = a", []),
        ("'a docstring'", []),
    ],
)
def test_a_line_s_mistakes(line: str, mistakes: list[str]) -> None:
    assert sorted(changed(line)) == sorted(mistakes)


def test_conditions_and_what_they_guard() -> None:
    source = "def f(a):\n    if a:\n        return a\n    while a < 1:\n        break\n    return None\n"
    assert changed(source) == [
        "if not a:",
        "return None",
        "while a <= 1:",
        "while a >= 1:",
        "while a < 2:",
        "while a < 0:",
        "pass",
    ]


def test_annotations_and_decorators_are_left_alone_defaults_are_not() -> None:
    source = "@d(1)\ndef f(a: X[1] | None, b: int = 2, *, c: str = 'C') -> Y[3]:\n    call()\n"
    assert changed(source) == [
        "def f(a: X[1] | None, b: int = 3, *, c: str = 'C') -> Y[3]:",
        "def f(a: X[1] | None, b: int = 1, *, c: str = 'C') -> Y[3]:",
        'def f(a: X[1] | None, b: int = 2, *, c: str = "") -> Y[3]:',
        "pass",
    ]


def test_an_assignment_is_left_out_where_the_name_has_another_value() -> None:
    assert changed("def f(a, b):\n    a = b\n    c = b\n") == ["pass"]


def test_what_is_for_type_checkers_only_is_left_alone() -> None:
    assert changed("if TYPE_CHECKING:\n    x = 1\n") == []


def test_comments_between_operands_are_no_operators() -> None:
    (mutant,) = mutants_of("x.py", b"x = (\n    a  # + 1\n    + b\n)\n")
    assert mutant.source(b"x = (\n    a  # + 1\n    + b\n)\n") == b"x = (\n    a  # + 1\n    - b\n)\n"


def test_a_mutant_keeps_its_name_when_lines_are_added_above() -> None:
    before = mutants_of("x.py", b"def f(a):\n    g(a + 1)\n    g(a + 1)\n")
    after = mutants_of("x.py", b"import m\n\n\ndef f(a):\n    g(a + 1)\n    g(a + 1)\n")
    assert [m.name for m in before] == [m.name for m in after]
    assert [m.line + 3 for m in before] == [m.line for m in after]
    assert len({m.name for m in before}) == len(before)
    assert {m.where for m in before} == {"f"}


def test_the_place_says_when_it_takes_effect() -> None:
    source = b"T = 1\nclass C:\n    a: int = 2\n    def m(self, b=3):\n        return (\n            4\n        )\n"
    found = {(m.where, m.in_function, tuple(m.lines)) for m in mutants_of("x.py", source)}
    assert found == {
        ("T", False, (1,)),
        ("C", False, (3,)),
        ("C", False, (4,)),
        ("C.m", True, (5, 6, 7)),
    }


@pytest.mark.parametrize("path", sorted(MODEL.rglob("*.py")), ids=lambda path: path.stem)
def test_every_mutant_of_the_model_is_another_program(path: Path) -> None:
    source = path.read_bytes()
    mutants = mutants_of(path.name, source)
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    # A compilation takes milliseconds, and there are thousands.
    for mutant in mutants[::50]:
        assert mutant.source(source) != source
        compile(mutant.source(source), str(path), "exec")
