"""Files of one record an image, which has the objects of the image in it: which image each record is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.humanize import noun, plural
from pipeline.base.terms import Split
from pipeline.formats import FileOutline
from pipeline.formats._image_names import Found, ImageNames, clean
from pipeline.formats._values import shown

#: Splits as tools call them, in lower case; Ultralytics knows the first three.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "val": "val", "test": "test", "valid": "val", "validation": "val", "training": "train",
    "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A record at `begin` to `stop` of a file, which the user knows as `where`, as in ``line 3``.

    `said` is what it calls its image, `other` a second name of it (an address, an upload), which may be empty.
    `unlisted` is where the image is, where nobody lists what is there; empty: at `said`.
    """

    begin: int
    stop: int
    where: str
    said: str
    other: str = ""
    unlisted: str = ""


def outline_of(
    given: Iterable[tuple[ImageRecord, bytes]], names: ImageNames | None, objects: Callable[[bytes], int]
) -> FileOutline:
    """The images of records, each with its text; `names` are those that are there, None where nobody lists them.

    Stems are those of the images or, where there are none, of what records say. A record without a name, one of an
    image that another record names as well, and one of which two images fit are problems; `objects` counts those of a
    text.
    """
    files: list[Found] = []
    records: list[ImageRecord] = []
    called: list[str] = []
    lost: list[int] = []
    seen: set[str] = set()
    for record, text in given:
        name = clean(record.said) or clean(record.other)
        path = (clean(record.unlisted) if record.unlisted else "") or name
        asked = [one for one in (record.said, record.other) if one]
        file = Found(path or None, exact=True) if names is None else names.find(*asked)
        key = file.path or f"\0{name}"
        doubtful = not path or file.several or (file.path and not file.exact) or key in seen
        lost.append(objects(text) if doubtful else 0)
        seen.add(key)
        records.append(record)
        called.append(name)
        files.append(file)
    exact = {file.path for file in files if file.exact}
    like = Counter(file.path for file in files if file.path and not file.exact)
    shared = {path for path, count in like.items() if count > 1 or path in exact}
    empty = np.zeros((0, 2), np.int64)
    found = FileOutline(empty, empty, np.zeros(0, np.int64), [], [], [])
    taken: dict[str, ImageRecord] = {}
    spans: list[tuple[int, int]] = []
    named: list[str] = []
    for record, file, said, count in zip(records, files, called, lost, strict=True):
        problem = _problem(record, said, file, shared, taken)
        if problem is not None:
            found.problems.append((said, problem[0], f"{record.where} {problem[1]}", count))
            continue
        spans.append((record.begin, record.stop))
        named.append(file.path if file.path and names is not None else said)
        found.paths.append(file.path or "")
        found.said.append(record.said or record.other)
    found.images = np.array(spans, np.int64).reshape(-1, 2)
    found.stems = stems_of(named, found.notes)
    return found


def _problem(
    record: ImageRecord, said: str, file: Found, shared: set[str], taken: dict[str, ImageRecord]
) -> tuple[str, str] | None:
    """The counted word and a clause for a record that is of no image, or not of one alone.

    Several records name the images of `shared` or something like them; `taken` are those with a record, and which.
    """
    if not said:
        return "bad_image", "names no image"
    if file.several or (file.path in shared and not file.exact):
        fitting = " or ".join(file.several[:3]) or f"{file.path}, which another record names as well"
        return (
            "ambiguous_image",
            f"({shown(record.said)}) may be {fitting}; name it by its path below the folder of images",
        )
    if (first := taken.setdefault(file.path or f"\0{said}", record)) is not record:
        # Several records may be in one line, and have one number.
        other = first.where if first.where != record.where else f"an earlier record, {first.where} as well"
        return "image_twice", f"({shown(record.said)}) is of the image of {other}; join them, or remove one"
    return None


def stems_of(paths: Sequence[str], notes: list[str]) -> list[str]:
    """The paths without suffix; of two that are then equal the later one keeps it, which is added to `notes`."""
    taken: set[str] = set()
    stems = []
    doubled = 0
    for path in paths:
        stem, dot, suffix = path.rpartition(".")
        stem = stem if dot and stem and "/" not in suffix and not stem.endswith("/") else path
        if stem in taken:
            doubled += 1
            stem = path
            while stem in taken:
                stem += "_"
        taken.add(stem)
        stems.append(stem)
    if doubled:
        notes.append(
            f"{plural(doubled, 'image has', 'images have')} the name of another but for the suffix (as in a.jpg and "
            f"a.png): {noun(doubled, 'its label file is', 'their label files are')} called by the whole name"
        )
    return stems
