"""How the lines of boxes become rows, and those of image labels what is known of an image.

The rules are in `formats.openimages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._boxes import Boxes
from pipeline.formats._drawn import Drawn, states_of
from pipeline.formats._values import as_number, shown
from pipeline.formats.openimages.options import Options
from pipeline.formats.openimages.scan import BOXES, FLAGS

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats, Ints

_SIDES = BOXES[4:]

#: The word that is counted for a flag, the one that says most first.
_WORDS = {"IsDepiction": "depiction", "IsInside": "inside", "IsTruncated": "truncated", "IsOccluded": "occluded"}


@dataclass(frozen=True)
class _Table:
    """Lines of several images, in the order of the file: `image` is the position of each line's, `columns` are texts.

    `numbers` are columns of numbers, NaN for other text.
    """

    image: Ints
    columns: Mapping[str, pa.Array]
    numbers: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.image)


def parse(part: Part, options: Options) -> Parsed:
    """See `pipeline.formats.openimages.parse`."""
    fields = np.array([_fields(text) for text in part.annotations], np.int64)
    boxes = _table(part, fields, [i for i in np.unique(fields).tolist() if i >= len(BOXES)], _SIDES)
    labels = _table(part, fields, [4], ("Confidence",))
    problems: list[Problem] = []
    rows = _rows(boxes, part.labels, options, problems)
    states = states_of(len(part.images), np.unique(rows["file"].to_numpy()).tolist(), problems)
    known = exhaustive(len(part.images), rows, labels.image, _absent(labels), part.labels, part.ancestors)
    return Parsed(rows, states, problems, pa.table({"exhaustive": known}))


def _fields(text: bytes) -> int:
    """How many fields the first line of a text has."""
    return text[: text.find(b"\n") if b"\n" in text else len(text)].count(b",") + 1


def _table(part: Part, fields: Ints, widths: Sequence[int], numbers: Sequence[str]) -> _Table:
    """The lines of those annotations of a part that have so many `fields`, one of `widths`."""
    images: list[Ints] = [np.zeros(0, np.int64)]
    places: list[Ints] = [np.zeros(0, np.int64)]
    found: list[tuple[dict[str, pa.Array], dict[str, Floats]]] = []
    for width in widths:
        which = np.flatnonzero(fields == width)
        texts = [part.annotations[i] for i in which.tolist()]
        if not texts:
            continue
        place = np.repeat(which, [text.count(b"\n") + 1 for text in texts])
        columns = (*BOXES, *FLAGS)[: min(width, len(BOXES) + len(FLAGS))]
        found.append(_columns(b"\n".join(texts), columns, width, numbers))
        places.append(place)
        images.append(part.image_of[place].astype(np.int64))
    image, place = np.concatenate(images), np.concatenate(places)
    order = np.lexsort((place, image))  # stable: lines of a text stay in their order
    names = [name for name in (*BOXES[:4], *FLAGS) if name not in numbers]
    empty = pa.array([b""] * len(image), pa.binary())
    columns_found = {
        name: pa.concat_arrays([c.get(name, empty.slice(0, len(next(iter(c.values()))))) for c, _ in found])
        for name in names
        if found
    }
    return _Table(
        image[order],
        {name: column.take(pa.array(order)) for name, column in columns_found.items()},
        {name: np.concatenate([np.zeros(0), *(n[name] for _, n in found)])[order] for name in numbers},
    )


def _columns(
    data: bytes, names: Sequence[str], width: int, numbers: Sequence[str]
) -> tuple[dict[str, pa.Array], dict[str, Floats]]:
    """The columns `names`, the first ones of `width`, of lines; those of `numbers` as such."""
    wanted = [name for name in names if name != "ImageID" and (name not in BOXES[4:] or name in numbers)]
    try:
        table = _read(data, names, width, wanted, dict.fromkeys(numbers, pa.float64()))
        values = {name: table[name].to_numpy() for name in numbers}
    except pa.ArrowInvalid:  # one of all is no number
        table = _read(data, names, width, wanted, {})
        values = {name: _as_numbers(table[name]) for name in numbers}
    texts = {name: table[name].combine_chunks() for name in wanted if name not in numbers}
    return texts, {name: np.asarray(column, np.float64) for name, column in values.items()}


def _read(
    data: bytes, names: Sequence[str], width: int, wanted: Sequence[str], types: Mapping[str, pa.DataType]
) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(use_threads=False, column_names=[*names, *map(str, range(len(names), width))]),
        pyarrow.csv.ParseOptions(quote_char=False),
        pyarrow.csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: types.get(name, pa.binary()) for name in wanted},
            null_values=[],
            check_utf8=False,
        ),
    )


def _as_numbers(texts: pa.ChunkedArray) -> Floats:
    found = [as_number(text.decode(errors="replace")) for text in texts.to_pylist()]
    return np.array([np.nan if number is None else number for number in found])


def _rows(boxes: _Table, labels: Mapping[int | str, str], options: Options, problems: list[Problem]) -> pa.Table:
    """The rows of boxes; those that are bad are added to `problems`."""
    left, right, top, bottom = (boxes.numbers[side] for side in _SIDES)
    line = np.arange(len(boxes)) - np.searchsorted(boxes.image, boxes.image) + 1
    good = np.isfinite(np.stack([left, right, top, bottom])).all(axis=0)
    problems += [_problem(boxes, i, int(line[i])) for i in np.flatnonzero(~good).tolist()]
    found = Boxes.between(np.stack([left, top], axis=1)[good], np.stack([right, bottom], axis=1)[good])
    mask = pa.array(good)
    columns = {name: column.filter(mask) for name, column in boxes.columns.items()}
    flags = _Flags(columns, int(good.sum()))
    word = flags.words
    word[found.cut] = "clipped"
    dropped = flags.any_of(options.drop)
    word[dropped] = "flagged"
    crowd = flags.crowd & (options.crowd == "drop")
    word[crowd] = "crowd"
    found.mark(word)
    drawn = ~(dropped | found.empty | found.outside)
    is_row = drawn & ~crowd
    label, raw = _names(columns.get("LabelName"), labels), flags.objects(drawn, crowds=options.crowd == "drop")
    drawn_boxes = Drawn(boxes.image[good], line[good], label, found.cxcywhn, is_row, raw, word.tolist())
    return drawn_boxes.table(options.numbers)


def _problem(boxes: _Table, row: int, line: int) -> Problem:
    bad = next(side for side in _SIDES if not np.isfinite(boxes.numbers[side][row]))
    detail = f"box {line} of the image has an {bad} that is no number; correct it, or remove the line"
    return Problem(int(boxes.image[row]), None, "bad_row", detail)


def _names(classes: pa.Array | None, labels: Mapping[int | str, str]) -> pa.Array:
    """The names of classes, each as it is called where nobody has a name for it."""
    if classes is None:
        return pa.array([], pa.string())
    coded = classes.dictionary_encode()
    called = [key.decode(errors="replace") for key in coded.dictionary.to_pylist()]
    return pa.array([labels.get(key, key) for key in called], pa.string()).take(coded.indices)


class _Flags:
    """The flags of boxes: of few boxes those that there are together differ, so each such set is read once."""

    def __init__(self, columns: Mapping[str, pa.Array], count: int) -> None:
        given = [columns[name] for name in ("Source", *FLAGS)] if columns else []
        joined = pc.binary_join_element_wise(*given, b",") if given else pa.array([], pa.binary())
        coded = joined.dictionary_encode()
        self._of = coded.indices.to_numpy() if count else np.zeros(0, np.int64)
        self._sets = [text.decode(errors="replace").split(",") for text in coded.dictionary.to_pylist()]

    def _is(self, flag: str) -> Bools:
        at = 1 + FLAGS.index(flag)
        found: Bools = np.array([texts[at].strip() == "1" for texts in self._sets], np.bool_)[self._of]
        return found

    @property
    def crowd(self) -> Bools:
        """Boxes of a group."""
        return self._is("IsGroupOf")

    @property
    def words(self) -> npt.NDArray[np.object_]:
        """The word that is counted of each box, None where it has no flag."""
        found = np.full(len(self._of), None, object)
        for flag, word in reversed(_WORDS.items()):
            found[self._is(flag)] = word
        return found

    def any_of(self, words: Sequence[str]) -> Bools:
        """Boxes with the flag of one of `words`."""
        found = np.zeros(len(self._of), np.bool_)
        for flag, word in _WORDS.items():
            if word in words:
                found |= self._is(flag)
        return found

    def objects(self, wanted: Bools, *, crowds: bool) -> pa.Array:
        """What COCO JSON has of each box beside the box itself, where it is `wanted`."""
        texts = []
        for source, *values in self._sets:
            flags = {name: _flag(value) for name, value in zip(FLAGS, values, strict=True) if value}
            data: dict[str, Any] = {"iscrowd": int(crowds and flags.get("IsGroupOf") == 1), "Source": source}
            texts.append(msgspec.json.encode(data | flags))
        at = pa.array(np.where(wanted, self._of, 0), pa.int64(), mask=~wanted)
        return pa.array(texts, pa.binary()).take(at)


def _flag(text: str) -> int | str:
    number = as_number(text)
    return int(number) if number is not None and number == int(number) else shown(text)


def _absent(labels: _Table) -> pa.Array:
    """The class that each line of image labels says is not in its image; null for other lines."""
    if not len(labels):
        return pa.array([], pa.binary())
    is_absent = pa.array(labels.numbers["Confidence"] == 0)
    return pc.if_else(is_absent, labels.columns["LabelName"], pa.scalar(None, pa.binary()))


def exhaustive(
    images: int,
    rows: pa.Table,
    image: Ints,
    absent: pa.Array,
    labels: Mapping[int | str, str],
    ancestors: Mapping[str, Sequence[str]],
) -> pa.Array:
    """Names of the classes that are labelled everywhere in each of so many `images`, one a line.

    That are those that have a box (`rows`) and those that people verified to be `absent`, with all that are kinds of
    them by their `ancestors`; `image` is the position of each of `absent`.
    """
    names = sorted({*labels.values(), *rows["label"].unique().to_pylist()})
    number = {name: i for i, name in enumerate(names)}
    with_kinds: dict[str, list[int]] = {name: [i] for name, i in number.items()}
    for name, above in ancestors.items():
        for one in above:
            if one in number and name in number:
                with_kinds[one].append(number[name])
    coded = absent.dictionary_encode()
    called = [labels.get(key.decode(errors="replace")) for key in coded.dictionary.to_pylist()]
    kinds = [np.array(with_kinds[name] if name is not None else [], np.int64) for name in called]
    known = coded.indices.is_valid().to_numpy(zero_copy_only=False)
    of, where = coded.indices.drop_null().to_numpy(), image[known]
    counts = np.array([len(some) for some in kinds], np.int64)
    flat = np.concatenate([np.zeros(0, np.int64), *kinds])
    begins = np.cumsum(counts) - counts
    each = counts[of] if len(of) else np.zeros(0, np.int64)
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    classes = flat[np.repeat(begins[of] if len(of) else each, each) + within]
    boxed = pc.index_in(rows["label"].combine_chunks(), pa.array(names, pa.string())).to_numpy().astype(np.int64)
    codes = np.unique(
        np.concatenate(
            [
                rows["file"].to_numpy().astype(np.int64) * max(len(names), 1) + boxed,
                np.repeat(where, each) * max(len(names), 1) + classes,
            ]
        )
    )
    offsets = np.searchsorted(codes, np.arange(images + 1) * max(len(names), 1))
    taken = pa.array(names, pa.string()).take(pa.array(codes % max(len(names), 1)))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), taken), "\n")
