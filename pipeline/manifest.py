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

import io
import json
import re
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import _claims, _provenance, schema
from pipeline.digest import digest_of
from pipeline.errors import TargetError
from pipeline.schema import UNKNOWN, VERSION, part_name

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
#: Folders that are there only while a run is under way.
_OF_A_RUN = ("intent", "tmp", "new")
#: What an intent has of a file.
_INTENDED = ("path", "kind", "key", "split")
_DONE = re.compile(r"done-(\d{1,5})\.json")


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
        self.folder = root.own(FOLDER)
        self._digests: dict[str, str] = {}
        self.manifest = self._manifest()
        self.intent: dict[str, Any] | None = self._json("intent.json")
        self.base = Base(self.manifest.buckets, self.manifest.parts) if self.manifest else Base()
        self._done: dict[int, str | None] = {}
        if self.intent is not None:
            _claims.check_intent(self.intent, self.folder.join("intent.json"))
            self.base = Base(**self.intent["base"])
            before = self.intent["prefixes"]
        else:
            before = self.manifest.prefixes if self.manifest else prefixes
        self.prefixes: dict[str, str] = prefixes if prefixes is not None else before or {}
        self.renamed = [(p, self.prefixes[s]) for s, p in (before or {}).items()
                        if s in self.prefixes and p != self.prefixes[s]]
        if self.intent is not None:
            for name in self.folder.names(self.intent["folder"]):
                if (found := _DONE.fullmatch(name)) is not None:
                    marker = f"{self.intent['folder']}/{name}"
                    self._done[int(found[1])] = _claims.check_done(self._json(marker) or {}, self.folder.join(marker))

    def _json(self, name: str) -> dict[str, Any] | None:
        data = self.folder.read(name)
        if data is None:
            return None
        self._digests[name] = _provenance.digest(data)
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            raise TargetError(f"{self.folder.join(name)}: is damaged (no JSON); if nothing else uses this target, "
                              f"delete {self.folder.url} and the files beside it, and build again") from None
        if not isinstance(found, dict):
            raise _claims.unfit(self.folder.join(name), "holds no fields")
        return found

    def _manifest(self) -> Manifest | None:
        data = self._json("manifest.json")
        if data is None:
            return None
        try:
            manifest = Manifest(**data)
        except TypeError:
            manifest = None
        if manifest is None or manifest.version != VERSION:
            raise TargetError(f"{self.folder.join('manifest.json')}: was written by another version of coco-diy "
                              f"({data.get('tool')}); build into a new folder, or use that version")
        _claims.check_manifest(data, self.folder.join("manifest.json"))
        return manifest

    def is_ours(self) -> bool:
        """Whether this machine wrote the manifest and the intent, as far as they are there."""
        found = [self._digests[name] for name in ("manifest.json", "intent.json") if name in self._digests]
        return all(map(_provenance.is_ours, found))

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
                touched.append(_only(_read(self.folder, path, _INTENDED), bucket, buckets, n))
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
        return _read(self.folder, f"manifest/{digest}.parquet", tuple(schema.manifest().names), digest)


def staged_path(path: str, staged: tuple[str, ...]) -> str:
    """Where the file `path` lies below the target's root, while the folders `staged` are not put in place yet."""
    return f"{STAGING}/{path}" if path.startswith(staged) else path


def _read(folder: Location, path: str, columns: tuple[str, ...], digest: str | None = None) -> pa.Table:
    """The part `path` of a manifest or intent; with `digest` its content must have that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = folder.read(path)
        if data is not None and (digest is None or digest_of(data).hex() == digest):
            table = pq.read_table(pa.BufferReader(data), use_threads=False).combine_chunks()
            return _claims.check_rows(table, columns, folder.join(path))
    except (pa.ArrowException, OSError):  # of what is no Parquet file, both are raised
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


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


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
    content = {"folder": folder, "buckets": buckets, "touched": sorted(parts), "base": asdict(base), "meta": meta,
               "prefixes": state.prefixes}
    data = json.dumps(content).encode()
    _provenance.remember(data)
    state.folder.write("intent.json", data)
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
    state.folder.drop_temporaries("runs")
    if state.intent is None:
        _drop_superseded(state.folder, state.manifest)
        for folder, there in zip(_OF_A_RUN, state.folder.exist_many(_OF_A_RUN), strict=True):
            if there:
                _clear(state.folder, folder, keep="")


def commit(state: TargetState, manifest: Manifest) -> None:
    """Put `manifest` in place, then drop the intent and parts that nothing names any more."""
    data = json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False).encode()
    _provenance.remember(data)
    state.folder.write("manifest.json", data)
    state.folder.delete_many(["intent.json"])
    for folder in _OF_A_RUN:
        _clear(state.folder, folder, keep="")
    _drop_superseded(state.folder, manifest)


def _drop_superseded(folder: Location, manifest: Manifest | None) -> None:
    """Delete parts that `manifest` does not name, where no intent does."""
    keep = {f"{digest}.parquet" for digest in manifest.parts if digest} if manifest else set()
    parts = folder.own("manifest")
    parts.delete_many(sorted(parts.names() - keep))
