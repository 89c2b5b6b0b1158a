"""What a dataset holds, in numbers: counts by class and split, sizes, shapes; and what is noteworthy about them.

Counts of parts add up (`Statistics.add`). Arrays are NumPy's; the class is the first axis where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.base.humanize import noun, plural
from pipeline.base.terms import SPLITS

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Sizes of objects by the area of their box in pixels: below 32^2, below 96^2, above. https://cocodataset.org/#detection-eval
SIZES = ("small", "medium", "large")
SIZE_EDGES = (32**2, 96**2)

#: Cells along one side of the map of centres, and of the map of box sizes (shares of the image's sides).
GRID = 64

#: Aspect ratios, width by height, in pixels where those are known: classes of half an octave from 1:16 to 16:1.
ASPECTS = 17

#: Objects an image are counted one by one below this.
MANY_OBJECTS = 101


@dataclass
class SplitStatistics:
    """Counts of one split; arrays have shape (classes,), `sizes` (classes, 3), see `SIZES`."""

    images: int
    backgrounds: int
    objects: Ints
    class_images: Ints
    sizes: Ints

    def add(self, other: SplitStatistics) -> None:
        """Add the counts of another part."""
        self.images += other.images
        self.backgrounds += other.backgrounds
        self.objects = self.objects + other.objects
        self.class_images = self.class_images + other.class_images
        self.sizes = self.sizes + other.sizes


@dataclass
class Statistics:
    """Counts of a dataset, or of a bucket of it.

    `centres` and `boxes` have shape (GRID, GRID), row first: where centres are, and height by width of boxes, both as
    shares of the image. `aspects` has shape (ASPECTS,), `per_image` (MANY_OBJECTS,): images by their number of objects,
    the last for as many and more. `pairs` are images by pairs of classes (the smaller id first) that they both have.
    `unsized` objects are of images of unknown size in pixels. `duplicates` are objects that repeat one of the
    same image. `traces` are, by split, hashes (uint64) that are equal for images of the same bytes count and objects.
    """

    splits: dict[str, SplitStatistics]
    centres: Ints
    boxes: Ints
    aspects: Ints
    per_image: Ints
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    unsized: int = 0
    duplicates: int = 0
    traces: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def none() -> Statistics:
        """Counts of nothing."""
        import numpy as np

        grid = np.zeros((GRID, GRID), np.int64)
        return Statistics({}, grid, grid.copy(), np.zeros(ASPECTS, np.int64), np.zeros(MANY_OBJECTS, np.int64))

    def add(self, other: Statistics) -> None:
        """Add the counts of another part."""
        import numpy as np

        for split, counts in other.splits.items():
            if split in self.splits:
                self.splits[split].add(counts)
            else:
                self.splits[split] = counts
        self.splits = {split: self.splits[split] for split in SPLITS if split in self.splits}
        for name in ("centres", "boxes", "aspects", "per_image"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for pair, count in other.pairs.items():
            self.pairs[pair] = self.pairs.get(pair, 0) + count
        self.unsized += other.unsized
        self.duplicates += other.duplicates
        for split, traces in other.traces.items():
            self.traces[split] = np.concatenate([self.traces.get(split, np.zeros(0, np.uint64)), traces])

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(counts.images for counts in self.splits.values())

    @property
    def backgrounds(self) -> int:
        """Images without an object, of all splits."""
        return sum(counts.backgrounds for counts in self.splits.values())

    def total(self, name: str) -> Any:
        """An array of `SplitStatistics`, summed over the splits; 0 if missing."""
        return sum((getattr(counts, name) for counts in self.splits.values()), start=0)

    @property
    def objects(self) -> int:
        """Objects of all splits."""
        return int(sum(counts.objects.sum() for counts in self.splits.values()))

    def leaks(self) -> int:
        """Images of which another split has one with the same number of bytes and the same objects."""
        import numpy as np

        names = list(self.traces)
        both = [np.intersect1d(self.traces[a], self.traces[b]) for i, a in enumerate(names) for b in names[i + 1 :]]
        return len(np.unique(np.concatenate(both))) if both else 0

    def as_subset(self, classes: Sequence[str]) -> dict[str, Any]:
        """Counts by split and class name, in the form that reports have."""
        return {
            split: {
                "images": counts.images,
                "backgrounds": counts.backgrounds,
                "objects": dict(zip(classes, counts.objects.tolist(), strict=True)),
                "images_by_class": dict(zip(classes, counts.class_images.tolist(), strict=True)),
            }
            for split, counts in self.splits.items()
        }


@dataclass(frozen=True)
class Note:
    """Something noteworthy: a sentence, the source of its threshold, and whether it may harm a training."""

    text: str
    source: str = ""
    grave: bool = False


_TIPS = "Ultralytics, Tips for Best Training Results"
_FEW_IMAGES, _FEW_OBJECTS, _MOST_BACKGROUNDS = 1500, 10_000, 0.1
_IMBALANCE = 100


def noteworthy(found: Statistics, classes: Sequence[str]) -> list[Note]:
    """What is noteworthy about `found`, gravest first; each threshold with its source."""
    notes = [*_of_classes(found, classes), *_of_balance(found, classes), *_of_objects(found)]
    return sorted(notes, key=lambda note: not note.grave)


def _of_classes(found: Statistics, classes: Sequence[str]) -> list[Note]:
    import numpy as np

    if not found.splits:
        return [Note("There is no image.", grave=True)]
    objects, images = found.total("objects"), found.total("class_images")
    notes = []
    empty = [name for name, count in zip(classes, objects.tolist(), strict=True) if not count]
    if empty:
        notes.append(Note(f"{_classes(empty)} without an object.", grave=True))
    if len(found.splits) > 1:
        alone: dict[str, list[str]] = {}
        for number, name in enumerate(classes):
            having = [split for split, counts in found.splits.items() if counts.objects[number]]
            if len(having) == 1:
                alone.setdefault(having[0], []).append(name)
        notes += [
            Note(
                f"{_classes(names)} in {split} alone.",
                "what is in one split is learned or tested, not both",
                grave=True,
            )
            for split, names in alone.items()
        ]
    few = (images < _FEW_IMAGES) & (objects > 0)
    rare = (objects < _FEW_OBJECTS) & (objects > 0)
    for mask, limit, what in ((few, _FEW_IMAGES, "images"), (rare, _FEW_OBJECTS, "objects")):
        if mask.any():
            names = [classes[i] for i in np.flatnonzero(mask).tolist()]
            notes.append(
                Note(f"{_classes(names)} with fewer than {limit:,} {what}.", f"{_TIPS}: at least {limit:,} a class")
            )
    return notes


def _of_balance(found: Statistics, classes: Sequence[str]) -> list[Note]:
    notes = []
    share = found.backgrounds / found.images if found.images else 0.0
    if share > _MOST_BACKGROUNDS:
        notes.append(Note(f"{share:.0%} of the images have no object.", f"{_TIPS}: 0-10 % backgrounds"))
    objects = found.total("objects")
    having = [(int(n), name) for n, name in zip(objects, classes, strict=True) if n] if found.splits else []
    if having and max(having)[0] > _IMBALANCE * min(having)[0]:
        (most, first), (least, last) = max(having), min(having)
        notes.append(
            Note(
                f"{first} has {most / least:,.0f} times as many objects as {last}.",
                "above 100:1 a data set counts as long-tailed: Cui et al. 2019, Class-Balanced Loss",
            )
        )
    return notes


def _of_objects(found: Statistics) -> list[Note]:
    notes = []
    sizes = found.total("sizes")
    known = int(sizes.sum()) if found.splits else 0
    small = int(sizes[:, 0].sum()) if known else 0
    if known and small * 2 > known:
        notes.append(
            Note(
                f"{small / known:.0%} of the objects are small (below 32 x 32 pixels).",
                "COCO has 41 %: cocodataset.org",
            )
        )
    if found.unsized:
        notes.append(
            Note(
                unsized_text(found.unsized, found.objects),
                "labels do not say it, and the images are elsewhere or cannot be read",
            )
        )
    if found.duplicates:
        notes.append(
            Note(
                f"{plural(found.duplicates, 'object repeats', 'objects repeat')} another of the same image.",
                "select.duplicates: drop",
            )
        )
    if leaks := found.leaks():
        notes.append(
            Note(
                f"{plural(leaks, 'image is', 'images are')} likely in two splits: same number of bytes, same objects.",
                "a model is not to be tested on what it learned",
                grave=True,
            )
        )
    return notes


def unsized_text(unsized: int, objects: int) -> str:
    """The sentence for those of all `objects` that are in no class of size."""
    return (
        f"{unsized:,} of {plural(objects, 'object')} {noun(unsized, 'is', 'are')} in images of unknown size in pixels."
    )


def _classes(names: Sequence[str]) -> str:
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    return f"{plural(len(names), 'class', 'classes')} ({listed})"
