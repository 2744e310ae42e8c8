"""The mistakes: every small change to one file's text that a test ought to notice.

Text is spliced, not regenerated, so that a mutant differs from its original in a word and can be shown as a diff.
Left alone are docstrings, annotations (nobody evaluates them), the insides of f-strings (Python 3.11 does not say
where they are) and ``hint=`` (advice, whose wording is free).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

FILE = "<module>"

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
"""Both neighbours of a boundary: the other side's equality, and the opposite."""

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
}

TWINS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "list"}
"""Functions that are easily mistaken for one another."""

_SIMPLE_REMOVALS = (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)
_UNPARENTHESISED = (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake in one file."""

    file: str
    where: str
    """The function's, class's or table's name; does not change when lines are added above."""
    line: int
    before: str
    after: str
    """The first line that differs, without indentation."""
    lines: range
    """The lines of the statement: a test that touches none of them cannot notice."""
    in_function: bool
    """``False``: it takes effect while the module is imported."""
    start: int
    end: int
    text: str
    """What replaces the bytes ``[start, end)`` of the file."""
    number: int = 1
    """Which of several with the same file, place and words."""

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What identifies it from one version of the file to the next."""
        place = self.where if self.number == 1 else f"{self.where} ({self.number})"
        return self.file, place, self.before, self.after

    def source(self, original: bytes) -> bytes:
        return original[: self.start] + self.text.encode() + original[self.end :]


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Every mutant of a file, from its first line to its last."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    result = []
    for mutant in sorted(_Finder(file, source).mutants(), key=lambda mutant: mutant.start):
        found[mutant.name] += 1
        result.append(replace(mutant, number=found[mutant.name]))
    return result


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file the finder is."""

    where: str = FILE
    statement: ast.stmt | None = None
    in_function: bool = False
    names: frozenset[str] = frozenset()
    """Names that the function assigns more than once: only there an assignment can be left out."""


class _Finder:
    def __init__(self, file: str, source: bytes) -> None:
        self._file = file
        self._source = source
        self._tree = ast.parse(source)
        self._offsets = [0]
        for line in source.splitlines(keepends=True):
            self._offsets.append(self._offsets[-1] + len(line))

    def mutants(self) -> Iterator[Mutant]:
        for statement in self._tree.body:
            yield from self._visit(statement, _Place())

    # Walking: every node once, with the place that it is in.

    def _visit(self, node: ast.AST, place: _Place) -> Iterator[Mutant]:
        if _is_type_checking(node) or _is_bare_string(node):
            return
        if isinstance(node, ast.stmt):
            place = self._entered(node, place)
        for start, end, text in self._changes(node, place):
            yield self._mutant(place, start, end, text)
        for child, inside in self._children(node, place):
            yield from self._visit(child, inside)

    def _entered(self, statement: ast.stmt, place: _Place) -> _Place:
        where = place.where
        if where == FILE and isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            where = ast.unparse(target)
        return replace(place, statement=statement, where=where)

    def _children(self, node: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
        if isinstance(node, ast.JoinedStr):
            return
        body: list[ast.AST] = []
        inside = place
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = node.name if place.where == FILE else f"{place.where}.{node.name}"
            inside = replace(place, where=where)
            if not isinstance(node, ast.ClassDef):
                inside = replace(inside, in_function=True, names=_assigned_again(node))
            body = list(node.body)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "ctx", "op", "ops"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not (
                    isinstance(child, ast.keyword) and child.arg == "hint"
                ):
                    yield child, inside if child in body else place

    # The mistakes themselves: `(start, end, text)` in bytes of the file.

    def _changes(self, node: ast.AST, place: _Place) -> Iterator[tuple[int, int, str]]:
        match node:
            case ast.Compare():
                yield from self._comparison(node)
            case ast.BinOp(op=op):
                old, new = ARITHMETIC[type(op)]
                yield self._between(node.left, node.right, old, new)
            case ast.AugAssign(op=op):
                old, new = ARITHMETIC[type(op)]
                yield self._between(node.target, node.value, f"{old}=", f"{new}=")
                yield self._between(node.target, node.value, f"{old}=", "=")
            case ast.BoolOp(op=op):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield self._between(left, right, old, new)
            case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()) if not _is_number(node.operand):
                yield *self._span(node), f"({self._text(node.operand)})"
            case ast.Constant() if (
                not isinstance(place.statement, ast.Expr) or place.statement.value is not node
            ):
                for text in self._other_constants(node):
                    yield *self._span(node), text
            case ast.JoinedStr():
                yield *self._span(node), '""'
            case ast.Call(func=ast.Name(id=name)) if name in TWINS:
                yield *self._span(node.func), TWINS[name]
            case ast.Return(value=ast.expr() as value) if not _is_none(value):
                yield *self._span(value), "None"
            case ast.If() | ast.While() | ast.IfExp():
                yield from self._negation(node.test)
            case ast.comprehension() | ast.match_case():
                tests = node.ifs if isinstance(node, ast.comprehension) else [node.guard]
                for test in tests:
                    if test is not None:
                        yield from self._negation(test)
        if isinstance(node, ast.stmt) and self._can_go(node, place):
            yield *self._span(node), "pass"

    def _comparison(self, node: ast.Compare) -> Iterator[tuple[int, int, str]]:
        left: ast.expr = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            old = {ast.IsNot: "is not", ast.NotIn: "not in", ast.Is: "is", ast.In: "in"}.get(type(op))
            for new in COMPARISONS[type(op)]:
                yield self._between(left, right, old or _SYMBOLS[type(op)], new)
            left = right

    def _negation(self, test: ast.expr) -> Iterator[tuple[int, int, str]]:
        """Conditions without an operator of their own; the others are changed where that operator is."""
        if isinstance(test, _UNPARENTHESISED) and not isinstance(test, ast.Constant):
            yield *self._span(test), f"not {self._text(test)}"

    def _other_constants(self, node: ast.Constant) -> Iterator[str]:
        match node.value:
            case bool():
                yield str(not node.value)
            case int():
                form = "{:#x}" if self._text(node).lower().startswith("0x") else "{}"
                yield form.format(node.value + 1)
                if node.value > 0:
                    yield form.format(node.value - 1)
            case float():
                yield repr(node.value + 1)
            case str():
                yield '""' if node.value else '"mutant"'
            case bytes():
                yield 'b""' if node.value else 'b"mutant"'

    def _can_go(self, node: ast.stmt, place: _Place) -> bool:
        """Whether the statement can be left out and leave a program that a test must run to see through."""
        match node:
            case ast.Expr():
                return True
            case ast.Assign(targets=[ast.Name(id=name)]):
                return name in place.names
            case ast.Assign():
                return any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
            case ast.Return(value=None):
                return True
            case _:
                return isinstance(node, _SIMPLE_REMOVALS)

    # Text.

    def _mutant(self, place: _Place, start: int, end: int, text: str) -> Mutant:
        statement = place.statement
        assert statement is not None
        mutated = self._source[:start] + text.encode() + self._source[end:]
        line = self._source.count(b"\n", 0, start)
        before, after = (whole.decode().splitlines()[line].strip() for whole in (self._source, mutated))
        last = statement.end_lineno or statement.lineno
        body = getattr(statement, "body", None)
        if isinstance(body, list) and body:
            last = max(statement.lineno, body[0].lineno - 1)
        lines = range(statement.lineno, last + 1)
        return Mutant(
            self._file, place.where, line + 1, before, after, lines, place.in_function, start, end, text
        )

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._offsets[node.lineno - 1] + node.col_offset,
            self._offsets[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> tuple[int, int, str]:
        """The operator between two operands; besides it there are only parentheses, white space and comments."""
        start, end = self._span(left)[1], self._span(right)[0]
        gap = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), self._source[start:end])
        pattern = rb"\s+".join(re.escape(word.encode()) for word in old.split())
        match = re.search(pattern, gap)
        assert match is not None, (old, gap)
        return start + match.start(), start + match.end(), new


_SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_bare_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _assigned_again(function: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    """Names with more than one binding in a function, its parameters counted."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = Counter(parameter.arg for parameter in parameters)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] += 1
    return frozenset(name for name, count in bound.items() if count > 1)
