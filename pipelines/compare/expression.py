"""The little language of ``--fail-if``: figures, numbers and comparisons.

It has dotted names, ``+ - * /``, ``< <= > >= == !=``, ``and``, ``or``, ``not`` and parentheses.
Nothing else is taken, and nothing is ever run as code.

Python's own parser reads the text, a walk over a whitelist of nodes checks it whole before anything
is computed: every name has to be known and every part has to be of its kind (a condition or a
number). A figure that is not known and a division by zero are errors: a gate that cannot be
answered must not pass.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from curation.errors import ConfigError

MAX_CHARS = 1000
MAX_DEPTH = 50
MANY = 12
"""Figures that share the first part of their names are listed up to this number."""

Kind = Literal["number", "condition"]

ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
    ast.Eq: lambda x, y: x == y,
    ast.NotEq: lambda x, y: x != y,
}


@dataclass(frozen=True)
class Condition:
    """A checked expression.

    Attributes:
        text: As given.
        tree: Its root.
        names: The figures it uses, in the order they stand in.
    """

    text: str
    tree: ast.expr
    names: tuple[str, ...]

    def holds(self, figures: Mapping[str, float | None]) -> bool:
        """Whether it is true; as in Python, what ``and`` and ``or`` need not look at is left.

        Raises:
            ConfigError: A figure is not known, or a division by zero or too large a number.
        """
        return bool(_value(self.tree, figures, self.text))


def parse_condition(text: str, known: Collection[str] | None = None) -> Condition:
    """Check an expression.

    Args:
        text: Such as ``kept.hours < 0.9 or shift.sharpness > 0.1``.
        known: Names there are; None: names are not looked at.

    Raises:
        ConfigError: It does not parse, uses an unknown name, or is a number rather than a
            condition.
    """
    if len(text) > MAX_CHARS:
        raise _error(text, f"is longer than {MAX_CHARS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        raise _error(text, f"cannot be read: {getattr(exc, 'msg', exc)}") from exc
    names: list[str] = []
    if _kind(tree, text, names, 0) != "condition":
        raise _error(text, "is a number, not a condition", f"compare it: {text} < 1")
    for name in names:
        if known is not None and name not in known:
            raise _unknown(text, name, known)
    return Condition(text, tree, tuple(dict.fromkeys(names)))


def _kind(node: ast.expr, text: str, names: list[str], depth: int) -> Kind:
    """What a node is, checked all the way down; notes the names."""
    if depth > MAX_DEPTH:
        raise _error(text, f"is nested deeper than {MAX_DEPTH}")
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _expect("condition", value, text, names, depth)
            return "condition"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _expect("condition", operand, text, names, depth)
            return "condition"
        case ast.Compare(left=left, ops=ops, comparators=others):
            if any(type(op) not in COMPARISONS for op in ops):
                raise _error(text, "compares with something other than < <= > >= == !=")
            for value in (left, *others):
                _expect("number", value, text, names, depth)
            return "condition"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            _expect("number", left, text, names, depth)
            _expect("number", right, text, names, depth)
            return "number"
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            _expect("number", operand, text, names, depth)
            return "number"
        case ast.Constant(value=value) if type(value) in (int, float):
            _finite(value, text)
            return "number"
        case ast.Name() | ast.Attribute():
            names.append(_dotted(node, text))
            return "number"
    raise _error(text, f"has a part that is not allowed: {ast.unparse(node)[:80]}")


def _expect(kind: Kind, node: ast.expr, text: str, names: list[str], depth: int) -> None:
    found = _kind(node, text, names, depth + 1)
    if found != kind:
        part = ast.unparse(node)[:80]
        raise _error(text, f"has a {found} where a {kind} has to stand: {part}")


def _dotted(node: ast.expr, text: str) -> str:
    """``a.kept.clips`` of nested attributes."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise _error(text, f"has a part that is not allowed: {ast.unparse(node)[:80]}")
    return ".".join([node.id, *reversed(parts)])


def _value(node: ast.expr, figures: Mapping[str, float | None], text: str) -> float | bool:
    """The value of a checked node."""

    def of(inner: ast.expr) -> float | bool:
        return _value(inner, figures, text)

    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(of(value) for value in values)
        case ast.BoolOp(values=values):
            return any(of(value) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not of(operand)
        case ast.UnaryOp(op=op, operand=operand):
            return -of(operand) if isinstance(op, ast.USub) else of(operand)
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [of(value) for value in (left, *others)]
            pairs = zip(values, ops, values[1:], strict=False)
            return all(COMPARISONS[type(op)](x, y) for x, op, y in pairs)
        case ast.BinOp(left=left, op=op, right=right):
            try:
                return _finite(ARITHMETIC[type(op)](of(left), of(right)), text)
            except ZeroDivisionError:
                raise _error(text, f"divides by zero: {ast.unparse(node)}") from None
        case ast.Constant(value=value):
            return _finite(value, text)
    name = _dotted(node, text)
    value = figures[name]
    if value is None:
        raise _error(
            text,
            f"{name} is not known here",
            "a ratio needs a value other than zero in A; figures of clips need the rows of both "
            "sides; those of a score need values in both",
        )
    return value


def _finite(value: object, text: str) -> float:
    """A number that can be computed with."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _error(text, "has a number that is too large")
    return number


def _unknown(text: str, name: str, known: Collection[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    # Every figure would be hundreds: of each family (shift.COLUMN, a.FIGURE) the name alone.
    plain, families = [], {}
    for one in known:
        family = one.partition(".")[0]
        families[family] = families.get(family, 0) + 1
        plain.append(one)
    large = [f for f, count in families.items() if count > MANY]
    short = [n for n in plain if n.partition(".")[0] not in large]
    listed = ", ".join([*short, *(f"{f}.NAME" for f in large)])
    return _error(text, f"there is no figure {name!r}", f"{hint}there are: {listed}")


def _error(text: str, what: str, mend: str = "") -> ConfigError:
    shown = text if len(text) <= 100 else text[:99] + "…"
    return ConfigError(
        what,
        where=f"--fail-if {shown!r}",
        mend=mend or 'such as --fail-if "kept.hours < 0.9 or shift.sharpness > 0.1"',
    )
