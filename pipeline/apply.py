"""Stage 4: plan -> outcomes. The only stage with side effects at the target.

A bucket is carried out in an order that never leaves an image without its label: images that go, labels that go,
labels, images; each file whole or not at all. Its part of the manifest is written when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline import manifest, storage
from pipeline.plan import as_manifest
from pipeline.schema import Action, Kind

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Outcome:
    """What became of one bucket: files done, path: reason of those that failed, and its part of the manifest."""

    bucket: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    part: str | None = None


def apply_bucket(root: str, state_folder: str, intent: str, images: str, plan_path: str, bucket: int) -> Outcome:
    """Carry out the plan at `plan_path` (`schema.plan`) below `root`; `images` is copy, hardlink, symlink or none.

    Raises `StorageError` for what would hit every file.
    """
    import pyarrow.parquet as pq

    plan = pq.read_table(plan_path, memory_map=True, use_threads=False)
    outcome = Outcome(bucket)
    for kind in (Kind.IMAGE, Kind.LABEL):
        paths = _of(plan, Action.DELETE, kind)["path"].to_pylist()
        _note(outcome, storage.delete_many(root, paths))
    labels = _of(plan, Action.WRITE, Kind.LABEL)
    _note(outcome, storage.write_many(root, labels["path"].to_pylist(), labels["content"].to_pylist(), manifest.SCRATCH))
    pictures = _of(plan, Action.COPY, Kind.IMAGE)
    if pictures.num_rows:
        _note(outcome, storage.copy_many(root, pictures["path"].to_pylist(), pictures["source"].to_pylist(),
                                         pictures["size"].to_pylist(), images, manifest.SCRATCH))
    outcome.part = manifest.write_part(state_folder, as_manifest(plan, set(outcome.failed)))
    manifest.mark_done(state_folder, intent, bucket, outcome.part)
    return outcome


def _of(plan: pa.Table, action: Action, kind: Kind) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return plan.filter(pc.and_(pc.equal(plan["action"], action.value),
                               pc.equal(plan["kind"], kind.value)))


def _note(outcome: Outcome, results: storage.Results) -> None:
    outcome.done += results.done
    outcome.failed.update(results.failed)
