"""A subset as one zip file.

What the buckets want is set aside instead of being planned for the target; of it the archive is made beside the plan,
in the order of paths, so that its bytes do not depend on how the work was cut. The target then has one file.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.digest import digest_of, seal, unseal
from pipeline.base.errors import DataError
from pipeline.stages.plan.compare import compare
from pipeline.stages.plan.dataset_files import read_arrow, write_arrow
from pipeline.stages.plan.meta_files import MetaFile
from pipeline.storage.origins import Origins
from pipeline.tables import schema
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

#: Beside the plan: the archive until it is at the target, and what it was made of.
_ARCHIVE = "archive.zip"

_MADE = "archive.json"

#: So many files are in memory at once.
_WINDOW = 64


def packed_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the files of the archive, as `schema.plan` but for their contents."""
    return f"{plan_dir}.archive"


def set_aside(plan_dir: str, bucket: int, wanted: pa.Table) -> pa.Table:
    """Write what a bucket wants beside the plan, for the archive; returns what it then wants at the target: nothing."""
    import pyarrow.parquet as pq

    table = compare(wanted, schema.manifest().empty_table()).combine_chunks()
    few = table.select(["key", "kind", "split", "source", "action", "size", "digest"])
    part = os.path.join(packed_folder(plan_dir), part_name(bucket))
    storage.replace_with(part, lambda path: pq.write_table(few, path))
    write_arrow(_contents_path(plan_dir, bucket), table)
    return wanted.slice(0, 0)


def _contents_path(plan_dir: str, bucket: int) -> str:
    return os.path.join(packed_folder(plan_dir), "contents", part_name(bucket))


def pack(
    plan_dir: str,
    buckets: int,
    name: str,
    files: Mapping[str, MetaFile],
    origins: Origins,
    at_target: Mapping[str, Mapping[str, Any]],
    add: Callable[[int], None],
) -> dict[str, MetaFile]:
    """The archive of the subset called `name`: labels, images, and `files`, its one YAML called as the archive itself.

    `add` is called with the number of labels and images that went in. The archive is not made again where the same is
    `at_target`, by path with its digest, or beside the plan already. Raises `DataError` for an image that cannot be
    read or has changed since it was planned.
    """
    folder = packed_folder(plan_dir)
    beside = storage.locate_writable(folder)
    tables = _tables(plan_dir, buckets)
    marks = [
        digest_of(b"\0".join(table["path"].cast("binary").to_pylist() + table["digest"].to_pylist())).hex()
        for table in tables
    ]
    marks += [path + file.digest for path, file in sorted(files.items())]
    made_of = digest_of(json.dumps([name, *marks]).encode()).hex()
    made = unseal(beside.read(_MADE)) or {}
    if made.get("of") == made_of:
        path, size, digest = made["path"], made["size"], made["xxh3"]
        if at_target.get(path, {}).get("digest") == digest or _is_made(beside, digest):
            return {path: MetaFile(size, digest, None, os.path.join(folder, _ARCHIVE))}
    # The record of an archive goes before it; of a run that was killed, what it had begun goes, too.
    beside.delete_many([_MADE, *(n for n in beside.flat_names("") if n.startswith(_ARCHIVE))])
    members = _Members(name, tables, files, origins, add)
    size, found = storage.write_zip(os.path.join(folder, _ARCHIVE), members)
    path = f"{members.stem}.zip"
    beside.write(_MADE, seal({"of": made_of, "path": path, "size": size, "xxh3": found.hex()}))
    return {path: MetaFile(size, found.hex(), None, os.path.join(folder, _ARCHIVE))}


def _is_made(beside: storage.Location, digest: str) -> bool:
    """Whether the archive is beside the plan, as it was made."""
    (found,) = beside.content_digests([_ARCHIVE])
    return found is not None and found.hex() == digest


def drop_packed(plan_dir: str) -> None:
    """The archive is at the target: the one beside the plan goes."""
    storage.locate_writable(packed_folder(plan_dir)).delete_many([_ARCHIVE])


def _tables(plan_dir: str, buckets: int) -> list[pa.Table]:
    """What is in the archive by bucket; it stays on the disk until it is used."""
    columns = ["path", "key", "source", "content", "size", "digest"]
    return [read_arrow(_contents_path(plan_dir, b)).select(columns) for b in range(buckets)]


class _Members:
    """Path and content of every file of the archive, in its order; `stem` is known at the end.

    The digest in it is of the paths and contents, so the same subset has the same name, wherever it is made.
    """

    def __init__(
        self,
        name: str,
        tables: Sequence[pa.Table],
        files: Mapping[str, MetaFile],
        origins: Origins,
        add: Callable[[int], None],
    ) -> None:
        self._name, self._tables, self._files, self._origins, self._add = name, tables, files, origins, add
        self.stem = ""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        import xxhash

        state = xxhash.xxh3_128()
        yamls = [path for path in self._files if path.endswith(".yaml")]
        assert len(yamls) == 1, yamls
        others = [(path, file.content or b"") for path, file in sorted(self._files.items()) if path != yamls[0]]
        for path, content in itertools.chain(others, itertools.chain.from_iterable(map(self._read, self._windows()))):
            state.update(b"%s\0%d\0" % (path.encode(), len(content)))
            state.update(content)
            yield path, content
        text = self._files[yamls[0]].content or b""
        state.update(text)
        self.stem = f"{self._name}-{state.hexdigest()[:16]}"
        yield f"{self.stem}.yaml", text

    def _windows(self) -> Iterator[pa.Table]:
        """All rows in the order of paths, some at a time."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        paths = pa.chunked_array([c for t in self._tables for c in t["path"].chunks], pa.string())
        order = pc.sort_indices(paths).to_numpy().astype(np.int64)
        ends = np.cumsum([table.num_rows for table in self._tables])
        for at in range(0, len(order), _WINDOW):
            some = order[at : at + _WINDOW]
            homes = np.searchsorted(ends, some, side="right")
            parts = []
            for home in np.unique(homes):
                table = self._tables[home]
                parts.append(table.take(pa.array(some[homes == home] - (ends[home] - table.num_rows))))
            yield pa.concat_tables(parts).sort_by("path")

    def _read(self, window: pa.Table) -> Iterator[tuple[str, bytes]]:
        keys, sources, sizes = (window[c].to_pylist() for c in ("key", "source", "size"))
        contents = window["content"].to_pylist()
        images = [i for i, content in enumerate(contents) if content is None]
        image_keys = [keys[i] for i in images]
        names = self._origins.names(image_keys, [sources[i] for i in images])
        for location, some in self._origins.locations(image_keys, names):
            for fetched in location.fetch_many([names[n] for n in some]):
                i = images[some[fetched.index]]
                if fetched.unless_away(sources[i]).reason is not None:
                    raise DataError(f"{sources[i]}: {fetched.reason}; get it again, or run again")
                if sizes[i] is not None and len(fetched.data) != sizes[i]:
                    raise DataError(f"{sources[i]}: changed since the plan was made; run again")
                contents[i] = fetched.data
        yield from zip(window["path"].to_pylist(), contents, strict=True)
        self._add(len(contents))
