"""Part of the index stage: the parts of one bucket, which are believed only together.

What vouches for a bucket is its state, a sealed record that is written last and has the digest of every part. So parts
of two runs are never taken for one bucket, and a bit that flipped, a cut or a missing file is noticed: such a bucket is
made anew. The states are vouched for by ``index.json``, which has the digest of all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.digest import digest_of, fitted, seal, unseal
from pipeline.base.errors import DataError
from pipeline.reports.documents import SourceTotals
from pipeline.tables import schema
from pipeline.tables.parquet import Misfit, of_parquet
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("files", "images", "annotations", "problems")

#: Folder of the states, beside those of the tables.
STATES = "states"


@dataclass(frozen=True)
class BucketState:
    """What made a bucket, its counts, and the XXH3-128 (hex) of its part of each table.

    `unsettled`: files of other buckets may decide about rows of this one. `listing` is the digest of the listing that
    proves that its files are as they were (`BucketListing.digest`); None where none does.
    """

    made_by: dict[str, Any]
    summary: dict[str, SourceTotals]
    unsettled: bool
    parts: dict[str, str]
    listing: str | None = None

    def write(self, directory: str, bucket: int) -> None:
        """Vouch for the parts of `bucket` of the index at `directory`, which are all there."""
        record = seal(self)
        storage.write_with(f"{directory}/{STATES}/{state_name(bucket)}", lambda file: file.write(record))


def state_name(bucket: int) -> str:
    """File name of a bucket's state."""
    return f"bucket-{bucket:05d}.json"


def write_part(directory: str, table: str, bucket: int, write: Callable[[IO[bytes]], object]) -> str:
    """Make the bucket's part of a table by `write`, of an open file; returns its XXH3-128 in hex."""
    return storage.write_with(f"{directory}/{table}/{part_name(bucket)}", write)[1].hex()


def stated(directory: str, bucket: int) -> BucketState | None:
    """The state of a bucket; None if missing or not whole. Its parts are not checked."""
    return fitted(unseal(storage.locate(directory).read(f"{STATES}/{state_name(bucket)}")), BucketState)


def sound_state(directory: str, bucket: int) -> BucketState | None:
    """The state of a bucket whose parts are all as it says; they are read for it, 5 GB/s from memory."""
    state = stated(directory, bucket)
    return state if state is not None and is_sound(state, directory, bucket) else None


def is_sound(state: BucketState, directory: str, bucket: int) -> bool:
    """Whether the parts of a bucket are all as its `state` says."""
    if state.parts.keys() != set(TABLES):
        return False
    found = storage.locate(directory).content_digests([f"{table}/{part_name(bucket)}" for table in TABLES])
    return [f and f.hex() for f in found] == [state.parts[table] for table in TABLES]


def made_of(spec_digest: str, buckets: int) -> dict[str, Any]:
    """What decides about a bucket but its files themselves, see `BucketState.made_by`."""
    return {"spec": spec_digest, "buckets": buckets}


def unchanged(directory: str, bucket: int, made_by: dict[str, Any], listing: str) -> dict[str, SourceTotals] | None:
    """The counts of a bucket that its `listing` proves to be as it was, and whose parts are whole; None of another."""
    state = stated(directory, bucket)
    if state is None or state.unsettled or state.listing != listing or state.made_by != made_by:
        return None
    return state.summary if is_sound(state, directory, bucket) else None


def index_part(
    directory: str, table: str, bucket: int, columns: Sequence[str] | None = None, data: bytes | None = None
) -> pa.Table:
    """A bucket's part of a table (one of `TABLES`), or its `columns`; `data` are its bytes where they were read.

    Raises `DataError` for one that no run has written, whoever vouches for it; see `damaged`.
    """
    location, path, fitting = storage.locate(directory), f"{table}/{part_name(bucket)}", getattr(schema, table)()
    if data is None and location.local is None:
        data = location.read(path) or b""
    names = fitting.names if columns is None else columns
    numbered = ["bucket"] if "bucket" in fitting.names else []
    try:
        file = os.path.join(directory, path) if data is None else data
        found = of_parquet(file, fitting, [*dict.fromkeys([*names, *numbered])])
        if numbered and set(found["bucket"].unique().to_pylist()) - {bucket}:
            raise Misfit("is the part of another bucket")
    except Misfit as why:
        raise damaged(directory, path, str(why), [bucket]) from None
    return found.select(names)


def index_table(directory: str, table: str, buckets: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The parts of all `buckets` of a table as one, see `index_part`."""
    import pyarrow as pa

    return pa.concat_tables([index_part(directory, table, bucket, columns) for bucket in range(buckets)])


def damaged(directory: str, path: str, why: str, buckets: Iterable[int]) -> DataError:
    """What is said of a part of an index at `path`; nothing vouches for `buckets` any more, so they are made anew."""
    location = storage.locate(directory)
    if location.local is not None:
        storage.locate_writable(directory).below(STATES).delete_many([state_name(bucket) for bucket in buckets])
    return DataError(
        f"{location.join(path)}: this part of the index is damaged ({why}); `coco-diy index CONFIG` makes it anew"
    )


def digest_of_states(states: list[BucketState | None]) -> str | None:
    """What ``index.json`` names the parts of all buckets by; None where the state of one is missing."""
    if any(state is None for state in states):
        return None
    return digest_of(b"".join(seal(state) for state in states if state is not None)).hex()


def drop_foreign_parts(directory: str, buckets: int) -> None:
    """Parts beyond the last bucket are of an older count: they must not be read as part of a table."""
    for folder, name in (*((table, part_name) for table in TABLES), (STATES, state_name)):
        location = storage.locate_writable(directory).below(folder)
        location.delete_many(sorted(location.names() - {name(bucket) for bucket in range(buckets)}))
