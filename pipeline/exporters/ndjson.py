"""Ultralytics NDJSON: ``dataset.ndjson``, one line for the dataset and one an image; `yolo train` takes it as ``data``.

Images lie beside it, in ``images/<split>/`` (``path`` of the first line), or each line has the ``url`` of its own: with
``target.images: none`` that is where images on a web server are, or the ``coco_url`` of COCO JSON. Then one file is
the subset, and who trains on it fetches its images alone.

``annotations`` has one list, of ``[class, numbers…]``: ``boxes``, ``segments``, ``pose`` or ``obb``. Numbers are as in
the label rows of the source, digit by digit. An image of polygons in a subset of task detect has ``segments``, which
trainers take for their boxes. Where the width and height of an image are known they are there. Images are in the order
of splits and keys. Trainers take no folders in names of images beside the file: ``a/b.jpg`` is ``a__b.jpg``.

Format: https://docs.ultralytics.com/datasets/detect/#ultralytics-ndjson-format and ``convert_ndjson_to_yolo`` in
``ultralytics/data/converter.py`` of 8.4.190.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.humanize import noun, plural
from pipeline.base.terms import Task
from pipeline.exporters._data_yaml import keypoint_facts, training_on
from pipeline.exporters._images import as_named, pictures
from pipeline.exporters._layouts import DEFAULT, flat_stems, usual

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.exporters import BucketObjects, Dataset

#: Folders of the layout, each with one subfolder a split.
FOLDERS = ("images",)

LAYOUTS = {DEFAULT: usual(FOLDERS)}

COLUMNS = ("loss",)

OF_TASK = GATHERS = True

NEEDS_SIZES = False

FILE = "dataset.ndjson"

#: What ``annotations`` calls the objects of a task.
LISTS = {"detect": "boxes", "segment": "segments", "pose": "pose", "obb": "obb"}

#: Numbers of a box.
_BOX = 4

_PIECE = 1 << 20

_STEP = 1024

_JSON_NUMBERS = r"^( -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)+$"


def training(task: Task, path: str) -> str:
    """The command by which Ultralytics trains on the subset in the folder `path`, see `Exporter.training`."""
    return training_on(task, f"{path}/{FILE}")


def fragment(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The wanted files of one bucket, as `schema.wanted`: its images, where they are to be copied."""
    from pipeline.tables import schema

    del rows  # they are in one file with those of all buckets
    return pictures(_flat(images)) if "mark" in images.column_names else schema.wanted().empty_table()


def records(rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> BucketObjects:
    """The lines of one bucket, see `BucketObjects`.

    `rows` has key, class_id (the subset's), head and tail, sorted by key and line; `images` has `schema.images` and,
    where images are not copied, perhaps ``url`` (null: no web server has it). The table of images that is
    returned has key, split, file (its name), copied, fetchable (it has a URL), polygons (its rows are such), begin (the
    line up to ``annotations``) and rows (the text of all, commas between them).
    """
    import pyarrow as pa

    from pipeline.exporters import BucketObjects

    del keypoints  # a row has all numbers
    copied = "mark" in images.column_names
    images = _flat(images) if copied else as_named(images)
    texts, polygons = _rows_of_images(rows, images)
    named = ("stem", "image_path", "image_said", "split", "width", "height", "raw")
    values: dict[str, list[Any]] = {name: images[name].to_pylist() for name in named}
    known = images["url"].to_pylist() if "url" in images.column_names else [None] * images.num_rows
    urls = [None if copied else url or _url_in(raw) for url, raw in zip(known, values["raw"], strict=True)]
    files = [
        stem + _suffix(path, said, url)
        for stem, path, said, url in zip(values["stem"], values["image_path"], values["image_said"], urls, strict=True)
    ]
    facts = zip(files, urls, values["width"], values["height"], values["split"], strict=True)
    made = {
        "key": images["key"],
        "split": images["split"],
        "file": pa.array(files, pa.string()),
        "copied": pa.array([copied] * len(files), pa.bool_()),
        "fetchable": pa.array([url is not None for url in urls], pa.bool_()),
        "polygons": polygons,
        "begin": pa.array([_begin(*fact) for fact in facts], pa.binary()),
        "rows": texts,
    }
    return BucketObjects(pa.table(made).combine_chunks(), pa.table({}))


def _flat(images: pa.Table) -> pa.Table:
    """`images` with stems that have no folders."""
    images = as_named(images)
    stem = flat_stems(images["stem"].combine_chunks())
    return images.set_column(images.schema.get_field_index("stem"), images.schema.field("stem"), stem)


def _rows_of_images(rows: pa.Table, images: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Of each image the text of its rows, ``[0,0.5,…],[1,…]``, and whether one has more numbers than a box."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    tail = rows["tail"].combine_chunks()
    tail = pc.replace_substring_regex(pc.binary_join_element_wise(b" ", tail, b""), r"[ \t\r\n]+", " ")
    tail = pc.replace_substring_regex(tail, r" $", "")
    fitting = pc.match_substring_regex(tail, _JSON_NUMBERS)
    if not pc.all(fitting).as_py():
        others = [_as_json(text) for text in tail.filter(pc.invert(fitting)).to_pylist()]
        tail = pc.replace_with_mask(tail, pc.invert(fitting), pa.array(others, tail.type))
    numbers = pc.count_substring(tail, " ")
    ids = rows["class_id"].combine_chunks().cast(pa.string()).cast(pa.binary())
    texts = pc.binary_join_element_wise(b"[", ids, pc.replace_substring(tail, " ", ","), b"]", b"")
    owner = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()).to_numpy(zero_copy_only=False)
    edges = np.searchsorted(owner, np.arange(images.num_rows + 1)).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(edges), texts), b",")
    polygons = np.zeros(images.num_rows, np.bool_)
    polygons[owner[pc.greater(numbers, _BOX).to_numpy(zero_copy_only=False)].astype(np.int64)] = True
    return joined, pa.array(polygons)


def _as_json(tail: bytes) -> bytes:
    """Numbers, each after a blank, as JSON writes them: trainers also take ``.5``, ``+1`` and ``1.``."""
    return b"".join(b" %s" % repr(float(token)).encode() for token in tail.split())


def _begin(file: str, url: str | None, width: int | None, height: int | None, split: str) -> bytes:
    import msgspec

    facts = {"type": "image", "file": file, "url": url, "width": width, "height": height, "split": split}
    return msgspec.json.encode({name: value for name, value in facts.items() if value is not None})[:-1]


def _url_in(raw: bytes | None) -> str | None:
    """The address that COCO JSON has for an image; None without one, and for one with a login or a signature in it."""
    import msgspec

    from pipeline.base.redaction import public_address

    if raw is None or b'"coco_url"' not in raw:
        return None
    try:
        return public_address(msgspec.json.decode(raw, type=dict[str, Any]).get("coco_url"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _suffix(*names: str | None) -> str:
    """The suffix of the first of `names` that has one; trainers take an image without one for a JPEG."""
    for name in names:
        last = (name or "").rpartition("/")[2]
        if "." in last.lstrip("."):
            return f".{last.rpartition('.')[2]}"
    return ".jpg"


def assemble(dataset: Dataset, parts: Sequence[BucketObjects] = ()) -> dict[str, bytes | Iterable[bytes]]:
    """The file, in pieces. Raises `ConfigError` for images that nobody could get, `DataError` for two of one name."""
    import pyarrow as pa

    tables = [part.images for part in parts]
    images = pa.concat_tables(tables) if tables else None
    if images is None or not images.num_rows:
        return {FILE: _head(dataset, copied=False)}
    _check_reachable(images)
    _check_names(images)
    return {FILE: _pieces(dataset, images)}


def _check_reachable(images: pa.Table) -> None:
    import pyarrow.compute as pc

    lost = images["key"].filter(pc.invert(pc.or_(images["copied"], images["fetchable"])))
    if len(lost):
        raise ConfigError(
            f"target.images: none leaves {plural(len(lost), 'image')} without an address, such as {lost[0].as_py()}: "
            f"trainers would not find {noun(len(lost), 'it', 'them')}; set it to copy, or name the images' address on "
            "a web server in source.splits"
        )


def _check_names(images: pa.Table) -> None:
    """Two images of one split must not have one name, as ``a/b.jpg`` and ``a__b.jpg`` would."""
    import pyarrow as pa
    import pyarrow.compute as pc

    copied = images.filter(images["copied"]).select(["split", "file", "key"])
    counts = copied.group_by(["split", "file"]).aggregate([("key", "count")])
    twice = counts.filter(pc.greater(counts["key_count"], 1))
    if twice.num_rows:
        split, file = twice["split"][0], twice["file"][0]
        both = pc.and_(pc.equal(copied["split"], split), pc.equal(copied["file"], file))
        keys = sorted(copied["key"].filter(both).to_pylist())
        assert isinstance(file, pa.Scalar)
        raise DataError(f"{keys[0]} and {keys[1]} would both be images/{split}/{file}; rename one of them")


def _pieces(dataset: Dataset, images: pa.Table) -> Iterator[bytes]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    waiting = [_head(dataset, copied=bool(pc.any(images["copied"]).as_py()))]
    rank = pc.index_in(images["split"], pa.array(dataset.splits, pa.string()))
    order = pc.sort_indices(
        pa.table({"split": rank, "key": images["key"]}), [("split", "ascending"), ("key", "ascending")]
    )
    order = order.take(pa.array(np.flatnonzero(rank.take(order).is_valid().to_numpy())))
    usual = LISTS[str(dataset.task)]
    for begin in range(0, len(order), _STEP):
        some = images.select(["begin", "rows", "polygons"]).take(order.slice(begin, _STEP))
        for head, rows, polygons in zip(*(column.to_pylist() for column in some.columns), strict=True):
            name = LISTS["segment"] if polygons and dataset.task is Task.DETECT else usual
            waiting.append(b'%s,"annotations":{"%s":[%s]}}\n' % (head, name.encode(), rows))
        if sum(map(len, waiting)) >= _PIECE:
            yield b"".join(waiting)
            waiting = []
    yield b"".join(waiting)


def _head(dataset: Dataset, *, copied: bool) -> bytes:
    """The first line: all but ``type`` and ``class_names`` goes into the YAML that a trainer makes of the file."""
    import msgspec

    head: dict[str, Any] = {
        "type": "dataset",
        "task": str(dataset.task),
        "name": dataset.root.rstrip("/").rpartition("/")[2],
        "description": f"Made by coco-diy; digest of the subset: {dataset.digest}",
        "class_names": {str(number): name for number, name in enumerate(dataset.maps[0].names)},
    }
    if dataset.task is Task.POSE:
        head |= keypoint_facts(dataset.maps, dataset.sources)
    if copied:
        head["path"] = "."
    return msgspec.json.encode(head) + b"\n"
