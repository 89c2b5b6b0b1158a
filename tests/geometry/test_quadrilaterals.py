"""Oriented boxes by their corners, against boxes that are turned and against Shapely's rules of area."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import masks
from pipeline.geometry.quadrilaterals import areas, four_corners, oblique, sides, within

Floats = npt.NDArray[np.float64]


def turned(width: float, height: float, degrees: float) -> Floats:
    """The corners of a box around 50, 50, shape (4, 2)."""
    turn = math.radians(degrees)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    made: Floats = corners @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + 50
    return made


@given(
    width=st.floats(0.01, 90),
    height=st.floats(0.01, 90),
    degrees=st.floats(-360, 360),
    first=st.integers(0, 3),
    backwards=st.booleans(),
)
def test_sides_and_area_are_those_of_the_box(
    width: float, height: float, degrees: float, first: int, backwards: bool
) -> None:
    """Whichever corner is the first, and in either direction."""
    corners = np.roll(turned(width, height, degrees)[:: -1 if backwards else 1], first, axis=0)[None]
    found = sorted(float(side[0]) for side in sides(corners))
    assert np.allclose(found, sorted((width, height)), rtol=1e-9, atol=1e-9)
    assert math.isclose(float(areas(corners)[0]), width * height, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("points", "count"),
    [
        ([[0, 0], [9, 0], [9, 9], [0, 9]], 4),
        ([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], 4),
        ([[0, 0], [9, 0], [9, 9], [0, 9], [0, 1]], None),
        ([[0, 0], [9, 0], [9, 9]], None),
        ([[0, 0], [9, 0], [9, 9], [0, 0]], 4),
    ],
)
def test_exactly_four_corners(points: list[list[float]], count: int | None) -> None:
    found = four_corners(np.array(points, np.float64))
    assert (found is None) == (count is None)
    assert found is None or found.tolist() == points[:4]


@given(
    width=st.floats(1, 90),
    height=st.floats(1, 90),
    degrees=st.floats(-180, 180),
    shift=st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
)
def test_four_corners_stay_within_the_image(
    width: float, height: float, degrees: float, shift: tuple[float, float]
) -> None:
    corners = (turned(width, height, degrees) + shift)[None]
    sizes, slack = np.array([[100.0, 80.0]]), np.array([[1.0, 0.8]])
    moved, cut, outside = within(corners, sizes, slack)
    beyond = (corners < -slack).any() or (corners > sizes + slack).any()
    assert bool(cut[0]) == bool(beyond)
    if not beyond:
        assert (moved == corners).all()
        return
    assert ((moved >= 0) & (moved <= sizes)).all()
    if outside[0]:
        # Of what is left out no more than a corner of a pixel is in the image, or four corners that enclose nothing.
        seen = masks.area(masks.of_polygon(corners[0], 80, 100))
        assert seen < 4 or areas(moved)[0] == 0


def test_no_numbers_are_outside() -> None:
    corners = np.full((1, 4, 2), np.nan)
    assert within(corners, np.ones((1, 2)), np.zeros((1, 2)))[2].tolist() == [True]


def test_what_is_smaller_than_the_upright_box_around_it_is_oblique() -> None:
    upright = [[1, 2], [4, 2], [4, 3], [1, 3]]
    nearly = [[1, 2], [4, 2], [4, 3], [1, 3 + 1e-9]]
    point = [[1, 1]] * 4
    diamond = [[2, 0], [4, 2], [2, 4], [0, 2]]
    assert oblique(np.array([upright, upright[::-1], nearly, point, diamond], float)).tolist() == [False] * 4 + [True]
