"""One pass over an NDJSON file: its first line, and what each other one names, a block of whole lines at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pipeline.base.classes import SourceNames
from pipeline.base.errors import unknown
from pipeline.base.terms import SPLITS, Split, Task
from pipeline.base.text import whole_number
from pipeline.formats import FileContents, FileOutline, Malformed
from pipeline.formats._flaws import flaw_of, no_object
from pipeline.formats._image_names import ImageNames
from pipeline.formats._keypoint_names import as_flips
from pipeline.formats._lines import decoded_lines, line_blocks, spans_of
from pipeline.formats._records import SPLIT_NAMES, ImageRecord, outline_of
from pipeline.formats._values import category_name, finite, plain, shown

#: Tasks whose files have no objects.
_NO_OBJECTS = ("classify", "depth")

#: Those of Ultralytics whose objects are those of a task here.
_TASKS = {"semantic": "segment"}

_CLASSES = re.compile(rb"\[\s*([0-9]{1,6})(?:\.0*)?\s*,")

#: Rows from which the number of keypoints is inferred.
_SOME = 50

_FIRST_ROW_NUMBERS = 5


class _Line(msgspec.Struct, gc=False):
    """What one pass reads of an image; its objects are read when its bucket is."""

    file: str | None = None
    url: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class _Head:
    """The first line: task as it is written, names by class id, and what else is known of keypoints."""

    task: str
    names: dict[int, str]
    data: dict[str, Any]


_lines = msgspec.json.Decoder(list[_Line]).decode


class _Reader:
    """The lines of a file: the head, then records with where they are; and the class ids that there may be."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._blocks = line_blocks(pieces)
        self.head: _Head | None = None
        self.most_class = -1
        self.count = 0

    def records(self) -> Iterator[tuple[_Line | str, int, int, int, bytes]]:
        """What a line says, or a clause why it is no record; its number (from 1), begin and end in the file, text."""
        for number, begin, texts in self._blocks:
            spans = spans_of(texts, begin)
            filled = [i for i, text in enumerate(texts) if text.strip()]
            if self.head is None and filled:
                self.head = _read_head(texts[filled[0]], number + filled[0], texts)
                filled = filled[1:]
            block = [texts[i] for i in filled]
            self.most_class = max([self.most_class, *map(int, set(_CLASSES.findall(b"\n".join(block))))])
            for i, found in zip(filled, decoded_lines(block, _lines, _line), strict=True):
                self.count += 1
                yield found, number + i, *spans[i], texts[i]
        if self.head is None:
            raise Malformed("is empty; get it again, or delete it")

    def names(self) -> dict[int, str]:
        """Names by class id, those as well that trainers make up for ids that have none."""
        assert self.head is not None
        given = self.head.names
        pattern = "class{}" if given else "class_{}"
        return {i: given.get(i, pattern.format(i)) for i in range(max([self.most_class, *given]) + 1)}


def _line(text: bytes) -> _Line | str:
    data = plain(text)
    if not isinstance(data, dict):
        return no_object(text) or "cannot be read"
    said = {name: data.get(name) for name in ("file", "url", "split")}
    return _Line(**{name: str(v) if isinstance(v, int | float) else v if isinstance(v, str) else None
                    for name, v in said.items()})  # fmt: skip


def _read_head(text: bytes, line: int, texts: list[bytes]) -> _Head:
    """The first line; raises `Malformed` for one that is of no dataset."""
    data = plain(text)
    if data is None and (flaw := flaw_of(text if len(texts) > 1 else b"\n".join(texts))) is not None:
        raise Malformed(f"is no NDJSON: its first line {flaw.detail}", line)
    if not isinstance(data, dict) or (data.get("type", "dataset") != "dataset") or "file" in data:
        raise Malformed(
            'is NDJSON, but no dataset of Ultralytics: its first line has no {"type": "dataset", "class_names": …}',
            line,
        )
    task = str(data.get("task") or "detect")
    if task in _NO_OBJECTS:
        raise Malformed(f"is a dataset of task {task}, whose images have no objects; export one of another task", line)
    if task not in (*Task, *_TASKS):
        raise Malformed(f"is a dataset of an {unknown('task', task, [*Task])}", line)
    given = data.get("class_names") or {}
    pairs = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(pairs, dict):
        raise Malformed("has `class_names` that are no object", line)
    names: dict[int, str] = {}
    for key, value in pairs.items():
        number, name = whole_number(str(key)), category_name({"name": value})
        if number is None or name is None or number > 999_999:
            raise Malformed(f"has the class {shown(key)}: {shown(value)}, which is no number with a name", line)
        names[number] = name
    return _Head(task, names, data)


def contents(pieces: Iterable[bytes]) -> FileContents:
    """See `pipeline.formats.ndjson.contents`."""
    reader = _Reader(pieces)
    splits: set[Split] = set()
    servers: set[str | None] = set()
    signed = False
    for found, *_ in reader.records():
        if isinstance(found, _Line):
            if (split := _split_of(found)) is not None:
                splits.add(split)
            servers.add(_server_of(found.url))
            signed = signed or "?" in (found.url or "")
    assert reader.head is not None
    said = _TASKS.get(reader.head.task, reader.head.task)
    folder = reader.head.data.get("path")
    return FileContents(
        Task(said) if said in [*Task] else None,
        [split for split in SPLITS if split in splits],
        folder if isinstance(folder, str) else "",
        servers.pop() if len(servers) == 1 else None,
        signed,
    )


def _split_of(line: _Line) -> Split | None:
    """The split of an image; train where the line has none, None for what is no split."""
    return SPLIT_NAMES.get(line.split.strip().lower()) if line.split else "train"


def _server_of(url: str | None) -> str | None:
    parts = urlsplit(url) if url and url.startswith(("http://", "https://")) else None
    return f"{parts.scheme}://{parts.netloc}" if parts is not None and parts.netloc else None


def outline(pieces: Iterable[bytes], task: Task, names: ImageNames | None, split: str | None) -> FileOutline:
    """See `pipeline.formats.ndjson.outline`."""
    reader, chosen = _Reader(pieces), _OfSplit(split)
    made = outline_of(chosen.records(reader), names, count_objects)
    assert reader.head is not None
    made.problems = chosen.bad + made.problems
    labels = reader.names()
    made.labels = dict(labels.items())
    made.names = _names(reader.head, labels, chosen.poses, task)
    made.rest = _rest(reader.head)
    return made


class _OfSplit:
    """The images of one split; on the way some of their `poses`, and what is `bad` (see `FileOutline.problems`)."""

    def __init__(self, split: str | None) -> None:
        self._split = split
        self.poses: list[Any] = []
        self.bad: list[tuple[str, str, str, int]] = []

    def records(self, reader: _Reader) -> Iterator[tuple[ImageRecord, bytes]]:
        """The records of `reader` that are of the split, each with its text."""
        for found, number, begin, stop, text in reader.records():
            if isinstance(found, str):
                self._report("bad_line", f"line {number} {found}; correct it", text)
                continue
            own = _split_of(found)
            if len(self.poses) < _SOME and b'"pose"' in text:
                self.poses += _poses(text)
            if own is None:
                detail = f"line {number} has the split {shown(found.split)}; make it train, val or test"
                self._report("bad_split", detail, text)
            elif self._split in (None, own):
                url = found.url or ""
                yield ImageRecord(begin, stop, f"line {number}", found.file or "", url, unlisted=url), text

    def _report(self, reason: str, detail: str, text: bytes) -> None:
        """Note a line that is of no split: that of train does it, for all read it."""
        if self._split in (None, "train"):
            self.bad.append(("", reason, detail, count_objects(text)))


def count_objects(text: bytes) -> int:
    """How many objects a line has; 0 where nobody can say."""
    data = plain(text)
    lists = data.get("annotations") if isinstance(data, dict) else None
    first = next(iter(lists.values()), None) if isinstance(lists, dict) else None
    return len(first) if isinstance(first, list) else 0


def _poses(text: bytes) -> list[Any]:
    data = plain(text)
    lists = data.get("annotations") if isinstance(data, dict) else None
    rows = lists.get("pose") if isinstance(lists, dict) else None
    return [row for row in rows if isinstance(row, list)][:_SOME] if isinstance(rows, list) else []


def _names(head: _Head, labels: dict[int, str], poses: list[Any], task: Task) -> SourceNames:
    found: SourceNames = {"names": list(dict.fromkeys(labels.values()))}
    shape = _shape_said(head.data.get("kpt_shape")) or _shape_inferred(poses[:_SOME])
    if shape is None or (head.task != "pose" and task is not Task.POSE):
        return found
    found["kpt_shape"] = shape
    points = head.data.get("kpt_names")
    if (flip_idx := as_flips(head.data.get("flip_idx"), shape[0])) is not None:
        found["flip_idx"] = flip_idx
    if isinstance(points, dict):
        kept = {
            str(found["names"].index(labels[number])): [str(p) for p in some]
            for key, some in points.items()
            if (number := whole_number(str(key))) in labels and number is not None
            if isinstance(some, list) and len(some) == shape[0]
        }
        if kept:
            found["kpt_names"] = kept
    return found


def _shape_said(value: Any) -> tuple[int, int] | None:
    good = isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value)
    return (value[0], value[1]) if good and value[0] > 0 and value[1] in (2, 3) else None


def _shape_inferred(rows: list[Any]) -> tuple[int, int] | None:
    """As Ultralytics' `_infer_ndjson_kpt_shape` has it: x, y and a 0, 1 or 2 each, else x and y."""
    counts = {len(row) - _FIRST_ROW_NUMBERS for row in rows}
    if len(counts) != 1 or (count := counts.pop()) <= 0:
        return None
    if count % 3 == 0 and all(v in (0, 1, 2) for row in rows for v in row[7::3]):
        return count // 3, 3
    return (count // 2, 2) if count % 2 == 0 and count % 3 else None


def _rest(head: _Head) -> bytes:
    """What COCO JSON has a place for: a description of the dataset."""
    said = head.data.get("description") or head.data.get("name")
    return json.dumps({"info": {"description": finite(said)}} if isinstance(said, str) else {}).encode()
