"""Near duplicates: all pairs are found, each once, and what goes does not depend on the order of anything."""

from __future__ import annotations

import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.hashes import FLAT
from pipeline.stages.select import near_duplicates
from pipeline.stages.select.near_duplicates import duplicates_dropped, near_pairs

if TYPE_CHECKING:
    from pipeline.stages.select.near_duplicates import Hashes

Drawn = list[int]


@st.composite
def hashes(draw: st.DrawFn) -> tuple[Drawn, Drawn]:
    """Two sets of hashes: some centres, of which the others differ in a few bits, anywhere or in one band."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    near = st.builds(
        lambda centre, bits: centre ^ sum(1 << bit for bit in bits),
        st.sampled_from([*centres, *FLAT]),
        st.sets(st.integers(0, 63), max_size=10),
    )
    return draw(st.lists(near, max_size=30)), draw(st.lists(near, max_size=30))


def found(first: Hashes, second: Hashes, bits: int) -> list[tuple[int, int, int]]:
    pairs = near_pairs(first, second, bits)
    return sorted(
        (int(i), int(j), int(d)) for p in pairs for i, j, d in zip(p.first, p.second, p.distance, strict=True)
    )


def by_brute_force(first: Drawn, second: Drawn, bits: int) -> list[tuple[int, int, int]]:
    distances = ((i, j, (a ^ b).bit_count()) for i, a in enumerate(first) for j, b in enumerate(second))
    return sorted(pair for pair in distances if pair[2] <= bits)


@given(hashes(), st.integers(0, 8), st.sampled_from([1, 3, 7, 1 << 17]), st.sampled_from([0, 4, 10**9]))
def test_all_pairs_are_found_each_once(sets: tuple[Drawn, Drawn], bits: int, chunk: int, dense: int) -> None:
    """However few are compared at once, and whether by bands, all with all, or the one after the other."""
    arrays = [np.array(one, np.uint64) for one in sets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_CHUNK", chunk)
        patch.setattr(near_duplicates, "_DENSE", dense)
        assert found(arrays[0], arrays[1], bits) == by_brute_force(*sets, bits)


@pytest.mark.parametrize("dense", [0, 10**9])
def test_a_band_that_all_have_takes_no_memory_of_all_pairs(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    """Six million pairs have a band in common: 48 MB, if all of them were there at once."""
    monkeypatch.setattr(near_duplicates, "_DENSE", dense)
    rng = np.random.default_rng(7)
    first, second = (rng.integers(0, 2**48, count, np.uint64) << np.uint64(16) for count in (6000, 1000))
    second[::100] = first[:10] ^ np.uint64(0b101 << 30)
    tracemalloc.start()
    try:
        assert [(i, d) for i, _, d in found(first, second, 3)] == [(i, 2) for i in range(10)]
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


def table(*rows: tuple[str, str, int | None, bytes | None]) -> pa.Table:
    """Images: key, split, hash, and a digest of one letter."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    digests = [digest and digest * 16 for digest in columns[3]]
    arrays = [*(pa.array(column, pa.string()) for column in columns[:2]), pa.array(columns[2], pa.uint64())]
    return pa.table(
        dict(zip(("key", "split", "hash", "digest"), [*arrays, pa.array(digests, pa.binary(16))], strict=True))
    )


#: Hashes that are far from each other.
A, B, C = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x00FF00FF00FF0F0F


@pytest.mark.parametrize(
    ("rows", "dropped"),
    [
        ([("t", "train", A, b"t"), ("v", "val", A ^ 0b111, b"v")], {"t": "near_duplicate"}),
        ([("t", "train", A, b"t"), ("v", "val", A ^ 0b1111, b"v")], {}),
        ([("t", "train", A, b"x"), ("v", "val", A, b"x")], {"t": "equal_image"}),
        ([("t", "train", None, b"x"), ("v", "val", None, b"x")], {"t": "equal_image"}),
        ([("t", "train", None, b"t"), ("v", "val", None, b"v")], {}),
        ([("t", "train", None, None), ("v", "val", None, None)], {}),
        ([("t", "train", 0, b"t"), ("v", "val", 0, b"v")], {}),
        ([("t", "train", 1, b"t"), ("v", "val", 0, b"v")], {}),
        ([("t", "train", 2**64 - 1, b"t"), ("v", "val", 2**64 - 1, b"v")], {}),
        ([("t", "train", 0, b"x"), ("v", "val", 0, b"x")], {"t": "equal_image"}),
        ([("t", "train", A, b"t"), ("u", "train", A, b"t")], {}),
        ([("t", "train", A, b"t"), ("x", "test", A, b"t")], {}),
        ([], {}),
    ],
    ids=["near", "not near", "equal", "damaged and equal", "damaged", "unread", "flat", "nearly flat", "all bits",
         "flat and equal", "one split", "another split", "none"],
)  # fmt: skip
def test_what_is_dropped(rows: list[Any], dropped: dict[str, str]) -> None:
    assert duplicates_dropped(table(*rows), ["train", "val"], "val", 3) == dropped


def test_what_is_near_only_to_an_image_that_goes_stays() -> None:
    """Of three splits the one that is named last is compared first; a chain ends where an image goes."""
    rows = [("t", "train", A ^ 0b111111, b"t"), ("x", "test", A ^ 0b111, b"x"), ("v", "val", A, b"v")]
    assert duplicates_dropped(table(*rows), ["train", "val", "test"], "val", 3) == {"x": "near_duplicate"}
    assert duplicates_dropped(table(*rows[:2]), ["train", "val", "test"], "val", 3) == {"t": "near_duplicate"}
    assert duplicates_dropped(table(*rows[:2]), ["test", "val", "train"], "val", 3) == {"x": "near_duplicate"}


SPLITS = ("train", "val", "test")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SPLITS),
            st.sampled_from([A, A ^ 1, A ^ 0b11100, B, B ^ 3, C, 0, 1, None]),
            st.sampled_from([b"x", b"y", b"z", None]),
        ),
        max_size=25,
    ),
    st.permutations(SPLITS),
    st.sampled_from(SPLITS),
    st.integers(0, 8),
    st.randoms(use_true_random=False),
)
def test_no_two_splits_have_the_same_picture_left(
    drawn: list[tuple[str, int | None, bytes | None]], across: list[str], keep: str, bits: int, chance: random.Random
) -> None:
    rows = [(f"k{i}", *row) for i, row in enumerate(drawn)]
    dropped = duplicates_dropped(table(*rows), across, keep, bits)
    shuffled = chance.sample(rows, len(rows))
    assert duplicates_dropped(table(*shuffled), across, keep, bits) == dropped

    def alike(one: Any, other: Any) -> bool:
        equal = one[3] is not None and one[3] == other[3]
        seen = None not in (one[2], other[2]) and not {one[2], other[2]} & {*FLAT}
        return equal or (seen and (one[2] ^ other[2]).bit_count() <= bits)

    left = [row for row in rows if row[0] not in dropped]
    assert not [(a, b) for a in left for b in left if a[1] != b[1] and alike(a, b)]
    assert not [row for row in rows if row[0] in dropped and row[1] == keep]
    for row in rows:  # none goes without one that stays
        assert row[0] not in dropped or any(other[1] != row[1] and alike(row, other) for other in left)
