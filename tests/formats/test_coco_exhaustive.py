"""What images of LVIS say of the classes that are labelled everywhere in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats.coco.exhaustive import exhaustive

LABELS: dict[int | str, str] = {1: "cat", 2: "dog", 7: "cow", "x": "owl", "1": "cat"}

IDS = st.lists(st.sampled_from([1, 2, 7, "x", "1", 99, 1.0]))


def of(images: list[dict[str, Any]], rows: list[tuple[int, str]]) -> list[list[str] | None]:
    table = pa.table(
        {"file": pa.array([i for i, _ in rows], pa.int32()), "label": pa.array([n for _, n in rows], pa.string())}
    )
    found = exhaustive([msgspec.json.encode(image) for image in images], LABELS, table).to_pylist()
    return [None if text is None else text.split("\n") if text else [] for text in found]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.integers()},
            optional={"neg_category_ids": IDS | st.none(), "not_exhaustive_category_ids": IDS | st.none()},
        ),
        max_size=4,
    ),
    st.data(),
)
def test_labelled_or_said_not_to_be_there_and_not_said_to_be_more(
    images: list[dict[str, Any]], data: st.DataObject
) -> None:
    names = sorted({*LABELS.values()})
    rows = data.draw(st.lists(st.tuples(st.integers(0, len(images) - 1), st.sampled_from(names)))) if images else []
    for i, (image, found) in enumerate(zip(images, of(images, rows), strict=True)):
        absent, partly = image.get("neg_category_ids"), image.get("not_exhaustive_category_ids")
        if absent is None and partly is None:
            assert found is None
            continue
        assert found == [
            name
            for name in names
            if (absent is None or (i, name) in rows or name in [LABELS.get(key) for key in absent])
            and name not in [LABELS.get(key) for key in partly or ()]
        ]


@pytest.mark.parametrize("value", ["?", 1, {"a": 1}, [[1]], [None, {}]])
def test_what_is_no_list_of_ids_says_nothing_of_them(value: Any) -> None:
    plain_ids = [key for key in value if isinstance(key, int)] if isinstance(value, list) else None
    found = of([{"id": 1, "neg_category_ids": value, "not_exhaustive_category_ids": [7]}], [(0, "dog")])
    assert found == [["dog"] if plain_ids is not None else ["cat", "dog", "owl"]]


def test_an_image_of_lvis() -> None:
    data = json.loads((Path(__file__).parent / "real/lvis.json").read_text(encoding="utf-8"))
    labels: dict[int | str, str] = {81: "cow", 440: "dinghy", 5: "alcohol"}
    rows = pa.table({"file": pa.array([0] * 4, pa.int32()), "label": ["cow"] * 4})
    found = exhaustive([msgspec.json.encode(image) for image in data["images"]], labels, rows)
    assert found.to_pylist() == ["dinghy"]  # cows may be more, of alcohol nothing is known
