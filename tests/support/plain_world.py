"""What sources hold, whatever the formats that they are written in, and what becomes of it: the words of an oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SUPERCATEGORIES = {"car": "vehicle", "bus": "vehicle", "truck": "vehicle", "dog": "animal", "person": "person"}


@dataclass(frozen=True)
class Obj:
    """An object: its class in the source, its box (left, top, width, height) in pixels of the image as it is shown."""

    name: str
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Picture:
    """An image, its size as it is shown, and its objects; `objects` None: nobody labelled it.

    `file` is ``whole``, ``missing``, ``empty`` or ``cut``; `look` is what it shows. `bad`: its label file has, beside
    the objects, a row that no reader takes (``tokens``), or of a class that has no name (``class``).
    """

    source: str
    split: str
    stem: str
    suffix: str
    width: int
    height: int
    turned: bool
    look: int
    objects: tuple[Obj, ...] | None
    file: str = "whole"
    bad: str | None = None


@dataclass(frozen=True)
class Source:
    """A source: its name, the format of its labels, its classes in their order, and those that it labels everywhere."""

    name: str
    format: str
    names: tuple[str, ...]
    exhaustive: tuple[str, ...] | None = None

    @property
    def says_sizes(self) -> bool:
        """Whether the labels say how large images are."""
        return self.format != "yolo"

    def folder(self, split: str) -> str:
        """What a split is called in keys."""
        return f"instances_{split}2017" if self.format == "coco" else f"{split}2017"


@dataclass(frozen=True)
class World:
    """The sources and their images."""

    sources: tuple[Source, ...]
    pictures: tuple[Picture, ...]

    def source(self, picture: Picture) -> Source:
        """The source of an image."""
        return next(source for source in self.sources if source.name == picture.source)

    def has(self, picture: Picture) -> bool:
        """Whether there is an image file or a label."""
        return picture.objects is not None or picture.file != "missing"

    def key(self, picture: Picture) -> str:
        """The key of an image."""
        return f"{picture.source}/{self.source(picture).folder(picture.split)}/{picture.stem}"


@dataclass
class Image:
    """What becomes of one image: `rows` are its objects that are left, with their numbers; `why` it was left out."""

    picture: Picture
    key: str
    source: Source
    rows: list[tuple[int, Obj]]
    why: str | None = None
    split: str = ""
    path: str = ""

    def leave(self, why: str) -> None:
        """Leave it out, unless an earlier step did."""
        self.why = self.why or why


@dataclass
class Expected:
    """The subset's classes, its images, what became of all images and rows by counted word, unusable ones by reason."""

    classes: tuple[str, ...]
    taken: list[Image] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    sides: dict[str, str] = field(default_factory=dict)
