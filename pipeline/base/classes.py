"""The classes of a dataset, and those of a source as ids of a subset."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Required, TypedDict


@dataclass(frozen=True)
class Names:
    """Class names of a dataset, the position is the id; the keypoint facts that go with them; the task, if known.

    `supercategories` has that of each class that has one, by name; `ancestors`, where classes are in a hierarchy, all
    classes that it is a kind of.
    """

    names: tuple[str, ...]
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    kpt_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    task: str | None = None
    supercategories: Mapping[str, str] = field(default_factory=dict)
    ancestors: Mapping[str, Sequence[str]] = field(default_factory=dict)


class SourceNames(TypedDict, total=False):
    """What a source calls its classes: the fields of `Names`, as far as they are known, as plain data."""

    names: Required[list[str]]
    kpt_shape: tuple[int, int] | None
    flip_idx: list[int] | None
    kpt_names: dict[str, list[str]]
    supercategories: dict[str, str]
    ancestors: dict[str, list[str]]


@dataclass(frozen=True)
class ClassMap:
    """Source ids to subset ids.

    `lut[source id]` is the id in the subset, or -1 for a class that is not wanted; `names` are the subset's.
    """

    source: tuple[str, ...]
    names: tuple[str, ...]
    lut: tuple[int, ...]

    @property
    def wanted_names(self) -> tuple[str, ...]:
        """The source's names that are part of the subset, in its order."""
        return tuple(name for name, new in zip(self.source, self.lut, strict=True) if new >= 0)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The subset's classes that this source has no name for."""
        return tuple(name for i, name in enumerate(self.names) if i not in self.lut)

    def not_everywhere(self, exhaustive: Collection[str] | None) -> tuple[int, ...]:
        """Ids of the subset's classes that this source does not label everywhere.

        `exhaustive` are those of its names that it labels everywhere, None: all. A class is one of those if the source
        has it, and all that it has of it are.
        """
        partly = {
            new
            for name, new in zip(self.source, self.lut, strict=True)
            if exhaustive is not None and name not in exhaustive
        }
        return tuple(new for new in range(len(self.names)) if new in partly or new not in self.lut)

    @property
    def wanted_ids(self) -> tuple[int, ...]:
        """Source ids that are part of the subset, ascending."""
        return tuple(i for i, new in enumerate(self.lut) if new >= 0)


def made_of(maps: Sequence[ClassMap], named: Sequence[bool]) -> dict[str, list[str]]:
    """By class of the subset the classes of the sources that become it, with their ids: ``2 car``.

    `named` says of which sources the labels have names instead of ids: of those it is the names.
    """
    found: dict[str, list[str]] = {name: [] for name in maps[0].names}
    for one, by_name in zip(maps, named, strict=True):
        for old, (name, new) in enumerate(zip(one.source, one.lut, strict=True)):
            if new >= 0 and (text := name if by_name else f"{old} {name}") not in found[one.names[new]]:
                found[one.names[new]].append(text)
    return found
