"""Numbers and their text, many at once: each as Python reads, rounds and writes it."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.formats._numbers import numbers_of_lists, parse_numbers, rounded, split_numbers, tails


@given(st.lists(st.lists(st.floats(0, 1e6).filter(lambda v: v == 0 or v > 1e-3), min_size=6, max_size=12), max_size=5))
def test_numbers_are_read_to_the_last_bit(rows: list[list[float]]) -> None:
    assert parse_numbers([",".join(map(repr, row)).encode() for row in rows]).tolist() == [v for r in rows for v in r]


#: Texts of numbers, and of what is nearly one.
_TEXTS = st.from_regex(rb"[ ]?[-+]?(0|[0-9]{1,25}|nan|e|)(\.[0-9]{0,30})?(e-?[0-9]{1,3})?", fullmatch=True)


@given(st.lists(_TEXTS, min_size=1, max_size=9))
def test_few_numbers_are_read_as_many_are(texts: list[bytes]) -> None:
    """What is a number, and which, does not go by how many there are."""
    many = [*texts, *[b"1"] * 2000]

    def read(some: list[bytes]) -> bytes | None:
        try:
            return parse_numbers(some).tobytes()
        except pa.ArrowInvalid:
            return None

    found, alone = read(many), read(texts)
    assert alone == (None if found is None else found[: -2000 * 8])


def test_numbers_in_the_middle_are_rounded_by_their_exact_value() -> None:
    pixels = np.arange(0, 64_000, 4) / 100 / 640  # every other one has its seventh digit a 5, or nearly
    (made,) = tails(pixels, np.array([0, len(pixels)]), "%.6f").to_pylist()
    assert made == "".join(f" {v:.6f}" for v in pixels).encode()


NUMBER = st.one_of(st.floats(-20, 20), st.floats(-1e-6, 1e-6), st.integers(-(10**7), 10**7).map(lambda n: n / 2e6))


@given(st.lists(NUMBER, min_size=1, max_size=20), st.sampled_from(["%.6f", "%.7f", "%g"]))
# Of two rows, one has a negative number, which is written in another way.
@example([-0.0, 0.5, -4e-7, -0.0, -0.5], "%.6f")
@example([-0.0, 0.5, -4e-8, -0.0, -0.5], "%.7f")
@example([-0.0, 0.5, -5e-324, -0.0, -0.5], "%g")
def test_numbers_are_written_as_printf_does_but_zero_without_a_sign(values: list[float], numbers: str) -> None:
    starts = np.array([0, len(values) // 2, len(values)])
    made = [text.decode().split(" ")[1:] for text in tails(np.array(values), starts, numbers).to_pylist()]
    written = [numbers % v for v in values]
    expected = [text[1:] if text[0] == "-" and float(text) == 0 else text for text in written]
    assert made == [expected[a:b] for a, b in itertools.pairwise(starts)]


def test_many_numbers_are_written_alike() -> None:
    values = np.random.default_rng(1).random(40_000)
    (made,) = tails(values, np.array([0, len(values)]), "%.6f").to_pylist()
    assert made == "".join(f" {v:.6f}" for v in values).encode()


PIXEL = st.one_of(st.floats(-1e7, 1e7), st.floats(-1e15, 1e15), st.integers(-(10**7), 10**7).map(lambda n: n / 2000))


@given(st.lists(PIXEL, max_size=20))
def test_numbers_are_rounded_as_python_rounds_them(values: list[float]) -> None:
    assert list(map(repr, rounded(np.array(values, np.float64)).tolist())) == [repr(round(v, 3)) for v in values]


def test_numbers_without_digits_after_the_point_stay() -> None:
    values = [1e300, -1e18, 2.0**52 + 0.5, float("inf")]
    assert rounded(np.array(values)).tolist() == values
    assert np.isnan(rounded(np.array([np.nan]))).all()


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.sampled_from([" ", "\t", "  ", " \t", "\r\n"])), max_size=9))
def test_numbers_between_blanks_are_read_to_the_last_bit(tokens: list[tuple[float, str]]) -> None:
    text = "".join(blank + repr(value) for value, blank in tokens).encode()
    assert split_numbers([text]).tolist() == [value for value, _ in tokens]


def test_forms_of_numbers_that_only_python_knows_are_read() -> None:
    assert split_numbers([b" +0.5 1_0.25", b" 5. .5\x0b1e2 "]).tolist() == [0.5, 10.25, 5, 0.5, 100]
    assert split_numbers([b"  ", b""]).tolist() == []


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9), max_size=4))
def test_numbers_in_brackets_are_read_to_the_last_bit(lists: list[list[float]]) -> None:
    texts = [json.dumps(values).encode() for values in lists]
    expected = [value for values in lists for value in values]
    assert numbers_of_lists(texts).tolist() == expected
    assert numbers_of_lists([b"[" + text + b"]" for text in texts]).tolist() == expected
