"""The steps of a selection, in their one order, and what each left out: of a bucket, then of all.

Each image, and each object of a wanted class, is left out by one step for one counted reason, or by none. So what goes
into a step is what came out of the one before, and the reasons add up to the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools, Ints
    from pipeline.reports.documents import StepReport


class Step(IntEnum):
    """A step of a selection; `SPLIT` assigns images to splits and leaves none out."""

    LISTS = 0
    OBJECTS = 1
    IMAGES = 2
    DUPLICATES = 3
    CAPS = 4
    BACKGROUND = 5
    SPLIT = 6

    @property
    def word(self) -> str:
        """As reports have it."""
        return self.name.lower()


#: Counted reasons that are decided on before the buckets are planned, by a list or of all buckets, and their steps.
DECIDED = {
    "not_listed": Step.LISTS,
    "excluded": Step.LISTS,
    "near_duplicate": Step.DUPLICATES,
    "equal_image": Step.DUPLICATES,
    "capped": Step.CAPS,
    "not_drawn": Step.BACKGROUND,
}


class Outcome:
    """What became of `count` images, or objects: the step that left each out, and the counted reason.

    The first step that leaves one out counts and, of the reasons of that step, the one that was found first.
    """

    def __init__(self, count: int) -> None:
        import numpy as np

        self.step = np.full(count, Step.SPLIT, np.int8)
        self.reason = np.zeros(count, np.int16)
        self.reasons: list[str] = []

    @property
    def taken(self) -> Bools:
        """Which are left out by no step."""
        found: Bools = self.step == Step.SPLIT
        return found

    def leave(self, which: Bools, step: Step, reason: str) -> None:
        """Leave out those that are marked in `which`, unless the same or an earlier step did."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        now = which & (self.step > step)
        self.step[now] = step
        self.reason[now] = self.reasons.index(reason)

    def left_out(self, step: Step | None = None) -> dict[str, int]:
        """How many were left out by `step` (None: by any) for each reason."""
        return self.counted(self.step < Step.SPLIT if step is None else self.step == step)

    def counted(self, which: Bools) -> dict[str, int]:
        """How many of those marked in `which` each reason left out; a reason that left out none has 0."""
        import numpy as np

        counts = np.bincount(self.reason[which], minlength=len(self.reasons))
        return {reason: int(count) for reason, count in zip(self.reasons, counts, strict=True)}

    def within(self, images: Outcome, image: Ints) -> Outcome:
        """The outcome of objects that go with their images, too: `image` is the position of each one's image."""
        import numpy as np

        found = Outcome(len(self.step))
        found.reasons = list(dict.fromkeys([*self.reasons, *images.reasons]))
        own = np.array([found.reasons.index(reason) for reason in self.reasons] or [0], np.int16)
        others = np.array([found.reasons.index(reason) for reason in images.reasons] or [0], np.int16)
        step = images.step[image]
        with_image = step < self.step
        found.step = np.where(with_image, step, self.step)
        found.reason = np.where(with_image, others[images.reason[image]], own[self.reason])
        return found


def positions(rows: pa.Table, images: pa.Table) -> Ints:
    """The position in `images` of the image of each of `rows`."""
    import numpy as np
    import pyarrow.compute as pc

    found: Ints = (
        pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks())
        .to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )
    return found


def step_counts(images: Outcome, objects: Outcome, class_id: Ints, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What goes into each step and comes out of it, by step, as nested counts that add up over buckets.

    `images` and `objects` (see `Outcome.within`) are outcomes, `class_id` has the class of each object.
    """
    import numpy as np

    found: dict[str, dict[str, Any]] = {}
    for step in Step:
        into, after = objects.step >= step, objects.step > min(step, Step.BACKGROUND)
        before_by_class = np.bincount(class_id[into], minlength=len(classes))
        after_by_class = np.bincount(class_id[after], minlength=len(classes))
        found[step.word] = {
            "images": {
                "in": int((images.step >= step).sum()),
                "out": int((images.step > min(step, Step.BACKGROUND)).sum()),
                "left_out": _reasons(images, step),
            },
            "objects": {"in": int(into.sum()), "out": int(after.sum()), "left_out": _reasons(objects, step)},
            "classes": {
                name: {"in": int(a), "out": int(b)}
                for name, a, b in zip(classes, before_by_class, after_by_class, strict=True)
            },
        }
    return found


def _reasons(outcome: Outcome, step: Step) -> dict[str, int]:
    return {reason: n for reason, n in outcome.left_out(step).items() if n} if step < Step.SPLIT else {}


def step_reports(totals: Mapping[str, dict[str, Any]]) -> dict[str, StepReport]:
    """The sum of `step_counts` as a report has it: of the classes those that a step changes, of the first step all."""
    found: dict[str, StepReport] = {}
    for step in (step for step in Step if step.word in totals):
        one = totals[step.word]
        counts = {n: c for n, c in one["classes"].items() if step is Step.LISTS or c["in"] != c["out"]}
        images, objects = (
            one[what] | {"left_out": dict(sorted(one[what]["left_out"].items()))} for what in ("images", "objects")
        )
        found[step.word] = {"images": images, "objects": objects, "classes": counts}
    return found
