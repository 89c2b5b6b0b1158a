"""Masks: run lengths, COCO's strings, polygons to pixels and back."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import masks, polygon_pixels
from pipeline.geometry.polygons import clip_polygon, join_polygons
from pipeline.geometry.rectangles import smallest_rectangles

Floats = npt.NDArray[np.float64]

#: Polygons, image height and width, and the compressed runs that pycocotools 2.0.11 makes of them.
FROM_PYCOCOTOOLS = [
    ([[2, 3], [9, 3], [9, 8], [2, 8]], 10, 12, "g05500000000000k0"),
    ([[1.5, 1.5], [8.25, 2.75], [4, 9.9]], 12, 10, "j0393M1ON2O2Mg0"),
    ([[-3, -3], [5, 2], [20, 30], [0.5, 6]], 9, 7, "0631O1000O1O2N"),
]


def _square(x: int, y: int, side: int) -> Floats:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float64)


def _shoelace(polygon: Floats) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@st.composite
def _masks(draw: st.DrawFn) -> npt.NDArray[np.bool_]:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, np.bool_).reshape(height, width)


@given(_masks())
def test_runs_and_strings_give_the_mask_back(mask: npt.NDArray[np.bool_]) -> None:
    runs = masks.of_mask(mask)
    assert (masks.to_mask(runs, *mask.shape) == mask).all()
    assert (masks.decompress(masks.compress(runs)) == runs).all()
    assert masks.area(runs) == mask.sum()
    ys, xs = np.nonzero(mask)
    box = (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1) if mask.any() else (0, 0, 0, 0)
    assert masks.box(runs, mask.shape[0]) == box


@given(_masks(), st.integers(1, 4))
def test_a_patch_is_part_of_the_mask(mask: npt.NDArray[np.bool_], step: int) -> None:
    runs, height = masks.of_mask(mask), mask.shape[0]
    left, top, columns, rows = box = masks.box(runs, height)
    patch = masks.to_patch(runs, height, box, step)
    assert (patch == mask[top : top + rows : step, left : left + columns : step]).all()
    assert step > 1 or patch.sum() == masks.area(runs)


@given(_masks(), st.integers(0, 5))
def test_a_union_is_that_of_pixels(mask: npt.NDArray[np.bool_], seed: int) -> None:
    several = [mask, *(np.random.default_rng(seed).random((2, *mask.shape)) < 0.3)]
    runs = masks.union([masks.of_mask(m) for m in several])
    assert (masks.to_mask(runs, *mask.shape) == np.logical_or.reduce(several)).all()


@given(_masks())
def test_outlines_are_the_edges_of_pixels(mask: npt.NDArray[np.bool_]) -> None:
    outer, holes = masks.outlines(mask)
    assert sum(map(_shoelace, outer)) + sum(map(_shoelace, holes)) == mask.sum()
    assert all(_shoelace(p) > 0 for p in outer)
    assert all(_shoelace(p) < 0 for p in holes)
    for polygon in [*outer, *holes]:
        steps = np.roll(polygon, -1, axis=0) - polygon
        assert ((steps == 0).sum(axis=1) == 1).all()  # along an edge, to another corner
        assert (np.sign(steps) != np.sign(np.roll(steps, 1, axis=0))).any(axis=1).all()  # and round it
    assert bool(outer) == bool(mask.any())


@pytest.mark.parametrize(("polygon", "height", "width", "counts"), FROM_PYCOCOTOOLS)
def test_a_polygon_covers_what_it_covers_for_pycocotools(polygon: Any, height: int, width: int, counts: str) -> None:
    assert masks.compress(masks.of_polygon(np.array(polygon, np.float64), height, width)) == counts


@given(st.data())
def test_areas_of_many_polygons_are_those_of_each(data: st.DataObject) -> None:
    """Of images of different sizes, partly or wholly outside, with points that coincide, in batches or at once."""
    corner = st.tuples(st.floats(-20, 60), st.floats(-20, 60))
    polygons = data.draw(st.lists(st.lists(corner, min_size=3, max_size=8), min_size=1, max_size=6))
    heights, widths = (
        np.array(data.draw(st.lists(st.integers(1, 40), min_size=len(polygons), max_size=len(polygons))))
        for _ in range(2)
    )
    starts = np.cumsum([0, *map(len, polygons)])
    one_by_one = [
        masks.area(masks.of_polygon(np.array(p), int(h), int(w)))
        for p, h, w in zip(polygons, heights, widths, strict=True)
    ]
    flat = np.array([point for polygon in polygons for point in polygon], np.float64)
    at_once = polygon_pixels._AT_ONCE
    for most in (at_once, 1, 30):
        polygon_pixels._AT_ONCE = most
        try:
            assert masks.areas_of_polygons(flat, starts, heights, widths).tolist() == one_by_one
        finally:
            polygon_pixels._AT_ONCE = at_once


def test_an_outline_covers_its_mask() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[3:15, 4:20] = True
    mask[6:9, 8:12] = False
    (outer,), (hole,) = masks.outlines(mask)
    inside, outside = (masks.to_mask(masks.of_polygon(p, 20, 30), 20, 30) for p in (outer, hole))
    assert ((inside & ~outside) == mask).all()


@pytest.mark.parametrize("text", ["\x00", "o", "é", "1o", "0" * 3 + "~"])
def test_a_damaged_string_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no run lengths"):
        masks.decompress(text)


def test_runs_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match="add up to 5, not to 2 x 3 pixels"):
        masks.to_mask([2, 3], 2, 3)


def test_polygons_are_cut_off_at_the_edge_of_the_image() -> None:
    inside = _square(1, 1, 3)
    assert clip_polygon(inside, 10, 10) is inside
    cut = clip_polygon(_square(-5, 4, 20), 10, 12)
    assert _shoelace(cut) == 10 * 8
    assert (cut.min(axis=0).tolist(), cut.max(axis=0).tolist()) == ([0, 4], [10, 12])
    assert len(clip_polygon(_square(20, 20, 5), 10, 10)) == 0
    triangle = np.array([[5.0, 5.0], [15.0, 5.0], [5.0, 15.0]])
    assert _shoelace(clip_polygon(triangle, 10, 10)) == pytest.approx(25)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 9)), min_size=1, max_size=5))
def test_joined_polygons_have_the_area_of_all(squares: list[tuple[int, int, int]]) -> None:
    parts = [_square(*s) for s in squares]
    joined = join_polygons(parts)
    assert {tuple(p) for p in joined.tolist()} == {tuple(p) for part in parts for p in part.tolist()}
    if len(parts) < 3:  # of three and more, Ultralytics turns the middle ones round
        assert _shoelace(joined) == sum(map(_shoelace, parts))


def test_polygons_of_many_points_are_joined_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.integers(0, 9, (rng.integers(3, 30), 2)).astype(float) for _ in range(6)]
    whole = join_polygons(parts)
    monkeypatch.setattr("pipeline.geometry.polygons._PAIRS", 40)
    assert (join_polygons(parts) == whole).all()


@given(_masks())
def test_the_corners_of_a_mask_have_its_hull(mask: npt.NDArray[np.bool_]) -> None:
    column, row = (axis[:, None, None] for axis in np.nonzero(mask.T))
    every = np.broadcast_arrays(column + np.array([[0], [1]]), row + np.array([[0, 1]]))
    points = np.stack(every, axis=-1).reshape(-1, 2).astype(np.float64)
    found = masks.corners(masks.of_mask(mask), mask.shape[0])
    assert {tuple(p) for p in found.tolist()} <= {tuple(p) for p in points.tolist()}
    if mask.any():
        several = np.concatenate([points, found])
        long, short = smallest_rectangles(several, np.array([0, len(points)]))
        assert (long[0], short[0]) == (long[1], short[1])
    else:
        assert not len(found)


def test_a_mask_of_too_many_parts_has_no_outline() -> None:
    mask = np.indices((20, 20)).sum(0) % 2 == 1
    assert len(masks.outlines(mask)[0]) == 200
    assert masks.outlines(mask, 100) == ([], [])


def test_runs_that_overflow_are_none() -> None:
    with pytest.raises(ValueError, match="run lengths"):
        masks.to_mask([2**62, 2**62, 2**62, 2**62 + 4], 2, 2)


@pytest.mark.slow
def test_a_comb_is_one_polygon_in_bounded_memory() -> None:
    comb = np.zeros((600, 600), np.bool_)
    comb[:, ::2] = True
    comb[0] = True
    tracemalloc.start()
    outer, holes = masks.outlines(comb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(outer), len(holes)) == (1, 0)
    assert _shoelace(outer[0]) == comb.sum()
    edges = int(np.count_nonzero(np.diff(comb, axis=1))) + 2 * 600
    assert peak < 160 * edges  # some numbers for each edge, and no object


def test_a_mask_of_more_edges_than_a_drawing_has_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    square = np.ones((10, 10), np.bool_)
    monkeypatch.setattr(masks, "MOST_EDGES", 40)
    assert len(masks.outlines(square)[0]) == 1
    monkeypatch.setattr(masks, "MOST_EDGES", 39)
    assert masks.outlines(square) == ([], [])
