"""What we put at a target, on disk: the manifest, and the intent of a run that has not ended.

Below the target's ``.coco-diy/``::

    manifest.json            small, written last: what made the subset, and the digests of the parts
    manifest/<digest>.parquet  immutable parts (`schema.manifest`), one a bucket
    intent.json              there while a run is under way: what it started from, and the folder of its parts
    intent/<run>/            a part a bucket with the paths that the run will touch, and done-<bucket>.json once a
                             bucket is done
    tmp/, new/               files on their way
    runs/                    one record a run: times and hosts live only there

Files that an intent lists are ours, whatever became of them: their digest is unknown until their bucket is done.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import TargetError
from pipeline.tables import schema
from pipeline.tables.schema import UNKNOWN, VERSION, part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import Location

FOLDER = ".coco-diy"

#: Held by the run that is at work.
LOCK = f"{FOLDER}/lock"

#: Where files are made before they are renamed into place.
SCRATCH = f"{FOLDER}/tmp"

#: Where folders that are not at the target yet are filled before they are put in place, in one step each.
STAGING = f"{FOLDER}/new"


@dataclass
class Manifest:
    """The content of `manifest.json`.

    `recipe` is the digest of everything in the config that decides about the subset, `source` that of the source's
    listing; `parts` are the digests of the parts, `meta` the files that belong to no image, `folders` the change times
    (ns) of the target's folders when the run ended; `prefixes` is what keys begin with, see `TargetState`;
    `config` is the config, its paths made absolute; `numbers` the digest of which class got which number.
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
    version: int = VERSION


@dataclass
class Base:
    """What was at the target before a run: parts by bucket."""

    buckets: int = 1
    parts: list[str | None] = field(default_factory=lambda: [None])


class TargetState:
    """The manifest and intent at `root`, read once; `rows` gives what the target holds, a bucket at a time.

    `prefixes` is what keys begin with now, by split (of several sources, by source and split). Where the source was
    called otherwise before, the keys of the manifest are changed accordingly: the files are the same.
    """

    def __init__(self, root: Location, prefixes: dict[str, str] | None = None) -> None:
        self.root = root
        self.folder = root.below(FOLDER)
        self.manifest = self._manifest()
        self.intent: dict[str, Any] | None = self._json("intent.json")
        self.base = Base(self.manifest.buckets, self.manifest.parts) if self.manifest else Base()
        self._done: dict[int, str | None] = {}
        if self.intent is not None:
            self.base = Base(**self.intent["base"])
            before = self.intent["prefixes"]
        else:
            before = self.manifest.prefixes if self.manifest else prefixes
        self.prefixes: dict[str, str] = prefixes if prefixes is not None else before or {}
        self.renamed = [
            (p, self.prefixes[s]) for s, p in (before or {}).items() if s in self.prefixes and p != self.prefixes[s]
        ]
        if self.intent is not None:
            for name in self.folder.names(self.intent["folder"]):
                if name.startswith("done-") and name.endswith(".json"):
                    self._done[int(name[5:-5])] = (self._json(f"{self.intent['folder']}/{name}") or {})["part"]

    def _json(self, name: str) -> dict[str, Any] | None:
        data = self.folder.read(name)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError:
            raise TargetError(
                f"{self.folder.join(name)}: is damaged (no JSON); if nothing else uses this target, "
                f"delete {self.folder.url} and the files beside it, and build again"
            ) from None
        return dict(found)

    def _manifest(self) -> Manifest | None:
        data = self._json("manifest.json")
        if data is None:
            return None
        try:
            manifest = Manifest(**data)
        except TypeError:
            manifest = None
        if manifest is None or manifest.version != VERSION:
            raise TargetError(
                f"{self.folder.join('manifest.json')}: was written by another version of coco-diy "
                f"({data.get('tool')}); build into a new folder, or use that version"
            )
        return manifest

    @property
    def meta(self) -> dict[str, dict[str, Any]]:
        """Files of ours that belong to no image: path to size and digest (hex)."""
        held = dict(self.manifest.meta) if self.manifest else {}
        for path in self.intent["meta"] if self.intent else ():
            held[path] = {"size": 0, "digest": UNKNOWN.hex()}
        return held

    def rows(self, bucket: int, buckets: int) -> pa.Table:
        """What the target holds of one bucket, as `schema.manifest`; unknown content has the digest `UNKNOWN`."""
        import pyarrow as pa

        if not self.renamed:
            return self._rows(bucket, buckets)
        n = self.intent["buckets"] if self.intent else self.base.buckets
        table = pa.concat_tables([self._rows(b, n) for b in range(n)])
        keys = []
        for key in table["key"].to_pylist():
            before, now = next((pair for pair in self.renamed if key.startswith(pair[0])), ("", ""))
            keys.append(now + key.removeprefix(before))
        table = table.set_column(table.schema.get_field_index("key"), table.schema.field("key"), pa.array(keys))
        return table.filter(_in_bucket(table, bucket, buckets)).combine_chunks()

    def _rows(self, bucket: int, buckets: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        base = self._of_base(bucket, buckets)
        if self.intent is None:
            return base
        tables: list[pa.Table] = []
        touched: list[pa.Table] = []
        n = int(self.intent["buckets"])
        for other in _sharing(bucket, buckets, n):
            if other not in self.intent["touched"]:
                continue
            if other in self._done:
                tables.append(_only(self._read_part(self._done[other]), bucket, buckets, n))
                base = base.filter(pc.invert(_in_bucket(base, other, n)))
            else:
                path = f"{self.intent['folder']}/{part_name(other)}"
                touched.append(_only(_read(self.folder, path), bucket, buckets, n))
        if touched:
            intended = pa.concat_tables(touched)
            base = base.filter(pc.invert(pc.is_in(base["path"], intended["path"].combine_chunks())))
            tables.append(_unknown(intended))
        return pa.concat_tables([base, *tables]).sort_by("path").combine_chunks()

    def _of_base(self, bucket: int, buckets: int) -> pa.Table:
        import pyarrow as pa

        n = self.base.buckets
        tables = [_only(self._read_part(self.base.parts[b]), bucket, buckets, n) for b in _sharing(bucket, buckets, n)]
        return pa.concat_tables(tables).combine_chunks()

    def _read_part(self, digest: str | None) -> pa.Table:
        if digest is None:
            return schema.manifest().empty_table()
        return _read(self.folder, f"manifest/{digest}.parquet")


def staged_path(path: str, staged: tuple[str, ...]) -> str:
    """Where the file `path` lies below the target's root, while the folders `staged` are not put in place yet."""
    return f"{STAGING}/{path}" if path.startswith(staged) else path


def _read(folder: Location, path: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = folder.read(path)
        if data is not None:
            return pq.read_table(pa.BufferReader(data), use_threads=False).combine_chunks()
    except pa.ArrowInvalid:
        pass
    raise TargetError(f"{folder.join(path)}: a part of the manifest is missing or damaged; build into a new folder")


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


#: Below the target's `.coco-diy`: what was left out by the last build, `schema.problems`.
PROBLEMS = "problems.parquet"
