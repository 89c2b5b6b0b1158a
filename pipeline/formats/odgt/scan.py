"""One pass over a file of lines: where each image is, and which tags there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pipeline.base.text import plain_name
from pipeline.formats import FileOutline, Malformed
from pipeline.formats._flaws import no_object
from pipeline.formats._image_names import ImageNames
from pipeline.formats._lines import decoded_lines, line_blocks, spans_of
from pipeline.formats._records import ImageRecord, outline_of
from pipeline.formats._values import category_name, plain

#: The tag of regions that are to be ignored: it is no class.
IGNORED = "mask"

_TAGS = re.compile(rb'"tag"\s*:\s*("(?:[^"\\]|\\.)*")')


class _Line(msgspec.Struct, gc=False):
    """What one pass reads of an image; its boxes are read when its bucket is."""

    ID: str | None = None


_lines = msgspec.json.Decoder(list[_Line | None]).decode


def _line(text: bytes) -> _Line | None:
    data = plain(text)
    if not isinstance(data, dict):
        return None
    said = data.get("ID")
    return _Line(said if isinstance(said, str) else str(said) if type(said) is int else None)


def outline(pieces: Iterable[bytes], names: ImageNames | None) -> FileOutline:
    """See `pipeline.formats.odgt.outline`."""
    tags: set[bytes] = set()
    bad: list[tuple[str, str, str, int]] = []
    found = outline_of(_records(pieces, tags, bad), names, lambda text: len(boxes_of(plain(text))))
    if not len(found.images) and bad:
        raise Malformed("is no .odgt file: no line of it is an image with its boxes")
    found.problems = bad + found.problems
    classes = {name for tag in tags if (name := tag_of({"tag": plain(tag)})) not in (None, IGNORED)}
    found.names = {"names": sorted(classes - {None, "person"} | {"person"})}
    found.labels = {name: name for name in found.names["names"]}
    return found


def _records(
    pieces: Iterable[bytes], tags: set[bytes], bad: list[tuple[str, str, str, int]]
) -> Iterator[tuple[ImageRecord, bytes]]:
    for number, begin, texts in line_blocks(pieces):
        spans = spans_of(texts, begin)
        filled = [i for i, text in enumerate(texts) if text.strip()]
        block = [texts[i] for i in filled]
        tags.update(_TAGS.findall(b"\n".join(block)))
        for i, found in zip(filled, decoded_lines(block, _lines, _line), strict=True):
            where = f"line {number + i}"
            if found is None or b'"gtboxes"' not in texts[i]:
                clause = no_object(texts[i]) or "is no image with its boxes (gtboxes)"
                bad.append(("", "bad_line", f"{where} {clause}; correct it", 0))
                continue
            said = found.ID or ""
            yield ImageRecord(*spans[i], where, said, unlisted=f"{said}.jpg" if said else ""), texts[i]


def boxes_of(data: Any) -> list[Any]:
    """The boxes of a line; none where it has no list of them."""
    found = data.get("gtboxes") if isinstance(data, dict) else None
    return found if isinstance(found, list) else []


def tag_of(box: Any) -> str | None:
    """The tag of a box, None for none."""
    name = category_name({"name": box.get("tag")}) if isinstance(box, dict) else None
    return plain_name(name) if name is not None else None
