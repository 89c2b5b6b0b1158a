"""What a folder holds, as columns."""

from __future__ import annotations

import itertools
import time
from array import array
from dataclasses import dataclass, field

from pipeline.runtime.counters import count_files
from pipeline.storage.os_errors import SETTLE_NS

#: Why files cannot be used, in words.
ODD = {
    "dangling": "is a link to a file that is not there",
    "link_loop": "is a link that leads back to itself",
    "not_a_file": "is no file",
    "not_utf8": "has a name that is not UTF-8",
    "odd_key": "has an empty, . or .. step in its name, which stores take differently; rename it",
    "unsafe_name": "has a name that could lead out of its folder, as in no honest archive",
    "link": "is a link in an archive, and such are not followed",
    "twice": "stands in the archive twice",
    "encrypted": "is encrypted; pack the archive without a password",
    "method": "is packed by a method other than deflate; pack it with `zip`",
    "bomb": "unpacks to more than its packed bytes can hold: the archive is damaged, or made to do harm",
}


@dataclass
class Listing:
    """The files of one folder and its subfolders, in chunks of some thousand.

    A chunk is the relative paths, joined by NUL (UTF-8), and `None` or size, mtime_ns, ctime_ns, inode of each, one
    after another. `odd` are relative paths that cannot be used, with the reason, a key of `ODD`.
    """

    folder: str
    chunks: list[tuple[bytes, array[int] | None]] = field(default_factory=list)
    count: int = 0
    settled: bool = True
    started_ns: int = field(default_factory=time.time_ns)
    odd: list[tuple[str, str]] = field(default_factory=list)

    def take(self, names: list[str], stats: list[int] | array[int], *, with_stats: bool) -> None:
        """Move `names` and their `stats` (four numbers each) into a chunk; both lists are empty afterwards."""
        try:
            blob = "\0".join(names).encode()
        except UnicodeEncodeError:
            _drop_undecodable(names, stats, self, with_stats)
            blob = "\0".join(names).encode()
        if names:
            self.chunks.append((blob, array("q", stats) if with_stats else None))
            self.count += len(names)
            count_files(len(names))
            self.settled = self.settled and max(stats[2::4], default=0) <= self.started_ns - SETTLE_NS
        names.clear()
        del stats[:]

    def add_stats(self, stats: array[int]) -> None:
        """Give a listing of names the stats of all its files, in its order."""
        position = 0
        for i, (names, _) in enumerate(self.chunks):
            count = names.count(b"\0") + 1
            self.chunks[i] = (names, stats[4 * position : 4 * (position + count)])
            position += count
        self.settled = max(stats[2::4], default=0) <= self.started_ns - SETTLE_NS

    def digest(self) -> bytes:
        """XXH3-128 over names and stats in listing order, and what is odd: equal digests are equal listings."""
        import xxhash

        state = xxhash.xxh3_128("\0".join(itertools.chain(*self.odd)).encode())
        for names, stats in self.chunks:
            state.update(names)
            state.update(b"\0\0")
            if stats is not None:
                state.update(stats)
        return state.digest()


def _drop_undecodable(names: list[str], stats: list[int] | array[int], listing: Listing, with_stats: bool) -> None:
    good: list[int] = []
    for i, name in enumerate(names):
        try:
            name.encode()
            good.append(i)
        except UnicodeEncodeError:
            listing.odd.append((name.encode(errors="surrogateescape").decode(errors="backslashreplace"), "not_utf8"))
    names[:] = [names[i] for i in good]
    if with_stats:
        stats[:] = array("q", [v for i in good for v in stats[4 * i : 4 * i + 4]])
