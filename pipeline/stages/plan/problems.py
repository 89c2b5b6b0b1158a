"""Images that are wanted but unusable: the file that each problem is about, and what it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.formats._image_names import TRIED
from pipeline.images.inspection import UnusableImage
from pipeline.images.sizes import Sizes
from pipeline.stages.plan.choice import BucketChoice
from pipeline.stages.plan.summary import Problem
from pipeline.stages.plan.unread import unread_image

if TYPE_CHECKING:
    from pipeline.stages.plan.context import PlanContext


def image_problems(
    context: PlanContext, choice: BucketChoice, bad: Mapping[str, UnusableImage], sizes: Sizes
) -> list[Problem]:
    """The problems noted in the `choice` of a bucket, `bad` images and those of another size, in words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    noted = choice.chosen.problems
    if not noted:
        return []
    rows = choice.images.filter(pc.is_in(choice.images["key"], pa.array([key for key, _ in noted], pa.string())))
    row_of = {row["key"]: row for row in rows.to_pylist()}
    clauses = choice.mixed | sizes.other | {key: image.detail for key, image in bad.items()}
    return [_problem(context, reason, row_of[key], clauses) for key, reason in noted]


def _problem(context: PlanContext, reason: str, row: dict[str, Any], clauses: Mapping[str, str]) -> Problem:
    """The problem `reason` of an image, in words; `row` is of `schema.images`."""
    if reason == "no_image" and (unread := unread_image(context.origins.of(row["key"]).location, row)) is not None:
        return Problem(row["key"], "image_suffix", *unread)
    return Problem(row["key"], reason, *_described(context, reason, row, clauses))


def _described(context: PlanContext, reason: str, row: dict[str, Any], clauses: Mapping[str, str]) -> tuple[str, str]:
    """The file that a problem is about, and what it is; `row` is of `schema.images`."""
    key = row["key"]
    if reason == "mixed":
        return context.labels.of(key).location.join(row["label_path"]), clauses[key]
    folder = context.origins.of(key).location
    if reason == "no_image":
        return _without_image(folder, row)
    path = folder.join(row["image_path"] or f"{row['stem']}.*")
    if reason == "many_images":
        others = ", ".join(row["other_images"].split("\n"))
        return path, f"has a second image of the same stem ({others}), one label for both"
    return path, "is gone since the folder was listed" if reason == "vanished" else clauses[key]


def _without_image(folder: storage.Location, row: dict[str, Any]) -> tuple[str, str]:
    said = row["image_said"]
    if not row["label_path"] and said:  # one file has the labels of all
        return folder.url, f"has no image {said!r} ({TRIED})"
    elsewhere = f", and none where it says ({said})" if said else ""
    embedded = "; the one in it is taken where labels and images are one folder" if row["held_suffix"] else ""
    clause = f"the label {row['label_path']} has no image of this name{elsewhere}{embedded}"
    if other := _other_form(folder, row["stem"]):
        clause += (
            f"; {other} there has composed letters where this has decomposed ones, or the other way round "
            "(Unicode NFC and NFD): rename one of them"
        )
    return folder.join(f"{row['stem']}.*"), clause


def _other_form(folder: storage.Location, stem: str) -> str | None:
    """The image whose name looks like `stem` and is another to a file system: macOS hands out decomposed letters."""
    forms = {unicodedata.normalize(form, stem) for form in ("NFC", "NFD")} - {stem}
    names = [form + suffix for form in sorted(forms) for suffix in IMAGE_SUFFIXES]
    return next((name for name, there in zip(names, folder.exist_many(names), strict=True) if there), None)
