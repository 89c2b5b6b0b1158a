"""Grammars of label files: bytes to rows and back. One module each; its name is the key in a config.

A format module has what `Format` names, and what belongs to its kind: of a format with a label file for each image
(`LabelFileFormat`) ``parse`` of a batch of them; of one whose file holds all labels of a split (`SingleFileFormat`)
``outline``, a pass over the whole file, and ``parse`` of a part of it. Generic code asks these properties and never
the name. Nothing here touches a file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipeline.base import plugins
from pipeline.base.classes import SourceNames
from pipeline.base.terms import Split, Task
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

    from pipeline.base.arrays import AnyInts as Spans  # of any width: those of a large file are narrow
    from pipeline.base.arrays import Ints
    from pipeline.formats._image_names import ImageNames
    from pipeline.formats._stretches import Read, Stretch
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


def no_picture(number: int, path: str | None) -> None:
    """`Pictures` of whoever has none."""
    del number, path


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

    @property
    def readable(self) -> set[int]:
        """Indexes of the files that are not corrupt."""
        return {i for i, state in enumerate(self.states) if state is not LabelState.CORRUPT}


class Malformed(ValueError):  # noqa: N818 - a clause of a sentence, not an error
    """A clause that says what is wrong with a file, and the `line` (from 1) where that is known."""

    def __init__(self, clause: str, line: int | None = None) -> None:
        super().__init__(clause)
        self.line = line


@dataclass
class FileOutline:
    """Where everything is in a file, found in one pass; nothing of it is decoded but what images are called.

    `images` and `annotations` are spans, shape (n, 2): begin and end in the file; where the objects of an image are
    within its own span there are no `annotations`. `stems` are unique, `paths` those of the images below their folder
    (empty: missing), `said` what the file calls them; `image_of` is the index of each annotation's image in
    `images`. Images and annotations that cannot be used are left out and are in `problems`, as (path or "", counted
    word, clause, lost annotations). `doubtful` are indexes of images of which it is not known whether they have
    objects. `names` are those of its classes; `labels` the class names by what annotations
    call them. `rest` is the file without its images and annotations, as JSON. `notes` are sentences
    for the user. `index_of_id` (the index of each image) and `lost_with` (the index in `problems`, by image id) are
    for the format's own use, until its captions are read.
    """

    images: Spans
    annotations: Spans
    image_of: Spans
    stems: list[str]
    paths: list[str]
    said: list[str]
    labels: dict[int | str, str] = field(default_factory=dict)
    names: SourceNames = field(default_factory=lambda: SourceNames(names=[]))
    rest: bytes = b"{}"
    problems: list[tuple[str, str, str, int]] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    index_of_id: dict[Any, int] = field(default_factory=dict)
    lost_with: dict[Any, int] = field(default_factory=dict)

    def forget(self) -> None:
        """Let go of what is as large as the file has objects."""
        import numpy as np

        self.images = self.annotations = np.zeros((0, 2), np.int64)
        self.image_of = np.zeros(0, np.int64)
        self.stems, self.paths, self.said = [], [], []
        self.index_of_id = {}


@dataclass
class Part:
    """Some images of a file with their annotations, each as it is written; `image_of` are indexes in these `images`.

    `labels` are those of the `FileOutline`, `ancestors` those of its names, by name. `captions` are the image's caption
    annotations, and indexes in `images`. `pictures` is asked for the images at indexes: for all of them with `compare`,
    else for those whose size the file does not say.
    """

    images: Sequence[bytes]
    annotations: Sequence[bytes]
    image_of: Spans
    labels: Mapping[int | str, str]
    captions: tuple[Sequence[bytes], Ints] | None = None
    pictures: Callable[[Sequence[int]], Sequence[Picture | None]] | None = None
    compare: bool = False
    ancestors: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class FileContents:
    """What a file that may hold several splits says of itself.

    That is its task, None where it does not say it; its splits; the `folder` of its images, relative to its own, which
    has ``images/<split>`` in it (empty: unsaid); and the web server (``http://host``) where all images are that have
    addresses, None where there are none or several servers. `signed`: addresses end in what goes out of date.
    `folders` has, for a split, where its images may be relative to the file, the likeliest first.
    """

    task: Task | None
    splits: Sequence[Split]
    folder: str = ""
    server: str | None = None
    signed: bool = False
    folders: Mapping[Split, Sequence[str]] = field(default_factory=dict)


class Format(Protocol):
    """What every format module offers."""

    #: The suffix of its label files, lower case (``.txt``).
    SUFFIX: str
    #: The tasks whose rows it can hold.
    TASKS: frozenset[Task]
    #: Whether rows carry the names of their classes, so that a source needs no YAML of names.
    NAMED: bool
    #: Whether one file holds all labels of a split: it is a `SingleFileFormat`, else a `LabelFileFormat`.
    WHOLE: bool
    #: Whether the size of its image decides about a label file's rows, so that a changed image is a changed file.
    SIZED: bool
    #: What ``source.options`` may say; None where there is nothing to choose. An option ``keypoints`` is the list of
    #: names of the keypoints of task pose, for a format that does not say them itself.
    Options: type[BaseModel] | None

    def layout(self, folder: str, task: Task) -> dict[str, str]:
        """Where a split called `folder` is below the root of its source: labels or annotations, and images."""


class LabelFileFormat(Format, Protocol):
    """A format with a label file for each image."""

    #: Folders of label files and images together, by split, as tools of this format call them.
    SPLIT_FOLDERS: Mapping[str, str]

    def parse(
        self,
        files: Sequence[bytes],
        task: Task,
        keypoints: tuple[int, int] | None,
        options: Mapping[str, Any],
        pictures: Pictures | None = None,
    ) -> Parsed:
        """Rows of `files`; whatever cannot be taken is in `Parsed.problems`."""


class SingleFileFormat(Format, Protocol):
    """A format of which one file holds all labels of a split."""

    #: Names of the file, below its source, of a dataset without splits, the likeliest first.
    FILES: Sequence[str]
    #: Name of a split's file within its folder of images; None where no tool writes it there.
    FILE_BESIDE_IMAGES: str | None
    #: Whether one file may hold several splits: `outline` then takes the images of the one that it is asked for.
    HOLDS_SPLITS: bool
    #: Whether a second file may hold captions of the images.
    CAPTIONS: bool
    #: Whether several files may hold the labels of a split together: it is a `SeveralFilesFormat`.
    SEVERAL_FILES: bool
    #: Options with which no image is asked how large it is, for who looks at what is at a store.
    UNASKED: Mapping[str, Any]

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with `head` may be of this format, for who asks which one a file is of."""

    def asks_sizes(self, options: Mapping[str, Any], images: int) -> bool:
        """Whether each image of a split of so many is asked how large it is, so that a changed one is a change."""

    def outline(
        self, pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
    ) -> FileOutline:
        """Read a whole file, which comes in `pieces`, in one pass; `names` are the images that are there.

        Raises `Malformed` for what is no file of this format at all.
        """

    def captions(self, pieces: Iterable[bytes], of: FileOutline) -> tuple[Ints, Ints]:
        """Captions in a second file, where the format has `CAPTIONS`: spans, and indexes in the images of `of`.

        Raises `Malformed` as `outline` does.
        """

    def parse(self, part: Part, task: Task, keypoints: tuple[int, int] | None, options: Mapping[str, Any]) -> Parsed:
        """Rows of a `Part`; ``file`` in them is the index of the image, ``line`` counts objects in their image."""


class AmidFormat(SingleFileFormat, Protocol):
    """A format whose files several processes read together: one of those that have a function `stretch`."""

    def outline(
        self,
        pieces: Iterable[bytes],
        task: Task,
        names: ImageNames | None = None,
        split: str | None = None,
        ahead: Sequence[Read] = (),
    ) -> FileOutline:
        """See `SingleFileFormat.outline`; `ahead` is read elsewhere, in the order of the file."""

    def stretch(self, pieces: Iterable[bytes], begin: int, task: Task) -> Stretch | None:
        """What is in a part of a file, which begins anywhere in it, at byte `begin`; None where that is uncertain."""


class SeveralFilesFormat(SingleFileFormat, Protocol):
    """A format that has `SEVERAL_FILES`."""

    def outline_of_files(
        self, files: Iterable[Iterable[bytes]], task: Task, names: ImageNames | None = None, split: str | None = None
    ) -> FileOutline:
        """As `outline`, of all files of a split, which are read one after the other: spans are in them as in one."""

    def files_of_splits(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Of the files `names` of a dataset (paths with ``/``) those of each split; that with the objects is first."""


class SplitFileFormat(SingleFileFormat, Protocol):
    """A format that `HOLDS_SPLITS`."""

    def contents(self, pieces: Iterable[bytes]) -> FileContents:
        """What a whole file says of itself. Raises `Malformed` as `outline` does."""


def available() -> list[str]:
    """Names of all formats."""
    return plugins.available(__name__)


def load(name: str) -> Format:
    """The format module called `name`; raises `UnknownNameError` with what there is."""
    return cast("Format", plugins.load(__name__, "format", name))


def load_label_files(name: str) -> LabelFileFormat:
    """The format called `name`, which is not `WHOLE`."""
    return cast("LabelFileFormat", load(name))


def load_single_file(name: str) -> SingleFileFormat:
    """The format called `name`, which is `WHOLE`."""
    return cast("SingleFileFormat", load(name))
