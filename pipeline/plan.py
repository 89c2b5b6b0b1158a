"""Stage 3: the plan. Wanted files x manifest -> write, copy, keep or delete; pure.

The plan is a value: the dry run, the resume point, the record and what a test asserts are this one table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.schema import UNKNOWN, Action

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Fingerprint



def compare(wanted: pa.Table, manifest: pa.Table) -> pa.Table:
    """What makes the target hold `wanted` (`schema.wanted`) where it holds `manifest`; returns `schema.plan`.

    A file with the same digest is kept; any other is written (content at hand) or copied; what the manifest has and
    nobody wants is deleted. Rows: the wanted files in their order, then deletes in the manifest's.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    held = manifest["path"].combine_chunks()
    position = pc.index_in(wanted["path"].combine_chunks(), held)
    before = manifest["digest"].combine_chunks().take(position)
    same = pc.fill_null(pc.equal(wanted["digest"].combine_chunks(), before), False)
    has_content = wanted["content"].combine_chunks().is_valid()
    action = pc.if_else(same, Action.KEEP.value, pc.if_else(has_content, Action.WRITE.value, Action.COPY.value))
    content = pc.if_else(same, pa.scalar(None, pa.binary()), wanted["content"].combine_chunks())
    planned = wanted.set_column(wanted.schema.get_field_index("content"), "content", content)
    planned = planned.append_column("action", action)
    read_before = manifest["content_digest"].combine_chunks().take(position)
    planned = planned.append_column("content_digest", pc.if_else(same, read_before, pa.scalar(None, pa.binary(16))))
    gone = manifest.filter(pc.invert(pc.is_in(held, wanted["path"].combine_chunks())))
    deletes = _fill(gone, {"action": Action.DELETE.value})
    return pa.concat_tables([planned.select(schema.plan().names).cast(schema.plan()), deletes])


def doubt(manifest: pa.Table, paths: frozenset[str]) -> pa.Table:
    """`manifest` with the content of `paths` unknown."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = pc.is_in(manifest["path"].combine_chunks(), pa.array(sorted(paths), pa.string()))
    digest = pc.if_else(bad, pa.scalar(UNKNOWN, pa.binary(16)), manifest["digest"].combine_chunks())
    return manifest.set_column(manifest.schema.get_field_index("digest"), schema.manifest().field("digest"), digest)


def meta_plan(wanted: dict[str, str], held: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """(action, path) of the files that belong to no image, as `compare` decides; `wanted` are their digests in hex."""
    plan = []
    for path, digest in sorted(wanted.items()):
        same = path in held and held[path]["digest"] == digest
        plan.append((Action.KEEP.value if same else Action.WRITE.value, path))
    plan += [(Action.DELETE.value, path) for path in sorted(held) if path not in wanted]
    return plan


def image_mark(images: str, found: Fingerprint, source: str) -> bytes:
    """What decides whether an image at the target is still the right one: how it got there, and its source as it is.

    Its XXH3-128 is the image's digest in plan and manifest.
    """
    unsettled = b"" if found.settled else str(time.time_ns()).encode()  # never the same again
    return b"\0".join((images.encode(), found.mark, unsettled, source.encode() if images == "symlink" else b""))


def as_manifest(plan: pa.Table, failed: set[str], digests: Mapping[str, bytes]) -> pa.Table:
    """What the target holds once `plan` is carried out but for `failed`; returns `schema.manifest`.

    Files that failed stay ours, with an unknown digest, so that the next run does them. `digests` are those of the
    contents that were copied, by path.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_delete = pc.equal(plan["action"], Action.DELETE.value)
    bad = pc.is_in(plan["path"], pa.array(sorted(failed), pa.string()))
    held = plan.filter(pc.or_(pc.invert(is_delete), bad)).select(schema.manifest().names).combine_chunks()
    if digests:
        read = pa.array([digests.get(path) for path in held["path"].to_pylist()], pa.binary(16))
        read = pc.coalesce(read, held["content_digest"].combine_chunks())
        place = held.schema.get_field_index("content_digest")
        held = held.set_column(place, schema.manifest().field("content_digest"), read)
    return doubt(held, frozenset(failed)) if failed else held


def summarise(plan: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """Files and bytes of a plan: action -> kind -> {"files": n, "bytes": n}."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    groups = plan.select(["action", "kind", "size"]).group_by(["action", "kind"])
    for row in groups.aggregate([("size", "sum"), ([], "count_all")]).to_pylist():
        by_kind = counts.setdefault(row["action"], {})
        by_kind[row["kind"]] = {"files": row["count_all"], "bytes": row["size_sum"] or 0}
    return counts


def _fill(table: pa.Table, values: dict[str, Any]) -> pa.Table:
    """`table` with all columns of `schema.plan`: its own, `values`, and nulls."""
    import pyarrow as pa

    columns = []
    for field in schema.plan():
        if field.name in values:
            scalar = pa.scalar(values[field.name], pa.string())
            columns.append(pa.repeat(scalar, table.num_rows))
        elif field.name in table.column_names:
            columns.append(table[field.name].combine_chunks().cast(field.type))
        else:
            columns.append(pa.nulls(table.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=schema.plan())
