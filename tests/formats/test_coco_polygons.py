"""Polygons of COCO JSON by the thousand: their text, pairs of them joined, areas that are not said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycocotools

from pipeline.formats._numbers import numbers_of_lists
from pipeline.formats.coco.placing import all_completed, completed
from pipeline.formats.coco.plain_polygons import plain_polygons
from pipeline.geometry import polygons
from pipeline.geometry.polygons import join_polygons, order_of_pairs

NUMBER = st.one_of(st.integers(-50, 700), st.floats(-50, 700).map(lambda v: round(v, 3)))

PARTS = st.lists(st.lists(NUMBER, max_size=14), max_size=4)

SPACING = st.sampled_from([(",", ":"), (", ", ": "), (",\n  ", ":")])


@given(st.lists(st.tuples(PARTS, SPACING), max_size=5))
def test_plain_polygons_are_those_of_their_text(several: list[tuple[list[list[float]], Any]]) -> None:
    """Whatever is not plain is None, and is then decoded; what is, has the numbers of three points and more."""
    texts = [json.dumps(parts, separators=spacing).encode() for parts, spacing in several]
    for (parts, _), text, found in zip(several, texts, plain_polygons(texts), strict=True):
        in_pairs = len(parts) > 2 and all(len(part) == 2 for part in parts)  # points of one polygon
        good = (
            [[v for point in parts for v in point]]
            if in_pairs
            else [part for part in parts if len(part) >= 6 and len(part) % 2 == 0]
        )
        if found is None:
            assert b"e" in text or b"[]" in text.translate(None, b" \n")
            continue
        numbers, counts, whole = found
        assert counts == [len(part) for part in good]
        assert numbers_of_lists([numbers] if counts else []).tolist() == [v for part in good for v in part]
        assert whole is (in_pairs or len(good) == len(parts))


@pytest.mark.parametrize("text", [b"null", b"[]", b"[1,2,3,4,5,6]", b'{"counts":[1],"size":[1,1]}', b"[[[1,2],[3,4]]]"])
def test_what_is_no_list_of_polygons_is_not_plain(text: bytes) -> None:
    assert plain_polygons([text]) == [None]


PAIR = st.tuples(*[st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9).map(np.array)] * 2)


@given(st.lists(PAIR, max_size=6), st.sampled_from([1, 20, 20_000]))
def test_pairs_of_polygons_are_joined_as_one_by_one(pairs: list[tuple[Any, Any]], at_once: int) -> None:
    """Also where several points are equally near, and where pairs have more distances than are computed at once."""
    xy = np.concatenate([np.zeros((0, 2)), *(part for pair in pairs for part in pair)]).astype(np.float64)
    edges = np.cumsum([0, *(len(part) for pair in pairs for part in pair)])
    before, polygons._AT_ONCE = polygons._AT_ONCE, at_once
    try:
        order = order_of_pairs(xy, edges[:-1:2], edges[1::2], edges[2::2])
    finally:
        polygons._AT_ONCE = before
    expected = [join_polygons([one.astype(float), other.astype(float)]) for one, other in pairs]
    assert xy[order].tolist() == [point for joined in expected for point in joined.tolist()]


OBJECT = st.fixed_dictionaries(
    {"id": st.integers(1, 9), "category_id": st.just(1)},
    optional={
        "bbox": st.sampled_from([[], [1, 2, 3, 4], [1.5, 2, 0, 4], ["1", "2", "3", "4"]]),
        "segmentation": st.one_of(
            PARTS,
            st.none(),
            st.just([[1e1, 1, 30, 1, 30, 2.5e1]]),
            st.just({"counts": [505, 10, 40, 10, 4435], "size": [50, 100]}),
        ),
        "area": st.sampled_from([12, 3.5, "7", None]),
        "iscrowd": st.sampled_from([0, 1, "false", None]),
        "more": st.just({"id": 5}),
    },
)


@given(st.lists(OBJECT, max_size=5))
def test_objects_are_completed_as_one_by_one(objects: list[dict[str, Any]]) -> None:
    """What lacks nothing stays as it is; an area that is not said is the sum of those that pycocotools has of parts."""
    texts = [json.dumps(one).encode() for one in objects]
    made = all_completed(texts, [100] * len(texts), [50] * len(texts))
    assert made == [completed(text, 100, 50) for text in texts]
    for said, text, after in zip(objects, texts, made, strict=True):
        data = json.loads(after)
        parts = said.get("segmentation")
        assert data["iscrowd"] in (0, 1)
        text_alone = (
            "false" in said.values() or ["1", "2", "3", "4"] in said.values()
        )  # then the area is that of the box
        if isinstance(parts, list) and any(parts) and said.get("area") is None and not text_alone:
            good = [part for part in parts if len(part) > 5]
            assert data["area"] == sum(pycocotools.area(pycocotools.frPyObjects([part], 50, 100)[0]) for part in good)
        if all(type(said.get(name)) in (int, float) for name in ("area", "iscrowd")) and said.get("bbox") == [
            1,
            2,
            3,
            4,
        ]:
            assert after == text or [] in (parts or ())
