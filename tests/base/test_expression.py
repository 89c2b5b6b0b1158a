"""Conditions on columns: the same as Python's own on each row, and nothing else of Python."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base.expression import NUMBER, TEXT, parse

COLUMNS = {"w": NUMBER, "h": NUMBER, "width": NUMBER, "name": TEXT}

ROWS = [
    {"w": w, "h": h, "width": width, "name": name}
    for w, h, width, name in [(0.5, 0.25, 640, "car"), (0.0, 1.0, 480, "bus"), (1e-9, 0.5, 1, "船"), (1.0, 1.0, 10, "")]
]

_NUMBERS = st.recursive(
    st.sampled_from(["w", "h", "width", "0.5", "2", "1e-9"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner) | st.builds("(-{})".format, inner)
    ),
    max_leaves=5,
)
_TRUTHS = st.recursive(
    st.builds("{} {} {}".format, _NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _NUMBERS)
    | st.builds("{} < {} <= {}".format, _NUMBERS, _NUMBERS, _NUMBERS)
    | st.builds("name {} {!r}".format, st.sampled_from(["==", "!="]), st.sampled_from(["car", "船"]))
    | st.sampled_from(["name in ('car', 'bus')", "name not in ['car']", "width in (640, -1)"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=6,
)


@given(_TRUTHS)
@example("name in ('car', 'bus') and 0.5 < 0.5")
@example("not 1 < 2 or w > 0")
def test_a_condition_is_what_python_has_of_it(text: str) -> None:
    if not any(name in text for name in COLUMNS):
        return
    values = {
        name: np.array([row[name] for row in ROWS], object if kind == TEXT else float) for name, kind in COLUMNS.items()
    }
    found = parse(text, COLUMNS).evaluate(values)
    assert found.tolist() == [bool(eval(text, {}, row)) for row in ROWS]


def clause_of(text: str) -> str | None:
    try:
        parse(text, COLUMNS)
    except ValueError as error:
        return str(error)
    return None


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused_in_a_clause(text: str) -> None:
    clause = clause_of(text)
    assert clause is None or clause.startswith(("is ", "has ", "names ", "unknown column "))


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("widht > 3", "unknown column 'widht'; did you mean 'width'"),
        ("w * h", "is a number, not a condition"),
        ("w >", "is no condition; as in"),
        ("__import__('os')", "and takes columns, numbers"),
        ("w.real > 1", "and takes columns, numbers"),
        ("(lambda: w)() > 1", "and takes columns, numbers"),
        ("[w for w in name] == w", "and takes columns, numbers"),
        ("w ** 9 > 1", "and takes columns, numbers"),
        ("f'{w}' == name", "and takes columns, numbers"),
        ("name < 3", "has text where a number belongs"),
        ("name == 3", "has a number where text belongs"),
        ("w > 1 and h", "has a number where a condition belongs"),
        ("w in name", "after `in`"),
        ("w in (h, 2)", "takes constants alone"),
        ("w in ()", "after `in`"),
        ("w == True", "has True, and takes numbers"),
        ("w is h", "compares what has no order"),
        ("1 < 2", "names no column"),
        ("w < 1e999", "larger than any"),
        ("w < " + "9" * 400, "larger than any"),
        ("w < 1" + " + 1" * 600, "is longer than"),
        ("(" * 300 + "w" + ")" * 300 + " < 1", "is no condition"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_refused_is_said(text: str, clause: str) -> None:
    with pytest.raises(ValueError, match=re.escape(clause)):
        parse(text, COLUMNS)


def test_a_division_by_zero_is_no_error() -> None:
    values = {"w": np.array([0.0, 1.0]), "h": np.array([0.0, 0.0])}
    columns = {"w": NUMBER, "h": NUMBER}
    assert parse("w / h > 1", columns).evaluate(values).tolist() == [False, True]
