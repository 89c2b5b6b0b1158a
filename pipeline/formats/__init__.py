"""Grammars of label files: bytes to rows and back. One module each; its name is the key in a config.

A format module has

- ``SUFFIX``: the suffix of its label files, lower case (``.txt``);
- ``TASKS``: the tasks whose rows it can hold;
- ``NAMED``: whether rows carry the names of their classes, so that a source needs no YAML of names;
- ``WHOLE``: whether one file holds all labels of a split;
- ``SIZED``: whether the size of its image decides about a label file's rows, so that a changed image is a changed file;
- ``Options``: a pydantic model of what ``source.options`` may say; None where there is nothing to choose;
- ``layout(folder, task) -> dict``: where a split called `folder` lies below the root of a source, by convention;
- ``parse(files, task, keypoints, options, pictures) -> Parsed``: rows of a batch of files; a format that is `WHOLE` has
  instead what `formats.coco` has.

Nothing here touches a file system.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipeline.base.errors import UnknownNameError, unknown
from pipeline.tables.schema import LabelState, Task

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

    from pipeline.images.header import Picture


@dataclass(frozen=True)
class Problem:
    """A row (or with line None a file) that could not be taken: where, the counted word, and a clause that says it.

    `rows` is how many rows of the file are lost with it; 0 where nobody could count them.
    """

    file: int
    line: int | None
    reason: str
    detail: str
    rows: int = 1


#: Asked for the image of a file by its number in the batch, and by where the file says that its image is.
Pictures = Callable[[int, str | None], "Picture | None"]


@dataclass
class Parsed:
    """The rows of a batch of label files.

    `rows` has the columns file (int32, index into the batch), line, class_id, head, tail, cx, cy, w, h and n_tokens of
    `schema.annotations`, sorted by file and line, and where the format is `NAMED` label, raw and loss; `states` has
    one `LabelState` a file. `images`, if any, has one row a file with those of the columns width, height, raw,
    captions, image_said, held_suffix and held_size of `schema.images` that the format knows.
    """

    rows: pa.Table
    states: list[LabelState]
    problems: list[Problem] = field(default_factory=list)
    images: pa.Table | None = None


class Format(Protocol):
    """What a format module offers."""

    SUFFIX: str
    TASKS: frozenset[Task]
    NAMED: bool
    WHOLE: bool
    SIZED: bool
    Options: type[BaseModel] | None

    def layout(self, folder: str, task: Task) -> dict[str, str]:
        """Places of a split below the root of its source: labels or annotations, images."""

    def parse(
        self,
        files: Sequence[bytes],
        task: Task,
        keypoints: tuple[int, int] | None,
        options: Mapping[str, Any],
        pictures: Pictures | None = None,
    ) -> Parsed:
        """Rows of `files`; whatever cannot be taken is in `Parsed.problems`."""


def available() -> list[str]:
    """Names of all formats."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str) -> Format:
    """The format module called `name`; raises `UnknownNameError` with what there is."""
    if name not in available():
        raise UnknownNameError(unknown("format", name, available()))
    return cast("Format", importlib.import_module(f"{__name__}.{name}"))
