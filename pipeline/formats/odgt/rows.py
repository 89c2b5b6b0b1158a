"""How the boxes of lines become rows. The rules are in `formats.odgt`."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._boxes import Boxes
from pipeline.formats._drawn import Drawn, image_sizes, states_of
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._values import as_flag, as_number, as_pixels, finite, plain, shown
from pipeline.formats.odgt.options import Options
from pipeline.formats.odgt.scan import IGNORED, boxes_of, tag_of
from pipeline.images.header import Picture

#: Which box is meant, and whose attributes go with it, by the option.
_BOXES = {"full": ("fbox", "extra"), "visible": ("vbox", "extra"), "head": ("hbox", "head_attr")}

_FIELDS = ("fbox", "vbox", "hbox", "extra", "head_attr")


class _Rows:
    """The boxes that are objects, column by column; `size` is that of their image, `xywh` in pixels."""

    def __init__(self) -> None:
        self.file: list[int] = []
        self.line: list[int] = []
        self.label: list[str] = []
        self.size: list[tuple[int, int]] = []
        self.xywh: list[list[float]] = []
        self.word: list[str | None] = []
        self.raw: list[bytes] = []


def parse(part: Part, options: Options) -> Parsed:
    """See `pipeline.formats.odgt.parse`."""
    lines = [data if isinstance(data := plain(text), dict) else {} for text in part.images]
    pictures = part.pictures([*range(len(lines))]) if part.pictures is not None and lines else [None] * len(lines)
    rows = _Rows()
    problems: list[Problem] = []
    frames: list[Frame | None] = []
    for number, (data, picture) in enumerate(zip(lines, pictures, strict=True)):
        frame = _frame(number, data, picture, options, problems)
        frames.append(frame)
        for line, box in enumerate(boxes_of(data) if frame is not None else (), 1):
            assert frame is not None
            _add(rows, number, line, box, frame, options, problems)
    table = _table(rows, options)
    states = states_of(len(lines), rows.file, problems)
    return Parsed(table, states, problems, image_sizes(frames))


def _frame(
    number: int, data: dict[str, Any], picture: Picture | None, options: Options, problems: list[Problem]
) -> Frame | None:
    """The frame of the boxes of a line; None where nobody knows it, which is a problem unless it has none."""
    width, height = as_pixels(data.get("width")), as_pixels(data.get("height"))
    boxes = boxes_of(data)
    if width is None or height is None:
        if picture is not None:
            return Frame(picture.width, picture.height)
        if boxes:
            detail = "has no width and height, and there is no image file to read them from; put the image there"
            problems.append(Problem(number, None, "no_size", f"image {shown(data.get('ID'))} {detail}", len(boxes)))
        return None
    key = _BOXES[options.box][0]
    given = [four for box in boxes if (four := _four(box, key)) is not None]
    try:
        return frame_of(
            (width, height),
            picture,
            lambda: (max((x + w for x, _, w, _ in given), default=0), max((y + h for _, y, _, h in given), default=0)),
        )
    except OtherImage as bad:
        detail = f"has {bad.shown} pixels, but the file says {bad.own}: it was changed after it was labelled; "
        detail += "put the labelled image back"
        problems.append(Problem(number, None, "size_differs", f"image {shown(data.get('ID'))} {detail}", len(boxes)))
        return None


def _four(box: Any, key: str) -> list[float] | None:
    """A box in pixels: x, y, width and height; None for anything else."""
    given = box.get(key) if isinstance(box, dict) else None
    numbers = [as_number(value) for value in given] if isinstance(given, list) and len(given) == 4 else [None]
    return None if None in numbers else [number for number in numbers if number is not None]


def _add(
    rows: _Rows, number: int, line: int, box: Any, frame: Frame, options: Options, problems: list[Problem]
) -> None:
    """Add a box to `rows`, or to `problems` why it is not one."""
    key, whose = _BOXES[options.box]
    tag, four = tag_of(box), _four(box, key)
    if tag is None or four is None:
        lacks = "tag" if four is not None else key
        detail = f"box {line} of the image has no {lacks} that can be read; correct it, or remove it"
        problems.append(Problem(number, None, "bad_box", detail))
        return
    if frame.moves:
        corners = np.array([four[:2], [four[0] + four[2], four[1] + four[3]]])
        moved = frame.transform(corners)
        four = [*moved.min(axis=0).tolist(), *np.ptp(moved, axis=0).tolist()]
    said = box.get(whose) if isinstance(box.get(whose), dict) else {}
    ignored = tag == IGNORED or (bool(as_flag(said.get("ignore"))) and options.crowd == "drop")
    rows.file.append(number)
    rows.line.append(line)
    rows.label.append("person" if tag == IGNORED else tag)
    rows.size.append((frame.width, frame.height))
    rows.xywh.append(four)
    more = {name: finite(box[name]) for name in _FIELDS if name in box}
    unsaid = "occluded" if as_flag(said.get("occ")) else "attributes" if more.keys() - {key} else None
    rows.word.append("crowd" if ignored else frame.note or unsaid)
    data = {"segmentation": [], "area": four[2] * four[3], "bbox": four, "iscrowd": int(ignored)}
    rows.raw.append(msgspec.json.encode(data | more))


def _table(rows: _Rows, options: Options) -> pa.Table:
    xywh = np.array(rows.xywh, np.float64).reshape(-1, 4)
    size = np.array(rows.size, np.float64).reshape(-1, 2)
    found = Boxes.between(xywh[:, :2], xywh[:, :2] + xywh[:, 2:], size)
    word = np.array(rows.word, object)
    crowd = word == "crowd"
    word[found.cut & ~crowd] = "clipped"
    found.mark(word)
    drawn = ~(found.empty | found.outside)
    is_row = drawn & ~crowd
    raw, label = pa.array(rows.raw, pa.binary(), mask=~drawn), pa.array(rows.label, pa.string())
    return Drawn(rows.file, rows.line, label, found.cxcywhn, is_row, raw, word.tolist()).table(options.numbers)
