"""Images in two groups: all pairs are counted, the first of them listed, equal ones first."""

from __future__ import annotations

import itertools

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.hashes import FLAT
from pipeline.stages.select.shared_images import ImagePair, shared_images

A, B = 0x0123456789ABCDEF, 0xFEDCBA9876543210

#: Contents, each with its hash: near ones, flat ones, and one that cannot be decoded; None cannot be read.
HASHES = {b"a": A, b"b": A, b"c": A ^ 0b11, b"d": A ^ 0b111100, b"e": B, b"f": 0, b"g": 0, b"h": 2**64 - 1, b"i": None}


@given(
    st.lists(st.tuples(st.sampled_from(["0/x", "1/x", "1/y"]), st.sampled_from([*HASHES, None])), max_size=30),
    st.integers(0, 5),
    st.integers(0, 40),
)
def test_all_are_counted_and_the_nearest_listed(rows: list[tuple[str, bytes | None]], bits: int, most: int) -> None:
    table = pa.table(
        {
            "group": pa.array([group for group, _ in rows], pa.string()),
            "hash": pa.array([content and HASHES[content] for _, content in rows], pa.uint64()),
            "digest": pa.array([content and content * 16 for _, content in rows], pa.binary(16)),
        }
    )
    expected = []
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for (i, (group, one)), (j, (other_group, other)) in itertools.permutations(enumerate(rows), 2):
        if not group < other_group or one is None or other is None:
            continue
        first, second = HASHES[one], HASHES[other]
        seen = first is not None and second is not None and not {first, second} & {*FLAT}
        distance = (first ^ second).bit_count() if seen and first is not None and second is not None else 0
        if one == other or (seen and distance <= bits):
            expected.append(ImagePair(i, j, distance, one == other))
            equal, near = counts.get((group, other_group), (0, 0))
            counts[group, other_group] = (equal + (one == other), near + (one != other))
    found = shared_images(table, bits, most)
    assert found.counts == counts
    assert len(found.pairs) == min(most, len(expected))
    assert {*found.pairs} <= {*expected}
    ranks = sorted((not pair.equal, pair.distance) for pair in expected)
    assert [(not pair.equal, pair.distance) for pair in found.pairs] == ranks[:most]
