"""Rows of tables: the right ones, and no copies of those that follow each other."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.rows import binaries, rows_where, slices


def table(count: int) -> pa.Table:
    return pa.table({"number": pa.array(range(count), pa.int64()), "text": [b"text %d" % i for i in range(count)]})


@given(st.lists(st.booleans(), max_size=12), st.booleans())
def test_rows_are_those_of_the_mask(mask: list[bool], chunked: bool) -> None:
    array = pa.array(mask, pa.bool_())
    found = rows_where(table(len(mask)), pa.chunked_array([array[:5], array[5:]]) if chunked else array)
    assert found.equals(table(len(mask)).filter(array))


@pytest.mark.parametrize(
    ("mask", "shared"), [([1, 1, 1, 1], True), ([0, 1, 1, 0], True), ([0, 0, 0, 1], True), ([1, 0, 1, 1], False)]
)
def test_rows_that_follow_each_other_are_no_copies(mask: list[int], shared: bool) -> None:
    whole = table(4)
    found = rows_where(whole, pa.array([bool(one) for one in mask]))
    texts = (one["text"].chunk(0).buffers()[2].address for one in (whole, found))
    assert (len(set(texts)) == 1) is shared


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 20))
def test_slices_have_all_rows_and_no_more_than_they_may(sizes: list[int], most: int) -> None:
    whole = table(len(sizes))
    found = list(slices(whole, np.array(sizes, np.int64), most))
    assert [n for part in found for n in part["number"].to_pylist()] == list(range(len(sizes)))
    for part in found:
        assert part.num_rows == 1 or sum(sizes[n] for n in part["number"].to_pylist()) <= most
    for part, after in itertools.pairwise(found):
        first = after["number"][0].as_py()
        assert sum(sizes[n] for n in part["number"].to_pylist()) + sizes[first] > most


@given(st.lists(st.binary(max_size=5), max_size=8))
def test_binaries_are_what_arrow_makes_of_them(texts: list[bytes]) -> None:
    made = binaries(texts)
    made.validate(full=True)
    assert made.equals(pa.array(texts, pa.binary()))
