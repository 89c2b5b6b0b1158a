"""What every location that holds files can be asked; the kinds of locations say how they do it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pipeline.base.errors import CocoDiyError, StorageError, UnavailableError
from pipeline.runtime.counters import count_file
from pipeline.storage.listing import Listing
from pipeline.storage.spill import Spill
from pipeline.storage.traits import Traits

T = TypeVar("T")

#: A larger file is no image, wherever it is: it would be in memory as a whole, several at a time.
MAX_IMAGE_BYTES = 512 << 20


@dataclass(frozen=True)
class Fingerprint:
    """What shows a changed file: its `size` (bytes; None: unknown) and a `mark` of its state.

    `settled` is False for a file so young that it may change again unseen, `vague` where the mark is of size and time
    alone, which a change may keep.
    """

    size: int | None
    mark: bytes
    settled: bool
    vague: bool = False


@dataclass
class Results:
    """What became of a batch: how many files were done, and path: reason for those that were not.

    `digests` has the XXH3-128 (16 bytes) of what was copied, by path. What failed for a reason that may pass by itself,
    as where a store does not answer, is in `passing`.
    """

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)

    def add(self, others: Results) -> None:
        """Take over what became of other files."""
        self.done += others.done
        self.failed.update(others.failed)
        self.digests.update(others.digests)
        self.passing |= others.passing

    def must(self, location: Location, doing: str = "written") -> None:
        """Raise `StorageError` for the first file that was not done at `location`: for files that nothing goes without.

        `doing` is what was to be done.
        """
        self.must_at(location.url, doing)

    def must_at(self, where: str, doing: str) -> None:
        """See `must`; `where` is what the location is called."""
        for path, reason in self.failed.items():
            kind = UnavailableError if path in self.passing else StorageError
            raise kind(f"{where}/{path}: cannot be {doing}: {reason}")


@dataclass(frozen=True)
class FetchCost:
    """What it takes to bring files here: requests, and bytes (None: unknown)."""

    requests: int
    bytes: int | None
    #: Whether the bytes are those of a sample, multiplied.
    about: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of a batch that was asked for: its `index` in the batch, and its bytes or the `reason` for none.

    `away`: that may pass by itself, and is no fact about the file.
    """

    index: int
    data: bytes = b""
    reason: str | None = None
    away: bool = False

    def unless_away(self, url: str) -> Fetched:
        """This file; raises `UnavailableError` where it did not come for a reason that may pass by itself."""
        if self.away:
            raise UnavailableError(f"{url}: cannot be read: {self.reason}")
        return self


def is_too_large(size: int) -> bool:
    """Whether a file of `size` bytes is too large to be read as an image."""
    return size > MAX_IMAGE_BYTES


def too_large(most: int | None = None) -> str:
    """What is said of a file of more than `most` bytes; without them, of one that `is_too_large`."""
    return f"is larger than {(most or MAX_IMAGE_BYTES) >> 20} MiB: no image"


#: What is said of a file that `is_packed`.
PACKED = "came compressed (Content-Encoding: gzip), and is no image or label as it came; store it as it is"


def is_packed(head: bytes, encoding: str | None) -> bool:
    """Whether what begins with `head` is not the file but its gzip: it came with a Content-Encoding of `encoding`.

    Nobody asks for one. But stores keep the header that a file was uploaded with, and send both as they are.
    """
    return head[:2] == b"\x1f\x8b" and "gzip" in (encoding or "").lower()


@dataclass(frozen=True, slots=True)
class FileEnds:
    """Beginning and end of one file of a batch: its `index` in the batch, its `size` (bytes), or the `reason` for none.

    `head` may be more than was asked for, and is all of the file where it is `size` bytes long.
    """

    index: int
    size: int = 0
    head: bytes = b""
    tail: bytes = b""
    reason: str | None = None


#: See `WritableLocation.sealed`.
RUNNING = "running"

#: Counts so many files more as done.
Add = Callable[[int], None]

#: Whether an image, given whole, has its end; None where nobody knows.
EndsWhole = Callable[[bytes], bool | None]


def unknown_end(data: bytes) -> bool | None:
    """Nobody knows."""
    del data
    return None


class Location:
    """What holds files, for who reads them: a folder, an archive, a store, a web server; see `WritableLocation`.

    Paths below it are relative and use ``/``.

    Every verb takes a batch where there can be many files: that is where speed lives. Each file of a batch has its own
    result; an error that would hit every file is raised, as a `StorageError`. A kind of location that lacks a verb says
    so in a sentence.

    `url` is what the user calls the location, without secrets; `local` its absolute path where it is a folder of this
    machine, else None. `keeps_times` says whether `folder_times` shows that files came or went.
    """

    local: str | None = None
    keeps_times: bool = False
    #: Whether files come over a network, and are brought here by `gather` before anything reads them.
    remote: bool = False
    #: Whether they are on a disk of this machine, so that the first bytes of many files are read at once.
    on_disk: bool = False

    def __init__(self, url: str) -> None:
        self.url = url

    def join(self, path: str) -> str:
        """What the file `path` below this location is called in plans and messages; `name_of` is the way back."""
        return f"{self.url}/{path}" if path else self.url

    @property
    def key_path(self) -> str:
        """The path that keys take the folder's name from, with ``/``."""
        return self.url

    def name_of(self, joined: str) -> str:
        """The path below this location of a file called `joined`."""
        return joined[len(self.url) + 1 :]

    def below(self, folder: str) -> Location:
        """The location that a folder below this one is."""
        raise self._cannot("have folders")

    # What is there

    def exists(self) -> bool:
        """Whether the location itself is there and can hold files."""
        raise self._cannot("be checked")

    def has_files(self) -> bool:
        """Whether there is any file here, or a folder that can hold one."""
        return self.exists()

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """Files whose suffix is one of `suffixes`, in subfolders too.

        A single suffix (``.txt``) is meant as it is written; several (``.jpg``, ``.png``) in any case.

        With `with_stats` also four numbers each that change when the file does. Both are kept in `spill`, if given.
        """
        raise self._cannot("be listed")

    def unusable_names(self) -> list[tuple[str, str]]:
        """Names here that cannot be used, with the reason, where such a thing can be."""
        return []

    def listing_of(self, paths: Sequence[str]) -> Listing:
        """The files `paths` as `listing` would have them, with their stats; those that are not there are left out."""
        raise self._cannot("be listed")

    def names(self, folder: str = "") -> set[str]:
        """Paths, relative to `folder`, of all files below it; empty where it does not exist."""
        raise self._cannot("be listed")

    def flat_names(self, folder: str) -> Sequence[str]:
        """Names of the files right in `folder`, sorted; none where it does not exist."""
        return sorted(name for name in self.names(folder) if "/" not in name)

    def surveyed(self) -> AbstractContextManager[None]:
        """While inside, most files here are asked about: where each costs a request, one listing answers them all."""
        return nullcontext()

    def begin_listing(self) -> None:
        """Where a listing comes a page at a time, ask for the first: what `begun` gives of it need not be asked for.

        It holds for a minute, as long as this run writes nothing here.
        """

    def begun(self) -> dict[str, Fingerprint] | None:
        """Files here that `begin_listing`, of this location or of one that holds it, has shown; None where it has not.

        A file that is not among them may be there.
        """
        return None

    def exist_many(self, paths: Sequence[str], *, sure: bool = False) -> Sequence[bool]:
        """Whether each of `paths` is there (a dangling link is).

        Listings of some stores lack their newest files for a while. Where that would do harm, `sure` asks once more
        for each file that a listing does not have.
        """
        raise self._cannot("be checked")

    def sizes(self, paths: Sequence[str]) -> Sequence[int | None]:
        """Size in bytes of each file, links followed; None for one that is not there."""
        raise self._cannot("be checked")

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """A `Fingerprint` of each file; None for one that is not there, or is no file."""
        raise self._cannot("be checked")

    def folder_times(self, folders: Sequence[str]) -> dict[str, int]:
        """Change times (ns) of the `folders` that exist and their subfolders, where the location has such times."""
        del folders
        return {}

    def links_among(self, paths: Sequence[str], *, beyond: int) -> list[str]:
        """The folders of the files `paths` that are links, where there are links, but for the first `beyond`."""
        del paths, beyond
        return []

    # Reading

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None where it is not there."""
        raise self._cannot("be read")

    def read_spans(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Small parts of one large file, by the hundred thousand, each from one byte up to another, in order."""
        raise self._cannot("be read in parts; a file that holds all labels must be in a folder of this machine")

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """Contents of files in order; four numbers of each as `listing` gives them; and by index why one was not read.

        With `room` only the first of them are read, one or more: as many as about so many bytes hold.
        A file that cannot be read gives empty bytes, zeros and a reason: ``vanished``, ``changed`` (while it was
        read), ``too_large`` (more than `limit` bytes), ``unreadable``, ``stale``, ``damaged``, ``not_a_file``.
        Raises `UnavailableError` where a store or a mount does not answer, which says nothing about a file.
        """
        raise self._cannot("be read")

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """Contents of files that may be large, one by one as they come, in the order that suits the location best.

        Only a few contents are in memory at once, none that `is_too_large`. What arrives was checked as far as the
        location has something to check it by.
        """
        raise self._cannot("be read")

    def fetch_each(self, paths: Sequence[str], work: Callable[[Fetched], T]) -> Iterator[T]:
        """``work(fetched)`` for all that `fetch_many` gives; where several threads ask the location, they do it.

        Each counts as a file of the progress.
        """
        for done in map(work, self.fetch_many(paths)):
            count_file()
            yield done

    def peek_many(self, paths: Sequence[str], head: int, tail: int) -> Iterator[FileEnds]:
        """The first `head` and the last `tail` bytes of files, one by one as they come."""
        for fetched in self.fetch_many(paths):
            data = fetched.unless_away(self.join(paths[fetched.index])).data
            yield FileEnds(fetched.index, len(data), data, data[-tail:], fetched.reason)

    def read_parts(self, path: str, parts: Sequence[tuple[int, int]], width: int) -> Iterator[tuple[int, bytes]]:
        """Parts of one file, from one byte up to another, by index as they come, `width` at a time; or of the whole."""
        data = (self.read(path) or b"") if parts and width else b""
        return ((i, data[begin:stop]) for i, (begin, stop) in enumerate(parts))

    def content_digests(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        """XXH3-128 (16 bytes) of each file, read in pieces; None where it cannot be read. Raises as `read_many`."""
        raise self._cannot("be read")

    # Remote locations

    def at_hand(self, paths: Sequence[str]) -> Sequence[bool]:
        """Whether each of the files can be read without asking for it over a network that has limits; see `gather`."""
        return [True] * len(paths)

    def ask(self, paths: Sequence[str], limits: Limits | None = None) -> FetchCost:
        """What it would take to `gather` the files; with `limits` a server may be asked for the sizes of some."""
        del paths, limits
        return FetchCost(0, 0)

    def gather(self, paths: Sequence[str], limits: Limits, add: Add, ends: EndsWhole = unknown_end) -> dict[str, str]:
        """Bring remote files to the workdir, those that are not there yet; `add` counts them.

        `ends` judges those of unknown length. Returns path: reason for those not had. What arrived is never lost.
        """
        del paths, limits, add, ends
        return {}

    def cached_files(self, paths: Sequence[str]) -> tuple[Location, Iterator[tuple[str, bytes] | None]]:
        """The local folder that `gather` brings files to, and what they are called there, with their XXH3-128.

        None for one that is not there, or not whole.
        """
        raise self._cannot("be linked to")

    def _cannot(self, doing: str) -> CocoDiyError:
        return StorageError(f"{self.url}: cannot {doing}")


@dataclass(frozen=True)
class Copies:
    """Files of another location that `WritableLocation.copy_many` puts at its own, each list with one entry a file.

    Those at `origin` called `names` go to `paths`, `how`: by a copy, hardlink or symlink. `sizes`, in bytes (None:
    unknown), are what the plan saw: a file of another size has changed since and fails.
    """

    paths: Sequence[str]
    origin: Location
    names: Sequence[str]
    sizes: Sequence[int | None]
    how: str = "copy"

    def some(self, which: Sequence[int]) -> Copies:
        """Those with the indexes `which`."""
        paths, names = [self.paths[i] for i in which], [self.names[i] for i in which]
        return replace(self, paths=paths, names=names, sizes=[self.sizes[i] for i in which])


class WritableLocation(Location):
    """A location that can be written to as well: a folder of this machine, a store. Its folders are such, too."""

    def below(self, folder: str) -> WritableLocation:
        """See `Location.below`."""
        raise self._cannot("have folders")

    def own(self, folder: str) -> WritableLocation:
        """A folder of our own below this one, as a location: no link in it is followed, reading or writing."""
        return self.below(folder)

    def write(self, path: str, data: bytes) -> None:
        """Write one file whole, durably or not at all."""
        raise self._cannot("be written to")

    def write_many(
        self,
        paths: Sequence[str],
        contents: Sequence[bytes],
        *,
        scratch: WritableLocation | None = None,
        direct: bool = False,
    ) -> Results:
        """Write files, each whole or not at all.

        Where that takes temporary files, they are made in `scratch`. With `direct` nobody reads these folders yet, and
        files may be made in place.
        """
        raise self._cannot("be written to")

    def copy_many(self, copies: Copies, *, scratch: WritableLocation | None = None, direct: bool = False) -> Results:
        """Put files of another location here, each whole or not; `scratch` and `direct` are as in `write_many`."""
        raise self._cannot("be written to")

    def delete_many(self, paths: Sequence[str], *, scratch: WritableLocation | None = None) -> Results:
        """Delete files; one that is gone already counts as done. With `scratch` they are moved there first."""
        raise self._cannot("be written to")

    def remove_folder(self, folder: str) -> None:
        """Remove `folder` with all that is in it: who has it open can make nothing in it from then on.

        That is so where there are folders; elsewhere files may still appear that were under way. Raises `StorageError`
        where something in it cannot be deleted.
        """
        self.delete_many([f"{folder}/{name}" for name in sorted(self.names(folder))]).must(self, "deleted")

    def sealed(self) -> WritableLocation:
        """This location, but no folder is made here, not even its own: a `StorageError` says that one is gone.

        Where there are no folders, the file `RUNNING` in it says that it is there; who writes with it as `scratch` asks
        for that every few seconds.
        """
        return self

    def outlast_writers(self) -> None:
        """Wait until whoever last asked for a `RUNNING` that was removed has to ask again, and finds it gone."""

    def drop_temporaries(self, folder: str = "", *, shared: bool = False) -> None:
        """Delete files below `folder` that killed runs of ours had under way, where a location has such.

        Where other runs may be at work there, it is `shared`: then old ones are deleted, right in the folder.
        """

    def make_folders(self, folders: Sequence[str]) -> None:
        """Make the `folders` that are missing, where the location has such a thing."""

    def drop_empty_folders(self, folder: str) -> None:
        """Remove `folder` and its subfolders where they are empty."""

    def can_stage(self, folder: str) -> bool:
        """Whether `folder`, which is not there yet, can be filled elsewhere and be renamed in one step."""
        del folder
        return False

    def publish_folders(self, staging: WritableLocation, folders: Sequence[str]) -> None:
        """Move `folders` from below `staging` to here, in this order, each in one step; those not there are left out.

        Raises `StorageError` where one exists.
        """
        raise self._cannot("be written to")

    def take_files(self, staging: WritableLocation, paths: Sequence[str]) -> None:
        """Move the files `paths` from below `staging` to here, each in one step; those not there are left out."""
        raise self._cannot("be written to")

    def traits(self, scratch: str) -> Traits:
        """What names and links the location takes; where that must be tried, files are made in the folder `scratch`."""
        del scratch
        return Traits()

    def sync(self, folders: Sequence[str] = ()) -> None:
        """Return when all that was written here will outlive a power cut, also below `folders` that are elsewhere."""

    # Locks

    def lock(self, path: str, what: str) -> AbstractContextManager[Callable[[], None]]:
        """Hold the lock file `path` while inside; raises `LockError` where another run holds it.

        What it gives is to be called before anything is vouched for: it raises `StorageError` where the lock is lost,
        because `what` was removed meanwhile.
        """
        raise self._cannot("be written to")

    def lock_holder(self, path: str) -> str | None:
        """Who holds the lock file `path`, as it says of itself; None where nobody does."""
        raise self._cannot("be checked")

    def break_lock(self, path: str) -> None:
        """Take the lock file `path` away from whoever holds it; those that die with their holder are left."""


@dataclass(frozen=True)
class Limits:
    """What a server may be asked for at once: connections, bytes and requests a second (None: no limit).

    `timeout` is how many seconds a transfer may stall.
    """

    connections: int = 4
    bytes_per_second: int | None = None
    requests_per_second: float | None = None
    timeout: float = 60.0
