"""Which images belong to a subset: rows and images in, a choice out, in which every image is counted once."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.select.images import choose
from pipeline.tables import schema
from tests.support.tables import images, objects

#: One image of each kind: labelled with a wanted class, with another, empty, unlabelled, corrupt, and without a file.
KINDS: dict[str, dict[str, Any]] = {
    "wanted": {"image_path": "wanted.jpg"},
    "other": {"image_path": "other.jpg"},
    "empty": {"image_path": "empty.jpg", "label_state": "empty"},
    "missing": {"image_path": "missing.jpg", "label_state": "missing"},
    "corrupt": {"image_path": "corrupt.jpg", "label_state": "corrupt"},
    "lone": {},
}


def table(*names: str) -> pa.Table:
    return images(*({"key": f"s/a/{name}", **KINDS[name]} for name in names))


def rows(*names: str) -> pa.Table:
    return objects(*({"key": f"s/a/{name}", "class_id": 0} for name in names))


@pytest.mark.parametrize(
    ("backgrounds", "chosen"),
    [
        ("none", ["wanted"]),
        ("empty", ["wanted", "empty"]),
        ("unlabelled", ["wanted", "empty", "missing"]),
        ("all", ["wanted", "other", "empty", "missing"]),
    ],
)
def test_backgrounds(backgrounds: str, chosen: list[str]) -> None:
    found = choose(rows("wanted"), table(*KINDS), backgrounds=backgrounds, need_image=True)
    assert [stem.rpartition("/")[2] for stem in found.images["key"].to_pylist()] == chosen
    assert found.images.num_rows + sum(found.dropped.values()) == len(KINDS)


def test_a_label_without_an_image_is_a_problem_only_where_images_are_wanted() -> None:
    with_images = choose(rows("lone"), table("lone"), backgrounds="none", need_image=True)
    assert (with_images.problems, with_images.images.num_rows) == ([("s/a/lone", "no_image")], 0)
    labels = choose(rows("lone"), table("lone"), backgrounds="none", need_image=False)
    assert (labels.problems, labels.images.num_rows) == ([], 1)


def test_two_images_of_one_label_are_a_problem_and_the_first_is_taken() -> None:
    both = images({"key": "s/a/1", "image_path": "1.jpg", "other_images": "1.png"})
    found = choose(objects({"key": "s/a/1", "class_id": 0}), both, backgrounds="none", need_image=True)
    assert (found.problems, found.images.num_rows) == ([("s/a/1", "many_images")], 1)


def test_excluded_images_are_no_backgrounds_but_stay_where_they_have_rows() -> None:
    never = {"elsewhere": pa.array(["s/a/empty", "s/a/wanted"])}
    found = choose(rows("wanted"), table("wanted", "empty"), backgrounds="all", need_image=True, never=never)
    assert found.images["key"].to_pylist() == ["s/a/wanted"]
    assert found.dropped["elsewhere"] == 1


def test_an_empty_bucket() -> None:
    found = choose(schema.annotations().empty_table(), table(), backgrounds="all", need_image=True)
    assert (found.images.num_rows, sum(found.dropped.values()), found.problems) == (0, 0, [])


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans(), st.booleans())),
    st.sampled_from(["none", "empty", "unlabelled", "all"]),
    st.booleans(),
)
def test_every_image_is_chosen_or_counted_once(
    drawn: list[tuple[str, bool, bool]], backgrounds: str, need_image: bool
) -> None:
    every = images(*({"key": f"s/a/{i}", **KINDS[kind]} for i, (kind, _, _) in enumerate(drawn)))
    with_rows = [f"s/a/{i}" for i, (_, has_row, _) in enumerate(drawn) if has_row]
    never = {"elsewhere": pa.array([f"s/a/{i}" for i, (_, _, out) in enumerate(drawn) if out], pa.string())}
    some = objects(*({"key": key, "class_id": 0} for key in with_rows))
    found = choose(some, every, backgrounds=backgrounds, need_image=need_image, never=never)
    assert found.images.num_rows + sum(found.dropped.values()) == len(drawn)
    assert {*with_rows} - {*found.images["key"].to_pylist()} == {
        key for key, why in found.problems if why == "no_image"
    }
