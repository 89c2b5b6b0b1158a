"""What a bucket has for the subset: rows that the target can have, and the images that they bring along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline import exporters
from pipeline.reports.text import CHANGED
from pipeline.stages.plan.backgrounds import excluded_from
from pipeline.stages.plan.dataset_files import with_sizes
from pipeline.stages.plan.images import leave_unusable, with_sources
from pipeline.stages.select import objects
from pipeline.stages.select import rows as selection
from pipeline.stages.select.exhaustive import Unlabelled, joined, unlabelled
from pipeline.stages.select.images import Choice, choose
from pipeline.stages.select.steps import DECIDED, Outcome, Step, positions, step_counts
from pipeline.tables.frames import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Floats
    from pipeline.images.inspection import UnusableImage
    from pipeline.stages.plan.context import PlanContext

#: Counted reasons: a row that repeats another; an image whose wanted objects are all beyond a limit, or any of them.
DUPLICATE, ALL_BEYOND, ANY_BEYOND = "duplicate", "all_beyond", "any_beyond"

#: Of an image: it has fewer objects than `select.objects_per_image` asks for, or more.
FEW, MANY = "few_objects", "many_objects"

#: An image that may hold unlabelled objects of a wanted class.
UNLABELLED = "unlabelled_class"

#: In what a report says of rows, the word for those that a reason leaves out with their image.
_WORD_OF_IMAGE = {UNLABELLED: UNLABELLED, "mixed": "lost", "no_image": "without_image", "vanished": "without_image"}


@dataclass
class BucketChoice:
    """What became of one bucket: of its images `chosen`, and `outcome` of its rows of wanted classes, `mapped`.

    `rows` are those that the target can have, whether their image is taken or not. `loss` counts objects that the
    target cannot have, or not whole, by reason, and `lost_of` those left out by split of the source, class and reason.
    `mixed` has a clause for each image whose rows are boxes and polygons; `bad` are images whose size is needed and
    cannot be read, by key. `beyond` are the rows beyond a limit, if there is one. `unlabelled` says which images may
    hold unlabelled objects.
    """

    mapped: pa.Table
    rows: pa.Table
    chosen: Choice
    outcome: Outcome
    loss: dict[str, int] = field(default_factory=dict)
    lost_of: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    mixed: dict[str, str] = field(default_factory=dict)
    bad: dict[str, UnusableImage] = field(default_factory=dict)
    beyond: pa.Table | None = None
    unlabelled: Unlabelled | None = None

    @property
    def images(self) -> pa.Table:
        """All images of the bucket."""
        return self.chosen.source

    def steps(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What each step took and left out, see `steps.step_counts`."""
        ids = self.mapped["class_id"].to_numpy().astype("int64")
        return step_counts(self.chosen.outcome, self.whole, ids, classes)

    def row_counts(self) -> dict[str, int]:
        """What became of the rows of wanted classes, by counted word."""
        whole = self.whole
        counts = dict.fromkeys(("kept", "duplicates", "without_image", "bad_image", "lost"), 0)
        counts["kept"] = int(whole.taken.sum())
        by_itself = (self.outcome.step == whole.step) & ~whole.taken
        for reason, count in self.outcome.counted(by_itself).items():
            if count:
                word = "duplicates" if reason == DUPLICATE else "beyond" if reason in objects.LIMITS else "lost"
                counts[word] = counts.get(word, 0) + count
        for step in (step for step in Step if step < Step.SPLIT):
            for reason, count in whole.counted(~by_itself & (whole.step == step)).items():
                if count:
                    unusable = step is Step.IMAGES and reason not in (FEW, MANY)
                    word = _WORD_OF_IMAGE.get(reason, "bad_image" if unusable else "not_taken")
                    counts[word] = counts.get(word, 0) + count
        return counts

    @cached_property
    def whole(self) -> Outcome:
        """What became of each row, with its image; asked for once no step is left."""
        return self.outcome.within(self.chosen.outcome, positions(self.mapped, self.images))


def choose_bucket(context: PlanContext, bucket: int, frames: Sequence[Any]) -> BucketChoice:
    """Choose of one bucket; `frames` are those of `frame.compute`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    mapped = _of_all_sources(frames[0::2])
    images = _of_all_sources(frames[1::2])
    chosen, outcome = Choice.of(images), Outcome(mapped.num_rows)
    for folder in context.left_out:
        for reason, keys in excluded_from(folder, bucket).items():
            chosen.outcome.leave(chosen.marked(keys), DECIDED[reason], reason)
    rows = mapped.append_column("row", pa.array(np.arange(mapped.num_rows), pa.int64()))
    of_task = exporters.load(context.exporter).OF_TASK
    rows, mixed = selection.unmixed(rows) if of_task else (rows, {})
    rows, loss, lost = writable(rows, of_task=of_task)
    choice = BucketChoice(mapped, rows, chosen, outcome, loss, mixed=mixed)
    if mixed:
        chosen.leave(mixed, Step.IMAGES, "mixed", problem=True)
    if lost is not None:
        choice.lost_of = _by_split_and_class(lost, images, context.classes)
        for reason in pc.unique(lost["loss"]).to_pylist():
            _leave_rows(choice, lost.filter(pc.equal(lost["loss"], reason)), reason)
    if context.select.duplicates == "drop":
        choice.rows = selection.drop_duplicates(rows)
        _leave_rows(
            choice, rows.filter(pc.invert(pc.is_in(rows["row"], choice.rows["row"].combine_chunks()))), DUPLICATE
        )
    _limit_objects(context, bucket, choice)
    _count_objects(context, choice)
    # What has a wanted object that is in no row is no background: a trainer would learn that nothing is there.
    never = excluded_from(context.no_backgrounds, bucket) | {"unwritable": pc.unique(mapped["key"].combine_chunks())}
    choice.unlabelled = doubtful = _unlabelled(context, frames[1::2])
    if doubtful is not None:
        never[UNLABELLED] = doubtful.images()
        if context.select.on_unlabelled == "drop":
            with_rows = chosen.marked(choice.rows["key"].combine_chunks())
            chosen.outcome.leave(with_rows & chosen.marked(doubtful.images()), Step.IMAGES, UNLABELLED)
    need_image = context.images != "none"
    how = context.select.backgrounds
    choose(choice.rows, images, backgrounds=how, need_image=need_image, never=never, before=chosen)
    return choice


def _leave_rows(choice: BucketChoice, rows: pa.Table, reason: str) -> None:
    """Leave `rows`, of `choice.mapped`, out by themselves."""
    import numpy as np

    which = np.zeros(choice.mapped.num_rows, np.bool_)
    which[rows["row"].to_numpy()] = True
    choice.outcome.leave(which, Step.OBJECTS, reason)


def _limit_objects(context: PlanContext, bucket: int, choice: BucketChoice) -> None:
    """Leave out the rows that are beyond a limit or, where the config says so, their images."""
    import numpy as np
    import pyarrow as pa

    limits, rows, images = context.select.objects, choice.rows, choice.chosen.outcome
    if not limits.any:
        return
    image = positions(rows, choice.images)
    sizes = _sizes(context, bucket, choice) if limits.in_pixels else None
    anywhere = np.zeros(rows.num_rows, np.bool_)
    for reason, which in objects.beyond(limits, rows, context.classes, image, sizes, oriented=context.oriented):
        _leave_rows(choice, rows.filter(pa.array(which)), reason)
        anywhere |= which
    hit = np.zeros(len(images.step), np.bool_)
    hit[image[anywhere]] = True
    choice.beyond = rows.filter(pa.array(anywhere))
    choice.rows = rows.filter(pa.array(~anywhere)).combine_chunks()
    if limits.drop == "image":
        images.leave(hit, Step.OBJECTS, ANY_BEYOND)
    hit[image[~anywhere]] = False
    images.leave(hit, Step.IMAGES, ALL_BEYOND)


def _sizes(context: PlanContext, bucket: int, choice: BucketChoice) -> tuple[Floats, Floats]:
    """Widths and heights (pixels) of a bucket's images that have a row, as they are shown; 0: not known."""
    import numpy as np
    import pyarrow as pa

    needed = choice.chosen.outcome.taken & choice.chosen.marked(choice.rows["key"].combine_chunks())
    if context.images != "none":  # an image that is not there is no part of the subset, whatever its size: see `choose`
        needed &= choice.images["image_path"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
    images = with_sources(context, choice.images.filter(pa.array(needed)).combine_chunks(), choice.chosen)
    images, choice.bad = with_sizes(context, bucket, images)
    leave_unusable(choice.chosen, choice.bad)
    at = positions(images, choice.images)
    found = np.zeros(choice.images.num_rows), np.zeros(choice.images.num_rows)
    for side, column in zip(found, ("width", "height"), strict=True):
        side[at] = images[column].to_numpy()
    return found


def _count_objects(context: PlanContext, choice: BucketChoice) -> None:
    """Leave out the images that have too few objects, or too many."""
    import numpy as np

    limits = context.select.objects_per_image
    if limits.min == 1 and limits.max is None:
        return
    counts = np.bincount(positions(choice.rows, choice.images), minlength=choice.images.num_rows)
    if limits.min > 1:
        choice.chosen.outcome.leave((counts > 0) & (counts < limits.min), Step.IMAGES, FEW)
    if limits.max is not None:
        choice.chosen.outcome.leave(counts > limits.max, Step.IMAGES, MANY)


def _unlabelled(context: PlanContext, images: Sequence[Any]) -> Unlabelled | None:
    """Which images of all sources, a frame of each, may hold unlabelled objects."""
    return joined(
        [
            unlabelled(to_arrow(frame).select(["key", "exhaustive"]), source.classes, source.partly)
            for source, frame in zip(context.sources, images, strict=True)
        ]
    )


def _of_all_sources(frames: Sequence[Any]) -> pa.Table:
    """The same bucket of several sources as one table; keys stay sorted, for sources are in the order of theirs."""
    import pyarrow as pa

    tables = [to_arrow(frame) for frame in frames]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default").combine_chunks()


def writable(rows: pa.Table, *, of_task: bool) -> tuple[pa.Table, dict[str, int], pa.Table | None]:
    """The rows that a target can have; how many it has not, or not whole, by reason; and those it has not, if any.

    `of_task`: it has rows of the task alone; else it takes whatever is an object.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "loss" not in rows.column_names or rows["loss"].null_count == rows.num_rows:
        return rows, {}, None
    fit = pc.is_valid(rows["tail"])
    losses = rows["loss"]
    if not of_task:
        fit = pc.or_(fit, pc.is_valid(rows["raw"]))
        losses = losses.filter(pc.or_(pc.invert(fit), pc.is_in(losses, pa.array(sorted(CHANGED)))))
    counts = {e["values"]: e["counts"] for e in losses.drop_null().value_counts().to_pylist()}
    return rows.filter(fit).combine_chunks(), dict(sorted(counts.items())), rows.filter(pc.invert(fit))


def _by_split_and_class(
    rows: pa.Table, images: pa.Table, classes: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """How many `rows` are lost by split of the source, class and reason."""
    import pyarrow.compute as pc

    splits = images["split"].take(pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()))
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, number, reason in zip(
        splits.to_pylist(), rows["class_id"].to_pylist(), rows["loss"].to_pylist(), strict=True
    ):
        of_class = counts.setdefault(split, {}).setdefault(classes[number], {})
        of_class[reason] = of_class.get(reason, 0) + 1
    return counts
