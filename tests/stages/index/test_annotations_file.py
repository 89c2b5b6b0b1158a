"""Objects are read out of a file as they are there, however they are spread over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import DataError
from pipeline.stages.index.annotations_file import AnnotationsFile

_SIZE = 100_000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("annotations") / "a.json"
    path.write_bytes(np.random.default_rng(0).bytes(_SIZE))
    return path


_begins = st.one_of(st.integers(0, _SIZE), st.integers(0, 2000))

_lengths = st.one_of(st.integers(0, 300), st.integers(0, _SIZE))


@settings(deadline=None)
@given(st.lists(st.tuples(_begins, _lengths), max_size=50), st.booleans(), st.sampled_from([1, 40]))
def test_texts_are_the_bytes_at_their_spans_near_far_overlapping_and_in_any_order(
    file: Path, drawn: list[tuple[int, int]], ordered: bool, times: int
) -> None:
    spans = [(begin, min(begin + length, _SIZE)) for begin, length in drawn] * times
    spans = sorted(spans) if ordered else spans
    data = file.read_bytes()
    found = AnnotationsFile(str(file)).texts(np.array(spans, np.int64).reshape(-1, 2))
    assert list(found) == [data[begin:stop] for begin, stop in spans]


def test_a_file_that_is_written_anew_gives_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"0123456789" * 10)
    file = AnnotationsFile(str(path))
    path.write_bytes(b"9876543210" * 11)
    with pytest.raises(DataError, match="is written anew while it is read"):
        file.texts(np.array([[0, 10], [50, 60]]))
