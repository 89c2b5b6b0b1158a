"""Files that belong to no image: the training YAML, the record, a COCO JSON, an archive; wanted and at the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.base.digest import digest_of
from pipeline.job.job import Job
from pipeline.tables import schema
from pipeline.tables.schema import UNKNOWN, Kind
from pipeline.target.manifest import LARGE, TargetState

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Location

#: The record beside the training YAML.
RECORD = "DATASET.md"


@dataclass(frozen=True)
class MetaFile:
    """A file of the whole dataset: its `content` or, where that is large, the path where it was `made`.

    `size` is in bytes, `digest` the XXH3-128 of the content in hex.
    """

    size: int
    digest: str
    content: bytes | None
    made: str | None = None

    @staticmethod
    def of(content: bytes) -> MetaFile:
        """A small file."""
        return MetaFile(len(content), digest_of(content).hex(), content)


def wanted_table(files: Mapping[str, MetaFile]) -> pa.Table:
    """`files`, by path, as `schema.wanted`."""
    rows = [
        {
            "path": path,
            "size": file.size,
            "digest": bytes.fromhex(file.digest),
            "content": file.content,
            "source": file.made,
        }
        for path, file in sorted(files.items())
    ]
    return _table(schema.wanted(), rows)


def manifest_table(files: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """`files` of the target, by path with `size` and `digest` (hex), as `schema.manifest`."""
    rows = [
        {"path": path, "size": file["size"], "digest": bytes.fromhex(file["digest"])}
        for path, file in sorted(files.items())
    ]
    return _table(schema.manifest(), rows)


def _table(of: pa.Schema, rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    filled = [{"kind": Kind.META.value, "key": "", "split": "", **row} for row in rows]
    return pa.Table.from_pylist(filled, schema=of).combine_chunks()


def still_there(job: Job, state: TargetState) -> dict[str, dict[str, Any]]:
    """Those files of the manifest that are at the target; the ``mark`` of each is that of now."""
    there = marks(job.target, sorted(state.meta))
    return {
        path: file | ({"mark": there[path]} if "mark" in file else {})
        for path, file in state.meta.items()
        if path in there
    }


def marks(target: Location, paths: Sequence[str]) -> dict[str, str]:
    """What shows that a file changed (hex), of those of `paths` that are there.

    It is the mark of its fingerprint or, where a change may keep that, of the content: numbers of classes hang by it.
    """
    found = dict(zip(paths, target.fingerprints(paths), strict=True))
    read = [path for path, one in found.items() if one is not None and one.vague and (one.size or 0) < LARGE]
    contents = dict(zip(read, target.content_digests(read), strict=True))
    return {path: (contents.get(path) or one.mark).hex() for path, one in found.items() if one is not None}


def believed(job: Job, state: TargetState, suspects: frozenset[str]) -> dict[str, dict[str, Any]]:
    """The files at the target as the manifest has them; the content of those that are doubted counts as unknown.

    Where classes get other numbers, labels of two meanings exist side by side for a while: nobody is to train on them
    by an old YAML, so that goes and comes back, even if its bytes are the same.
    """
    files = {path: _checked(job, state, path, file) for path, file in still_there(job, state).items()}
    doubted = {*suspects}
    before = state.manifest.numbers if state.manifest is not None else None
    has_rows = "labels" in job.exporter.FOLDERS and not job.config.target.zipped
    if has_rows and before not in (None, job.numbers()):
        doubted.update(files.keys() - {RECORD})
    return {path: file | {"digest": UNKNOWN.hex()} if path in doubted else file for path, file in files.items()}


def _checked(job: Job, state: TargetState, path: str, file: dict[str, Any]) -> dict[str, Any]:
    """`file` with its digest as it is where it changed since the manifest: its content decides."""
    changed = path.endswith(".zip") or file.get("mark") != state.meta[path].get("mark")
    if not changed or file["digest"] == UNKNOWN.hex():
        return file
    digest = job.target.content_digests([path])[0]
    return file | {"digest": (digest or UNKNOWN).hex()}
