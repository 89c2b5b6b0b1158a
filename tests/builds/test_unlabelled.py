"""Images that may hold objects of a wanted class without a label: counted, never backgrounds, and left out if asked."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
from pipeline.base.errors import DataError
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import picture, repeated, settle, write_file

ROW = "{} 0.5 0.5 0.2 0.2\n"

#: By source its names, and the classes that each image has objects of; None: no label file.
STREET: tuple[list[str], dict[str, list[str] | None]] = (
    ["car", "plate"],
    {"both": ["car", "plate"], "cars": ["car"], "nothing": [], "unseen": None},
)
ZOO: tuple[list[str], dict[str, list[str] | None]] = (
    ["dog", "car"],
    {"cars": ["car"], "dogs": ["dog"], "nothing": [], "unseen": None},
)


def source(root: Path, name: str, names: list[str], labels: dict[str, list[str] | None]) -> dict[str, Any]:
    for stem, found in labels.items():
        write_file(root / name / f"images/t/{stem}.jpg", picture(f"{name}/{stem}"))
        if found is not None:
            write_file(root / name / f"labels/t/{stem}.txt", "".join(ROW.format(names.index(one)) for one in found))
    file = write_file(root / name / "names.txt", "\n".join(names))
    return {"name": name, "names": str(file), "root": str(root / name), "splits": {"train": "t"}}


@pytest.fixture
def make(tmp_path: Path, make_subset: MakeSubset) -> Any:
    def subset(classes: list[str], backgrounds: str = "all", on: str = "keep", **exhaustive: list[str]) -> Subset:
        sources = [source(tmp_path, "street", *STREET), source(tmp_path, "zoo", *ZOO)]
        for one in sources:
            one["exhaustive"] = exhaustive.get(one["name"])
        select = {"backgrounds": backgrounds, "on_unlabelled": on}
        return make_subset(tmp_path, source=sources, classes=classes, select=select)

    return subset


def taken(subset: Subset) -> list[str]:
    return sorted(str(p.relative_to(subset.target / "labels/train")) for p in subset.target.rglob("labels/**/*.txt"))


OF_STREET = ["street/both.txt", "street/cars.txt", "street/nothing.txt", "street/unseen.txt"]


def test_images_of_a_source_without_a_class_are_counted_and_no_backgrounds(make: Any) -> None:
    subset = make(["plate", "car"])
    settle()
    made = subset.build()
    assert taken(subset) == [*OF_STREET, "zoo/cars.txt"]
    assert made["unlabelled"] == {"plate": 1}
    assert made["images"]["unlabelled_class"] == 3
    assert [w for w in made["warnings"] if "1 image may hold unlabelled 'plate', which a trainer takes" in w]
    assert [w for w in made["warnings"] if "source zoo has no class for 'plate'" in w]
    again = subset.build()
    assert (again["changes"], again["unlabelled"]) == (0, {"plate": 1})


def test_or_left_out_with_their_objects(make: Any) -> None:
    subset = make(["plate", "car"], on="drop")
    made = subset.build()
    assert taken(subset) == OF_STREET
    assert made["images"]["unlabelled_class"] == 4
    assert made["rows"]["unlabelled_class"] == 1
    assert not [w for w in made["warnings"] if "plate" in w]
    for balance in (made["images"], made["rows"]):
        assert sum(n for word, n in balance.items() if word != "source") == balance["source"]
    text = subset.command("plan", "--set", "select.backgrounds=none", "--set", f"target.root={subset.target}2").out
    assert "where a wanted class may be unlabelled" in text


@pytest.mark.parametrize(
    ("exhaustive", "backgrounds", "counted"),
    [
        ({}, [*OF_STREET[2:], "zoo/dogs.txt", "zoo/nothing.txt", "zoo/unseen.txt"], {}),
        ({"street": ["plate"]}, ["zoo/dogs.txt", "zoo/nothing.txt", "zoo/unseen.txt"], {"car": 2}),
        ({"street": ["c*"], "zoo": ["dog"]}, OF_STREET[2:], {"car": 1}),
        ({"street": [], "zoo": []}, [], {"car": 3}),
        ({"street": ["car", "plate"]}, [*OF_STREET[2:], "zoo/dogs.txt", "zoo/nothing.txt", "zoo/unseen.txt"], {}),
    ],
)
def test_exhaustive_says_what_is_labelled_everywhere(
    make: Any, exhaustive: dict[str, list[str]], backgrounds: list[str], counted: dict[str, int]
) -> None:
    subset = make(["car"], **exhaustive)
    made = subset.build()
    assert taken(subset) == sorted({*OF_STREET[:2], "zoo/cars.txt", *backgrounds})
    assert made.get("unlabelled", {}) == counted


def test_an_unknown_name_in_exhaustive_is_an_error(make: Any) -> None:
    error = make(["car"], zoo=["dgo"]).command("plan", code=2).err
    assert "source.exhaustive: unknown class 'dgo'; did you mean 'dog'?" in error


NAMES = ("cat", "dog", "cow")
IMAGE = st.fixed_dictionaries(
    {
        "objects": st.sets(st.sampled_from(NAMES)),
        "neg": st.none() | st.sets(st.sampled_from(NAMES)),
        "partly": st.sets(st.sampled_from(NAMES)),
    }
)


def lvis(root: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    ids = {name: 10 + n for n, name in enumerate(NAMES)}
    images, objects = [], []
    for i, one in enumerate(found):
        lists = (
            {}
            if one["neg"] is None
            else {
                "neg_category_ids": [ids[n] for n in sorted(one["neg"])],
                "not_exhaustive_category_ids": [ids[n] for n in sorted(one["partly"])],
            }
        )
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64, **lists})
        objects += [
            {
                "id": 100 * i + ids[n],
                "image_id": i,
                "category_id": ids[n],
                "bbox": [1, 1, 9, 9],
                "area": 81,
                "iscrowd": 0,
            }
            for n in sorted(one["objects"])
        ]
        write_file(root / f"images/{i}.jpg", str(i))
    data = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": n, "name": name} for name, n in ids.items()],
    }
    write_file(root / "lvis.json", json.dumps(data))
    return {"format": "coco", "root": str(root), "splits": {"train": {"annotations": "lvis.json", "images": "images"}}}


@given(
    found=st.lists(IMAGE, min_size=1, max_size=8),
    classes=st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
    drop=st.booleans(),
    backgrounds=st.sampled_from(["none", "unlabelled", "all"]),
)
@settings(max_examples=repeated(12))
def test_images_of_lvis_are_backgrounds_for_what_they_are_said_not_to_hold(
    found: list[dict[str, Any]], classes: list[str], backgrounds: str, *, drop: bool
) -> None:
    """An image without such lists is one of COCO, where all classes are labelled everywhere."""
    wanted, kept, counts = {*classes}, set(), Counter[str]()
    for i, one in enumerate(found):
        absent, objects = one["neg"], one["objects"]
        doubtful = wanted - ((absent | objects) - one["partly"]) if absent is not None else set()
        if wanted & objects:
            take = not (drop and doubtful)
        else:
            take = not doubtful and (backgrounds == "all" or (backgrounds == "unlabelled" and not objects))
        if take:
            kept.add(str(i))
            counts.update(doubtful)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = {
            "source": lvis(root / "lvis", found),
            "classes": classes,
            "select": {"backgrounds": backgrounds, "on_unlabelled": "drop" if drop else "keep"},
            "target": {"root": str(root / "out")},
            "workdir": str(root / "work"),
            "engine": {"scheduler": "sync"},
        }
        if not kept:
            with pytest.raises(DataError, match="would be empty"):
                pipeline.build(config)
            return
        made = pipeline.build(config).data
        assert {p.stem for p in (root / "out/labels").rglob("*.txt")} == kept
    assert made.get("unlabelled", {}) == counts
    for balance in (made["images"], made["rows"]):
        assert sum(n for word, n in balance.items() if word != "source") == balance["source"]


def test_counts_do_not_depend_on_buckets(make: Any, tmp_path: Path) -> None:
    subset = make(["plate", "car"], street=["plate"])
    expected = subset.build()
    made = taken(subset)
    more = ("index.buckets=4", f"workdir={tmp_path}/w2", f"target.root={tmp_path}/again")
    again = subset.build(*(word for key in more for word in ("--set", key)))
    assert again["unlabelled"] == expected["unlabelled"] == {"car": 2, "plate": 1}
    assert (
        sorted(
            str(p.relative_to(tmp_path / "again/labels/train")) for p in (tmp_path / "again").rglob("labels/**/*.txt")
        )
        == made
    )
