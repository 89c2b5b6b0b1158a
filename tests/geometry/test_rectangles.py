"""The smallest rectangles around shapes, against all pairs of their points tried one by one."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.rectangles import smallest_rectangles

Floats = npt.NDArray[np.float64]


def _turned(width: float, height: float, degrees: float) -> Floats:
    turn = math.radians(degrees)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    turned: Floats = corners @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + 50
    return turned


def _by_hand(points: Floats) -> float:
    """The least area of a rectangle with a side along any two of the points."""
    areas = []
    for a, b in combinations(points.tolist(), 2):
        length = math.dist(a, b)
        if length:
            x, y = (b[0] - a[0]) / length, (b[1] - a[1]) / length
            areas.append(np.ptp(points @ [x, y]) * np.ptp(points @ [-y, x]))
    return min(areas, default=0.0)


_points = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=14)


@given(st.lists(_points, min_size=1, max_size=5))
def test_no_rectangle_along_two_points_is_smaller(shapes: list[list[tuple[int, int]]]) -> None:
    arrays = [np.array(shape, np.float64) for shape in shapes]
    starts = np.cumsum([0, *map(len, arrays)])[:-1]
    long, short = smallest_rectangles(np.concatenate(arrays), starts)
    assert (long >= short).all()
    assert long * short == pytest.approx([_by_hand(points) for points in arrays], abs=1e-6)


@pytest.mark.parametrize("degrees", [0, 1, 30, 45, 90, 133.7])
@pytest.mark.parametrize("sides", [(40, 3), (3, 40), (10, 10), (2000, 0.5)])
def test_a_turned_box_is_as_long_as_it_is(sides: tuple[float, float], degrees: float) -> None:
    long, short = smallest_rectangles(_turned(*sides, degrees), np.array([0]))
    assert (long[0], short[0]) == pytest.approx((max(sides), min(sides)), abs=1e-6)


def test_round_and_jagged_outlines() -> None:
    """Of many points: a circle's square, and a star whose hull is a fifth of its points; none at all."""
    turn = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    jagged = circle * np.where(np.arange(5000) % 5 == 0, 1.0, 0.3)[:, None] * (30, 1)
    long, short = smallest_rectangles(np.concatenate([circle, jagged]), np.array([0, 5000]))
    assert (long / short).tolist() == pytest.approx([1, 30], rel=0.01)
    assert [len(sides) for sides in smallest_rectangles(np.zeros((0, 2)), np.zeros(0, np.int64))] == [0, 0]
