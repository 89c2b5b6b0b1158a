"""A share of backgrounds: never above it, by rank, the same however the images are ordered, stable when more come."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.select.draw import drawn, most_backgrounds, near_misses, race, rank_of


@given(st.integers(0, 10**7), st.integers(0, 999).map(lambda n: n / 1000))
def test_the_share_is_never_above_the_ratio_and_one_more_would_be(images: int, ratio: float) -> None:
    n, share = most_backgrounds(images, ratio), Fraction(repr(ratio))
    assert n <= share * (images + n)
    assert n + 1 > share * (images + n + 1)


_IMAGES = st.lists(
    st.tuples(st.integers(0, 2**62), st.integers(0, 2), st.booleans()), max_size=60, unique_by=lambda i: i[0]
)


def _taken(images: list[tuple[int, int, bool]], ratio: float | None, most: int | None) -> set[int]:
    rank, split, background = (np.array([image[i] for image in images], t) for i, t in enumerate((np.int64, int, bool)))
    return {int(r) for r in rank[drawn(rank, split, background, ratio, most)]}


@given(_IMAGES, st.sampled_from([None, 0.0, 0.1, 0.3, 0.9]), st.none() | st.integers(0, 9), st.randoms())
def test_a_draw(images: list[tuple[int, int, bool]], ratio: float | None, most: int | None, random: object) -> None:
    taken = _taken(images, ratio, most)
    shuffled = list(images)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _taken(shuffled, ratio, most) == taken
    assert taken <= {rank for rank, _, background in images if background}
    assert most is None or len(taken) <= most
    for number in range(3):
        here = [(rank, background) for rank, split, background in images if split == number]
        drawn_here = [rank for rank, background in here if rank in taken]
        first = sorted(rank for rank, background in here if background)[: len(drawn_here)]
        assert sorted(drawn_here) == first  # those first by rank, of each split
        if ratio is not None:
            assert len(drawn_here) <= most_backgrounds(sum(not background for _, background in here), ratio)


def test_a_rank_is_the_same_on_every_machine() -> None:
    assert rank_of("source/train2017/000000000009", 0) == rank_of("source/train2017/000000000009", 0)
    assert rank_of("a", 0) != rank_of("a", 1)
    assert 0 <= rank_of("a", -1) < 2**63
    assert rank_of("source/train2017/000000000009", 0) == 5_066_741_719_243_187_926


def test_a_race_draws_by_weight() -> None:
    rank = np.random.default_rng(5).integers(0, 2**63, 40_000)
    weight = np.where(np.arange(40_000) % 2 == 0, 0.3, 0.1)
    first = np.argsort(race(rank, weight))[:1000]
    assert (weight[first] == 0.3).mean() == pytest.approx(0.75, abs=0.04)
    assert np.isinf(race(rank[:2], np.zeros(2))).all()


def test_near_misses_hold_a_class_that_occurs_beside_a_wanted_one() -> None:
    """Dogs are beside bicycles in half of their images, cups in 1 of 200, boats never; trucks are vehicles as well."""
    others = (
        [["dog"], ["dog", "dog"], ["cup"] * 3, ["boat"], [], ["truck"], ["cup", "dog"]] + [["cup"]] * 198 + [["cup"]]
    )
    background = np.array([False, True, True, True, True, True, True] + [True] * 198 + [False])
    found = near_misses(
        pa.array(others, pa.list_(pa.string())), background, frozenset(["car"]), {"car": "vehicle", "truck": "vehicle"}
    )
    assert found[:7].tolist() == [pytest.approx(1 / 3), pytest.approx(1 / 3), 0, 0, 0, 0.01, pytest.approx(1 / 3)]
