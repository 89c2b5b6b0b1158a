"""Which images are wanted: those with rows, and backgrounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.stages.select.steps import Outcome, Step

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools


@dataclass
class Choice:
    """What became of the images of one bucket, `source` (rows of `schema.images`): those taken belong to the subset.

    `problems` are (key, reason) of images that are wanted but cannot be had. `sources` has what their files are now, of
    the images that were asked for it.
    """

    source: pa.Table
    outcome: Outcome
    problems: list[tuple[str, str]] = field(default_factory=list)
    sources: pa.Table | None = None

    @staticmethod
    def of(images: pa.Table) -> Choice:
        """All of `images`."""
        return Choice(images, Outcome(images.num_rows))

    @property
    def images(self) -> pa.Table:
        """Those that are taken."""
        import pyarrow as pa

        return self.source.filter(pa.array(self.outcome.taken)).combine_chunks()

    @property
    def dropped(self) -> dict[str, int]:
        """How many are left out by reason: with those taken they add up to all."""
        return self.outcome.left_out()

    def marked(self, keys: pa.Array) -> Bools:
        """Which of the images have one of `keys`."""
        import pyarrow.compute as pc

        found: Bools = pc.is_in(self.source["key"].combine_chunks(), keys).to_numpy(zero_copy_only=False)
        return found

    def leave(self, keys: Iterable[str], step: Step, reason: str, *, problem: bool = False) -> None:
        """Leave the images of `keys` out; with `problem` they are wanted, and cannot be had."""
        import pyarrow as pa

        listed = list(keys)
        self.outcome.leave(self.marked(pa.array(listed, pa.string())), step, reason)
        self.problems += [(key, reason) for key in listed] if problem else []


def choose(
    rows: pa.Table,
    images: pa.Table,
    *,
    backgrounds: str,
    need_image: bool,
    never: Mapping[str, pa.Array] | None = None,
    before: Choice | None = None,
) -> Choice:
    """Which of a bucket's `images` the kept `rows` bring along, of those that an earlier choice took, if any.

    `backgrounds`: ``none``, ``empty`` (images whose label file has no object), ``unlabelled`` (also those without a
    label file) or ``all`` (also those whose objects are all of other classes). Images of the keys in `never` are no
    backgrounds all the same, for the reason that they are under. With `need_image` a label without an image is a
    problem, not a choice.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.tables.schema import LabelState

    choice = before if before is not None else Choice.of(images)
    outcome = choice.outcome
    state = images["label_state"].combine_chunks()
    has_rows = choice.marked(pc.unique(rows["key"].combine_chunks()))
    has_image = images["image_path"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
    empty, missing, corrupt = (
        pc.equal(state, one.value).to_numpy(zero_copy_only=False)
        for one in (LabelState.EMPTY, LabelState.MISSING, LabelState.CORRUPT)
    )
    unlabelled = empty | missing
    found = {"none": empty & ~empty, "empty": empty, "unlabelled": unlabelled, "all": ~corrupt}[backgrounds]
    background = ~has_rows & has_image & found
    if backgrounds != "none":
        for reason, excluded in (never or {}).items():
            outcome.leave(background & choice.marked(excluded), Step.BACKGROUND, reason)
    others = ~has_rows & ~background
    outcome.leave(others & corrupt, Step.IMAGES, "corrupt")
    outcome.leave(others & missing & (backgrounds == "empty"), Step.BACKGROUND, "no_label")
    outcome.leave(others & unlabelled, Step.BACKGROUND, "background")
    outcome.leave(others, Step.BACKGROUND, "other_classes")
    if need_image:
        wanted = outcome.taken
        lacking = wanted & ~has_image
        choice.problems += [(k, "no_image") for k in images["key"].filter(pa.array(lacking)).to_pylist()]
        outcome.leave(lacking, Step.IMAGES, "no_image")
        several = wanted & images["other_images"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        choice.problems += [(k, "many_images") for k in images["key"].filter(pa.array(several)).to_pylist()]
    return choice
