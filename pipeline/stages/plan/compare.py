"""Stage 3: the plan. Wanted files x manifest -> write, copy, keep or delete; pure.

The plan is a value: the dry run, the resume point, the record and what a test asserts are this one table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.base.digest import digest_of
from pipeline.reports.counts import ActionCounts, FileCount, add_files
from pipeline.tables import schema
from pipeline.tables.schema import UNKNOWN, Action, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.reports.documents import Actions, LossTotals
    from pipeline.storage import Fingerprint, Location


def compare(wanted: pa.Table, manifest: pa.Table) -> pa.Table:
    """What turns a target that has `manifest` into one that has `wanted` (`schema.wanted`); returns `schema.plan`.

    A file with the same digest stays; any other is written or, if it is an image, copied; what the manifest has and
    nobody wants is deleted. Rows: the wanted files in their order, then deletes in the manifest's.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    listed = manifest["path"].combine_chunks()
    position = pc.index_in(wanted["path"].combine_chunks(), listed)
    before = manifest["digest"].combine_chunks().take(position)
    same = pc.fill_null(pc.equal(wanted["digest"].combine_chunks(), before), False)
    images = pc.equal(wanted["kind"].combine_chunks(), Kind.IMAGE.value)
    action = pc.if_else(same, Action.KEEP.value, pc.if_else(images, Action.COPY.value, Action.WRITE.value))
    planned = wanted
    if pc.any(same).as_py():  # else contents are those of `wanted`, not copies
        content = pc.if_else(same, pa.scalar(None, pa.binary()), wanted["content"].combine_chunks())
        planned = wanted.set_column(wanted.schema.get_field_index("content"), "content", content)
    planned = planned.append_column("action", action)
    read_before = manifest["content_digest"].combine_chunks().take(position)
    planned = planned.append_column("content_digest", pc.if_else(same, read_before, pa.scalar(None, pa.binary(16))))
    gone = manifest.filter(pc.invert(pc.is_in(listed, wanted["path"].combine_chunks())))
    deletes = _fill(gone, {"action": Action.DELETE.value})
    return pa.concat_tables([planned.select(schema.plan().names).cast(schema.plan()), deletes])


def doubt(manifest: pa.Table, paths: frozenset[str]) -> pa.Table:
    """`manifest` with the content of `paths` unknown."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = pc.is_in(manifest["path"].combine_chunks(), pa.array(sorted(paths), pa.string()))
    digest = pc.if_else(bad, pa.scalar(UNKNOWN, pa.binary(16)), manifest["digest"].combine_chunks())
    return manifest.set_column(manifest.schema.get_field_index("digest"), schema.manifest().field("digest"), digest)


#: Examples that are given with a count.
EXAMPLES = 3


@dataclass
class Loss:
    """What carrying out a plan takes from the target, in files or, where it has no file for each, in images.

    `lost` of `total` files, those of `images`, go, and no other file of their image and kind comes; `replaced` label
    files get another content; `names` are the first of both. `moved` images are in another split then, the first
    `sides` of them as (stem, before, after).
    """

    lost: int = 0
    images: int = 0
    replaced: int = 0
    total: int = 0
    names: list[str] = field(default_factory=list)
    moved: int = 0
    sides: list[tuple[str, str, str]] = field(default_factory=list)

    @staticmethod
    def of_all(parts: Sequence[Loss]) -> Loss:
        """The sum of `parts`, with their first names."""
        return Loss(
            sum(part.lost for part in parts),
            sum(part.images for part in parts),
            sum(part.replaced for part in parts),
            sum(part.total for part in parts),
            sorted(name for part in parts for name in part.names)[:EXAMPLES],
            sum(part.moved for part in parts),
            sorted(side for part in parts for side in part.sides)[:EXAMPLES],
        )

    def data(self) -> LossTotals:
        """As a report has it."""
        return {
            "files": self.lost,
            "images": self.images,
            "replaced": self.replaced,
            "total": self.total,
            "names": self.names,
        }


def image_mark(images: str, found: Fingerprint, source: str) -> bytes:
    """What decides whether an image at the target is still the right one: how it got there, and its source as it is.

    Its XXH3-128 is the image's digest in plan and manifest.
    """
    unsettled = b"" if found.settled else str(time.time_ns()).encode()  # never the same again
    return b"\0".join((images.encode(), found.mark, unsettled, source.encode() if images == "symlink" else b""))


def image_digests(images: str, location: Location, names: Sequence[str]) -> list[bytes | None]:
    """The digests of the images `names` of a location as they are now, see `image_mark`; None for one that is gone."""
    found = zip(names, location.fingerprints(names), strict=True)
    return [digest_of(image_mark(images, one, location.join(name))) if one else None for name, one in found]


def losses(plan: pa.Table, manifest: pa.Table) -> Loss:
    """What `plan` (`schema.plan`) takes from a target that has `manifest` (`schema.manifest`)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plan = plan.select(["path", "kind", "key", "split", "action"])  # contents are large, and decide nothing
    gone, found = plan.filter(pc.equal(plan["action"], Action.DELETE.value)), Loss(total=manifest.num_rows)
    if gone.num_rows:
        left, position = successors(plan, gone)
        lost = gone.filter(pc.is_null(position))
        found.lost, found.images = lost.num_rows, len(pc.unique(lost["key"]))
        found.names = lost["path"].slice(0, EXAMPLES).to_pylist()
        there = gone.filter(pc.is_valid(position))
        after = left["split"].combine_chunks().take(position.drop_null())
        sides = zip(there["key"].to_pylist(), there["split"].to_pylist(), after.to_pylist(), strict=True)
        moved = sorted({(key.split("/", 2)[-1], a, b) for key, a, b in sides if a != b})
        found.moved, found.sides = len(moved), moved[:EXAMPLES]
    write = plan.filter(pc.equal(plan["action"], Action.WRITE.value))["path"]
    if manifest.num_rows and len(write):
        known = manifest["path"].filter(pc.not_equal(manifest["digest"], pa.scalar(UNKNOWN, pa.binary(16))))
        again = write.filter(pc.is_in(write, known.combine_chunks()))
        found.replaced = len(again)
        found.names = [*found.names, *again.slice(0, EXAMPLES).to_pylist()][:EXAMPLES]
    return found


def successors(plan: pa.Table, gone: pa.Table) -> tuple[pa.Table, pa.Array]:
    """What `plan` leaves; and of each row of `gone` which of these is of its image and kind, null where none is."""
    import pyarrow.compute as pc

    left = plan.filter(pc.not_equal(plan["action"], Action.DELETE.value))
    ids = [
        pc.binary_join_element_wise(side["kind"].combine_chunks(), side["key"].combine_chunks(), "/")
        for side in (gone, left)
    ]
    return left, pc.index_in(*ids)


def as_manifest(plan: pa.Table, failed: set[str], digests: Mapping[str, bytes]) -> pa.Table:
    """What the target has once `plan` is carried out but for `failed`; returns `schema.manifest`.

    Files that failed stay ours, with an unknown digest, so that the next run does them. `digests` are those of the
    contents that were copied, by path.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_delete = pc.equal(plan["action"], Action.DELETE.value)
    bad = pc.is_in(plan["path"], pa.array(sorted(failed), pa.string()))
    rows = plan.select(schema.manifest().names).filter(pc.or_(pc.invert(is_delete), bad)).combine_chunks()
    if digests:
        read = pa.array([digests.get(path) for path in rows["path"].to_pylist()], pa.binary(16))
        read = pc.coalesce(read, rows["content_digest"].combine_chunks())
        column = rows.schema.get_field_index("content_digest")
        rows = rows.set_column(column, schema.manifest().field("content_digest"), read)
    return doubt(rows, frozenset(failed)) if failed else rows


def summarise(plan: pa.Table) -> ActionCounts:
    """Files and bytes of a plan, by action and kind."""
    counts: ActionCounts = {}
    groups = plan.select(["action", "kind", "size"]).group_by(["action", "kind"])
    for row in groups.aggregate([("size", "sum"), ([], "count_all")]).to_pylist():
        by_kind = counts.setdefault(row["action"], {})
        by_kind[row["kind"]] = FileCount(row["count_all"], row["size_sum"] or 0)
    return counts


def all_actions(counts: ActionCounts) -> Actions:
    """`counts` as a report has them: every action and kind, also those without a file."""
    found: ActionCounts = {
        action: {kind: FileCount() for kind in (Kind.LABEL, Kind.IMAGE, Kind.META)}
        for action in (Action.WRITE, Action.COPY, Action.KEEP, Action.DELETE)
    }
    add_files(found, counts)
    return {
        str(a): {str(k): {"files": count.files, "bytes": count.bytes} for k, count in kinds.items()}
        for a, kinds in found.items()
    }


def _fill(table: pa.Table, values: dict[str, Any]) -> pa.Table:
    """`table` with all columns of `schema.plan`: its own, `values`, and nulls."""
    import pyarrow as pa

    columns = []
    for column in schema.plan():
        if column.name in values:
            scalar = pa.scalar(values[column.name], pa.string())
            columns.append(pa.repeat(scalar, table.num_rows))
        elif column.name in table.column_names:
            columns.append(table[column.name].combine_chunks().cast(column.type))
        else:
            columns.append(pa.nulls(table.num_rows, column.type))
    return pa.Table.from_arrays(columns, schema=schema.plan())
