"""The steps of a selection as a table, and the classes before and after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.reports.words import DROPS, LIMITS, LOSSES, words_of

if TYPE_CHECKING:
    from pipeline.reports.documents import PlanReport, StepReport

#: The header of `step_rows`.
STEPS = ("step", "images in", "images out", "objects in", "objects out", "left out")

#: The header of `class_rows`.
CLASSES = ("class", "objects before", "after", "share before", "after")


def step_rows(steps: Mapping[str, StepReport]) -> list[list[str | int]]:
    """A row a step, in their order: its name, images and objects in and out, and what it left out in words."""
    return [
        [
            name,
            step["images"]["in"],
            step["images"]["out"],
            step["objects"]["in"],
            step["objects"]["out"],
            _left_out(step),
        ]
        for name, step in steps.items()
    ]


def _left_out(step: StepReport) -> str:
    """Images by reason, then objects that went without their image."""
    images, objects = step["images"]["left_out"], step["objects"]["left_out"]
    words = [f"{count:,} {words_of(count, DROPS.get(reason, reason))}" for reason, count in images.items()]
    words += [
        f"{count:,} {words_of(count, (LIMITS | LOSSES).get(reason, reason))}"
        for reason, count in objects.items()
        if reason not in images
    ]
    return "; ".join(words)


def class_rows(steps: Mapping[str, StepReport], after: Mapping[str, int]) -> list[list[str | int]]:
    """A row a class: its objects in the source and in the subset, and its share of all objects there."""
    before = {name: flow["in"] for name, flow in next(iter(steps.values()))["classes"].items()}
    totals = sum(before.values()) or 1, sum(after.values()) or 1
    return [
        [name, count, after.get(name, 0), f"{count / totals[0]:.1%}", f"{after.get(name, 0) / totals[1]:.1%}"]
        for name, count in before.items()
    ]


def objects_after(report: PlanReport) -> dict[str, int]:
    """Objects of each class in the subset."""
    return {name: sum(s["objects"].get(name, 0) for s in report["subset"].values()) for name in report["classes"]}


def is_shaped(steps: Mapping[str, StepReport]) -> bool:
    """Whether a step did more than to leave out images without an object of the subset."""
    plain = {"background", "no_label", "other_classes"}
    return any(
        set(step["images"]["left_out"]) - plain or set(step["objects"]["left_out"]) - set(LOSSES)
        for step in steps.values()
    )
