"""A format as a stranger would add it: one line an image, with its split and its boxes in pixels, in one file.

train a.jpg 100x50 cat,10,20,30,10 dog,0,0,5,5
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.base.terms import SPLITS, Task
from pipeline.formats import FileContents, FileOutline, Malformed, Parsed, Part, Problem
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".tiny"
TASKS = frozenset({Task.DETECT})
NAMED = WHOLE = HOLDS_SPLITS = True
SIZED = CAPTIONS = SEVERAL_FILES = False
FILES = ("all.tiny",)
UNASKED: Mapping[str, Any] = {}
FILE_BESIDE_IMAGES = None
Options = None


def layout(folder: str, task: Task) -> dict[str, str]:
    """One file for all splits."""
    del task
    return {"annotations": "all.tiny", "images": folder}


def recognises(head: bytes) -> bool:
    """Whether it begins with the name of a split."""
    return head.split(b" ", 1)[0].decode(errors="replace") in SPLITS


def contents(pieces: Iterable[bytes]) -> FileContents:
    """The splits that lines begin with."""
    found = {line.split(b" ", 1)[0].decode(errors="replace") for line in b"".join(pieces).splitlines()}
    return FileContents(Task.DETECT, [split for split in SPLITS if split in found])


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """The file is believed."""
    del options, images
    return False


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """The lines of `split`."""
    del task
    at, spans, said = 0, [], []
    classes: set[str] = set()
    for number, line in enumerate(b"".join(pieces).splitlines(keepends=True), 1):
        words = line.split()
        if words and len(words) < 3:
            raise Malformed("has a line without a split, a name and a size", number)
        if words and words[0].decode() == split:
            spans.append((at, at + len(line)))
            said.append(words[1].decode())
        classes.update(word.split(b",")[0].decode() for word in words[3:])
        at += len(line)
    paths = [(names.find(name, name).path or "") if names is not None else name for name in said]
    none = np.zeros(0, np.int64)
    stems = [name.rpartition(".")[0] for name in said]
    images = np.array(spans, np.int64).reshape(-1, 2)
    return FileOutline(images, none.reshape(-1, 2), none, stems, paths, said, names={"names": sorted(classes)})


def captions(pieces: Iterable[bytes], of: FileOutline) -> tuple[Ints, Ints]:
    """It has none."""
    raise NotImplementedError


def parse(part: Part, task: Task, keypoints: tuple[int, int] | None, options: Mapping[str, Any]) -> Parsed:
    """The boxes of each line; one that is no box is bad."""
    del task, keypoints, options
    rows, states, problems, sizes = [], [], [], []
    for file, text in enumerate(part.images):
        _, _, size, *objects = text.decode().split()
        width, height = map(int, size.split("x"))
        sizes.append((width, height))
        for line, word in enumerate(objects, 1):
            name, *numbers = word.split(",")
            if len(numbers) != 4:
                problems.append(Problem(file, line, "no_box", f"{word} is no box"))
                continue
            x, y, w, h = map(float, numbers)
            box = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
            tail = "".join(f" {value:.6f}" for value in box).encode()
            rows.append((file, line, -1, name, None, tail, *box, 5))
        states.append(LabelState.FOUND if objects else LabelState.EMPTY)
    columns = list(zip(*rows, strict=True)) or [()] * 11
    types = [pa.int32(), pa.int32(), pa.int32(), pa.string(), pa.binary(), pa.binary(), *[pa.float64()] * 4, pa.int32()]
    names = ["file", "line", "class_id", "label", "head", "tail", "cx", "cy", "w", "h", "n_tokens"]
    table = pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=names)
    pixels = {name: pa.array([size[i] for size in sizes], pa.int32()) for i, name in enumerate(("width", "height"))}
    return Parsed(table, states, problems, pa.table(pixels))
