"""Writing what comes from another place, each file by the thread that it came to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from pipeline.errors import Interrupted
from pipeline.stop import STOPPED, check_stop
from pipeline.storage._location import Fetched, Location, Results
from pipeline.storage._root import Root
from pipeline.storage._writing import CHANGED, put_whole, scratch_dir, temporary_name
from pipeline.tally import count_file

#: So many folders are held open; a file of a further one opens it for itself.
_OPEN_FOLDERS = 32
#: Descriptors of a folder and of that for temporary files, its path, and what closes both where it is not held open.
_Folder = tuple[int, int, str, contextlib.ExitStack | None]


def copy_from(
    root: Root, paths: Sequence[str], origin: Location, names: Sequence[str], sizes: Sequence[int | None], *,
    scratch: Root | None = None, direct: bool = False,
) -> Results:
    """Write files `names` of `origin` at `paths` below `root` as they come, in whatever order.

    The rest is as in `Location.copy_many`.
    """
    import xxhash

    folders = _Folders(root, scratch)

    def keep(one: Fetched) -> tuple[int, str | None, bytes]:
        reason, size = one.reason, sizes[one.index]
        if reason is None and size is not None and len(one.data) != size:
            reason = CHANGED
        if reason is None:
            below, _, name = paths[one.index].rpartition("/")
            taken = folders.take(below)
            try:
                reason = put_whole(name, name if direct else temporary_name(), one.data, *taken[:3])
            finally:
                folders.give(taken)
        return one.index, reason, b"" if reason else xxhash.xxh3_128_digest(one.data)

    results = Results()
    with folders:
        for i, reason, digest in origin.fetch_each(names, keep):
            check_stop()
            count_file()
            if reason is None:
                results.done += 1
                results.digests[paths[i]] = digest
            else:
                results.failed[paths[i]] = f"{origin.join(names[i])}: {reason}"
    return results


class _Folders:
    """Folders below `root`, opened when they are first needed, with that for temporary files.

    Threads may still be under way when nobody wants their files any more: those that write now are waited for, so that
    no descriptor is closed under them, and later ones are sent away.
    """

    def __init__(self, root: Root, scratch: Root | None) -> None:
        self._root, self._scratch = root, scratch
        self._held: dict[str, _Folder] = {}
        self._stack = contextlib.ExitStack()
        self._free = threading.Condition(threading.Lock())
        self._users, self._closed = 0, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        with self._free:
            self._closed = True
            self._free.wait_for(lambda: not self._users)
        self._stack.close()

    def take(self, below: str) -> _Folder:
        """The folder `below`, held until it is given back."""
        with self._free:
            if self._closed:
                raise Interrupted(STOPPED)
            taken = self._held.get(below)
            if taken is None:
                taken = self._open(below)
                if len(self._held) < _OPEN_FOLDERS:
                    self._stack.push(taken[3])
                    taken = self._held[below] = (*taken[:3], None)
            self._users += 1
        return taken

    def give(self, taken: _Folder) -> None:
        """Give back what was taken."""
        if taken[3] is not None:
            taken[3].close()
        with self._free:
            self._users -= 1
            if self._closed:
                self._free.notify_all()

    def _open(self, below: str) -> tuple[int, int, str, contextlib.ExitStack]:
        with contextlib.ExitStack() as stack:
            fd = stack.enter_context(self._root.open(below, "written"))
            return fd, stack.enter_context(scratch_dir(self._scratch, fd)), self._root.at(below), stack.pop_all()
