"""Which split each image of the subset goes to, where the config deals them out anew."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.errors import ConfigError, TargetError
from pipeline.config.load import read_text
from pipeline.config.model import SplitShares
from pipeline.job.job import Job
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.select.split import Strata, deal, deviations, group_names, read_table, stratify, write_table
from pipeline.tables.schema import part_name
from pipeline.target.manifest import FOLDER
from pipeline.target.split_copy import COPY, sign, unsign

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class SplitRule:
    """How a bucket deals out its images: by the hash or, where `folder` is given, by its tables of group and split.

    `twice` are stems that stand in several splits of a source, each after the source's name: they are dealt to one
    side, where only one of each would be left.
    """

    by: str
    shares: dict[str, float]
    seed: int
    folder: str | None = None
    twice: frozenset[str] = frozenset()

    def groups(self, images: pa.Table) -> list[str]:
        """The group of each of `images`; one that no group's pattern matches is a group by itself."""
        stems = images["stem"].to_pylist()
        return [g if g is not None else stem for g, stem in zip(group_names(stems, self.by), stems, strict=True)]

    def split(self, images: pa.Table, bucket: int) -> pa.Table:
        """`images` with the split that they are dealt to; those of `twice` below a folder of the split they were of."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        groups = self.groups(images)
        if self.folder is None:
            splits = deal(groups, self.shares, self.seed)
        else:
            table = pq.read_table(os.path.join(self.folder, part_name(bucket)))
            known = dict(zip(table["group"].to_pylist(), table["split"].to_pylist(), strict=True))
            splits = [known[group] for group in groups]
        columns = {"split": splits}
        if self.twice:
            parts = [
                (*key.split("/", 1), stem)
                for key, stem in zip(images["key"].to_pylist(), images["stem"].to_pylist(), strict=True)
            ]
            columns["stem"] = [below if f"{source}/{stem}" in self.twice else stem for source, below, stem in parts]
        for name, values in columns.items():
            place = images.schema.get_field_index(name)
            images = images.set_column(place, images.schema.field(place), pa.array(values, pa.string()))
        return images


def stems_twice(job: Job, infos: Sequence[IndexInfo]) -> frozenset[str]:
    """Stems that images of several splits of a source have, see `SplitRule`; and those that they would get then."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: set[str] = set()
    for source, info in zip(job.sources, infos, strict=True):
        if len(source.spec.splits) > 1:
            places = [os.path.join(source.index_dir, "images", part_name(bucket)) for bucket in range(info.buckets)]
            table = pa.concat_tables([pq.read_table(place, columns=["key", "stem"]) for place in places])
            counts = table["stem"].value_counts()
            again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
            while len(again):
                found |= {f"{source.spec.name}/{stem}" for stem in again.to_pylist()}
                # They get the path after the source's name. Where another image is called so, it moves out of the way.
                moved = pc.is_in(table["stem"], again)
                paths = pc.utf8_slice_codeunits(table["key"].filter(moved), len(source.spec.name) + 1)
                table = table.filter(pc.invert(moved))
                again = pc.unique(table["stem"].filter(pc.is_in(table["stem"], paths)))
    return frozenset(found)


@dataclass
class SplitDecision:
    """What was decided: the split table as it is to be kept (None: the hash decides), and what is told of it.

    `moved` are the groups that the table at the target has in another split, as (group, before, now).
    """

    dealing: SplitRule
    table: bytes | None = None
    moved: list[tuple[str, str, str]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)


def by_hash(options: SplitShares) -> SplitDecision:
    """Nothing needs to be known of other images."""
    return SplitDecision(SplitRule(options.by, options.shares, options.seed))


def by_table(job: Job, options: SplitShares, strata: Iterable[str], place: storage.Location) -> SplitDecision:
    """Obey the split table; deal groups that it lacks so that classes keep their shares, or by their hash.

    `strata` has the groups of each bucket, as `summary_of` tells them. What was decided for the target is there too, in
    `place`: a table that was lost, emptied or cut is filled from it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [json.loads(text) for text in strata]
    whole = _sum(parts)
    own = _held(job)
    before = _kept_at(place, needed=any(group not in own for group in whole.groups)) if options.stratify else {}
    held = before | own if any(group in before for group in whole.groups) else own
    known = [group for group in whole.groups if group in held]
    if held and whole.groups and not known:
        raise ConfigError(
            f"{job.split_table}: names none of the groups of these images; is it the table of another "
            "source, or of another `split.by`? Move it away to deal all anew"
        )
    if options.stratify:
        splits = stratify(whole, options.shares, options.seed, held)
    else:
        new = [group for group in whole.groups if group not in held]
        splits = dict(zip(new, deal(new, options.shares, options.seed), strict=True)) | {g: held[g] for g in known}
        if strange := next((g for g in known if held[g] not in options.shares), None):
            raise ConfigError(
                f"{job.split_table}: puts {strange!r} into {held[strange]}, which has no share in `split`"
            )
    folder = f"{job.plan_dir}.splits"
    beside = storage.locate(folder)
    beside.delete_many(sorted(beside.names() - {part_name(b) for b in range(len(parts))}))
    for bucket, part in enumerate(parts):
        table = pa.table(
            {
                "group": pa.array(part["groups"], pa.string()),
                "split": pa.array([splits[g] for g in part["groups"]], pa.string()),
            }
        )
        write = functools.partial(pq.write_table, table)
        storage.replace_with(os.path.join(folder, part_name(bucket)), write)
    told = {"table": job.split_table, "kept": len(known), "dealt": len(whole.groups) - len(known)}
    keep = write_table(held | splits) if options.stratify else None
    moved = [(g, before[g], splits[g]) for g in whole.groups if g in before and before[g] != splits[g]]
    return SplitDecision(SplitRule(options.by, options.shares, options.seed, folder), keep, moved, told)


def summary_of(dealing: SplitRule, rows: pa.Table, images: pa.Table) -> str:
    """Groups, images and objects by class of the chosen `images` of one bucket and their `rows`, as JSON."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    groups = pa.array(dealing.groups(images), pa.string()).dictionary_encode()
    group_of_image = groups.indices.to_numpy(zero_copy_only=False)
    image = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks())
    there = image.is_valid()
    group = group_of_image[image.filter(there).to_numpy(zero_copy_only=False)].astype(np.int64)
    class_id = rows["class_id"].combine_chunks().filter(there).to_numpy(zero_copy_only=False).astype(np.int64)
    pairs, counts = np.unique(group << 32 | class_id, return_counts=True)
    objects = np.stack([pairs >> 32, pairs & 0xFFFFFFFF, counts], axis=1)
    return json.dumps(
        {
            "groups": groups.dictionary.to_pylist(),
            "objects": objects.tolist(),
            "images": np.bincount(group_of_image, minlength=len(groups.dictionary)).tolist(),
        }
    )


def _sum(parts: list[dict[str, Any]]) -> Strata:
    """The groups of all buckets, sorted by name; one may be in several."""
    import numpy as np

    names = sorted({group for part in parts for group in part["groups"]})
    place = {name: i for i, name in enumerate(names)}
    images = np.zeros(len(names), np.int64)
    objects: dict[tuple[int, int], int] = {}
    for part in parts:
        here = [place[group] for group in part["groups"]]
        np.add.at(images, here, part["images"])
        for group, class_id, count in part["objects"]:
            pair = (here[group], class_id)
            objects[pair] = objects.get(pair, 0) + count
    triples = [(group, class_id, count) for (group, class_id), count in sorted(objects.items())]
    return Strata(names, images, np.array(triples, np.int64).reshape(-1, 3))


def _held(job: Job) -> dict[str, str]:
    assert job.split_table is not None
    if not os.path.exists(job.split_table):
        if job.config.split is not None and not job.config.split.stratify:
            raise ConfigError(
                f"split.table: {job.split_table} is not there; write one (`group,split`, a group a "
                "line), or set split.stratify, which makes it"
            )
        return {}
    return read_table(read_text(job.split_table, "split table"), job.split_table)


def _kept_at(place: storage.Location, *, needed: bool) -> dict[str, str]:
    """The split of each group as the target's copy of the table has it.

    Raises `TargetError` for a damaged one that is `needed`, because the workdir's table lacks groups; else it is made
    anew of that.
    """
    data = place.read(COPY)
    if data is None:
        return {}
    table = unsign(data)
    if table is None and not needed:
        return {}
    if table is None:
        raise TargetError(
            f"{place.join(COPY)}: the split table is damaged; restore it, or delete it to go by the one "
            "of the workdir alone, where images may change sides"
        )
    return read_table(table.decode(), place.join(COPY))


def remember(job: Job, dealt: SplitDecision | None) -> None:
    """Keep the split table at the target and where the user can edit it, before the first file obeys it."""
    if dealt is None or dealt.table is None:
        return
    assert job.split_table is not None
    folder, name = os.path.split(job.split_table)
    copy = job.target.own(FOLDER)
    for place, path, data in ((copy, COPY, sign(dealt.table)), (storage.locate(folder), name, dealt.table)):
        if place.read(path) != data:
            place.write(path, data)
            place.sync()


def split_report(options: SplitShares, dealt: SplitDecision, subset: dict[str, Any]) -> dict[str, Any]:
    """How the images were dealt out, how near it came to the shares, and by class the deviation of its objects."""
    total = sum(counts["images"] for counts in subset.values())
    return {
        "by": options.by,
        "stratify": options.stratify,
        "seed": options.seed,
        "shares": options.shares,
        "images": {split: round(counts["images"] / total, 6) if total else 0.0 for split, counts in subset.items()},
        "deviation": deviations({split: counts["objects"] for split, counts in subset.items()}, options.shares),
        **dealt.told,
    }
