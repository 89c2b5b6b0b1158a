"""Objects are read out of a file as they are there, however they are spread over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import DataError
from pipeline.formats import Malformed
from pipeline.stages.index.annotations_file import AnnotationsFile, AnnotationsFiles

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


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.data())
def test_spans_of_several_files_are_in_them_as_in_one(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("several")
    paths = [folder / f"{number}.csv" for number in range(len(parts))]
    spans, begin = [], 0
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
        for first, last in data.draw(st.lists(st.tuples(*[st.integers(0, len(part))] * 2), max_size=3)) if part else ():
            if first < last:
                spans.append((begin + first, begin + last))
        begin += len(part)
    spans = data.draw(st.permutations(spans))
    files = AnnotationsFiles([*map(str, paths)])
    assert files.read_through(lambda given: [b"".join(pieces) for pieces in given]) == parts
    found = files.texts(np.array(spans, np.int64).reshape(-1, 2))
    assert list(found) == [b"".join(parts)[first:last] for first, last in spans]


def test_what_is_wrong_is_said_of_the_file_that_is_read(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path in paths:
        path.write_bytes(path.name.encode())

    def read(given: Iterator[Iterator[bytes]]) -> None:
        for pieces in given:
            if b"b.csv" in pieces:
                raise Malformed("is of no use", 7)

    with pytest.raises(DataError, match=f"{paths[1]}:7: is of no use; correct it, or get it again"):
        AnnotationsFiles([*map(str, paths)]).read_through(read)
    files = AnnotationsFiles([*map(str, paths)])
    paths[2].write_bytes(b"other")
    with pytest.raises(DataError, match=f"{paths[2]}: is written anew while it is read"):
        files.read_through(lambda given: [b"".join(pieces) for pieces in given])
