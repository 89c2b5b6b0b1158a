"""Stage 5: what is at a target against its manifest. It only reads.

A repair is a build for which the files that differ count as unknown, see `run.repair`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.humanize import plural
from pipeline.tables.schema import UNKNOWN, Kind
from pipeline.target.manifest import LARGE, MANIFEST_PATH, TargetState, damaged_parts

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Location

#: What can be wrong with a file; `foreign` is the one thing that a repair leaves alone.
REASONS = {
    "missing": "is not there",
    "size": "has another size",
    "content": "has other content",
    "unfinished": "belongs to a run that did not end",
    "class": "has a class id beyond the names",
    "foreign": "was not made by coco-diy",
    "damaged": "is damaged: a build that repairs makes it anew",
}

_OF_TRAINERS = (".cache", ".npy")


@dataclass(frozen=True)
class Difference:
    """One file that is not as the manifest says: its path below the target, the counted word, and a clause."""

    path: str
    reason: str
    detail: str


def verify_bucket(state: TargetState, classes: int, deep: bool, bucket: int) -> tuple[list[Difference], list[str]]:
    """Compare one bucket of the target with its manifest; returns differences and the paths that are ours.

    Presence and size of every file; with `deep` also the digests of labels and of images that were copied. What links
    lead to was never read, and is not here: it must be older than the manifest. `classes` is how many names there are:
    no object may have an id beyond.
    """
    recorded = state.rows(bucket, state.base.buckets)
    found = [*damaged(damaged_parts(state, bucket)), *_compare(state, recorded, classes, deep=deep)]
    return found, recorded["path"].to_pylist()


def damaged(paths: Sequence[str]) -> list[Difference]:
    """Files of the manifest itself that are not as they were written."""
    return [Difference(path, "damaged", REASONS["damaged"]) for path in paths]


def _compare(state: TargetState, recorded: pa.Table, classes: int, *, deep: bool) -> Iterator[Difference]:
    root, made = state.root, state.manifest
    home = made.config["target"].get("root", "") if made is not None else ""
    at_home = storage.is_same_location(home, root.url)  # a copy has times of its own
    paths = recorded["path"].to_pylist()
    columns = [recorded[name].to_pylist() for name in ("kind", "size", "digest", "content_digest", "objects")]
    found_sizes = root.sizes(paths)
    expectations = [digest if kind == Kind.LABEL else read for kind, _, digest, read, _ in zip(*columns, strict=True)]
    there = zip(paths, expectations, found_sizes, strict=True)
    known = [path for path, expected, size in there if expected is not None and size is not None]
    contents = dict(zip(known, root.content_digests(known), strict=True)) if deep else {}
    linked = [path for path, expected in zip(paths, expectations, strict=True) if expected is None]
    written = storage.written_since(root.local, linked, MANIFEST_PATH) if deep and at_home and root.local else set()
    rows = zip(paths, found_sizes, expectations, *columns, strict=True)
    for path, found, expected, _, size, digest, _, objects in rows:
        if digest == UNKNOWN:
            yield Difference(path, "unfinished", REASONS["unfinished"])
        elif found is None:
            yield Difference(path, "missing", REASONS["missing"])
        elif size is not None and found != size:
            yield Difference(path, "size", f"has {plural(found, 'byte')} instead of {size:,}")
        elif deep and expected is not None and contents[path] != expected:
            yield Difference(path, "content", REASONS["content"])
        elif path in written:
            yield Difference(path, "content", "was written to since the build")
        elif objects and max(class_id for class_id, _ in objects) >= classes:
            yield Difference(path, "class", REASONS["class"])


def verify_meta(state: TargetState, *, deep: bool) -> list[Difference]:
    """Compare the files that belong to no image: by content, but large ones by size unless `deep`."""
    differences = []
    sizes = dict(zip(state.meta, state.root.sizes(list(state.meta)), strict=True))
    read = [path for path, meta in state.meta.items() if sizes[path] is not None and (deep or meta["size"] < LARGE)]
    digests = dict(zip(read, state.root.content_digests(read), strict=True))
    for path, meta in sorted(state.meta.items()):
        found = sizes[path]
        if found is None:
            differences.append(Difference(path, "missing", REASONS["missing"]))
        elif path in digests and (digests[path] or b"").hex() != meta["digest"]:
            differences.append(Difference(path, "content", REASONS["content"]))
        elif path not in digests and found != meta["size"]:
            differences.append(Difference(path, "size", f"has {plural(found, 'byte')} instead of {meta['size']:,}"))
    return differences


def foreign(root: Location, folders: tuple[str, ...], ours: set[str]) -> list[Difference]:
    """Files in the layout's `folders` that are neither `ours` nor a trainer's (caches of labels, arrays of images)."""
    names = [f"{folder}/{name}" for folder in folders for name in root.names(folder)]
    return [
        Difference(path, "foreign", REASONS["foreign"])
        for path in sorted(names)
        if path not in ours and not path.endswith(_OF_TRAINERS)
    ]
