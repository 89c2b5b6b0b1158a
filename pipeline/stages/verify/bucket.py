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

    Presence and size of every file; with `deep` also the digests of labels and of images that were copied, and which
    links there are. `classes` is how many names there are: no object may have an id beyond.
    """
    recorded = state.rows(bucket, state.base.buckets)
    found = [*damaged(damaged_parts(state, bucket)), *_compare(state, recorded, classes, deep=deep)]
    return found, recorded["path"].to_pylist()


def damaged(paths: Sequence[str]) -> list[Difference]:
    """Files of the manifest itself that are not as they were written."""
    return [Difference(path, "damaged", REASONS["damaged"]) for path in paths]


def _compare(state: TargetState, recorded: pa.Table, classes: int, *, deep: bool) -> Iterator[Difference]:
    paths = recorded["path"].to_pylist()
    found_sizes = state.root.sizes(paths)
    changed = _changed(state, recorded, found_sizes) if deep else {}
    columns = [recorded[name].to_pylist() for name in ("size", "digest", "objects")]
    for path, found, size, digest, objects in zip(paths, found_sizes, *columns, strict=True):
        if digest == UNKNOWN:
            yield Difference(path, "unfinished", REASONS["unfinished"])
        elif found is None:
            yield Difference(path, "missing", REASONS["missing"])
        elif size is not None and found != size:
            yield Difference(path, "size", f"has {plural(found, 'byte')} instead of {size:,}")
        elif path in changed:
            yield Difference(path, "content", changed[path])
        elif objects and max(class_id for class_id, _ in objects) >= classes:
            yield Difference(path, "class", REASONS["class"])


def _changed(state: TargetState, recorded: pa.Table, sizes: Sequence[int | None]) -> dict[str, str]:
    """Why files are not as they were put there, by path: contents are read, and links must be those that were made.

    `sizes` are those found, None for what is not there. What a link leads to was never read: it must be older than the
    manifest. A copy of the target has links and times of its own.
    """
    import pyarrow.compute as pc

    root, made = state.root, state.manifest
    target = made.config["target"] if made is not None else {}
    home = root.local if root.local and storage.is_same_location(target.get("root", ""), root.url) else None
    images = recorded.filter(pc.equal(recorded["kind"], Kind.IMAGE.value))["path"].to_pylist()
    images = images if target.get("images") in ("hardlink", "symlink") else []
    links = dict(zip(images, storage.link_digests(home, images) if home else [None] * len(images), strict=True))
    contents: dict[str, bytes] = {}
    unread: list[str] = []
    columns = [recorded[name].to_pylist() for name in ("path", "kind", "digest", "content_digest")]
    for path, kind, digest, read, size in zip(*columns, sizes, strict=True):
        expected = digest if kind == Kind.LABEL else read
        if size is None:
            continue
        if expected is None or (path in links and links[path] in (None, expected)):
            unread.append(path)
        else:
            contents[path] = expected
    changed = {
        path: "is not the link that was made" if path in links else REASONS["content"]
        for path, content in zip(contents, root.content_digests([*contents]), strict=True)
        if content != contents[path]
    }
    if home:
        written = storage.written_since(home, unread, MANIFEST_PATH)
        changed |= dict.fromkeys(written, "was written to since the build")
    return changed


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
