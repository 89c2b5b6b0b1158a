"""The image that a label file says."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.base.terms import Task
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.stages.index.image_lookup import Finder
from pipeline.tables import schema

#: Nobody answers there: whoever asked for a file would raise.
NOWHERE = "http://127.0.0.1:9/x"

SPEC = IndexSpec("src", "labelme", Task.DETECT, None, (SplitSpec("train", "train", f"{NOWHERE}/l", f"{NOWHERE}/i"),))

COMPOSED, DECOMPOSED = "\xfcber.jpg", "u\N{COMBINING DIAERESIS}ber.jpg"

UNCLAIMED = sorted(["a.jpg", "day 1/b.png", "c/d/e.jpg", DECOMPOSED])


def found(label: str, said: str | None, unclaimed: list[str]) -> str | None:
    """The image that a label file without one of its stem gets; the source itself is never asked."""
    nothing = pa.table({"key": pa.array([], pa.string()), "path": pa.array([], pa.string())})
    row = dict.fromkeys(schema.images().names) | {"split": "train", "label_path": label, "image_said": said}
    images = pa.Table.from_pylist([row], schema.images())
    finder = Finder(SPEC, nothing, ["\0".join(unclaimed).encode()], None)
    (path,) = finder.complete(images)["image_path"].to_pylist()
    assert path is None or isinstance(path, str)
    return path


@pytest.mark.parametrize(
    ("label", "said", "path"),
    [
        ("x.json", "a.jpg", "a.jpg"),
        ("sub/x.json", "../a.jpg", "a.jpg"),
        ("sub/x.json", "a.jpg", "a.jpg"),
        ("day 1/x.json", "b.png", "day 1/b.png"),
        ("x.json", "file:///home/me/day%201/b.png", "day 1/b.png"),
        ("x.json", "C:/photos/c/d/e.jpg", "c/d/e.jpg"),
        ("x.json", COMPOSED, DECOMPOSED),
        ("x.json", DECOMPOSED, DECOMPOSED),
        ("x.json", "e.jpg", None),
        ("x.json", "../../a.jpg.txt", None),
        ("x.json", None, None),
    ],
)
def test_what_a_label_file_says_is_searched_for_among_unclaimed_images(
    label: str, said: str | None, path: str | None
) -> None:
    assert found(label, said, UNCLAIMED) == path
    assert found(label, said, []) is None


def test_a_size_is_asked_of_no_location_where_no_image_is_unclaimed() -> None:
    nothing = pa.table({"key": pa.array([], pa.string()), "path": pa.array([], pa.string())})
    ask = Finder(SPEC, nothing, [b""], None).asked(0, ["x.json"], ["src/train/x"])
    assert (ask(0, "a.jpg"), ask.look_up()) == (None, False)
