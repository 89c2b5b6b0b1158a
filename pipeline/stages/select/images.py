"""Which images are wanted: those with rows, and backgrounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Choice:
    """The images of one bucket that belong to the subset (rows of `schema.images`), and what was left out and why.

    `dropped` counts the images that are left out by reason: with those chosen they add up to all. `problems` are
    (key, reason) of images that are wanted but cannot be had.
    """

    images: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def choose(
    rows: pa.Table, images: pa.Table, *, backgrounds: str, need_image: bool, never: Mapping[str, pa.Array] | None = None
) -> Choice:
    """Which of a bucket's `images` the kept `rows` bring along.

    `backgrounds`: ``none``, ``unlabelled`` (images without any object in the source) or ``all`` (also those whose
    objects are all of other classes). Images of the keys in `never` are no backgrounds all the same, for the reason
    that they are under. With `need_image` a label without an image is a problem, not a choice.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.tables.schema import LabelState

    keys = images["key"].combine_chunks()
    has_rows = pc.is_in(keys, pc.unique(rows["key"].combine_chunks()))
    has_image = images["image_path"].combine_chunks().is_valid()
    state = images["label_state"].combine_chunks()
    unlabelled = pc.is_in(state, pa.array([LabelState.MISSING.value, LabelState.EMPTY.value]))
    corrupt = pc.equal(state, LabelState.CORRUPT.value)
    wanted = has_rows
    choice = Choice(images.slice(0, 0))
    others = pc.invert(has_rows)
    if backgrounds != "none":
        background = pc.and_(others, pc.and_(has_image, pc.invert(corrupt)))
        background = background if backgrounds == "all" else pc.and_(background, unlabelled)
        others = pc.and_not(others, background)
        for reason, excluded in (never or {}).items():
            unfit = pc.and_(background, pc.is_in(keys, excluded))
            choice.dropped[reason] = int(pc.sum(unfit).as_py() or 0)
            background = pc.and_not(background, unfit)
        wanted = pc.or_(has_rows, background)
    for reason, marked in (
        ("corrupt", corrupt),
        ("background", unlabelled),
        ("other_classes", pc.invert(pc.or_(corrupt, unlabelled))),
    ):
        choice.dropped[reason] = int(pc.sum(pc.and_(others, marked)).as_py() or 0)
    if need_image:
        lacking = pc.and_(wanted, pc.invert(has_image))
        choice.problems += [(k, "no_image") for k in keys.filter(lacking).to_pylist()]
        choice.dropped["no_image"] = len(choice.problems)
        several = pc.and_(wanted, images["other_images"].combine_chunks().is_valid())
        choice.problems += [(k, "many_images") for k in keys.filter(several).to_pylist()]
        wanted = pc.and_(wanted, has_image)
    choice.images = images.filter(wanted).combine_chunks()
    return choice
