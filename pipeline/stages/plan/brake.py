"""The brake: a build that would lose much which nobody asked to lose stops before its first write.

Three things stop one: the source lost files against what the target was made from (asked before the index is touched);
the target would lose files though the recipe is the same; the target was made from another source, or by the recipe of
another name. A first build never brakes. What a changed recipe takes away is a wish: it is said, and done.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline import formats, storage
from pipeline.base.errors import BrakeError, CocoDiyError, DataError, MissingSourceError
from pipeline.base.humanize import plural
from pipeline.config.model import Config
from pipeline.job.job import Job, SourceJob
from pipeline.job.recipe import decisive, portable_config, recipe
from pipeline.job.spec import SplitSpec, first_file
from pipeline.reports.documents import BrakedReport, BrakeReport
from pipeline.stages.index.parts import index_part
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.index.scan import Scan
from pipeline.stages.plan.compare import Loss
from pipeline.stages.plan.planned import Planned
from pipeline.stages.plan.summary import PlanCounts
from pipeline.target.manifest import Manifest, TargetState

if TYPE_CHECKING:
    import pyarrow as pa

#: Recipes of commands that have no config: which splits there are they ask the source.
DISCOVERING = ("convert", "remake")

#: So few files are never a share: somebody tidied up.
_FEW = 10

_WORDS = {"labels": "label file", "images": "image"}

_NAMES = 3

#: Label files and images of each split of the source, by what `Job.prefixes` goes by; None where nobody lists them.
Listed = dict[str, dict[str, int | None]]


@dataclass(frozen=True)
class Limit:
    """How many files may be lost unasked: a share of them in percent, a number, or any (both None)."""

    percent: float | None = None
    number: int | None = None

    @staticmethod
    def of(value: int | str) -> Limit:
        """The limit that the config's `target.max_delete` means."""
        if isinstance(value, int):
            return Limit(number=value)
        return Limit() if value == "none" else Limit(percent=float(value.removesuffix("%")))

    def exceeded(self, lost: int, total: int, *, images: int | None = None) -> bool:
        """Whether `lost` of `total` files are too many; a share lets those of a few images (default: one each) go."""
        few = self.number is None and (lost if images is None else images) <= _FEW
        return not few and self.forbids(lost, total)

    def forbids(self, lost: int, total: int) -> bool:
        """Whether `lost` of `total` files, be they few, are too many."""
        if self.number is not None:
            return lost > self.number
        return self.percent is not None and 100 * lost > self.percent * total

    def forbids_all(self, total: int) -> bool:
        """Whether all of `total` files, be they few, are too many: a split that is gone is no tidying up."""
        if self.number is not None:
            return total > self.number
        return self.percent is not None and self.percent < 100


def source_counts(job: Job, found: Sequence[Scan]) -> Listed:
    """How many label files and images each split of the sources has now."""
    return {key: {"labels": labels, "images": images} for key, (_, _, labels, images) in _splits(job, found).items()}


def _splits(job: Job, found: Sequence[Scan]) -> dict[str, tuple[SourceJob, SplitSpec, int, int | None]]:
    """Each split with its source and its label files and images; none where its folder of images is missing."""
    splits: dict[str, tuple[SourceJob, SplitSpec, int, int | None]] = {}
    for source, scan in zip(job.sources, found, strict=True):
        for split, (labels, images) in zip(source.spec.splits, scan.splits, strict=True):
            key = f"{source.spec.name}/{split.split}" if job.several else split.split
            count = images.count if images is not None else None if split.suffix else 0
            splits[key] = (source, split, labels.count, count)
    return splits


def check_source(job: Job, state: TargetState, found: Sequence[Scan]) -> None:
    """Raise `BrakeError` where a source lost too many files, or a split all, since the target was made from it.

    What is lacking in a subset that is being built is no loss: `check_subsets` comes before.
    """
    if state.manifest is None or _is_other_source(job, paths := _paths(state.manifest.config)):
        return  # another source is judged once it is known what would become of the target
    _check_discovered(job, state)
    limit = Limit.of(job.config.target.max_delete)
    before, now = state.manifest.listed, _splits(job, found)
    kinds = ("labels", "images") if job.need_image else ("labels",)
    for source, kind in itertools.product(job.sources, kinds):
        sums = [0, 0]
        for key, (of, split, labels, images) in now.items():
            had = before.get(key, {}).get(kind)
            has = labels if kind == "labels" else images
            if of is not source or had is None or has is None or not _is_same(split, kind, paths.get(key, {})):
                continue
            if had and not has and limit.forbids_all(had):
                names = _lost_names(job, state, found, source, split)
                raise _source_lost(
                    job, source, f"all {plural(had, _WORDS[kind])} of split {split.split}", "split", had, had, names
                )
            sums = [sums[0] + had, sums[1] + has]
        total, lost = sums[0], sums[0] - sums[1]
        if limit.exceeded(lost, total):
            what = f"{lost:,} of {plural(total, _WORDS[kind])} ({_share(lost, total)})"
            raise _source_lost(job, source, what, "source", lost, total, _lost_names(job, state, found, source))


def _check_discovered(job: Job, state: TargetState) -> None:
    """Raise `BrakeError` where a command that takes what splits it finds does not find one that it found before."""
    made = state.manifest
    if made is None or made.name != job.config.name or made.name not in DISCOVERING:
        return
    for key, prefix in made.prefixes.items():
        had = made.listed.get(key, {}).get("labels") or 0
        if key not in job.prefixes and Limit.of(job.config.target.max_delete).forbids_all(had) and had:
            names = list(itertools.islice(_unlisted(state, {prefix: set()}), _NAMES))
            raise _source_lost(
                job, job.sources[0], f"all {plural(had, _WORDS['labels'])} of split {key}", "split", had, had, names
            )


def _source_lost(
    job: Job, source: SourceJob, what: str, cause: str, lost: int, total: int, names: Sequence[str]
) -> BrakeError:
    where = storage.locate(source.source.root).url if source.source.root else source.spec.splits[0].labels
    return BrakeError(
        f"{where}: lost {what} since {job.root} was made from it{_named(names)}; mount or restore it, or "
        "build with --max-delete none to let them go",
        cause,
        lost,
        total,
        names,
    )


def _is_same(split: SplitSpec, kind: str, before: Mapping[str, Any]) -> bool:
    """Whether files of `kind` are still searched for where they were; an images folder that is missing was there."""
    if kind == "labels":
        return before.get("labels") == split.labels
    return split.images is None or before.get("images") == split.images


def _paths(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where each split in a config as plain data has its files, and its names, by what `Job.prefixes` goes by."""
    sources = config.get("source") or []
    sources = sources if isinstance(sources, list) else [sources]
    return {
        f"{source['name']}/{split}" if len(sources) > 1 else split: {
            "labels": paths.get("labels") or first_file(paths.get("annotations")),
            "images": paths.get("images"),
            "captions": paths.get("captions"),
            "names": source.get("names"),
            "image_lists": paths.get("image_list") or [],
        }
        for source in sources
        for split, paths in source["splits"].items()
    }


def _is_other_source(job: Job, before: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the target was made from labels none of which are where those of `job` are."""
    had = {urls["labels"] for urls in before.values()}
    return bool(had) and not had & {split.labels for source in job.sources for split in source.spec.splits}


def missing(config: Config, error: MissingSourceError) -> BrakeError | None:
    """What `error` is where the target was made from what is missing: then its disk is not mounted, most likely."""
    try:
        manifest = TargetState(storage.locate_writable(config.target.root)).manifest
    except CocoDiyError:
        return None
    known = [path for paths in _paths(manifest.config).values() for path in paths.values()] if manifest else []
    if not any(error.location in (path if isinstance(path, list) else [path]) for path in known):
        return None
    return BrakeError(
        f"{error.location}: is missing or empty, and {config.target.root} was made from it; mount its disk, "
        "restore it, or correct the config",
        "missing",
    )


def target_loss(state: TargetState, planned: Planned) -> Loss:
    """What carrying out `planned` takes from the target."""
    loss = planned.loss
    if loss.total or state.manifest is None:
        return loss
    # Of a zip, or a JSON alone, there is no file for each: what it has are images.
    before = {split: counts["images"] for split, counts in state.manifest.report["subset"].items()}
    fewer = {split: (n, now) for split, n in before.items() if n > (now := planned.totals.images_in(split))}
    total = sum(before.values())
    lost = max(0, total - sum(counts.images for counts in planned.totals.subset.values()))
    names = [f"{split} (from {plural(n, 'image')} to {now:,})" for split, (n, now) in fewer.items()]
    return Loss(lost, lost, total - lost if planned.changes else 0, total, names[:_NAMES])


def is_too_much(job: Job, state: TargetState, loss: Loss) -> bool:
    """Whether a config that wishes what it did before loses more of its target than it may."""
    if state.manifest is None or not loss.lost or not _asks_the_same(job, state.manifest):
        return False
    return Limit.of(job.config.target.max_delete).exceeded(loss.lost, loss.total, images=loss.images)


def target_brake(
    job: Job, infos: Sequence[IndexInfo], state: TargetState, loss: Loss, totals: PlanCounts
) -> BrakeError | None:
    """Why a build that causes `loss` and leaves `totals` must not go on, if it must not."""
    made = state.manifest
    if made is None:
        return None
    limit = Limit.of(job.config.target.max_delete)
    if is_too_much(job, state, loss):
        share = _share(loss.lost, loss.total)
        sentence = (
            f"{job.root}: would lose {loss.lost:,} of {plural(loss.total, 'file')} ({share}) by its own config"
            f"{_named(loss.names)}; check the source, or build with --max-delete none to let them go"
        )
        return BrakeError(sentence, "target", loss.lost, loss.total, loss.names)
    if _asks_the_same(job, made):
        return _emptied(job, made, totals, limit)
    cause = _other_cause(job, infos, state)
    count = loss.lost + loss.replaced
    if cause is None or not limit.forbids(count, loss.total):
        return None
    what = {"other_source": f"the source {', '.join(_roots(made.config))}", "other_recipe": f"the config {made.name}"}[
        cause
    ]
    sentence = (
        f"{job.root}: was made from {what}, and {count:,} of its {plural(loss.total, 'file')} "
        f"({_share(count, loss.total)}) would be deleted or replaced{_named(loss.names)}; choose another "
        "target, or build with --max-delete none to let them go"
    )
    return BrakeError(sentence, cause, count, loss.total, loss.names)


def _asks_the_same(job: Job, made: Manifest) -> bool:
    """Whether the config wishes what it did: names that a source brings are its own, and may be lost as its files are.

    Nor is it a wish to lose what is bad: `on_error: skip` does not count.
    """
    if made.recipe == recipe(job):
        return True
    if isinstance(job.config.classes, str):
        return False  # what is wanted is in that file
    before, now = ({**decisive(config), "on_error": None} for config in (made.config, portable_config(job)))
    return before == now


def _emptied(job: Job, made: Manifest, totals: PlanCounts, limit: Limit) -> BrakeError | None:
    """Why a build must not go on that keeps the files of a split, if it loses all objects in them."""
    for split, counts in made.report["subset"].items():
        had = sum(counts["objects"].values())
        has = sum(totals.subset[split].objects.values()) if split in totals.subset else 0
        if not has and had > _FEW and limit.forbids_all(had):
            sentence = (
                f"{job.root}: split {split} would lose all of its {plural(had, 'object')} by its own config; check the "
                "label files of the source, or build with --max-delete none to let them go"
            )
            return BrakeError(sentence, "target", had, had, [])
    return None


def _other_cause(job: Job, infos: Sequence[IndexInfo], state: TargetState) -> str | None:
    """Whether the target is of another source (one that was moved has the same content) or of another recipe."""
    made = state.manifest
    assert made is not None
    content = "+".join(str(info.content) for info in infos)
    if _is_other_source(job, _paths(made.config)) and made.report.get("fingerprint") != content:
        return "other_source"
    return "other_recipe" if None not in (made.name, job.config.name) and made.name != job.config.name else None


def _roots(config: Mapping[str, Any]) -> list[str]:
    """The folders of labels in a config, as few as say where a source was."""
    found = [os.path.dirname(paths["labels"] or "") for paths in _paths(config).values()]
    return list(dict.fromkeys(found))[:2]


def braked(config: Config, error: BrakeError) -> BrakedReport:
    """What `plan` says where a build would not even index."""
    return {
        "command": "plan",
        "target": storage.locate(config.target.root).url,
        "brake": cast("BrakeReport", error.facts()),
    }


def _share(lost: int, total: int) -> str:
    return f"{100 * lost / total:.1f} %" if total else "all"


def _named(names: Sequence[str]) -> str:
    return f", such as {', '.join(names)}" if names else ""


def _lost_names(
    job: Job, state: TargetState, found: Sequence[Scan], source: SourceJob, only: SplitSpec | None = None
) -> list[str]:
    """Three files of the target whose label file or image the source does not list any more; of the split `only`.

    Of a target without a file for each image they are the source's, as the index has them that it was made from.
    """
    scan = found[job.sources.index(source)]
    listed = {
        source.spec.prefix(split): _stems(source, scan, number)
        for number, split in enumerate(source.spec.splits)
        if only in (None, split)
    }
    names = list(itertools.islice(_unlisted(state, listed), _NAMES))
    return names or list(itertools.islice(_unlisted_of_index(source, listed), _NAMES))


def _unlisted(state: TargetState, listed: Mapping[str, set[str]]) -> Iterator[str]:
    for bucket in range(state.base.buckets):
        yield from _lacking(state.rows(bucket, state.base.buckets), listed)


def _unlisted_of_index(source: SourceJob, listed: Mapping[str, set[str]]) -> Iterator[str]:
    info = IndexInfo.read(source.index_dir)
    for bucket in range(info.buckets if info is not None else 0):
        with contextlib.suppress(DataError):
            yield from _lacking(index_part(source.index_dir, "files", bucket, ["path", "key"]), listed)


def _lacking(rows: pa.Table, listed: Mapping[str, set[str]]) -> Iterator[str]:
    """The paths of those of `rows` whose keys are not `listed`, by their prefix."""
    for path, key in zip(rows["path"].to_pylist(), rows["key"].to_pylist(), strict=True):
        prefix = next((p for p in listed if key.startswith(p)), None)
        if prefix is not None and key.removeprefix(prefix) not in listed[prefix]:
            yield path


def _stems(source: SourceJob, scan: Scan, number: int) -> set[str]:
    """Stems, relative to the split, of which the source lists a label file and, where images are listed, an image."""
    labels, images = scan.splits[number]
    split = source.spec.splits[number]
    if images is None and split.suffix is None:
        return set()
    listings = [images] if formats.load(source.spec.format).WHOLE else [labels, images]
    stems = [{os.path.splitext(name)[0] for name in listing.names()} for listing in listings if listing is not None]
    return set.intersection(*stems) if stems else set()
