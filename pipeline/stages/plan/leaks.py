"""One photograph in two splits, or by two sources: what is measured, or counted, is too much."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.base.humanize import plural
from pipeline.images.cached import read_cached
from pipeline.job.job import Job
from pipeline.stages.plan.planned import Planned
from pipeline.stages.select.parts import read_parts
from pipeline.tables import schema
from pipeline.tables.schema import Action, Kind

if TYPE_CHECKING:
    import pyarrow as pa

#: So many images are read at most, to compare their content.
_MOST = 1000

#: Images whose hashes differ in more bits are not the same photograph.
_BITS = 3


def leak_warning(job: Job, planned: Planned) -> list[str]:
    """The sentence for images of one name and content in two splits, if there are any.

    Of the images that share name and size with one of another split the first thousand are read, where they are on a
    disk of this machine: no plan fetches images for it.
    """
    if not job.need_image or sum(planned.totals.images_in(split) > 0 for split in planned.totals.subset) < 2:
        return []
    doubtful = _of_one_name(_of_one_size(_images(planned)))[:_MOST]
    found: defaultdict[bytes, dict[str, str]] = defaultdict(dict)
    for origin, here in job.origins.by_origin([row["key"] for row in doubtful]):
        if not origin.location.on_disk:
            continue
        names = [origin.location.name_of(doubtful[i]["source"]) for i in here]
        for i, digest in zip(here, origin.location.content_digests(names), strict=True):
            if digest is not None:
                found[digest].setdefault(doubtful[i]["split"], doubtful[i]["source"])
    shared = sorted(sorted(paths.values()) for paths in found.values() if len(set(paths.values())) > 1)
    if not shared:
        return []
    return [
        f"{plural(len(shared), 'image is', 'images are')} in two splits, byte for byte ({' and '.join(shared[0])}"
        f"{'; …' if len(shared) > 1 else ''}): a model that is tested on what it learned measures too much; remove one "
        "of each"
    ]


def source_warnings(job: Job, planned: Planned) -> list[str]:
    """Sentences for images that two sources have: of equal content, as far as that is cached, and of one name.

    Of two images of one name whose hashes are cached (`images.hashes`) these decide whether they may be the same.
    """
    import pyarrow.compute as pc

    if not job.several:
        return []
    table = read_parts(planned.sources, planned.buckets, schema.plan(), ["key", "kind", "action"])
    wanted = pc.and_(pc.not_equal(table["kind"], Kind.META.value), pc.not_equal(table["action"], Action.DELETE.value))
    images = table.filter(wanted).group_by("key").aggregate([])
    images = images.append_column("of", pc.replace_substring_regex(images["key"], "/.*", ""))
    images = images.append_column("name", pc.replace_substring_regex(images["key"], ".*/", ""))
    hashes = _cached_hashes(job, planned.buckets)
    return [
        *_equal_warning(images.join(hashes, "key", join_type="inner")),
        *_name_warning(_of_two_sources(images, "name").join(hashes, "key")),
    ]


def _cached_hashes(job: Job, buckets: int) -> pa.Table:
    """Key, hash and digest of all images of the sources that were hashed before, in whatever state."""
    import pyarrow as pa

    parts = [
        read_cached(source.index_dir, "hashes", bucket, schema.hashes())
        for source in job.sources
        for bucket in range(buckets)
    ]
    return pa.concat_tables(parts).select(["key", "hash", "digest"])


def _of_two_sources(images: pa.Table, column: str) -> pa.Table:
    """Those of `images` whose value in `column` an image of another source (`of`) has, too."""
    import pyarrow.compute as pc

    sources = images.group_by(column).aggregate([("of", "count_distinct")])
    several = sources.filter(pc.greater(sources["of_count_distinct"], 1))[column]
    return images.filter(pc.is_in(images[column], several.combine_chunks()))


def _equal_warning(images: pa.Table) -> list[str]:
    alike: defaultdict[bytes, list[str]] = defaultdict(list)
    for row in _of_two_sources(images, "digest").select(["digest", "key"]).sort_by("key").to_pylist():
        alike[row["digest"]].append(row["key"])
    if not alike:
        return []
    return [
        f"{plural(len(alike), 'image comes', 'images come')} by two sources, byte for byte ({_examples(alike)}): their "
        "objects count twice; remove one of each"
    ]


def _name_warning(images: pa.Table) -> list[str]:
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in images.sort_by("key").to_pylist():
        rows[row["name"]].append(row)
    alike = {name: [row["key"] for row in some] for name, some in rows.items() if _may_be_one(some)}
    if not alike:
        return []
    return [
        f"{plural(len(alike), 'image name is', 'image names are')} in two sources ({_examples(alike)}): they may be "
        "the same photographs; `coco-diy verify CONFIG --leaks` compares them"
    ]


def _may_be_one(rows: list[dict[str, Any]]) -> bool:
    """Whether two sources may have one photograph: `rows` (of, hash, digest) are all images of one name."""
    return any(
        None in (a["hash"], b["hash"]) or (a["hash"] ^ b["hash"]).bit_count() <= _BITS
        for a, b in itertools.combinations(rows, 2)
        if a["of"] != b["of"] and (a["digest"] is None or a["digest"] != b["digest"])
    )


def _examples(alike: Mapping[Any, list[str]]) -> str:
    """The first images that are alike, by their keys."""
    first = min(alike.values())
    return f"{first[0]} and {first[-1]}{'; …' if len(alike) > 1 else ''}"


def _images(planned: Planned) -> pa.Table:
    """The images of a plan whose source and size are known: key, split, source, size."""
    import pyarrow.compute as pc

    columns = ["key", "split", "source", "size", "kind", "action"]
    table = read_parts(planned.sources, planned.buckets, schema.plan(), columns)
    wanted = pc.and_(pc.equal(table["kind"], Kind.IMAGE.value), pc.not_equal(table["action"], Action.DELETE.value))
    return table.filter(wanted).select(columns[:4]).drop_null()


def _of_one_size(images: pa.Table) -> pa.Table:
    """Those of `images` of whose size there is one in another split, too."""
    import pyarrow.compute as pc

    splits = images.group_by("size").aggregate([("split", "count_distinct")])
    several = splits.filter(pc.greater(splits["split_count_distinct"], 1))["size"]
    return images.filter(pc.is_in(images["size"], several.combine_chunks()))


def _of_one_name(images: pa.Table) -> list[dict[str, str]]:
    """Those of `images` of whose file name and size there is one in another split, too; together, and in order."""
    alike: defaultdict[tuple[str, int], list[dict[str, str]]] = defaultdict(list)
    for row in images.to_pylist():
        alike[row["source"].rpartition("/")[2], row["size"]].append(row)
    several = sorted(name for name, rows in alike.items() if len({row["split"] for row in rows}) > 1)
    return [row for name in several for row in sorted(alike[name], key=lambda row: row["key"])]
