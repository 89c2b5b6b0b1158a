"""The subset that a tool should have made of a tree of label files, and what is wrong with the one that it made.

Neither the code under test nor any tool takes part: label files are read here a line at a time. Rows are compared by
the name of their class, so that a target may number its classes as it likes, and by image, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

#: Class and box of an object: centre x, centre y, width, height, as shares of the image.
Row = tuple[str, float, float, float, float]
Rows = dict[str, list[Row]]

#: What a coordinate may differ by and be the same; one that is farther off, up to `NEAR`, has changed.
SAME, NEAR = 1e-6, 0.01
#: What binary fractions add to a difference of six decimals.
_NOISE = 1e-9

_STEM = re.compile(r"[0-9]{12}")


@dataclass
class Subset:
    """Rows by the stem of their image, splits by stem, and the images that are there, whatever their suffix."""

    rows: Rows = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    #: Images that are not byte for byte those of the source.
    damaged: int = 0
    #: Names of classes that the target declares; 0 where it declares none.
    classes: int = 0

    @property
    def stems(self) -> set[str]:
        """Images that have a label file or are there themselves."""
        return self.images | self.rows.keys()


@dataclass
class Verdict:
    """How a subset differs from the one that is wanted."""

    rows: int = 0
    missing: int = 0
    extra: int = 0
    changed: int = 0
    #: Extra rows that are crowds of the source, and the largest difference of a coordinate that changed.
    crowds: int = 0
    largest: float = 0.0
    images: int = 0
    images_missing: int = 0
    images_extra: int = 0
    images_damaged: int = 0
    #: Images without a row, of those that are there.
    backgrounds: int = 0
    wrong_split: int = 0
    classes: int = 0

    @property
    def exact(self) -> bool:
        """Whether labels are as they should be; images may be left out on purpose."""
        rows = self.missing + self.extra + self.changed + self.crowds
        return not (rows + self.images_extra + self.backgrounds + self.wrong_split)


def read_rows(text: str, names: Sequence[str] | Mapping[int, str]) -> list[Row]:
    """The rows of a label file of boxes; ids that have no name keep their number."""
    found: list[Row] = []
    known = dict(names if isinstance(names, Mapping) else enumerate(names))
    for line in text.splitlines():
        number, *box = line.split()
        x, y, width, height = map(float, box)
        found.append((known.get(int(number), number), x, y, width, height))
    return found


def wanted_of(tree: Path, splits: Mapping[str, str], names: Sequence[str], classes: Iterable[str]) -> Subset:
    """What a subset of `classes` holds: rows of these classes, and images that have one. `splits` are by folder."""
    classes = set(classes)
    subset = Subset(classes=len(classes))
    for folder, split in splits.items():
        for path in (tree / "labels" / folder).iterdir():
            if rows := [row for row in read_rows(path.read_text(), names) if row[0] in classes]:
                subset.rows[path.stem] = rows
                subset.splits[path.stem] = split
    subset.images = set(subset.rows)
    return subset


def _names_of(folder: Path) -> dict[int, str] | None:
    """Names of classes that a YOLO target declares, in a YAML or as a list of lines; None where it declares none."""
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        names = yaml.safe_load(path.read_text()).get("names")
        if names:
            return dict(names if isinstance(names, dict) else enumerate(names))
    for name in ("obj.names", "classes.txt"):
        if (folder / name).exists():
            return dict(enumerate((folder / name).read_text().split("\n")))
    return None


def read_target(folder: Path, default: Sequence[str], image: bytes) -> Subset:
    """The subset in a folder of YOLO rows, wherever its label files and images are in it.

    Files count by their stem of twelve digits, splits by the names of folders; `default` are the names of classes where
    the folder declares none, `image` is what each image holds.
    """
    declared = _names_of(folder)
    subset = Subset(classes=len(declared or ()))
    names = declared or dict(enumerate(default))
    for path in folder.rglob("*"):
        if not _STEM.fullmatch(path.stem):
            continue
        if path.suffix == ".txt":
            parts = path.relative_to(folder).parts[:-1]
            subset.splits[path.stem] = next((split for split in ("train", "val") if split in parts), "")
            subset.rows[path.stem] = read_rows(path.read_text(), names)
        elif path.is_file():
            subset.images.add(path.stem)
            subset.damaged += path.read_bytes() != image
    return subset


def _distance(one: Row, other: Row) -> float:
    """The largest difference of a coordinate; infinite between two classes."""
    if one[0] != other[0]:
        return float("inf")
    return max(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True))


def _pairs(wanted: list[Row], found: list[Row], limit: float) -> list[float]:
    """Take rows of both lists that are nearest and not farther apart than `limit` out of them; their distances."""
    taken: list[float] = []
    for row in list(wanted):
        distances = [_distance(row, other) for other in found]
        if distances and (least := min(distances)) <= limit:
            taken.append(least)
            wanted.remove(row)
            del found[distances.index(least)]
    return taken


def compare(wanted: Subset, found: Subset, crowds: Rows | None = None) -> Verdict:
    """What is wrong with `found`; rows of `crowds`, which are not wanted, are counted by themselves."""
    verdict = Verdict(rows=sum(map(len, wanted.rows.values())), images=len(wanted.rows), classes=found.classes)
    for stem in wanted.rows.keys() | found.rows.keys():
        missing, extra = list(wanted.rows.get(stem, ())), list(found.rows.get(stem, ()))
        _pairs(missing, extra, SAME + _NOISE)
        verdict.crowds += len(_pairs(list((crowds or {}).get(stem, ())), extra, SAME + _NOISE))
        changed = _pairs(missing, extra, NEAR)
        verdict.largest = max(verdict.largest, *changed, 0.0)
        verdict.changed += len(changed)
        verdict.crowds += len(_pairs(list((crowds or {}).get(stem, ())), extra, NEAR))
        verdict.missing += len(missing)
        verdict.extra += len(extra)
    verdict.images_missing = len(wanted.rows.keys() - found.images)
    verdict.images_extra = len(found.stems - wanted.rows.keys())
    verdict.images_damaged = found.damaged
    verdict.backgrounds = sum(not found.rows.get(stem) for stem in found.stems)
    verdict.wrong_split = sum(split != found.splits.get(stem, split) for stem, split in wanted.splits.items())
    return verdict
