"""One photograph in two splits: a model that is tested on what it learned measures too much."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pipeline.base.humanize import plural
from pipeline.job.job import Job
from pipeline.stages.plan.planned import Planned
from pipeline.tables import schema
from pipeline.tables.parquet import read_parts
from pipeline.tables.schema import Action, Kind

if TYPE_CHECKING:
    import pyarrow as pa

#: So many images are read at most, to compare their content.
_MOST = 1000


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
