"""Files below a target's `.coco-diy` that vouch for themselves, each of them there twice.

A JSON record holds the XXH3-128 of itself, a table is called by that of its bytes. What does not match is damaged, and
the copy below ``copy/`` is read in its stead. The copy is written first, when all that it vouches for is durable:
whichever of the two is whole can be believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.digest import digest_of, seal, unseal
from pipeline.base.errors import StorageError, UnavailableError
from pipeline.tables import schema
from pipeline.tables.parquet import Misfit, of_parquet
from pipeline.target.claims import unfit

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.storage import WritableLocation

#: The records of a subset, see `manifest`.
MANIFEST, INTENT = "manifest.json", "intent.json"

COPIES = "copy"

PARTS = "manifest"

#: Bytes of a record that is read ahead.
_LARGEST = 1 << 30


class Damaged(Exception):  # noqa: N818 - what it means is for the caller to say
    """Neither a file nor its copy is whole; the argument is its path below the folder."""


def content_of(data: bytes) -> dict[str, Any] | None:
    """The content of a sealed record; None where it is not whole.

    Records of before 2026-12 have neither a digest nor a serial number; they are taken as they are.
    """
    if (content := unseal(data)) is not None:
        return content
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and not content.keys() & {"digest", "serial"} else None


class TargetRecords:
    """Records and tables in `folder`; where it `mends`, a table that is damaged is written anew from its copy.

    `damaged` are the paths, below the folder, of the records that were found damaged or missing.
    """

    def __init__(self, folder: WritableLocation) -> None:
        self.folder = folder
        self.mends = False
        self.damaged: list[str] = []
        self._ahead: dict[str, bytes | None] = {}

    def read_ahead(self, names: Sequence[str]) -> None:
        """Ask for some records at once; `read` then takes what came, and asks again for what did not."""
        try:
            contents, _, failed = self.folder.read_many(names, _LARGEST)
        except UnavailableError:
            return
        for i, name in enumerate(names):
            if failed.get(i) in (None, "vanished"):
                self._ahead[name] = contents[i] if i not in failed else None

    def _read(self, path: str) -> bytes | None:
        return self._ahead.pop(path) if path in self._ahead else self.folder.read(path)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"mends": False}  # a task elsewhere may be behind the times

    def read(self, name: str, fits: Callable[[dict[str, Any]], int] = bool) -> dict[str, Any] | None:
        """The record `name`; None if missing. Raises `Damaged`, and `StorageError` where nobody knows.

        Both files are checked, for one that is damaged is to be mended as long as there is the other. Of two that are
        whole and differ, one is another run's: the one that `fits` best is believed.
        """
        refused: StorageError | None = None
        there, found = False, list[dict[str, Any] | None]()
        for path in _twice(name):
            if (
                len(found) == 1
                and refused is None
                and there == (found[0] is not None)
                and self._is_alike(name, there=there)
            ):
                found.append(found[0])
                break
            try:
                data = self._read(path)
            except StorageError as error:
                refused, data = refused or error, None
            there = there or data is not None
            found.append(content_of(data) if data is not None else None)
        whole = [content for content in found if content is not None]
        if not whole and refused is not None:
            raise refused
        if not there:
            return None
        if len(whole) == 2 and whole[0] != whole[1]:
            whole.sort(key=fits, reverse=True)
        content = whole[0] if whole else None
        if content is None or "serial" in content:  # what was made before there were two has one
            self.damaged += [
                path for path, one in zip(_twice(name), found, strict=True) if one is None or one != content
            ]
        if content is None:
            raise Damaged(name)
        return content

    def _is_alike(self, name: str, *, there: bool) -> bool:
        """Whether a listing shows that the copy of a record, which is `there` itself or is not, is just as that.

        Where the record is certain not to be there, a listing that lacks the copy is enough: a run whose intent is
        not whole has changed nothing.
        """
        if (seen := self.folder.begun()) is None:
            return False
        record, copy = (seen.get(path) for path in _twice(name))
        return record is not None and record == copy and not record.vague if there else copy is None

    def write(self, name: str, content: Any) -> None:
        """Write the record `name`, durably."""
        data = seal(content)
        for path in reversed(_twice(name)):
            self.folder.write(path, data)

    def mend(self, name: str, content: Any) -> None:
        """Write the record `name` again where one of the two is not `content`."""
        data = seal(content)
        for path in reversed(_twice(name)):
            if self.folder.read(path) != data:
                self.folder.write(path, data)

    def drop(self, name: str, also: Sequence[str] = ()) -> str | None:
        """Delete the record `name`, and the files `also` after it; returns why the record stays, if it does."""
        record = _twice(name)
        try:
            failed = self.folder.delete_many([*record, *sorted(also)]).failed
        except StorageError as error:
            return str(error)
        return next((f"{self.folder.join(path)}: {failed[path]}" for path in record if path in failed), None)

    def read_table(self, digest: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The part of that digest, with the `columns` of `schema.manifest` or all.

        Raises `Damaged`, and `TargetError` for one that is whole and that no build has written.
        """
        bad, whole = list[str](), None
        for path in _twice(_part_path(digest)):
            data = self.folder.read(path)
            if data is not None and digest_of(data).hex() == digest:
                whole = data
                break
            bad.append(path)
        if whole is None:
            raise Damaged(_part_path(digest))
        if bad and self.mends:
            self.folder.write_many(bad, [whole] * len(bad)).must(self.folder)
        try:
            return of_parquet(whole, schema.manifest(), columns).combine_chunks()
        except Misfit as why:
            where = self.folder.join(_part_path(digest))
            raise unfit(where, f"has other columns than a part of a manifest ({why})") from None

    def mend_tables(self, digests: Sequence[str]) -> bool:
        """Write each half of these parts anew whose other half is whole; whether one of each is."""
        halves = [_twice(_part_path(digest)) for digest in digests]
        found = iter(self.folder.content_digests([path for pair in halves for path in pair]))
        complete = True
        for digest, pair in zip(digests, halves, strict=True):
            whole = [bytes.fromhex(digest) == next(found) for _ in pair]
            if any(whole) and not all(whole) and (data := self.folder.read(pair[whole.index(True)])) is not None:
                self.folder.write(pair[whole.index(False)], data)
            complete = complete and any(whole)
        return complete

    def bad_tables(self, digest: str) -> list[str]:
        """Paths of those of the two files of a part that are not whole; what was made before there were two has one."""
        found = [(path, self.folder.read(path)) for path in _twice(_part_path(digest))]
        if found[1][1] is None and self.folder.read(_twice(MANIFEST)[1]) is None:
            found.pop()
        return [path for path, data in found if data is None or digest_of(data).hex() != digest]

    def write_tables(self, tables: Sequence[bytes], scratch: WritableLocation | None = None) -> list[str]:
        """Write parts, given as Parquet files; returns their digests. They are durable when the folder is synced.

        Temporary files are made in `scratch`, see `WritableLocation.write_many`.
        """
        digests = [digest_of(data).hex() for data in tables]
        paths = [path for digest in digests for path in reversed(_twice(_part_path(digest)))]
        contents = [data for data in tables for _ in range(2)]
        self.folder.write_many(paths, contents, scratch=scratch).must(self.folder)
        return digests

    def drop_tables(self, keep: Sequence[str | None]) -> None:
        """Delete all parts but those of the digests `keep`."""
        named = {path for digest in keep if digest for path in _twice(_part_path(digest))}
        for folder in _twice(PARTS):
            paths = {f"{folder}/{name}" for name in self.folder.names(folder)}
            self.folder.delete_many(sorted(paths - named))
            self.folder.drop_empty_folders(folder)  # one may be where a part was


def unnamed_tables(names: Iterable[str], keep: Sequence[str | None]) -> list[str]:
    """Those of the files `names` below the folder that are parts, but not of the digests `keep`."""
    named = {path for digest in keep if digest for path in _twice(_part_path(digest))}
    folders = tuple(f"{folder}/" for folder in _twice(PARTS))
    return [name for name in names if name.startswith(folders) and name not in named]


def _twice(path: str) -> tuple[str, str]:
    return path, f"{COPIES}/{path}"


def _part_path(digest: str) -> str:
    return f"{PARTS}/{digest}.parquet"
