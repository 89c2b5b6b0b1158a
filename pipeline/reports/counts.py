"""What is counted, by bucket and in total: images and objects by class, files and bytes by action and kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.reports.documents import Actions, FileTotals


def add_counts(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add nested counts in place."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            add_counts(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value


def label_files(states: Mapping[str, int]) -> int:
    """The label files that there are, of counts of images by the state of their label file."""
    return sum(count for state, count in states.items() if state != "missing")


@dataclass
class SplitCounts:
    """Images, label files, backgrounds and, by class name, objects and images with any, of one split of a subset."""

    images: int = 0
    labels: int = 0
    backgrounds: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    images_by_class: dict[str, int] = field(default_factory=dict)

    def add(self, more: SplitCounts) -> None:
        """Add the counts of another bucket in place."""
        self.images += more.images
        self.labels += more.labels
        self.backgrounds += more.backgrounds
        add_counts(self.objects, more.objects)
        add_counts(self.images_by_class, more.images_by_class)


@dataclass
class FileCount:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0


#: Files of a plan by action (write, copy, keep, delete) and kind (label, image, meta).
ActionCounts = dict[str, dict[str, FileCount]]


def add_files(total: ActionCounts, more: ActionCounts) -> None:
    """Add counts by action and kind in place."""
    for action, kinds in more.items():
        for kind, count in kinds.items():
            own = total.setdefault(action, {}).setdefault(kind, FileCount())
            own.files += count.files
            own.bytes += count.bytes


def held_after(plan: Actions) -> dict[str, FileTotals]:
    """Files and bytes by kind that a target has once `plan`, its counts by action and kind, is carried out."""
    there = [plan.get(action, {}) for action in ("write", "copy", "keep")]
    return {
        kind: {
            "files": sum(kinds[kind]["files"] for kinds in there if kind in kinds),
            "bytes": sum(kinds[kind]["bytes"] for kinds in there if kind in kinds),
        }
        for kind in dict.fromkeys(kind for kinds in reversed(there) for kind in kinds)
    }
