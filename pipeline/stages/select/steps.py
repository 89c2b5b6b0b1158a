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
    from pipeline.reports.documents import Flow, StepFlow, StepReport


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
    """What each step leaves out, and `Step.SPLIT` takes, as nested counts that add up over buckets.

    `images` and `objects` (see `Outcome.within`) are outcomes, `class_id` has the class of each object. By step there
    are counts by reason (of what is taken: ``taken``) and, of objects, by class.
    """
    import numpy as np

    by_class = np.bincount(objects.step * np.int64(len(classes)) + class_id, minlength=len(Step) * len(classes))
    of_class = by_class.reshape(len(Step), len(classes))
    return {
        step.word: {
            "images": _reasons(images, step),
            "objects": _reasons(objects, step),
            "classes": {classes[i]: int(of_class[step, i]) for i in np.flatnonzero(of_class[step]).tolist()},
        }
        for step in Step
    }


def _reasons(outcome: Outcome, step: Step) -> dict[str, int]:
    if step is Step.SPLIT:
        return {"taken": int(outcome.taken.sum())}
    return {reason: n for reason, n in outcome.left_out(step).items() if n}


def step_reports(totals: Mapping[str, dict[str, Any]], classes: Sequence[str]) -> dict[str, StepReport]:
    """The sum of `step_counts` as a report has it: of `classes` those that a step changes, of the first step all."""
    if not totals:
        return {}
    images, objects = ([totals[step.word][what] for step in Step] for what in ("images", "objects"))
    ends = [totals[step.word]["classes"] for step in Step]
    of_class = {name: _flows([of_step.get(name, 0) for of_step in ends]) for name in classes}
    found: dict[str, StepReport] = {}
    for step in Step:
        flows = {name: flow[step] for name, flow in of_class.items()}
        found[step.word] = {
            "images": _step_flow(images, step),
            "objects": _step_flow(objects, step),
            "classes": {n: f for n, f in flows.items() if step is Step.LISTS or f["in"] != f["out"]},
        }
    return found


def _step_flow(ends: Sequence[Mapping[str, int]], step: Step) -> StepFlow:
    flow = _flows([sum(of_step.values()) for of_step in ends])[step]
    left_out = dict(sorted(ends[step].items())) if step < Step.SPLIT else {}
    return {"in": flow["in"], "out": flow["out"], "left_out": left_out}


def _flows(ends: Sequence[int]) -> list[Flow]:
    """By step what goes in and what comes out, of how many end there; those that end at the last come out of it."""
    into = [sum(ends[step:]) for step in Step]
    return [{"in": count, "out": into[min(step + 1, Step.SPLIT)]} for step, count in zip(Step, into, strict=True)]
