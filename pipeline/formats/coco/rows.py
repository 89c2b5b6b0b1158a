"""How annotations of COCO JSON become rows. The rules stand in `formats.coco`."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats import Parsed, Problem
from pipeline.formats._numbers import parse_numbers, tails
from pipeline.formats.coco.parts import Part
from pipeline.geometry import masks
from pipeline.geometry.polygons import join_polygons
from pipeline.tables.schema import LabelState, Task

#: What Ultralytics lets pass on either side of 0-1.
TOLERANCE = 0.01

_BATCH = 4096

_MAX_PIXELS = 1 << 28

_BLANKS = b" \t\r\n"

#: What numbers are made of but for exponents: those may be too large for a float, and are told by who decodes them.
_DIGITS = b"0123456789-." + _BLANKS

Bytes = bytes | mmap.mmap

Floats = npt.NDArray[np.float64]

Ints = npt.NDArray[np.int64]

#: The text of numbers with commas between them, how many of them each polygon has, and whether no polygon is left out.
Plain = tuple[bytes, list[int], bool]


class _Image(msgspec.Struct, gc=False):
    width: int | float | None = None
    height: int | float | None = None


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


_image = msgspec.json.Decoder(_Image).decode

_kinds: dict[Task, type[_Box]] = {Task.DETECT: _Box, Task.SEGMENT: _Segment, Task.POSE: _Pose}

_decoders = {task: msgspec.json.Decoder(kind).decode for task, kind in _kinds.items()}

_lists: dict[Task, Callable[[bytes], Any]] = {
    task: msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    for task, kind in _kinds.items()
}

_polygons = msgspec.json.Decoder(_Polygons).decode


@dataclass
class _Rows:
    """Some annotations, decoded: those that could be, `image` is the place of each one's image in the part.

    `plain`, for task segment alone, is what `_plain` finds; None where what there is is decoded in `found`.
    """

    image: Ints
    line: Ints
    raw: list[bytes]
    found: list[Any]
    label: list[str]
    class_id: list[int]
    plain: list[Plain | None]


def parse(part: Part, task: Task, keypoints: tuple[int, int] | None, numbers: str) -> Parsed:
    """See `pipeline.formats.coco.parse`."""
    problems: list[Problem] = []
    sizes, images = _sizes(part, problems)
    order = np.argsort(part.image_of, kind="stable")
    owner, spans = part.image_of[order], part.annotations[order]
    line = np.arange(len(owner)) - np.searchsorted(owner, owner) + 1
    tables = []
    for begin in range(0, len(owner), _BATCH):
        here = slice(begin, begin + _BATCH)
        rows = _decode(part, owner[here], line[here], spans[here], sizes, task, problems)
        tables.append(_table(rows, sizes[rows.image], task, keypoints, numbers))
    table = pa.concat_tables(tables) if tables else None
    if table is None:
        none = _Rows(owner, line, [], [], [], [], [])
        table = _table(none, sizes[owner], task, keypoints, numbers)
    has_rows = np.zeros(len(part.images), np.bool_)
    has_rows[table["file"].to_numpy()] = True
    bad = {p.file for p in problems}
    states = [
        LabelState.FOUND if good else LabelState.CORRUPT if i in bad else LabelState.EMPTY
        for i, good in enumerate(has_rows.tolist())
    ]
    problems.sort(key=lambda p: p.file)
    return Parsed(table, states, problems, images)


def _sizes(part: Part, problems: list[Problem]) -> tuple[Floats, pa.Table]:
    """Width and height of each image, shape (images, 2); not a number where the file does not say it."""
    sizes = np.full((len(part.images), 2), np.nan)
    raws = [part.data[begin:stop] for begin, stop in part.images.tolist()]
    lost = np.bincount(part.image_of, minlength=len(raws)).tolist()
    for i, raw in enumerate(raws):
        try:
            image = _image(raw)
        except msgspec.DecodeError as error:
            problems.append(Problem(i, None, "bad_image", f"is no image of COCO ({error})", lost[i]))
            continue
        width, height = image.width, image.height
        if width and height and width > 0 and height > 0 and width == width // 1 and height == height // 1:
            sizes[i] = width, height
        else:
            problems.append(
                Problem(
                    i,
                    None,
                    "no_size",
                    f"image {_id_of(raw)} has no width and height in pixels ({width!r} and {height!r})",
                    lost[i],
                )
            )
    known = ~np.isnan(sizes[:, 0])
    columns = {
        name: pa.array(np.where(known, sizes[:, axis], 0).astype(np.int32), mask=~known)
        for axis, name in enumerate(("width", "height"))
    }
    texts: list[list[bytes]] = [[] for _ in raws]
    if part.captions is not None:
        data, spans, owner = part.captions
        for (begin, stop), place in zip(spans.tolist(), owner.tolist(), strict=True):
            texts[place].append(data[begin:stop])
    captions = pa.array([b"[" + b", ".join(told) + b"]" if told else None for told in texts], pa.binary())
    return sizes, pa.table({**columns, "raw": pa.array(raws, pa.binary()), "captions": captions})


def _decode(
    part: Part, owner: Ints, line: Ints, spans: Ints, sizes: Floats, task: Task, problems: list[Problem]
) -> _Rows:
    sized = np.flatnonzero(~np.isnan(sizes[owner, 0]))  # the others are told with their image
    raws = [part.data[begin:stop] for begin, stop in spans[sized].tolist()]
    found = _decoded(raws, task)
    plain = _plain_of(raws, found) if task is Task.SEGMENT else []
    rows = _Rows(owner[sized], line[sized], raws, found, [], [], plain)
    good = np.ones(len(found), np.bool_)
    for i, annotation in enumerate(found):
        if isinstance(annotation, Exception):
            reason, told = "bad_annotation", f"annotation {_id_of(raws[i])} is none of COCO ({annotation})"
        elif (category := annotation.category_id) in part.labels:
            rows.label.append(part.labels[category])
            rows.class_id.append(-1 if isinstance(category, str) or abs(category) >= 2**31 else int(category))
            continue
        else:
            reason = "no_such_category"
            told = f"annotation {_id_of(raws[i])} has the category_id {category!r}, which is no category"
        problems.append(Problem(int(rows.image[i]), None, reason, told))
        good[i] = False
    if not good.all():
        rows.image, rows.line = rows.image[good], rows.line[good]
        rows.raw, rows.found, rows.plain = (list(itertools.compress(some, good)) for some in (raws, found, plain))
    return rows


def _decoded(raws: Sequence[bytes], task: Task) -> list[Any]:
    """Annotations, all at once where none is bad; instead of a bad one stands its error."""
    try:
        return list(_lists[task](b"[" + b",".join(raws) + b"]"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_or_error(_decoders[task], raw) for raw in raws]


def _or_error(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error


def _plain_of(raws: Sequence[bytes], found: list[Any]) -> list[Plain | None]:
    """See `_Rows`; what is no plain polygon is decoded in `found`."""
    plain = [None if isinstance(a, Exception) else _plain(a.segmentation) for a in found]
    for i, polygon in enumerate(plain):
        # The mask of a crowd is in no row, and has numbers by the hundred.
        if (
            polygon is None
            and not isinstance(found[i], Exception)
            and not (found[i].iscrowd and bytes(found[i].segmentation)[:1] == b"{")
        ):
            found[i] = _or_error(_polygons, raws[i])
    return plain


def _plain(segmentation: msgspec.Raw) -> Plain | None:
    """The polygons of 3 points and more; None where it is anything else, or has numbers of an unusual form."""
    text = bytes(segmentation)
    if text[:2] != b"[[":
        text = text.translate(None, _BLANKS)
    if text[:2] != b"[[" or text[-2:] != b"]]":
        return None
    numbers = text[2:-2]
    commas = numbers.translate(None, _DIGITS)
    if commas.strip(b","):
        return _plain_parts(numbers.translate(None, _BLANKS).split(b"],["))
    count = len(commas) + 1
    return (numbers, [count], True) if count >= 6 and not count % 2 else (b"", [], False)


def _plain_parts(parts: list[bytes]) -> Plain | None:
    commas = [part.translate(None, _DIGITS) for part in parts]
    if any(rest.strip(b",") for rest in commas):
        return None
    counts = [len(rest) + 1 for rest in commas]
    good = [i for i, count in enumerate(counts) if count >= 6 and not count % 2]
    return b",".join([parts[i] for i in good]), [counts[i] for i in good], len(good) == len(parts)


def _id_of(raw: Any) -> str:
    try:
        return str(msgspec.json.decode(raw).get("id", "without id"))
    except (msgspec.DecodeError, AttributeError, UnicodeDecodeError):
        return "that is no object"


class _Losses:
    """The counted reason of each row that is no row of the task; the first one stays."""

    def __init__(self, count: int) -> None:
        self.word: npt.NDArray[np.object_] = np.full(count, None, object)
        self.free = np.ones(count, np.bool_)

    def add(self, where: npt.NDArray[np.bool_], word: str) -> None:
        where = where & self.free
        self.word[where] = word
        self.free &= ~where


def _table(rows: _Rows, sizes: Floats, task: Task, keypoints: tuple[int, int] | None, numbers: str) -> pa.Table:
    losses = _Losses(len(rows.found))
    losses.add(np.array([bool(a.iscrowd) for a in rows.found], np.bool_), "crowd")
    box = _boxes(rows, losses)
    centre = _normalised(box, sizes)
    if task is Task.SEGMENT:
        values, starts, told = _segments(rows, sizes, losses)
    elif task is Task.POSE:
        values, starts, told = *_keypoints(rows, centre, sizes, keypoints, losses), None
    else:
        starts = np.concatenate([[0], np.cumsum(np.where(losses.free, 4, 0))])
        values, told = centre[losses.free].ravel(), None
    values, starts = _within(values, starts, losses, task)
    tail = tails(values, starts, numbers)
    if not losses.free.all():
        tail = pc.if_else(pa.array(losses.free), tail, pa.scalar(None, pa.binary()))
    if told is not None:
        losses.word[losses.free] = told[losses.free]
    return pa.table(
        {
            "file": rows.image.astype(np.int32),
            "line": rows.line.astype(np.int32),
            "class_id": pa.array(rows.class_id, pa.int32()),
            "label": pa.array(rows.label, pa.string()),
            "head": pa.nulls(len(rows.found), pa.binary()),
            "tail": tail,
            **{name: centre[:, axis] for axis, name in enumerate(("cx", "cy", "w", "h"))},
            "n_tokens": np.where(losses.free, np.diff(starts) + 1, 0).astype(np.int32),
            "raw": pa.array(rows.raw, pa.binary()),
            "loss": pa.array(losses.word.tolist(), pa.string()),
        }
    )


def _boxes(rows: _Rows, losses: _Losses) -> Floats:
    """The xywh boxes, shape (rows, 4); zeros where there is none."""
    given = [a.bbox if a.bbox is not None and len(a.bbox) == 4 else None for a in rows.found]
    box = np.array([b if b is not None else (0.0, 0.0, 0.0, 0.0) for b in given], np.float64).reshape(-1, 4)
    losses.add(np.array([b is None for b in given], np.bool_), "no_box")
    losses.add((box[:, 2] <= 0) | (box[:, 3] <= 0), "zero_area")
    return box


def _normalised(box: Floats, sizes: Floats) -> Floats:
    """The same boxes as cxcywhn; the order of operations is that of Ultralytics' `convert_coco`."""
    centre = box.copy()
    centre[:, :2] += centre[:, 2:] / 2
    centre[:, [0, 2]] /= sizes[:, :1]
    centre[:, [1, 3]] /= sizes[:, 1:]
    return centre


def _segments(rows: _Rows, sizes: Floats, losses: _Losses) -> tuple[Floats, Ints, npt.NDArray[np.object_]]:
    """One polygon a row, normalised; and what is lost of it all the same."""
    told: npt.NDArray[np.object_] = np.full(len(rows.found), None, object)
    joined: dict[int, Floats] = {}
    plain: dict[int, Plain] = {}
    for i in np.flatnonzero(losses.free).tolist():
        polygons = rows.plain[i]
        if polygons is None:
            parts, told[i] = _parts(rows.found[i].segmentation)
            if parts:
                joined[i] = join_polygons(parts).ravel()
        elif polygons[1]:
            plain[i] = polygons
            told[i] = None if polygons[2] else "short_part"
    numbers = parse_numbers([text for text, _, _ in plain.values()])
    lengths = np.array([sum(counts) for _, counts, _ in plain.values()], np.int64)
    ends = np.cumsum(lengths)
    single = np.array([len(counts) == 1 for _, counts, _ in plain.values()], np.bool_)
    places = np.fromiter(plain, np.int64, len(plain))
    for n in np.flatnonzero(~single).tolist():
        i, stop = int(places[n]), int(ends[n])
        edges = itertools.accumulate(plain[i][1], initial=stop - int(lengths[n]))
        joined[i] = join_polygons([numbers[a:b].reshape(-1, 2) for a, b in itertools.pairwise(edges)]).ravel()
    counts_of = np.zeros(len(rows.found), np.int64)
    counts_of[places[single]] = lengths[single]
    for i, given in joined.items():
        counts_of[i] = len(given)
    losses.add(counts_of == 0, "no_polygon")
    starts = np.concatenate([[0], np.cumsum(counts_of)])
    if joined:
        alone = numbers[np.repeat(single, lengths)]
        numbers = np.empty(starts[-1])
        here = np.zeros(len(rows.found), np.bool_)
        here[places[single]] = True
        numbers[np.repeat(here, counts_of)] = alone
        for i, given in joined.items():
            numbers[starts[i] : starts[i + 1]] = given
    return numbers / np.repeat(sizes, counts_of // 2, axis=0).ravel(), starts, told


def _parts(given: Any) -> tuple[list[Floats], str | None]:
    """The polygons of an object, shape (points, 2), in pixels; and the word for what is not in them."""
    if isinstance(given, dict):
        runs = read_rle(given)
        if runs is None:
            return [], None
        outer, holes = masks.outlines(runs)
        return outer, "holes" if holes else None
    good = [np.array(p, np.float64).reshape(-1, 2) for p in given or () if len(p) >= 6 and not len(p) % 2]
    return good, "short_part" if good and len(good) < len(given) else None


def read_rle(given: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
    """The mask, shape (height, width), of an RLE, as a list of counts or compressed; None where it is none."""
    counts, size = given.get("counts"), given.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        return None
    if size[0] * size[1] > _MAX_PIXELS:
        return None
    try:
        runs = masks.decompress(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        return masks.to_mask(runs, *size)
    except (ValueError, TypeError, OverflowError):
        return None


def _keypoints(
    rows: _Rows, centre: Floats, sizes: Floats, keypoints: tuple[int, int] | None, losses: _Losses
) -> tuple[Floats, Ints]:
    """Box and keypoints of each row, normalised; each has x, y and how visible it is."""
    width = 3 * keypoints[0] if keypoints else 0
    given = [a.keypoints or () for a in rows.found]
    counted = [
        a.num_keypoints if a.num_keypoints is not None else sum(v > 0 for v in k[2::3])
        for a, k in zip(rows.found, given, strict=True)
    ]
    losses.add(np.array(counted, np.int64) == 0, "no_keypoints")
    losses.add(np.array([len(k) != width for k in given], np.bool_), "other_keypoints")
    free = np.flatnonzero(losses.free)
    points = np.array([given[i] for i in free.tolist()], np.float64).reshape(len(free), width)
    points[:, 0::3] /= sizes[free, :1]
    points[:, 1::3] /= sizes[free, 1:]
    values = np.concatenate([centre[free], points], axis=1).ravel()
    return values, np.concatenate([[0], np.cumsum(np.where(losses.free, 4 + width, 0))])


def _within(values: Floats, starts: Ints, losses: _Losses, task: Task) -> tuple[Floats, Ints]:
    """Leave out rows that reach far beyond their image."""
    outside = (values < -TOLERANCE) | (values > 1 + TOLERANCE)
    if not outside.any():
        return values, starts
    counts = np.diff(starts)
    row = np.repeat(np.arange(len(counts)), counts)
    if task is Task.POSE:
        place = np.arange(len(values)) - starts[row]
        outside &= (place < 4) | ((place - 4) % 3 != 2)
    far = np.zeros(len(counts), np.bool_)
    far[row[outside]] = True
    losses.add(far, "out_of_range")
    return values[~far[row]], np.concatenate([[0], np.cumsum(np.where(far, 0, counts))])
