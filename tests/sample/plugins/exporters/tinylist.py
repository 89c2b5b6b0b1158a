"""A layout as a stranger would add it: images as they are, and one list of classes a file beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline.base.terms import Task
from pipeline.exporters import BucketObjects, Dataset, usual
from pipeline.exporters._images import digests, pictures, wanted_files
from pipeline.tables.schema import Kind

FOLDERS = ("labels", "images")
LAYOUTS = {"default": usual(FOLDERS)}
COLUMNS = ()
OF_TASK = False
GATHERS = False


def fragment(rows: pa.Table, images: pa.Table) -> pa.Table:
    """``labels/<split>/<stem>.list``: the class of each object, one a line."""
    found: dict[str, list[int]] = {key: [] for key in images["key"].to_pylist()}
    for key, number in zip(rows["key"].to_pylist(), rows["class_id"].to_pylist(), strict=True):
        found[key].append(number)
    contents = pa.array(["".join(f"{n}\n" for n in numbers).encode() for numbers in found.values()], pa.binary())
    split = images["split"].to_pylist()
    paths = [f"labels/{s}/{stem}.list" for s, stem in zip(split, images["stem"].to_pylist(), strict=True)]
    labels = wanted_files(
        images,
        Kind.LABEL,
        pa.array(split, pa.string()),
        pa.array(paths, pa.string()),
        content=contents,
        size=pa.array([len(content.as_py()) for content in contents], pa.int64()),
        digest=digests(contents),
        objects=pa.array([list(Counter(n).items()) for n in found.values()], pa.map_(pa.int32(), pa.int32())),
    )
    return pa.concat_tables([labels, pictures(images)]) if "mark" in images.column_names else labels


def assemble(dataset: Dataset, records: Sequence[BucketObjects] = ()) -> dict[str, bytes | Iterable[bytes]]:
    """``classes.list``."""
    del records
    return {"classes.list": "".join(f"{name}\n" for name in dataset.maps[0].names).encode()}


def training(task: Task, place: str) -> str:
    """The line of its trainer."""
    return f"train-tiny {task} {place}"
