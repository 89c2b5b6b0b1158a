"""What a run is going to touch, written before it does, and taken back when it is done."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.tables.parquet import to_parquet
from pipeline.tables.schema import part_name
from pipeline.target.manifest import Base

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Location
    from pipeline.target.manifest import Manifest, TargetState

#: Folders that are there only while a run is under way.
_OF_A_RUN = ("intent", "tmp", "new")


def write_part(folder: Location, table: pa.Table) -> str | None:
    """Write an immutable part of the manifest; returns its digest, None for a table without rows."""
    import xxhash

    if not table.num_rows:
        return None
    data = to_parquet(table)
    digest = str(xxhash.xxh3_128_hexdigest(data))
    folder.write_many([f"manifest/{digest}.parquet"], [data]).must(folder)
    return digest


def mark_done(folder: Location, intent: str, bucket: int, part: str | None) -> None:
    """Say that a bucket of the intent (its folder's name) is done and what it holds now."""
    folder.write_many([f"{intent}/done-{bucket}.json"], [json.dumps({"part": part}).encode()]).must(folder)


def write_intent(state: TargetState, buckets: int, parts: dict[int, bytes], meta: list[str]) -> None:
    """Commit what a run is going to touch; `parts` are Parquet files of path, kind, key and split by bucket.

    An older intent is replaced in one step: the new one covers its files, as `TargetState.rows` listed them.
    """
    base = settle(state, buckets)
    folder = f"intent/{uuid.uuid4().hex}"
    state.folder.write_many([f"{folder}/{part_name(b)}" for b in parts], list(parts.values())).must(state.folder)
    state.folder.sync()  # what intent.json points at must outlive a power cut
    content = {
        "folder": folder,
        "buckets": buckets,
        "touched": sorted(parts),
        "base": asdict(base),
        "meta": meta,
        "prefixes": state.prefixes,
    }
    state.folder.write("intent.json", json.dumps(content).encode())
    state.intent, state.base, state._done, state.renamed = content, base, {}, []
    _clear(state.folder, "intent", keep=folder.removeprefix("intent/"))


def settle(state: TargetState, buckets: int) -> Base:
    """Parts of what the target holds now, cut into `buckets`.

    They are the manifest's own, unless it is cut otherwise or a run was interrupted: then they are written here.
    """
    if state.intent is None and state.base.buckets == buckets and not state.renamed:
        return state.base
    return Base(buckets, [write_part(state.folder, state.rows(b, buckets)) for b in range(buckets)])


def _clear(place: Location, folder: str, keep: str) -> None:
    """Delete what is below `folder` but for the subfolder `keep`."""
    names = sorted(place.names(folder))
    place.delete_many([f"{folder}/{name}" for name in names if not keep or not name.startswith(f"{keep}/")])
    place.drop_empty_folders(folder)


def tidy(state: TargetState) -> None:
    """Clear what a run left that was killed when its subset was done, but not all of its own things were gone."""
    halves = [name for name in state.folder.flat_names("") if name.startswith(".coco-diy-") and name.endswith(".tmp")]
    if halves:
        state.folder.delete_many(halves)
    if state.intent is None:
        for folder, there in zip(_OF_A_RUN, state.folder.exist_many(_OF_A_RUN), strict=True):
            if there:
                _clear(state.folder, folder, keep="")


def commit_manifest(state: TargetState, manifest: Manifest) -> None:
    """Put `manifest` in place, then drop the intent and parts that nothing names any more."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False)
    state.folder.write("manifest.json", text.encode())
    state.folder.delete_many(["intent.json"])
    for folder in _OF_A_RUN:
        _clear(state.folder, folder, keep="")
    keep = {f"{digest}.parquet" for digest in manifest.parts if digest}
    parts = state.folder.below("manifest")
    parts.delete_many(sorted(parts.names() - keep))
