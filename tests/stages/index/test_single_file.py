"""Objects of a file of all labels, by bucket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import FileOutline
from pipeline.stages.index import single_file
from pipeline.stages.index.single_file import ParsedSource, in_buckets


@given(
    st.lists(st.integers(0, 9), max_size=40), st.lists(st.integers(0, 3), min_size=10, max_size=10), st.integers(1, 9)
)
def test_each_bucket_has_the_objects_of_its_images_in_the_order_of_the_file(
    owners: list[int], homes: list[int], at_a_time: int
) -> None:
    spans = np.array([(3 * n, 3 * n + 2) for n in range(len(owners))], np.uint32).reshape(-1, 2)
    outline = FileOutline(np.zeros((10, 2), np.int64), spans, np.array(owners, np.int32), [], [], [])
    index = np.array([homes[:image].count(home) for image, home in enumerate(homes)], np.int64)
    edges, annotations, image_of = in_buckets(outline, np.array(homes, np.uint32), index, 4, at_a_time)
    found = [
        list(zip(annotations[a:b].tolist(), image_of[a:b].tolist(), strict=True)) for a, b in itertools.pairwise(edges)
    ]
    assert found == [
        [(spans[n].tolist(), index[owner]) for n, owner in enumerate(owners) if homes[owner] == bucket]
        for bucket in range(4)
    ]


@pytest.mark.parametrize(("sizes", "asked"), [((3, 3, 3), [2]), ((1, 1), []), ((9, 9), [1])])
def test_helpers_are_asked_for_once_while_a_large_file_is_read(
    sizes: tuple[int, ...], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_file, "_LARGE", 4)
    read: list[int] = []
    found: list[int] = []
    source = ParsedSource.__new__(ParsedSource)
    source._warm_up = lambda: found.append(len(read))

    def pieces() -> Iterator[bytes]:
        for size in sizes:
            read.append(size)
            yield b"x" * size

    state = xxhash.xxh3_64(seed=7)
    assert [len(piece) for piece in source._hashed(pieces(), state)] == list(sizes)
    assert state.intdigest() == xxhash.xxh3_64_intdigest(b"x" * sum(sizes), 7)
    assert found == asked
