"""Conditions on columns, as ``w * h > 0.001 and n_tokens == 5``: read into a tree, checked, evaluated on arrays.

The grammar is a part of Python's: numbers, text in quotes, names of columns, ``+ - * /``, comparisons (also chained
ones, and ``in`` a tuple or list of constants), ``and``, ``or``, ``not`` and parentheses. Nothing is called, and nothing
is ever evaluated by Python itself.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import unknown

#: What a column or a part of a condition is.
NUMBER, TEXT, TRUTH = "a number", "text", "a condition"

#: No person writes a condition of more characters; Python's parser takes as long as it is.
_LONGEST = 2000

#: The largest number that a column could be compared with.
_LARGEST = 1e300

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}


@dataclass(frozen=True)
class Condition:
    """A condition that was read; `columns` are those that it needs."""

    tree: ast.expr
    columns: frozenset[str]

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Where it holds, of `values` by column (NumPy arrays of one length): an array of bool.

        A division by 0 is infinite or no number, as NumPy has it, and no number is neither more nor less than another.
        """
        import numpy as np

        with np.errstate(all="ignore"):
            found = _value(self.tree, values)
        return np.broadcast_to(found, next(iter(values.values())).shape) if np.ndim(found) == 0 else found


def parse(text: str, columns: Mapping[str, str]) -> Condition:
    """The condition that `text` is, of `columns` (name: `NUMBER` or `TEXT`).

    Raises `ValueError`, with a clause of what is wrong and what would do.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST:,} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("is no condition; as in 'w * h > 0.001 and n_tokens == 5'") from None
    try:
        kind = _kind(tree, columns)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if kind != TRUTH:
        raise ValueError(f"is {kind}, not a condition; compare it, as in 'w * h > 0.001'")
    used = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    if not used:
        raise ValueError(f"names no column; there are {', '.join(columns)}")
    return Condition(tree, used)


def _kind(node: ast.expr, columns: Mapping[str, str]) -> str:
    """What a part of a condition is; raises `ValueError` for what cannot be."""
    kind = TRUTH
    match node:
        case ast.Name(id=name) if name in columns:
            kind = columns[name]
        case ast.Name(id=name):
            raise ValueError(unknown("column", name, columns))
        case ast.Constant(value=value):
            kind = _kind_of_constant(node, value)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            _must(inner, TRUTH, columns)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            kind = _must(inner, NUMBER, columns)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
            _must(left, NUMBER, columns)
            kind = _must(right, NUMBER, columns)
        case ast.BoolOp(values=parts):
            for part in parts:
                _must(part, TRUTH, columns)
        case ast.Compare():
            _check_comparison(node, columns)
        case _:
            raise ValueError(
                f"has {ast.unparse(node)[:40]!r}, and takes columns, numbers, + - * /, comparisons, and, or, not"
            )
    return kind


def _kind_of_constant(node: ast.expr, value: object) -> str:
    if isinstance(value, str):
        return TEXT
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"has {ast.unparse(node)[:40]}, and takes numbers and text in quotes")
    if abs(value) > _LARGEST:
        raise ValueError("has a number that is larger than any")
    return NUMBER


def _must(node: ast.expr, kind: str, columns: Mapping[str, str]) -> str:
    found = _kind(node, columns)
    if found != kind:
        raise ValueError(f"has {found} where {kind} belongs: {ast.unparse(node)[:40]!r}")
    return found


def _check_comparison(node: ast.Compare, columns: Mapping[str, str]) -> None:
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        kind = _kind(left, columns)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
                raise ValueError(f'has {ast.unparse(right)[:40]!r} after `in`; as in \'name in ("car", "bus")\'')
            for value in right.elts:
                if not isinstance(value, ast.Constant) and not isinstance(value, ast.UnaryOp):
                    raise ValueError(f"has {ast.unparse(value)[:40]!r} after `in`, which takes constants alone")
                _must(value, kind, columns)
        elif type(op) in _ORDER:
            _must(left, NUMBER, columns)
            _must(right, NUMBER, columns)
        elif type(op) in _EQUALITY and kind != TRUTH:
            _must(right, kind, columns)
        else:
            raise ValueError(f"has {ast.unparse(node)[:40]!r}, which compares what has no order")
        left = right


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """The value of a part that `_kind` took."""
    import numpy as np

    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=value):
            return np.float64(value) if isinstance(value, int | float) else value
        case ast.UnaryOp(op=op, operand=inner):
            found = _value(inner, values)
            return ~found if isinstance(op, ast.Not) else -found if isinstance(op, ast.USub) else found
        case ast.BinOp(op=op, left=left, right=right):
            return _ARITHMETIC[type(op)](_value(left, values), _value(right, values))
        case ast.BoolOp(op=both, values=parts):
            join = np.logical_and if isinstance(both, ast.And) else np.logical_or
            return functools.reduce(join, (_value(part, values) for part in parts))
    assert isinstance(node, ast.Compare)
    sides = [node.left, *node.comparators]
    found = [
        _compared(op, _value(left, values), right, values)
        for op, left, right in zip(node.ops, sides, node.comparators, strict=False)
    ]
    whole = found[0]
    for part in found[1:]:
        whole = whole & part
    return whole


def _compared(op: ast.cmpop, left: Any, right: ast.expr, values: Mapping[str, Any]) -> Any:
    import numpy as np

    if isinstance(op, ast.In | ast.NotIn):
        assert isinstance(right, ast.Tuple | ast.List)
        among = np.isin(left, [_value(value, values) for value in right.elts])
        return among if isinstance(op, ast.In) else ~among
    compare = (_ORDER | _EQUALITY)[type(op)]
    return np.asarray(compare(left, _value(right, values)))
