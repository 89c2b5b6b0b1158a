"""Which split each image of the subset is assigned to, where the config does not leave that to the source."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.errors import ConfigError, TargetError
from pipeline.config.load import read_text
from pipeline.config.model import SplitShares
from pipeline.job.job import Job
from pipeline.reports.counts import SplitCounts
from pipeline.stages.index.parts import index_table
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.select.parts import read_part
from pipeline.stages.select.split import Strata, assign, deviations, group_names, read_table, stratify, write_table
from pipeline.tables import schema
from pipeline.tables.schema import part_name
from pipeline.target.manifest import FOLDER
from pipeline.target.split_copy import COPY, sign, unsign

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Ints
    from pipeline.reports.documents import SplitReport


@dataclass(frozen=True)
class SplitRule:
    """How a bucket assigns its images: by the hash or, where `folder` is given, by its tables of group and split.

    `duplicates` are stems that several splits of a source have, each after the source's name: in one split only one of
    each would be left.
    """

    by: str
    shares: dict[str, float]
    seed: int
    folder: str | None = None
    duplicates: frozenset[str] = frozenset()

    def groups(self, images: pa.Table) -> list[str]:
        """The group of each of `images`; one that no group's pattern matches is a group by itself."""
        stems = images["stem"].to_pylist()
        return [g if g is not None else stem for g, stem in zip(group_names(stems, self.by), stems, strict=True)]

    def split(self, images: pa.Table, bucket: int) -> pa.Table:
        """`images` with the split assigned; those of `duplicates` are below a folder of the split they were of."""
        import pyarrow as pa

        groups = self.groups(images)
        if self.folder is None:
            splits = assign(groups, self.shares, self.seed)
        else:
            table = read_part(self.folder, bucket, schema.assigned())
            known = dict(zip(table["group"].to_pylist(), table["split"].to_pylist(), strict=True))
            splits = [known[group] for group in groups]
        columns = {"split": splits}
        if self.duplicates:
            parts = [
                (*key.split("/", 1), stem)
                for key, stem in zip(images["key"].to_pylist(), images["stem"].to_pylist(), strict=True)
            ]
            columns["stem"] = [
                below if f"{source}/{stem}" in self.duplicates else stem for source, below, stem in parts
            ]
        for name, values in columns.items():
            column = images.schema.get_field_index(name)
            images = images.set_column(column, images.schema.field(column), pa.array(values, pa.string()))
        return images


def duplicate_stems(job: Job, infos: Sequence[IndexInfo]) -> frozenset[str]:
    """Stems that images of several splits of a source have, see `SplitRule`; and those that they would get then."""
    import pyarrow.compute as pc

    found: set[str] = set()
    for source, info in zip(job.sources, infos, strict=True):
        if len(source.spec.splits) > 1:
            table = index_table(source.index_dir, "images", info.buckets, ["key", "stem"])
            counts = table["stem"].value_counts()
            again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
            while len(again):
                found |= {f"{source.spec.name}/{stem}" for stem in again.to_pylist()}
                # They get the path after the source's name. Where another image is called so, that one moves, too.
                moved = pc.is_in(table["stem"], again)
                paths = pc.utf8_slice_codeunits(table["key"].filter(moved), len(source.spec.name) + 1)
                table = table.filter(pc.invert(moved))
                again = pc.unique(table["stem"].filter(pc.is_in(table["stem"], paths)))
    return frozenset(found)


@dataclass
class SplitDecision:
    """What was decided: the `rule` for each bucket, and the split table as it is to be written (None: without one).

    `moved` are the groups that the table at the target has in another split, as (group, before, now). By a table,
    `known` groups are as before and `new` ones were assigned by this run.
    """

    rule: SplitRule
    table: bytes | None = None
    moved: list[tuple[str, str, str]] = field(default_factory=list)
    known: int = 0
    new: int = 0


@dataclass(frozen=True)
class GroupCounts:
    """The groups of one bucket: the `images` of each, and its objects by class as in `Strata`."""

    groups: list[str]
    images: Ints
    objects: Ints


def group_counts(rule: SplitRule, rows: pa.Table, images: pa.Table) -> GroupCounts:
    """Groups of the chosen `images` of one bucket, and their `rows`, counted."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    groups = pa.array(rule.groups(images), pa.string()).dictionary_encode()
    group_of_image = groups.indices.to_numpy(zero_copy_only=False)
    image = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks())
    there = image.is_valid()
    group = group_of_image[image.filter(there).to_numpy(zero_copy_only=False)].astype(np.int64)
    class_id = rows["class_id"].combine_chunks().filter(there).to_numpy(zero_copy_only=False).astype(np.int64)
    pairs, counts = np.unique(group << 32 | class_id, return_counts=True)
    objects = np.stack([pairs >> 32, pairs & 0xFFFFFFFF, counts], axis=1)
    return GroupCounts(
        groups.dictionary.to_pylist(), np.bincount(group_of_image, minlength=len(groups.dictionary)), objects
    )


def by_hash(options: SplitShares) -> SplitDecision:
    """Nothing needs to be known of other images."""
    return SplitDecision(SplitRule(options.by, options.shares, options.seed))


def by_table(job: Job, options: SplitShares, parts: Sequence[GroupCounts], folder: storage.Location) -> SplitDecision:
    """Obey the split table; assign groups that it lacks so that classes get their shares, or by their hash.

    `parts` has the groups of each bucket. What was decided for the target is there too, in `folder`: a table that was
    lost, emptied or cut is filled from it.
    """
    whole = merged(parts)
    own = _own_table(job)
    before = _copy_at(folder, needed=any(group not in own for group in whole.groups)) if options.stratify else {}
    fixed = before | own if any(group in before for group in whole.groups) else own
    known = [group for group in whole.groups if group in fixed]
    if fixed and whole.groups and not known:
        raise ConfigError(
            f"{job.split_table}: names none of the groups of these images; is it the table of another "
            "source, or of another `split.by`? Move it away to assign all anew"
        )
    if options.stratify:
        splits = stratify(whole, options.shares, options.seed, fixed)
    else:
        new = [group for group in whole.groups if group not in fixed]
        splits = dict(zip(new, assign(new, options.shares, options.seed), strict=True)) | {g: fixed[g] for g in known}
        if strange := next((g for g in known if fixed[g] not in options.shares), None):
            raise ConfigError(
                f"{job.split_table}: puts {strange!r} into {fixed[strange]}, which has no share in `split`"
            )
    tables = f"{job.plan_dir}.splits"
    _write_parts(tables, parts, splits)
    return SplitDecision(
        SplitRule(options.by, options.shares, options.seed, tables),
        write_table(fixed | splits) if options.stratify else None,
        [(g, before[g], splits[g]) for g in whole.groups if g in before and before[g] != splits[g]],
        len(known),
        len(whole.groups) - len(known),
    )


def _write_parts(folder: str, parts: Sequence[GroupCounts], splits: Mapping[str, str]) -> None:
    """Write to `folder` the split of each group of each bucket."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    beside = storage.locate_writable(folder)
    beside.delete_many(sorted(beside.names() - {part_name(b) for b in range(len(parts))}))
    for bucket, part in enumerate(parts):
        table = pa.table({"group": part.groups, "split": [splits[g] for g in part.groups]}, schema.assigned())
        storage.replace_with(os.path.join(folder, part_name(bucket)), functools.partial(pq.write_table, table))


def merged(parts: Sequence[GroupCounts]) -> Strata:
    """The groups of all buckets, sorted by name; one may be in several."""
    import numpy as np

    names = sorted({group for part in parts for group in part.groups})
    index = {name: i for i, name in enumerate(names)}
    images = np.zeros(len(names), np.int64)
    objects: Counter[tuple[int, int]] = Counter()
    for part in parts:
        here = [index[group] for group in part.groups]
        np.add.at(images, here, part.images)
        for group, class_id, count in part.objects.tolist():
            objects[here[group], class_id] += count
    triples = [(group, class_id, count) for (group, class_id), count in sorted(objects.items())]
    return Strata(names, images, np.array(triples, np.int64).reshape(-1, 3))


def _own_table(job: Job) -> dict[str, str]:
    """The split of each group as the table in the workdir, or that of the user, has it."""
    assert job.split_table is not None
    if not os.path.exists(job.split_table):
        if job.config.split is not None and not job.config.split.stratify:
            raise ConfigError(
                f"split.table: {job.split_table} is not there; write one (`group,split`, a group a "
                "line), or set split.stratify, which makes it"
            )
        return {}
    return read_table(read_text(job.split_table, "split table"), job.split_table)


def _copy_at(folder: storage.Location, *, needed: bool) -> dict[str, str]:
    """The split of each group as the target's copy of the table has it.

    Raises `TargetError` for a damaged one that is `needed`, because the workdir's table lacks groups; else it is made
    anew of that.
    """
    data = folder.read(COPY)
    if data is None:
        return {}
    table = unsign(data)
    if table is None and not needed:
        return {}
    if table is None:
        raise TargetError(
            f"{folder.join(COPY)}: the split table is damaged; restore it, or delete it to go by the one "
            "of the workdir alone, where images may change sides"
        )
    return read_table(table.decode(), folder.join(COPY))


def remember(job: Job, decision: SplitDecision | None) -> None:
    """Write the split table to the target and where the user can edit it, before the first file obeys it."""
    if decision is None or decision.table is None:
        return
    assert job.split_table is not None
    folder, name = os.path.split(job.split_table)
    copy = job.target.own(FOLDER)
    for location, path, data in (
        (copy, COPY, sign(decision.table)),
        (storage.locate_writable(folder), name, decision.table),
    ):
        if location.read(path) != data:
            location.write(path, data)
            location.sync()


def split_report(job: Job, decision: SplitDecision, subset: Mapping[str, SplitCounts]) -> SplitReport:
    """How images were assigned, how near that came to the shares, and by class the deviation of its objects."""
    options = job.config.split
    assert options is not None
    total = sum(counts.images for counts in subset.values())
    report: SplitReport = {
        "by": options.by,
        "stratify": options.stratify,
        "seed": options.seed,
        "shares": options.shares,
        "images": {split: round(counts.images / total, 6) if total else 0.0 for split, counts in subset.items()},
        "deviation": deviations({split: counts.objects for split, counts in subset.items()}, options.shares),
    }
    if decision.rule.folder is not None:
        report |= {"table": job.split_table, "kept": decision.known, "assigned": decision.new}
    return report
