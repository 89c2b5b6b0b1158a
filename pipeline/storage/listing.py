"""What a folder holds, as columns."""

from __future__ import annotations

import itertools
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.runtime.counters import count_files
from pipeline.storage.settling import settle_ns
from pipeline.storage.spill import Spill, Spilled

#: Why files cannot be used, in words.
UNREAD = {
    "too_large": "is too large to be one",
    "vanished": "was there when the folder was listed, but is gone; run again",
    "changed": "changed while it was read; run again",
    "not_a_file": "is no file",
    "damaged": "is damaged in its archive (wrong CRC-32 or length); get the archive again",
    "stale": "has a stale handle: the server of its disk lost it; run again",
    "unreadable": "cannot be read; allow it with chmod",
}

#: Why an entry of a folder or an archive is no file that can be used.
UNUSABLE = {
    "dangling": "is a link to a file that is not there",
    "link_loop": "is a link that leads back to itself",
    "not_a_file": "is no file",
    "not_utf8": "has a name that is not UTF-8",
    "odd_key": "has an empty, . or .. step in its name, which stores take differently; rename it",
    "unsafe_name": "has a name that could lead out of its folder, as in no honest archive",
    "link": "is a link in an archive, and such are not followed",
    "twice": "is a duplicate in the archive",
    "suffix": "is a duplicate of a label file that differs in the case of its suffix alone; remove one",
    "encrypted": "is encrypted; pack the archive without a password",
    "method": "is packed by a method other than deflate; pack it with `zip`",
    "bomb": "unpacks to more than its packed bytes can hold: the archive is damaged, or made to do harm",
}


class _Chunk(NamedTuple):
    """So many files of a listing, their names and stats in its spill."""

    files: int
    names: Spilled
    stats: Spilled | None


@dataclass
class Listing:
    """The files of one folder and its subfolders, in chunks of some thousand, which are kept in `spill`.

    A chunk is the relative paths, joined by NUL (UTF-8), and `None` or size, mtime_ns, ctime_ns, inode of each, one
    after another. `unusable` are paths with the reason why, a key of `UNUSABLE`; `left_out` counts
    files by the folder that nobody wants. `links` are the folders that links lead to, absolute, each with their number
    and the relative path of one.
    """

    folder: str
    spill: Spill = field(default_factory=Spill)
    count: int = 0
    settled: bool = True
    started_ns: int = field(default_factory=time.time_ns)
    unusable: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    links: dict[str, tuple[int, str]] = field(default_factory=dict)
    _chunks: list[_Chunk] = field(default_factory=list, init=False)

    @property
    def chunks(self) -> Iterator[tuple[bytes, array[int] | None]]:
        """The chunks in order, each read as it is asked for."""
        return ((self.spill.get(chunk.names), self._stats(chunk)) for chunk in self._chunks)

    @property
    def blobs(self) -> Iterator[bytes]:
        """The names of each chunk."""
        return (self.spill.get(chunk.names) for chunk in self._chunks)

    def names(self) -> Iterator[str]:
        """The relative paths, in order."""
        return (name for blob in self.blobs for name in blob.decode().split("\0"))

    def leave_out(self, folders: Iterable[str], files: Iterable[str]) -> None:
        """Forget `files`, in any case, and what is in subfolders called as one of `folders`; `left_out` counts both."""
        whole = {file.lower().encode(): file for file in files}
        marks = {f"{folder}/".encode(): folder for folder in folders} | whole

        def wanted(name: bytes) -> bool:
            found = whole.get(name.rpartition(b"/")[2].lower()) or next(
                (marks[m] for m in marks.keys() - whole if name.startswith(m) or b"/" + m in name), None
            )
            if found is not None:
                self.left_out[found] = self.left_out.get(found, 0) + 1
            return found is None

        def concerns(blob: bytes) -> bool:
            low = blob.lower()
            return any(mark in low for mark in marks)

        self.retain(wanted, concerns)

    def one_of_each_stem(self, suffix: str) -> None:
        """Of files that differ in the case of `suffix` alone, take that of the very suffix, or the first by name.

        The others are `unusable`.
        """
        end = suffix.encode()
        if all((blob + b"\0").count(end + b"\0") == blob.count(b"\0") + 1 for blob in self.blobs):
            return
        taken: dict[bytes, bytes] = {}
        for name in itertools.chain.from_iterable(blob.split(b"\0") for blob in self.blobs):
            first = taken.setdefault(name[: -len(end)], name)
            if (not name.endswith(end), name) < (not first.endswith(end), first):
                taken[name[: -len(end)]] = name
        dropped = self.retain(lambda name: taken[name[: -len(end)]] == name)
        self.unusable += [(name.decode(), "suffix") for name in dropped]

    def take_last(self, again: Counter[bytes]) -> None:
        """Forget all entries but the last of the paths that come `again`, with how often each comes.

        A folder that is written to while it is listed may show a file that is replaced by its old and its new entry.
        """
        left = again.copy()

        def wanted(name: bytes) -> bool:
            left.subtract([name] if name in left else [])
            return left[name] <= 0

        self.retain(wanted)

    def retain(self, wanted: Callable[[bytes], bool], concerns: Callable[[bytes], bool] = bool) -> list[bytes]:
        """Forget the paths that are not `wanted`, in the chunks that it `concerns`; returns them."""
        dropped: list[bytes] = []
        for i, chunk in enumerate(self._chunks):
            blob = self.spill.get(chunk.names)
            if not concerns(blob):
                continue
            names = blob.split(b"\0")
            keep = [n for n, name in enumerate(names) if wanted(name)]
            kept = set(keep)
            dropped += [name for n, name in enumerate(names) if n not in kept]
            self.count -= len(names) - len(keep)
            stats = self._stats(chunk)
            left = None if stats is None else array("q", [v for n in keep for v in stats[4 * n : 4 * n + 4]])
            self._chunks[i] = self._chunk(len(keep), b"\0".join([names[n] for n in keep]), left)
        self._chunks = [chunk for chunk in self._chunks if chunk.files]
        return dropped

    def forget_links(self) -> None:
        """Take the time of a file's content for that of its state, which each hard link to it changes."""
        self.settled = True
        for i, chunk in enumerate(self._chunks):
            if (stats := self._stats(chunk)) is not None:
                stats[2::4] = stats[1::4]
                self._set_stats(i, stats)

    def take(self, names: list[str], stats: list[int] | array[int], *, with_stats: bool) -> None:
        """Move `names` and their `stats` (four numbers each) into a chunk; both lists are empty afterwards.

        Files that `is_nobodys` are passed over.
        """
        text = "\0".join(names)
        if any(mark in text for mark in _NOBODYS):
            _keep_only([i for i, name in enumerate(names) if not is_nobodys(name)], names, stats, with_stats)
            text = "\0".join(names)
        try:
            blob = text.encode()
        except UnicodeEncodeError:
            _drop_undecodable(names, stats, self, with_stats)
            blob = "\0".join(names).encode()
        if names:
            self._chunks.append(self._chunk(len(names), blob, array("q", stats) if with_stats else None))
            self.count += len(names)
            count_files(len(names))
            self.settled = self.settled and self._settles(stats)
        names.clear()
        del stats[:]

    def add_stats(self, rows: Iterable[array[int]]) -> None:
        """Give a listing of names the stats of all its files, in its order: four numbers each.

        Each of `rows` is of one or more whole chunks.
        """
        following, some, at = iter(rows), array("q"), 0
        self.settled = True
        for i, chunk in enumerate(self._chunks):
            if at == len(some):
                some, at = next(following), 0
            end = at + 4 * chunk.files
            self._set_stats(i, some[at:end])
            at = end

    def _chunk(self, files: int, names: bytes, stats: array[int] | None) -> _Chunk:
        return _Chunk(files, self.spill.put(names), None if stats is None else self.spill.put(stats.tobytes()))

    def _stats(self, chunk: _Chunk) -> array[int] | None:
        return None if chunk.stats is None else array("q", self.spill.get(chunk.stats))

    def _set_stats(self, number: int, stats: array[int]) -> None:
        """Give the chunk of this number `stats`, beside what was found of others since `settled` was set."""
        self._chunks[number] = self._chunks[number]._replace(stats=self.spill.put(stats.tobytes()))
        self.settled = self.settled and self._settles(stats)

    def _settles(self, stats: Sequence[int]) -> bool:
        """Whether files of these stats, four numbers each, had not just changed when the listing began."""
        return max(stats[2::4], default=0) <= self.started_ns - settle_ns()

    def digest(self) -> bytes:
        """XXH3-128 over names and stats in listing order, links and unusable paths: equal for equal listings."""
        import xxhash

        state = xxhash.xxh3_128("\0".join(itertools.chain(*self.unusable)).encode())
        state.update(
            "\0".join(f"{home} {found}" for home, found in sorted(self.links.items())).encode(errors="replace")
        )
        for chunk in self._chunks:
            state.update(self.spill.get(chunk.names))
            state.update(b"\0\0")
            if chunk.stats is not None:
                state.update(self.spill.get(chunk.stats))
        return state.digest()


def _drop_undecodable(names: list[str], stats: list[int] | array[int], listing: Listing, with_stats: bool) -> None:
    good: list[int] = []
    for i, name in enumerate(names):
        try:
            name.encode()
            good.append(i)
        except UnicodeEncodeError:
            listing.unusable.append(
                (name.encode(errors="surrogateescape").decode(errors="backslashreplace"), "not_utf8")
            )
    _keep_only(good, names, stats, with_stats)


#: What `is_nobodys` searches for: how a name begins, and folders.
_NOBODYS = (
    "._", "__MACOSX/", ".AppleDouble/", "@eaDir/",
    "#recycle/", "$RECYCLE.BIN/", ".Trash-", ".Trashes/", "System Volume Information/", "lost+found/",
)  # fmt: skip


def is_nobodys(path: str) -> bool:
    """Whether the file is a system's: made beside another, with its name, by macOS (on sticks, on shares and in
    archives, AppleDouble), netatalk or a Synology server, whose thumbnails are images; or deleted, or a disk's own.
    A path that ends in / is that of a folder.
    """
    double, *folders = _NOBODYS
    return f"/{path}".rpartition("/")[2].startswith(double) or any(f"/{name}" in f"/{path}" for name in folders)


def _keep_only(good: list[int], names: list[str], stats: list[int] | array[int], with_stats: bool) -> None:
    names[:] = [names[i] for i in good]
    if with_stats:
        stats[:] = array("q", [v for i in good for v in stats[4 * i : 4 * i + 4]])
