"""What we put at a target, on disk: the manifest, and the intent of a run that has not ended.

Below the target's ``.coco-diy/``::

    manifest.json            small, written last: what made the subset, and the digests of the parts
    manifest/<digest>.parquet  immutable parts, called by the XXH3-128 of their bytes: of the manifest
                             (`schema.manifest`) and of the intent (path, kind, key and split of what a run will touch),
                             one a bucket
    intent.json              there while a run is under way: what it started from, and its parts
    intent/<run>/            an empty file ``done-<bucket>-<digest of its part>`` for each bucket that is done
    splits.csv               which split each group of images was assigned to, where `split.stratify` decided it
    copy/                    manifest, parts and intent.json once more
    tmp/, new/               files on their way
    runs/                    one record a run: times and hosts live only there

Files that an intent lists are ours, whatever became of them: their digest is unknown until their bucket is done. Runs
have serial numbers, and the manifest has that of the run that it is of: an intent of that or of an earlier run is over,
whether or not it could be deleted.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.digest import seal
from pipeline.base.errors import TargetError
from pipeline.base.version import VERSION
from pipeline.tables import schema
from pipeline.tables.schema import UNKNOWN
from pipeline.target.claims import check_intent, check_manifest, check_rows
from pipeline.target.provenance import digest, is_ours
from pipeline.target.records import COPIES, INTENT, MANIFEST, PARTS, Damaged, TargetRecords, unnamed_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Location, WritableLocation
    from pipeline.target.memory import Memory

FOLDER = ".coco-diy"

#: More than any manifest of this version fits, see `TargetState._fits`.
_OF_ANOTHER_VERSION = 9

#: Locked by the run that is at work.
LOCK = f"{FOLDER}/lock"

#: Where files are made before they are renamed into place.
SCRATCH = f"{FOLDER}/tmp"

#: Where folders that are not at the target yet are filled before they are renamed, in one step each.
STAGING = f"{FOLDER}/new"

#: Written last of all, below the target's root.
MANIFEST_PATH = f"{FOLDER}/{MANIFEST}"

#: It and its copy: a folder that has one of them is a target.
MANIFESTS = (MANIFEST_PATH, f"{FOLDER}/{COPIES}/{MANIFEST}")

#: Written before the first change, and gone when the run is done.
INTENT_PATH = f"{FOLDER}/{INTENT}"

#: A file of the whole subset is read by every verification up to so many bytes.
LARGE = 16 << 20

#: What an intent has of a file.
_INTENDED = ("path", "kind", "key", "split")

_DONE = re.compile(r"done-(\d{1,5})-([0-9a-f]{32}|none)")

#: Buckets that are done are marked so often (s): a kill costs no more of the work than that.
_MARK_EVERY_S = 5.0


@dataclass
class Manifest:
    """The content of `manifest.json`.

    `recipe` is the digest of everything in the config that decides about the subset, `source` that of the source's
    listing; `parts` are the digests of the parts, `meta` the files that belong to no image, `folders` the change times
    (ns) of the target's folders when the run ended; `prefixes` is what keys begin with, see `TargetState`;
    `config` is the config, its paths made absolute; `numbers` the digest of which class got which number; `name` is
    what the recipe is called; `listed` has the label files and images of each split of the source, by what `prefixes`
    goes by; `serial` is the number of the run that this is of; `left_out` the digest of the table of what was left out.
    """

    tool: str
    recipe: str
    source: str | None
    buckets: int
    parts: list[str | None]
    meta: dict[str, dict[str, Any]]
    report: dict[str, Any]
    images: str | None = None
    folders: dict[str, int] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    numbers: str | None = None
    name: str | None = None
    listed: dict[str, dict[str, int | None]] = field(default_factory=dict)
    serial: int = 0
    left_out: str | None = None
    version: int = VERSION


@dataclass
class Base:
    """What was at the target before a run: parts by bucket."""

    buckets: int = 1
    parts: list[str | None] = field(default_factory=lambda: [None])


@dataclass
class Intent:
    """The content of `intent.json`: what run number `serial` is going to touch, beside `base`, which it started from.

    `touched` has the digests of its parts by bucket of `buckets`, `meta` the files that belong to no image; `folder` is
    where its buckets are marked as done; `prefixes` is what keys begin with.
    """

    serial: int
    folder: str
    buckets: int
    touched: dict[int, str]
    base: Base
    meta: list[str]
    prefixes: dict[str, str]

    @staticmethod
    def of(content: dict[str, Any]) -> Intent:
        """The intent that a record has; raises `Damaged` where it is another version's."""
        try:
            content = content | {
                "base": Base(**content["base"]),
                "touched": {int(b): digest for b, digest in content["touched"].items()},
            }
            return Intent(**content)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Damaged(INTENT) from None


class TargetState:
    """The manifest and intent at `root`, read once; `rows` gives what the target holds, a bucket at a time.

    `prefixes` is what keys begin with now, by split (of several sources, by source and split). Where the source was
    called otherwise before, the keys of the manifest are changed accordingly: the files are the same.

    `lost` says that some of it is damaged and so are the copies, so that files may be ours that nothing lists; with
    `doubted` nobody knows what a run did to those that are listed: the content of all counts as unknown.
    """

    def __init__(
        self, root: WritableLocation, prefixes: dict[str, str] | None = None, memory: Memory | None = None
    ) -> None:
        self.root = root
        self.folder = root.own(FOLDER)
        #: Digests of what of `manifest.json` and `intent.json` is there, see `provenance`.
        self._digests: list[str] = []
        self.records = TargetRecords(self.folder)
        self.lost = self.doubted = False
        #: The content of the manifest where what a listing has shown and the `memory` are enough to know it.
        self.recalled = memory.recall(self.folder.begun()) if memory is not None else None
        if root.local is None and self.recalled is None:
            self.records.read_ahead([MANIFEST, INTENT])
        self.manifest = self._manifest()
        #: Paths, below the root, of what was damaged of the manifest.
        self.damaged = [f"{FOLDER}/{path}" for path in self.records.damaged]
        self.intent = self._intent()
        self.base = Base(self.manifest.buckets, self.manifest.parts) if self.manifest else Base()
        self._done: dict[int, str | None] = {}
        before = self.manifest.prefixes if self.manifest else prefixes
        if self.intent is not None:
            self.base, before = self.intent.base, self.intent.prefixes
        self.prefixes: dict[str, str] = prefixes if prefixes is not None else before or {}
        self.renamed = [
            (p, self.prefixes[s]) for s, p in (before or {}).items() if s in self.prefixes and p != self.prefixes[s]
        ]
        if self.intent is not None:
            marks = filter(None, map(_DONE.fullmatch, self.folder.names(self.intent.folder)))
            self._done = {int(mark[1]): None if mark[2] == "none" else mark[2] for mark in marks}

    def _manifest(self) -> Manifest | None:
        try:
            data = self.recalled or self.records.read(MANIFEST, self._fits)
        except Damaged:
            data = None
            self.lost = True
        if data is None:
            return None
        try:
            manifest = Manifest(**data)
        except TypeError:
            manifest = None
        if manifest is None or manifest.version != VERSION:
            raise TargetError(
                f"{self.folder.join(MANIFEST)}: was written by another version of coco-diy "
                f"({data.get('tool')}); build into a new folder, or use that version"
            )
        check_manifest(vars(manifest), self.folder.join(MANIFEST))
        self._digests.append(digest(seal(data)))
        return manifest

    def _fits(self, data: dict[str, Any]) -> int:
        """How well `data` fits as the ``manifest.json`` of this target, from 0.

        Its parts count for more than the files that it names: some of these are gone while a build is under way. One of
        another version comes first, to be refused: that version may know of files that this one does not.
        """
        try:
            manifest = Manifest(**data)
        except TypeError:
            return _OF_ANOTHER_VERSION if "tool" in data else 0  # an intent names no tool
        if manifest.version != VERSION:
            return _OF_ANOTHER_VERSION
        try:
            check_manifest(vars(manifest), "")
        except TargetError:
            return 0
        parts = self.folder.names(PARTS)
        has_parts = all(f"{part}.parquet" in parts for part in data["parts"] if part is not None)
        return 1 + 2 * has_parts + all(self.root.exist_many(list(data["meta"])))

    def _intent(self) -> Intent | None:
        if self.recalled is not None:
            return None
        try:
            content = self.records.read(INTENT)
            if content is None:
                return None
            if "serial" in content:  # those of before 2026-12 have other fields, and count as damaged
                check_intent(content, self.folder.join(INTENT))
            intent = Intent.of(content)
        except Damaged:
            self.lost = self.doubted = True
            return None
        if self.manifest is not None and intent.serial <= self.manifest.serial:
            return None
        self._digests.append(digest(seal(content)))
        return intent

    def is_ours(self) -> bool:
        """Whether this machine wrote the manifest and the intent, as far as they are there."""
        return all(map(is_ours, self._digests))

    @property
    def serial(self) -> int:
        """Number of the last run that is known of."""
        return max(self.manifest.serial if self.manifest else 0, self.intent.serial if self.intent else 0)

    @property
    def meta(self) -> dict[str, dict[str, Any]]:
        """Files of ours that belong to no image: path to size and digest (hex)."""
        files = dict(self.manifest.meta) if self.manifest else {}
        for path in files if self.doubted else self.intent.meta if self.intent else ():
            files[path] = {"size": 0, "digest": UNKNOWN.hex()}
        return files

    def lacking_parts(self) -> set[str]:
        """Digests of parts that are not in their folder, wherever their copies are; at a store nobody asks for them."""
        if self.root.local is None:
            return set()
        names = self.folder.names(PARTS)
        return {part for part in self.base.parts if part is not None and f"{part}.parquet" not in names}

    def rows(self, bucket: int, buckets: int) -> pa.Table:
        """What the target holds of one bucket, as `schema.manifest`; unknown content has the digest `UNKNOWN`."""
        import pyarrow as pa

        if not self.renamed:
            return self._rows(bucket, buckets)
        n = self.intent.buckets if self.intent else self.base.buckets
        table = pa.concat_tables([self._rows(b, n) for b in range(n)])
        keys = []
        for key in table["key"].to_pylist():
            before, now = next((pair for pair in self.renamed if key.startswith(pair[0])), ("", ""))
            keys.append(now + key.removeprefix(before))
        column = table.schema.get_field_index("key")
        table = table.set_column(column, table.schema.field(column), pa.array(keys, pa.string()))
        return table.filter(_in_bucket(table, bucket, buckets)).combine_chunks()

    def _rows(self, bucket: int, buckets: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        base = self._of_base(bucket, buckets)
        if self.intent is None:
            return _unknown(base) if self.doubted else base
        tables: list[pa.Table] = []
        n = self.intent.buckets
        for other in _sharing(bucket, buckets, n):
            if other not in self.intent.touched:
                continue
            mine = _in_bucket(base, other, n)
            if other in self._done and (done := self._part(self._done[other])) is not None:
                tables.append(_only(done, bucket, buckets, n))
                base = base.filter(pc.invert(mine))
            elif (part := self._part(self.intent.touched[other], _INTENDED)) is not None:
                intended = _only(part, bucket, buckets, n)
                tables.append(_unknown(intended))
                base = base.filter(pc.invert(pc.is_in(base["path"], intended["path"].combine_chunks())))
            else:
                tables.append(_unknown(base.filter(mine)))
                base = base.filter(pc.invert(mine))
        return pa.concat_tables([base, *tables]).sort_by("path").combine_chunks()

    def _of_base(self, bucket: int, buckets: int) -> pa.Table:
        import pyarrow as pa

        n = self.base.buckets
        parts = [self._part(self.base.parts[b]) for b in _sharing(bucket, buckets, n)]
        tables = [_only(part, bucket, buckets, n) for part in parts if part is not None]
        return pa.concat_tables([schema.manifest().empty_table(), *tables]).combine_chunks()

    def _part(self, digest: str | None, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The part of that digest, with the `columns` or all; None where it is damaged, and its copy too."""
        if digest is None:
            return schema.manifest().empty_table()
        try:
            table = self.records.read_table(digest, columns)
        except Damaged:
            self.lost = True
            return None
        return check_rows(table, self.folder.join(PARTS))


def staged_path(path: str, staged: tuple[str, ...]) -> str:
    """Where the file `path` is below the target's root, while the folders `staged` are not renamed yet."""
    return f"{STAGING}/{path}" if path.startswith(staged) else path


def _sharing(bucket: int, buckets: int, n: int) -> Iterable[int]:
    """Which of `n` buckets can share keys with `bucket` of `buckets`: crc % a and crc % b nest where one divides."""
    if buckets % n == 0:
        return [bucket % n]
    if n % buckets == 0:
        return range(bucket, n, buckets)
    return range(n)


def _in_bucket(table: pa.Table, bucket: int, buckets: int) -> pa.Array:
    import pyarrow as pa

    return pa.array([zlib.crc32(k.encode()) % buckets == bucket for k in table["key"].to_pylist()], pa.bool_())


def _only(table: pa.Table, bucket: int, buckets: int, n: int) -> pa.Table:
    return table if n == buckets else table.filter(_in_bucket(table, bucket, buckets))


def _unknown(intended: pa.Table) -> pa.Table:
    import pyarrow as pa

    count = intended.num_rows
    columns = {name: intended[name].combine_chunks() for name in ("path", "kind", "key", "split")}
    columns["digest"] = pa.repeat(pa.scalar(UNKNOWN, pa.binary(16)), count)
    fields = schema.manifest()
    return pa.Table.from_arrays([columns.get(f.name, pa.nulls(count, f.type)) for f in fields], schema=fields)


class DoneMarks:
    """Buckets of the intent that are done. They are marked when all that the mark vouches for is durable.

    Waiting for the disk, or for the answer of a store, is done for all buckets of some seconds at once.
    """

    def __init__(self, state: TargetState, folders: Sequence[str]) -> None:
        self._state, self._folders = state, folders
        self._waiting: list[str] = []
        self._last = time.monotonic()

    def add(self, bucket: int, part: str | None) -> None:
        """A bucket is done, and holds what the part `part` says."""
        self._waiting.append(f"done-{bucket}-{part or 'none'}")
        if time.monotonic() - self._last >= _MARK_EVERY_S:
            self.write()

    def write(self) -> None:
        """Mark all that are waiting for it."""
        state = self._state
        assert state.intent is not None
        state.root.sync(self._folders)
        paths = [f"{state.intent.folder}/{name}" for name in self._waiting]
        state.folder.write_many(paths, [b""] * len(paths)).must(state.folder)
        self._waiting.clear()
        self._last = time.monotonic()


def home(what: str) -> str:
    """The folder of the subset that `what` names, by its manifest or by the zip file that it is; else `what` itself."""
    folder, _, name = what.rpartition("/")
    if name.lower().endswith(".zip") and not what.startswith("zip://"):
        beside = storage.locate(folder or ".")
        if isinstance(beside, storage.WritableLocation) and any(beside.exist_many(MANIFESTS)):
            made = TargetState(beside).manifest
            return (folder or ".") if made is not None and name in made.meta else what
    return what.removesuffix(f"/{MANIFEST_PATH}")


def is_subset(root: Location) -> bool:
    """Whether there is a subset at `root`, or one that was begun."""
    return any(root.exist_many([MANIFEST_PATH, INTENT_PATH]))


def damaged_parts(state: TargetState, bucket: int) -> list[str]:
    """Paths, below the root, of what is damaged of the part of a bucket, as the manifest is cut."""
    digest = state.base.parts[bucket]
    return [f"{FOLDER}/{path}" for path in state.records.bad_tables(digest)] if digest is not None else []


def drop_intent(state: TargetState, names: set[str] | None = None) -> str | None:
    """Delete all that is there only while a run is under way; returns why the intent stays, if it does.

    `names` are those of all files in the target's folder, where they are listed already.

    The intent is over by then, whatever of it is left. So at a store one listing shows all that goes, and one request
    for a thousand files deletes it, the intent first.
    """
    parts = state.manifest.parts if state.manifest else []
    if state.root.local is None:
        folders = tuple(f"{folder}/" for folder in OF_A_RUN)
        names = state.folder.names() if names is None else names
        over = [name for name in names if name.startswith(folders)] + unnamed_tables(names, parts)
        nothing = state.manifest is None and not over and not names & {INTENT, f"{COPIES}/{INTENT}"}
        return state.records.drop(INTENT, over) if not nothing else None  # nothing: before the first build
    stays = state.records.drop(INTENT)
    for folder, there in zip(OF_A_RUN, state.folder.exist_many(OF_A_RUN), strict=True):
        if there:
            clear(state.folder, folder, keep="")
    state.records.drop_tables(parts)
    return stays


#: Below the target's `.coco-diy`: what was left out by the last build, `schema.problems`.
PROBLEMS = "problems.parquet"


#: Folders that are there only while a run is under way.
OF_A_RUN = ("intent", "tmp", "new")


def clear(location: WritableLocation, folder: str, keep: str) -> None:
    """Delete what is below `folder` but for the subfolder `keep`."""
    names = sorted(location.names(folder))
    location.delete_many([f"{folder}/{name}" for name in names if not keep or not name.startswith(f"{keep}/")])
    location.drop_empty_folders(folder)
