"""Pixels that polygons cover, beside what pycocotools says."""

from __future__ import annotations

import operator
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycocotools

from pipeline.geometry import masks, polygon_pixels

Floats = npt.NDArray[np.float64]

Ints = npt.NDArray[np.int64]

#: Corners anywhere, on pixels, on their middles and edges, and on the finer grid: there sums are rounded.
CORNER = st.one_of(
    st.floats(-30, 90),
    st.integers(-20, 80).map(float),
    st.builds(operator.mul, st.integers(-300, 900), st.sampled_from([0.1, 0.2, 0.5])),
)

POLYGON = st.lists(st.tuples(CORNER, CORNER), min_size=3, max_size=9).map(lambda points: np.array(points, np.float64))


def compressed(polygon: Floats, height: int, width: int) -> str:
    """The runs of pycocotools."""
    (found,) = pycocotools.frPyObjects([polygon.ravel().tolist()], height, width)
    return str(found["counts"].decode("ascii"))


@given(POLYGON, st.integers(1, 70), st.integers(1, 70))
def test_a_polygon_covers_the_pixels_of_pycocotools(polygon: Floats, height: int, width: int) -> None:
    assert masks.compress(masks.of_polygon(polygon, height, width)) == compressed(polygon, height, width)


@given(st.lists(st.tuples(POLYGON, st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=6))
def test_areas_are_those_of_pycocotools(several: list[tuple[Floats, int, int]]) -> None:
    polygons, heights, widths = zip(*several, strict=True)
    starts = np.cumsum([0, *map(len, polygons)])
    found = masks.areas_of_polygons(np.concatenate(polygons), starts, np.array(heights), np.array(widths))
    expected: list[Any] = [
        pycocotools.area(pycocotools.frPyObjects([p.ravel().tolist()], h, w)[0]) for p, h, w in several
    ]
    assert found.tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_many_polygons_of_large_images(seed: int) -> None:
    """Long edges, nearly flat and nearly steep ones too, whose slopes are rounded at each of thousands of steps."""
    rng = np.random.default_rng(seed)
    height, width = 3000, 4000
    for _ in range(300):
        polygon = rng.uniform(-500, 4500, (rng.integers(3, 40), 2))
        if rng.random() < 0.5:
            polygon[1::2] = polygon[::2][: len(polygon) // 2] + rng.integers(-5, 6, (len(polygon) // 2, 2)) / 5
        if rng.random() < 0.5:
            polygon = np.round(polygon, int(rng.integers(0, 3)))
        assert masks.compress(masks.of_polygon(polygon, height, width)) == compressed(polygon, height, width)


def test_more_turns_than_fit_into_memory_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    polygon = np.random.default_rng(5).uniform(-10, 110, (400, 2))
    expected = compressed(polygon, 100, 100)
    monkeypatch.setattr(polygon_pixels, "_AT_ONCE", 200)
    assert masks.compress(masks.of_polygon(polygon, 100, 100)) == expected


def test_what_is_beyond_the_image_takes_no_memory() -> None:
    """pycocotools ends the process for such a polygon, or walks along all of it."""
    polygon = np.array([[-1e300, -1e15], [1e15, -1e9], [1e12, 1e300], [-1e9, 1e9]])
    tracemalloc.start()
    runs = masks.of_polygon(polygon, 30, 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert masks.area(runs) == 30 * 40
    assert peak < 1_000_000


def test_polygons_without_points_cover_nothing() -> None:
    sizes = np.array([5, 5, 5])
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float64)
    assert masks.areas_of_polygons(square, np.array([0, 0, 4, 4]), sizes, sizes).tolist() == [0, 16, 0]
    assert masks.areas_of_polygons(square[:0], np.array([0]), sizes[:0], sizes[:0]).tolist() == []


#: Corners that coincide, in a row, that are nearly 0, and far beyond any image; few of each, so that edges cross.
HARD_CORNER = st.one_of(
    CORNER, st.sampled_from([0.0, -0.0, 1.0, 2.5, 30.0]), st.floats(-1e-6, 1e-6), st.floats(-1e300, 1e300)
)

HARD_POLYGON = st.lists(st.tuples(HARD_CORNER, HARD_CORNER), min_size=3, max_size=9).map(
    lambda points: np.array(points, np.float64)
)

OBJECTS = st.lists(
    st.tuples(st.lists(HARD_POLYGON, min_size=1, max_size=4), st.integers(1, 70), st.integers(1, 70)), max_size=5
)


@given(OBJECTS, st.sampled_from([1, 30, 100_000]))
def test_areas_of_objects_are_those_of_the_union_of_their_polygons(
    objects: list[tuple[list[Floats], int, int]], at_once: int
) -> None:
    """Of one polygon or several, which overlap or not; whatever fits into a batch."""
    expected = [masks.area(masks.union([masks.of_polygon(p, h, w) for p in parts])) for parts, h, w in objects]
    polygons = [polygon for parts, _, _ in objects for polygon in parts]
    heights, widths = (np.array([one[i] for one in objects], np.int64) for i in (1, 2))
    starts, parts = np.cumsum([0, *map(len, polygons)]), np.cumsum([0, *(len(parts) for parts, _, _ in objects)])
    xy = np.concatenate([np.zeros((0, 2)), *polygons])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygon_pixels, "_AT_ONCE", at_once)
        assert masks.areas_of_unions(xy, starts, parts, heights, widths).tolist() == expected


def test_an_object_of_many_polygons_is_not_measured_by_ever_larger_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of `turns` costs what it has found so far: what is handed to it at once is one step, or one polygon."""
    steps: list[float] = []
    turns = polygon_pixels.turns

    def noted(xy: Floats, starts: Ints, heights: Ints, widths: Ints) -> tuple[Ints, Ints]:
        steps.append(polygon_pixels.most_turns(xy, starts, widths)[-1] if len(starts) > 2 else 0.0)
        return turns(xy, starts, heights, widths)

    monkeypatch.setattr(polygon_pixels, "turns", noted)
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 1000, (400, 1, 2))
    xy = (corner + np.array([[0, 0], [2000, 0], [2000, 150], [0, 100]])).reshape(-1, 2)
    size = np.array([3000])
    (found,) = masks.areas_of_unions(xy, np.arange(0, 1601, 4), np.array([0, 400]), size, size)
    assert len(steps) > 2
    assert max(steps) <= 1
    monkeypatch.undo()
    assert found == masks.area(masks.union([masks.of_polygon(p, 3000, 3000) for p in xy.reshape(-1, 4, 2)]))
