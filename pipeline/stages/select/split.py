"""Assign images to train, val and test; pure.

Whatever must not be in two splits (frames of one video, photographs of one street) is a *group*, and a group is
assigned as one. By default the hash of a group's name decides: nothing is remembered, an image stays where it is
however many come along, and every machine says the same. `stratify` gives each class its share in each split; that
depends on all images, so what it decided is written to a split table, and later only new groups are assigned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError
from pipeline.base.terms import SPLITS

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: First line of a split table.
HEADER = "group,split"


def group_names(stems: Iterable[str], by: str) -> list[str | None]:
    """The group of each image, by its relative stem (``street/cam1_0007``).

    `by` is ``image`` (each is a group), ``folder`` (what comes before the last ``/``), or a regular expression: what
    its first parentheses (or all of it) match. None for an image that it does not match.
    """
    if by == "image":
        return list(stems)
    if by == "folder":
        return [stem.rpartition("/")[0] for stem in stems]
    pattern = re.compile(by)
    number = 1 if pattern.groups else 0
    found = (pattern.search(stem) for stem in stems)
    return [match[number] if match else None for match in found]


def point(group: str, seed: int) -> float:
    """The position of a group between 0 and 1: XXH3-64 of ``seed``, NUL and its name in UTF-8."""
    import xxhash

    return float(xxhash.xxh3_64_intdigest(f"{seed}\0{group}".encode())) / 2**64


def assign(groups: Iterable[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each group, by the hash of its name; `shares` add up to 1 and are laid end to end in their order."""
    names = list(shares)
    limits: list[float] = []
    for name in names:
        limits.append((limits[-1] if limits else 0.0) + shares[name])
    limits[-1] = 2.0  # whatever rounding left over
    return [next(n for n, limit in zip(names, limits, strict=True) if point(g, seed) < limit) for g in groups]


@dataclass(frozen=True)
class Strata:
    """What stratification goes by: groups, the images of each, and its objects by class.

    Objects are triples (position of the group, class id, objects), sorted, one a pair, shape (pairs, 3).
    """

    groups: Sequence[str]
    images: Ints
    objects: Ints


def stratify(
    strata: Strata, shares: Mapping[str, float], seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each group, so that every class comes near to its share of objects in every split.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011), with
    groups for examples and objects for labels: the rarest class first, its largest groups first, each to the split that
    lacks most of it. Groups in `fixed` stay where they are, and count.
    """
    import numpy as np

    fixed = fixed or {}
    names = list(shares)
    of_group: list[list[tuple[int, int]]] = [[] for _ in strata.groups]
    for group, class_id, count in strata.objects.tolist():
        of_group[group].append((class_id, count))
    classes = int(strata.objects[:, 1].max()) + 1 if len(strata.objects) else 0
    totals = np.bincount(strata.objects[:, 1], strata.objects[:, 2], classes) if classes else np.zeros(0)
    images = strata.images.tolist()
    lacks = [[shares[n] * t for t in totals.tolist()] for n in names]
    lacks_images = [shares[n] * sum(images) for n in names]
    left = totals.astype(np.int64).tolist()
    result: dict[str, str] = {}

    def put(group: int, side: int) -> None:
        result[strata.groups[group]] = names[side]
        lacks_images[side] -= images[group]
        for class_id, count in of_group[group]:
            lacks[side][class_id] -= count
            left[class_id] -= count

    for group, name in enumerate(strata.groups):
        if fixed.get(name) in shares:
            put(group, names.index(fixed[name]))
        elif name in fixed:
            raise ConfigError(f"the split table puts {name!r} into {fixed[name]}, which has no share in `split`")
    points = [point(name, seed) for name in strata.groups]
    by_class = _by_class(strata, points, classes)
    sides = range(len(names))
    for class_id in _rarest_first(left):
        for group in by_class[class_id]:
            if strata.groups[group] not in result:
                put(group, max(sides, key=lambda s: (lacks[s][class_id], lacks_images[s], -s)))
    for group in sorted(
        (g for g, name in enumerate(strata.groups) if name not in result), key=lambda g: (-images[g], points[g])
    ):
        put(group, max(sides, key=lambda s: (lacks_images[s], -s)))
    return result


def _by_class(strata: Strata, points: list[float], classes: int) -> list[list[int]]:
    """Groups that have each class, those with most of it first."""
    found: list[list[tuple[int, float, int]]] = [[] for _ in range(classes)]
    for group, class_id, count in strata.objects.tolist():
        found[class_id].append((-count, points[group], group))
    return [[group for _, _, group in sorted(some)] for some in found]


def _rarest_first(left: Sequence[int]) -> Iterable[int]:
    """Classes with anything left to assign, that with the fewest objects first; `left` shrinks meanwhile."""
    while waiting := [(count, class_id) for class_id, count in enumerate(left) if count > 0]:
        yield min(waiting)[1]


def read_table(text: str, where: str) -> dict[str, str]:
    """The split of each group in a split table; `where` is how the user calls the file. Raises `ConfigError`."""
    import csv
    import io

    found: dict[str, str] = {}
    lines = csv.reader(io.StringIO(text, newline=""))  # a group's name may hold line ends
    try:
        for line in lines:
            number = lines.line_num
            if not found and number == 1:
                if ",".join(line) != HEADER:
                    raise ConfigError(
                        f"{where}:1: the first line of a split table is `{HEADER}`; write that above the rest"
                    )
                continue
            if not line:
                continue
            if len(line) != 2 or line[1] not in SPLITS:
                raise ConfigError(f"{where}:{number}: is not `group,split` with train, val or test; correct the line")
            if found.get(line[0], line[1]) != line[1]:
                raise ConfigError(
                    f"{where}:{number}: the group {line[0]!r} is in {found[line[0]]} already; remove one of its lines"
                )
            found[line[0]] = line[1]
    except csv.Error:
        raise ConfigError(
            f"{where}:{lines.line_num}: is no line of a CSV file (a name of over 131,072 letters, or a quote that "
            "is left open); correct it"
        ) from None
    return found


def write_table(splits: Mapping[str, str]) -> bytes:
    """A split table, sorted by group."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER.split(","))
    writer.writerows(sorted(splits.items()))
    return text.getvalue().encode()


def deviations(objects: Mapping[str, Mapping[str, int]], shares: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """By class and split the share of its objects less the share that was asked for; classes without objects have none.

    `objects` has objects by split and class name.
    """
    names = list(next(iter(objects.values()), {}))
    result: dict[str, dict[str, float]] = {}
    for name in names:
        total = sum(counts[name] for counts in objects.values())
        if total:
            result[name] = {
                split: round(objects.get(split, {}).get(name, 0) / total - share, 6) for split, share in shares.items()
            }
    return result
