"""How annotations of COCO JSON become rows. The rules are in `formats.coco`."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.terms import Task
from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._numbers import tails
from pipeline.formats._values import UnusableObject, as_pixels, mended, plain, shown
from pipeline.formats.coco.exhaustive import exhaustive
from pipeline.formats.coco.options import Options
from pipeline.formats.coco.placing import reach_of, transformed
from pipeline.formats.coco.plain_polygons import Plain, plain_polygons
from pipeline.formats.coco.row_text import OUTLINED, DecodedRows, are_shares, boxes_of, values_of
from pipeline.formats.coco.run_lengths import damaged
from pipeline.formats.coco.unsaid import strict, words_of
from pipeline.tables.rows import binaries
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats, Ints

_BATCH = 4096


class _ImageSize(msgspec.Struct, gc=False):
    width: int | None = None
    height: int | None = None


class _Box(msgspec.Struct, gc=False):
    """What task detect reads of an annotation; what else it has is passed over."""

    category_id: int | str | float | None = None  # tools of tables write whole numbers as 3.0
    bbox: list[float] | None = None
    iscrowd: int | bool | float | None = 0


class _Segment(_Box, gc=False):
    """The text of polygons is kept as it is: those of many annotations are read at once."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _Polygons(_Box, gc=False):
    segmentation: list[list[float]] | dict[str, Any] | None = None


class _Pose(_Box, gc=False):
    keypoints: list[float] | None = None
    num_keypoints: int | float | None = None


_images = msgspec.json.Decoder(list[_ImageSize]).decode

_kinds: dict[Task, type[_Box]] = {Task.DETECT: _Box, Task.SEGMENT: _Segment, Task.POSE: _Pose, Task.OBB: _Segment}

_decoders = {task: msgspec.json.Decoder(kind).decode for task, kind in _kinds.items()}

_lists: dict[Task, Callable[[bytes], Any]] = {
    task: msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    for task, kind in _kinds.items()
}

#: The same, of annotations without fields that rows do not say.
_plain_lists: dict[Task, Callable[[bytes], Any]] = {
    task: msgspec.json.Decoder(list[strict(kind)]).decode  # type: ignore[misc]
    for task, kind in _kinds.items()
}

_polygons = msgspec.json.Decoder(_Polygons).decode


def parse(part: Part, task: Task, keypoints: tuple[int, int] | None, options: Options) -> Parsed:
    """See `pipeline.formats.coco.parse`."""
    problems: list[Problem] = []
    frames = _frames(part, problems, exchanged=options.sizes == "image")
    sizes = np.array([(f.width, f.height) if f is not None else (np.nan, np.nan) for f in frames]).reshape(-1, 2)
    order = np.argsort(part.image_of, kind="stable")
    owner = part.image_of[order].astype(np.int64)
    line = np.arange(len(owner)) - np.searchsorted(owner, owner) + 1
    moved = np.array([f is not None and f.note is not None for f in frames], np.bool_)[owner]
    tables = []
    for begin in range(0, max(len(owner), 1), _BATCH):
        here = slice(begin, begin + _BATCH)
        raws = [part.annotations[i] for i in order[here].tolist()]
        for i in np.flatnonzero(moved[here]).tolist():
            frame = frames[owner[begin + i]]
            assert frame is not None
            raws[i] = transformed(raws[i], frame)
        rows = _decode(part.labels, owner[here], line[here], raws, sizes, task, problems, options)
        if moved[here].any():
            rows.notes = [f.note if (f := frames[i]) is not None else None for i in rows.image.tolist()]
        else:
            _scale_shares(rows, sizes, task)
        tables.append(_table(rows, sizes[rows.image], task, keypoints, options.numbers))
    table = pa.concat_tables(tables)
    has_rows = np.zeros(len(part.images), np.bool_)
    has_rows[table["file"].to_numpy()] = True
    bad = {p.file for p in problems}
    states = [
        LabelState.FOUND if good else LabelState.CORRUPT if i in bad else LabelState.EMPTY
        for i, good in enumerate(has_rows.tolist())
    ]
    problems.sort(key=lambda p: p.file)
    return Parsed(table, states, problems, _image_table(part, frames, table))


def _frames(part: Part, problems: list[Problem], *, exchanged: bool) -> list[Frame | None]:
    """The frame of the objects of each image; None for an image without a known size, which is a problem."""
    said = [(w, h) if w is not None and h is not None else None for w, h in _said_sizes(part.images)]
    asked = [i for i, size in enumerate(said) if size is None or part.compare] if part.pictures is not None else []
    pictures = dict(zip(asked, part.pictures(asked), strict=True)) if part.pictures is not None and asked else {}
    lost = np.bincount(part.image_of, minlength=len(part.images)).tolist()
    as_said: dict[tuple[int, int], Frame] = {}  # most are of few sizes
    frames: list[Frame | None] = []
    for i, size in enumerate(said):
        picture, frame = pictures.get(i), None
        reason, detail = "no_size", "has no width and height in pixels, and there is no image file to read them from"
        if picture is None and size is not None:
            frame = as_said.get(size) or as_said.setdefault(size, Frame(*size))
        elif size is None and picture is not None:
            frame = Frame(picture.width, picture.height)
        elif size is not None:
            try:
                frame = frame_of(size, picture, functools.partial(_reach, part, i), exchanged=exchanged)
            except OtherImage as bad:
                reason, detail = (
                    "size_differs",
                    (
                        f"has {bad.shown} pixels, but the file says {bad.own}: it was changed after it was labelled; "
                        "put the labelled image back, or --set source.options.sizes=image if width and height are "
                        "exchanged"
                    ),
                )
        if frame is None:
            problems.append(Problem(i, None, reason, f"image {_name_of(part.images[i])} {detail}", lost[i]))
        frames.append(frame)
    return frames


def _reach(part: Part, image: int) -> tuple[float, float]:
    """The largest x and y of all objects of an image: of their polygons, where they have some, else of their boxes."""
    return reach_of(part.annotations[i] for i in np.flatnonzero(part.image_of == image).tolist())


def _image_table(part: Part, frames: Sequence[Frame | None], rows: pa.Table) -> pa.Table:
    texts: list[list[bytes]] = [[] for _ in part.images]
    if part.captions is not None:
        for text, image in zip(part.captions[0], part.captions[1].tolist(), strict=True):
            texts[image].append(text)
    return pa.table(
        {
            "width": pa.array([f and f.width for f in frames], pa.int32()),
            "height": pa.array([f and f.height for f in frames], pa.int32()),
            "raw": pa.array(part.images, pa.binary()),
            "captions": pa.array([b"[" + b", ".join(some) + b"]" if some else None for some in texts], pa.binary()),
            "exhaustive": exhaustive(part.images, part.labels, rows),
        }
    )


def _said_sizes(raws: Sequence[bytes]) -> list[tuple[int | None, int | None]]:
    """Width and height as each image object says them; None where it does not."""
    try:
        found = [(image.width, image.height) for image in _images(b"[" + b",".join(raws) + b"]")]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        objects = [data if isinstance(data := plain(raw), dict) else {} for raw in raws]
        return [(as_pixels(data.get("width")), as_pixels(data.get("height"))) for data in objects]
    good = all(w is not None and h is not None and 0 < w < 1 << 31 and 0 < h < 1 << 31 for w, h in found)
    return found if good else [(as_pixels(width), as_pixels(height)) for width, height in found]


def _decode(
    labels: Mapping[int | str, str],
    owner: Ints,
    line: Ints,
    raws: list[bytes],
    sizes: Floats,
    task: Task,
    problems: list[Problem],
    options: Options,
) -> DecodedRows:
    """Annotations, decoded: those that could be; what is wrong with the others is added to `problems`."""
    sized = np.flatnonzero(~np.isnan(sizes[owner, 0]))  # the others are reported with their image
    raws = [raws[i] for i in sized.tolist()] if len(sized) < len(raws) else raws
    keep = options.crowd == "keep"
    found, more, nested = _decoded(raws, task)
    plain_of = _plain_of(raws, found, task, crowds=keep) if task in OUTLINED else []
    rows = DecodedRows(owner[sized], line[sized], raws, found, [], [], plain_of)
    if nested:
        some = [i for i, polygons in enumerate(plain_of) if polygons is None] if plain_of else [*range(len(raws))]
        for i, clause in damaged([raws[i] for i in some]).items():
            _without_mask(rows, some[i], clause, task)
    if keep:
        for i, annotation in enumerate(found):
            if not isinstance(annotation, Exception) and annotation.iscrowd:
                annotation.iscrowd, raws[i] = 0, no_crowd(raws[i])
    names = [None if isinstance(a, Exception) else labels.get(a.category_id) for a in found]
    if None in names:
        _leave_out(rows, names, problems)
    rows.unsaid = words_of(rows.raw) if more else ()
    rows.label = [name for name in names if name is not None]
    keys = [annotation.category_id for annotation in rows.found]
    rows.class_id = [-1 if isinstance(key, str) or abs(key) >= 2**31 else int(key) for key in keys]
    return rows


def _scale_shares(rows: DecodedRows, sizes: Floats, task: Task) -> None:
    """Make pixels of boxes, and what is with them, that are in shares of their image."""
    rows.boxes = boxes_of(rows)
    some = np.flatnonzero(are_shares(rows)).tolist()
    if not some:
        return
    notes: list[str | None] = [None] * len(rows.raw)
    for i in some:
        width, height = sizes[rows.image[i]].tolist()
        rows.raw[i] = transformed(rows.raw[i], Frame(int(width), int(height), (width, height)))
        notes[i] = "shares"
    raws = [rows.raw[i] for i in some]
    found, *_ = _decoded(raws, task)
    polygons = _plain_of(raws, found, task, crowds=True) if task in OUTLINED else found
    for i, annotation, polygon in zip(some, found, polygons, strict=True):
        rows.found[i] = annotation
        if task in OUTLINED:
            rows.plain[i] = polygon
    rows.notes, rows.boxes = notes, boxes_of(rows)


def _leave_out(rows: DecodedRows, names: list[str | None], problems: list[Problem]) -> None:
    """Take those without a name out of `rows`, and add what is wrong with them to `problems`."""
    for i, (annotation, name) in enumerate(zip(rows.found, names, strict=True)):
        if isinstance(annotation, Exception):
            reason, detail = "bad_annotation", f"annotation {_id_of(rows.raw[i])} {annotation}"
        elif name is None:
            reason = "no_such_category"
            detail = (
                f"annotation {_id_of(rows.raw[i])} has the category_id {shown(annotation.category_id)}, which is "
                "no category"
            )
        else:
            continue
        problems.append(Problem(int(rows.image[i]), None, reason, detail))
    good = np.array([name is not None for name in names], np.bool_)
    rows.unmasked = {int(n) for n in np.flatnonzero(np.isin(np.flatnonzero(good), [*rows.unmasked]))}
    rows.image, rows.line = rows.image[good], rows.line[good]
    rows.raw, rows.found, rows.plain = (
        list(itertools.compress(some, good)) for some in (rows.raw, rows.found, rows.plain)
    )


def _without_mask(rows: DecodedRows, i: int, clause: str, task: Task) -> None:
    """Take its damaged mask from annotation `i`, of which `clause` says it; one that needs the mask is bad."""
    annotation = rows.found[i]
    if isinstance(annotation, Exception):
        return
    box: list[float] = annotation.bbox or []
    if task in OUTLINED or annotation.iscrowd or len(box) != 4 or not (box[2] > 0 and box[3] > 0):
        rows.found[i] = UnusableObject(clause)
        return
    rows.raw[i] = _with(rows.raw[i], "segmentation", b"[]")
    rows.unmasked.add(i)


def no_crowd(raw: bytes) -> bytes:
    """An annotation that is an object like others, whatever its ``iscrowd`` says."""
    return _with(raw, "iscrowd", b"0")


def _with(raw: bytes, name: str, value: bytes) -> bytes:
    """An annotation with another value of a field."""
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(fields | {name: msgspec.Raw(value)})


def _decoded(raws: list[bytes], task: Task) -> tuple[list[Any], bool, bool]:
    """Annotations, all at once where none is unusual; one that cannot be used is replaced by its error.

    What was mended is in `raws` as it was understood. The second value: there may be fields that rows do not say; the
    third one: some have an object in them, as run lengths are.
    """
    text = b"[" + b",".join(raws) + b"]"
    for more, decode in enumerate((_plain_lists[task], _lists[task])):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return list(decode(text)), bool(more), text.count(b"{") > len(raws)
    return [_or_error(_decoders[task], raws, i, task) for i in range(len(raws))], True, True


def _or_error(decode: Callable[[bytes], Any], raws: list[bytes], i: int, task: Task) -> Any:
    try:
        return decode(raws[i])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            raws[i] = mended(raws[i], task.value)
            return decode(raws[i])
        except UnusableObject as error:
            return error
        except (msgspec.DecodeError, UnicodeDecodeError):
            return UnusableObject("has a value of another type than COCO's")


def _plain_of(raws: list[bytes], found: list[Any], task: Task, *, crowds: bool) -> list[Plain | None]:
    """See `DecodedRows`; what is no plain polygon is decoded in `found`, and `crowds` where they are objects."""
    plain = plain_polygons([b"" if isinstance(a, Exception) else a.segmentation for a in found])
    for i, polygon in enumerate(plain):
        # The mask of a crowd is in no row, and has numbers by the hundred.
        if (
            polygon is None
            and not isinstance(found[i], Exception)
            and (crowds or not found[i].iscrowd or bytes(found[i].segmentation)[:1] != b"{")
        ):
            found[i] = _or_error(_polygons, raws, i, task)
    return plain


def _name_of(raw: bytes) -> str:
    """What an image is called, and its id."""
    data = plain(raw)
    name = data.get("file_name") or data.get("coco_url") if isinstance(data, dict) else None
    return f"{shown(name)} (id {_id_of(raw)})" if isinstance(name, str) else _id_of(raw)


def _id_of(raw: bytes) -> str:
    data = plain(raw)
    return shown(data["id"]) if isinstance(data, dict) and "id" in data else "without id"


def _table(rows: DecodedRows, sizes: Floats, task: Task, keypoints: tuple[int, int] | None, numbers: str) -> pa.Table:
    made = values_of(rows, sizes, task, keypoints)
    tail = tails(made.values, made.starts, numbers)
    if not made.is_row.all():
        tail = pc.if_else(pa.array(made.is_row), tail, pa.scalar(None, pa.binary()))
    return pa.table(
        {
            "file": rows.image.astype(np.int32),
            "line": rows.line.astype(np.int32),
            "class_id": pa.array(rows.class_id, pa.int32()),
            "label": pa.array(rows.label, pa.string()),
            "head": pa.nulls(len(rows.found), pa.binary()),
            "tail": tail,
            **{name: made.boxes[:, axis] for axis, name in enumerate(("cx", "cy", "w", "h"))},
            "n_tokens": np.where(made.is_row, np.diff(made.starts) + 1, 0).astype(np.int32),
            "raw": binaries(rows.raw) if not made.bare.any() else pa.array(rows.raw, pa.binary(), mask=made.bare),
            "loss": pa.array(made.words.tolist(), pa.string()),
        }
    )
