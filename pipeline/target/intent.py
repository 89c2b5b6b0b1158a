"""What a run is going to touch, written before it does, and taken back when it is done."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

from pipeline.base.digest import seal
from pipeline.base.errors import StorageError
from pipeline.storage.location import RUNNING
from pipeline.tables.parquet import to_parquet
from pipeline.target.manifest import Base, Intent, clear, drop_intent
from pipeline.target.provenance import remember
from pipeline.target.records import INTENT, MANIFEST, TargetRecords

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import WritableLocation
    from pipeline.target.manifest import Manifest, TargetState


def write_part(folder: WritableLocation, table: pa.Table, scratch: WritableLocation | None = None) -> str | None:
    """Write an immutable part of the manifest; returns its digest, None for a table without rows.

    `scratch` is as in `TargetRecords.write_tables`.
    """
    return TargetRecords(folder).write_tables([to_parquet(table)], scratch)[0] if table.num_rows else None


def write_intent(state: TargetState, buckets: int, parts: dict[int, bytes], meta: list[str]) -> None:
    """Commit what a run is going to touch; `parts` are Parquet files of path, kind, key and split by bucket.

    An older intent is replaced in one step: the new one covers its files, as `TargetState.rows` listed them.
    """
    follows = state.intent is not None
    base = settle(state, buckets)
    touched = dict(zip(parts, state.records.write_tables(list(parts.values())), strict=True))
    state.folder.sync()  # what intent.json points at must outlive a power cut
    intent = Intent(state.serial + 1, f"intent/{uuid.uuid4().hex}", buckets, touched, base, meta, state.prefixes)
    remember(seal(intent))
    state.records.write(INTENT, intent)
    state.intent, state.base, state._done, state.renamed, state.doubted = intent, base, {}, [], False
    if follows or state.root.local is not None:  # without one `tidy` has found nothing there, or deleted it
        clear(state.folder, "intent", keep=intent.folder.removeprefix("intent/"))


def settle(state: TargetState, buckets: int) -> Base:
    """Parts of what the target holds now, cut into `buckets`.

    They are the manifest's own, unless it is cut otherwise, a run was interrupted or some are lost: then they are
    written here.
    """
    if state.intent is None and state.base.buckets == buckets and not state.renamed and not state.lost:
        return state.base
    return Base(buckets, [write_part(state.folder, state.rows(b, buckets)) for b in range(buckets)])


def tidy(state: TargetState) -> None:
    """Clear what a run left that was killed when its subset was done, but not all of its own things were gone.

    What is damaged is mended from its copy, now and whenever it is read later.
    """
    state.records.mends = True
    names = state.folder.names() if state.root.local is None else None  # one request, for what is dropped below, too
    if names is None:
        flat = state.folder.flat_names("")
        state.folder.delete_many([name for name in flat if name.startswith(".coco-diy-") and name.endswith(".tmp")])
        with contextlib.suppress(StorageError):  # records are no part of the subset
            state.folder.drop_temporaries("runs")
    if state.manifest is not None:
        state.records.mend(MANIFEST, state.manifest)
    state.lost |= not state.records.mend_tables(list(filter(None, state.base.parts)))
    if state.root.local is not None or state.intent is not None:
        # Workers of a run that was killed may still be at work, and write through a folder in there.
        abandoned = any(name.endswith(f"/{RUNNING}") for name in state.folder.names("tmp"))
        state.folder.remove_folder("tmp")
        if abandoned:
            state.root.outlast_writers()
    if state.root.local is None:
        with contextlib.suppress(StorageError):  # no listing shows them
            (state.folder if state.intent is None else state.root).drop_temporaries()
    if state.intent is None and not state.lost:
        drop_intent(state, names)


def commit_manifest(state: TargetState, manifest: Manifest) -> list[str]:
    """Write `manifest`, then drop the intent and parts that nothing names any more.

    From the first step on the subset is done. Returns warnings of what could not be dropped, which is harmless.
    """
    manifest.serial = state.serial
    remember(seal(manifest))
    state.records.write(MANIFEST, manifest)
    state.manifest, state.intent = manifest, None
    try:
        stays = drop_intent(state)
    except StorageError as error:
        stays = str(error)
    return (
        [f"what a run leaves while it is under way cannot be deleted ({stays}); it is ignored, and goes when it can"]
        if stays
        else []
    )
