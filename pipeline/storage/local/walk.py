"""Listing: the files of a folder, by the hundred thousand."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from pipeline.base.os_errors import storage_error
from pipeline.base.stale import with_new_handle
from pipeline.runtime.counters import WATCHING
from pipeline.storage.listing import Listing, is_nobodys
from pipeline.storage.spill import Spill

#: Files in a chunk; in the largest chunks half of the stats are another process's.
_STEP = 65_536

_SHARE = 32_768

#: Numbers that are Python's at once: as objects they take five times their memory.
_NUMBERS = 16_384


def list_files(folder: str, paths: Sequence[str]) -> Listing:
    """The files `paths` below `folder`, with their stats."""
    listing = Listing(folder)
    try:
        stats, gone = _stats_of([os.path.join(folder, path) for path in paths], None)
    except OSError as error:
        raise storage_error(error, error.filename, "read") from None
    listing.take([path for i, path in enumerate(paths) if i not in gone], stats, with_stats=True)
    return listing


def list_folder(folder: str, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
    """List the files below `folder` whose suffix, in lower case, is one of `suffixes` (``.txt``).

    With `with_stats` also their size and times; all is kept in `spill`. Raises `StorageError` where the folder cannot
    be listed.
    """
    listing = Listing(folder, spill or Spill())
    single = next(iter(suffixes)) if len(suffixes) == 1 else None
    visited: set[tuple[int, int]] = set()
    links = _Links(listing.links)

    def walk(path: str, prefix: str) -> None:
        below: list[str] = []
        names: list[str] = []
        # By descriptor: each stat then looks up one name instead of a whole path.
        with _directory(path) as fd, os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if not (single and name.endswith(single)) and name[name.rfind(".") :].lower() not in suffixes:
                    if _leads_to(entry.is_dir) and not is_nobodys(f"{prefix}{name}/"):
                        below.append(name)
                        if entry.is_symlink():
                            links.add(os.path.join(path, name, ""), prefix + name)
                    continue
                if not entry.is_file(follow_symlinks=False):
                    if not _leads_to(entry.is_file):
                        if not is_nobodys(prefix + name):
                            listing.unusable.append((prefix + name, _why_unusable(entry)))
                        continue
                    links.add(os.path.join(path, name), prefix + name)
                names.append(name)
                if len(names) >= _STEP:
                    take(names, prefix, fd)
            take(names, prefix, fd)
        for name in sorted(below):
            inner = os.path.join(path, name)
            info = os.stat(inner)
            if (info.st_dev, info.st_ino) not in visited:
                visited.add((info.st_dev, info.st_ino))
                walk(inner, f"{prefix}{name}/")

    def take(names: list[str], prefix: str, fd: int) -> None:
        stats = _stats(names, fd) if with_stats else array("q")
        if prefix:
            names[:] = [prefix + name for name in names]
        listing.take(names, stats, with_stats=with_stats)

    try:
        top = os.stat(folder)
        visited.add((top.st_dev, top.st_ino))
        walk(folder, "")
    except OSError as error:
        raise storage_error(error, error.filename if isinstance(error.filename, str) else folder, "listed") from None
    listing.unusable.sort()
    return listing


class _Links:
    """Notes where links lead, by folder: some collections are nothing but a hundred thousand links."""

    def __init__(self, found: dict[str, tuple[int, str]]) -> None:
        self._found = found
        self._real: dict[str, str] = {}

    def add(self, path: str, name: str) -> None:
        """Note the link `path`, called `name` in its listing; a final / says that it leads to a folder."""
        if path.endswith("/"):
            home = os.path.realpath(path)
        else:
            folder, last = os.path.split(os.path.join(os.path.dirname(path), os.readlink(path)))
            if folder not in self._real:
                self._real[folder] = os.path.realpath(folder)
            home = self._real[folder]
            if os.path.islink(os.path.join(home, last)):
                home = os.path.dirname(os.path.realpath(path))
        count, first = self._found.get(home, (0, name))
        self._found[home] = count + 1, min(first, name)


def _stats(names: list[str], fd: int) -> array[int]:
    """Size, mtime_ns, ctime_ns and inode of files in the directory `fd`; takes out of `names` those that have gone.

    Most of a listing's time is spent here, and threads do not share it, for the interpreter lock. A forked process
    does; what may hang one are locks that other threads hold, so there must be none but the one that shows progress.
    """
    if len(names) < _SHARE or not _alone():
        stats, gone = _stats_of(names, fd)
    else:
        half = len(names) // 2
        with _forked(lambda: _packed(*_stats_of(names[half:], fd))) as answer:
            stats, gone = _stats_of(names[:half], fd)
            data = answer()
        others, others_gone = _unpacked(data) or _stats_of(names[half:], fd)  # which raises what the other met
        stats += others
        gone += [half + i for i in others_gone]
    for i in reversed(gone):
        del names[i]
    return stats


def _stats_of(names: Sequence[str], fd: int | None) -> tuple[array[int], list[int]]:
    """The stats of files in the directory `fd` (None: by path), and the positions of those that are gone."""
    stats, some = array("q"), list[int]()
    gone = []
    for i, name in enumerate(names):
        try:
            s = os.stat(name, dir_fd=fd)
        except FileNotFoundError:
            gone.append(i)
            continue
        some.extend((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
        if len(some) >= _NUMBERS:
            stats.fromlist(some)
            some.clear()
    stats.fromlist(some)
    return stats, gone


def _packed(stats: array[int], gone: list[int]) -> bytes:
    return array("q", [len(stats), len(gone)]).tobytes() + stats.tobytes() + array("q", gone).tobytes()


def _unpacked(data: bytes) -> tuple[array[int], list[int]] | None:
    """What was packed; None where not all of it came."""
    if len(data) < 16 or len(data) != 8 * (2 + sum(array("q", data[:16]))):
        return None
    numbers = array("q", data)
    return numbers[2 : 2 + numbers[0]], numbers[2 + numbers[0] :].tolist()


def _alone() -> bool:
    """Whether nothing else runs in this process, on a machine that has a core for another one."""
    watching = sum(thread.name == WATCHING for thread in threading.enumerate())
    try:
        return len(os.sched_getaffinity(0)) > 1 and len(os.listdir("/proc/self/task")) == 1 + watching
    except (AttributeError, OSError):
        return False


@contextlib.contextmanager
def _forked(work: Callable[[], bytes]) -> Iterator[Callable[[], bytes]]:
    """Do `work` in a forked process; call what this yields for its result, cut short where that failed."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any thread
        child = os.fork()
    if not child:
        code = 1
        try:
            os.close(source)
            with open(sink, "wb") as out:
                out.write(work())
            code = 0
        finally:
            os._exit(code)  # nothing of the parent's is to be run down here
    os.close(sink)
    try:
        with open(source, "rb") as answers:
            yield answers.read
    finally:
        os.waitpid(child, 0)  # one that was not asked ends at the closed pipe


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = with_new_handle(lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        yield fd
    finally:
        os.close(fd)


def _leads_to(kind: Callable[[], bool]) -> bool:
    """Whether an entry, or what a link leads to, is of a `kind`; a link in a circle is of none."""
    try:
        return kind()
    except OSError:
        return False


def _why_unusable(entry: os.DirEntry[str]) -> str:
    """Why an entry with the right name is no file."""
    try:
        entry.stat()
    except OSError as error:
        return "link_loop" if error.errno == errno.ELOOP else "dangling"
    return "not_a_file"


def unless_gone(error: OSError, folder: str = "") -> None:
    """Raise that a folder (in `folder`) cannot be listed, but for one that is not there: its files are not gone."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise storage_error(error, os.path.join(folder, str(error.filename)), "listed") from None


def list_names(folder: str) -> set[str]:
    """Relative paths of all files below `folder`; empty where it does not exist."""
    found: set[str] = set()
    for path, _, names in os.walk(folder, onerror=unless_gone):
        prefix = os.path.relpath(path, folder) + "/" if path != folder else ""
        found.update(prefix + name for name in names)
    return found


def list_linked(folder: str) -> set[str]:
    """As `list_names`, with what links to folders lead to, as `list_folder` follows them.

    Each folder is listed once, so that no circle goes on; under the name that is no link where it has one.
    """
    found: set[str] = set()
    visited: set[tuple[int, int]] = set()
    links = deque([(folder, "")])
    while links:
        below = [links.popleft()]
        while below:
            path, prefix = below.pop()
            try:
                info = os.stat(path)
                if (info.st_dev, info.st_ino) in visited:
                    continue
                visited.add((info.st_dev, info.st_ino))
                with os.scandir(path) as entries:
                    some = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                unless_gone(error)
                continue
            for entry in some:
                if entry.is_dir(follow_symlinks=False):
                    if not is_nobodys(f"{prefix}{entry.name}/"):
                        below.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_symlink() and _leads_to(entry.is_dir):
                    links.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    found.add(prefix + entry.name)
    return found


def folder_times(root: str, folders: Sequence[str]) -> dict[str, int]:
    """Change times (ns) of `folders` below `root` and their subfolders, as far as they exist."""
    found: dict[str, int] = {}

    def visit(path: str, name: str) -> None:
        try:
            info = os.stat(path)
            found[name] = info.st_mtime_ns
            if info.st_nlink == 2:  # its own name and ".": no subfolder; file systems that do not count say 1
                return
            with os.scandir(path) as entries:
                below = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            return
        for inner in below:
            visit(os.path.join(path, inner), f"{name}/{inner}")

    for folder in folders:
        visit(os.path.join(root, folder), folder)
    return found


def folder_time(folder: str) -> int | None:
    """The change time (ns) of `folder` alone; None where it cannot be asked."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def any_name(folder: str) -> str | None:
    """The name of something right in `folder` that is likely to stay, a folder if there is one; None if it is empty.

    A target's files come and go while a build is under way; its own folder, which is the first by name, does not.
    """
    try:
        with os.scandir(folder) as entries:
            some = list(itertools.islice(entries, 1000))
            return min((entry.name for entry in some if entry.is_dir()), default=some[0].name if some else None)
    except OSError:
        return None


def list_flat(folder: str) -> list[str]:
    """Names of the files right in `folder`; none where it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.is_dir(follow_symlinks=False))
    except OSError as error:
        unless_gone(error)
        return []
