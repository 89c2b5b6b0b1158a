"""Stage 0: get the source. Which archives a config needs, their downloads, and, where asked for, their unpacking.

What is fetched comes in whole and checked, or not at all; an interrupted fetch goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.base.errors import ConfigError, DataError, StorageError, UnknownNameError, unknown
from pipeline.base.humanize import noun, plural
from pipeline.base.redaction import redact_url
from pipeline.base.unexpanded import unexpanded
from pipeline.config.model import Archive, Config, SplitFolders
from pipeline.job.limits import limits
from pipeline.job.resolve import resolve
from pipeline.reports.report import Report
from pipeline.runtime.progress import Progress, Step
from pipeline.stages.fetch.download import Download, Wanted
from pipeline.storage.local.disk_space import bytes_there, refuse_without_room

_BATCH = 512

#: What helps where archives do not fit on a disk.
_LESS = "set another folder, or fetch no images but those that match, as `coco-diy init coco2017-small` does"

#: Of files that differ, so many are named.
_LISTED = 10

#: Below the folder into which archives are unpacked: files under way.
_SCRATCH = ".unpacking"


@dataclass(frozen=True)
class Needed:
    """An archive that a config needs: its name in ``fetch.archives``, what it is, and its path."""

    name: str
    archive: Archive
    path: str


def needed(config: Config, names: Sequence[str] = (), *, as_folders: bool = False) -> list[Needed]:
    """The archives called `names` or, without any, those that `config` reads or that hold what its folders are to hold.

    With `as_folders` all that it reads are folders to be. Raises `ConfigError` where an archive is neither there nor
    known, `UnknownNameError` for one of `names`.
    """
    known = config.fetch.archives
    with_images = config.target.images != "none"
    found: dict[str, Needed] = {}

    def add(name: str, path: str | None = None) -> None:
        path = path or os.path.join(storage.local_path(config.fetch.folder), name)
        found.setdefault(name, Needed(name, known[name], path))

    for name in names:
        if name not in known:
            raise UnknownNameError(unknown("archive", name, known))
        add(name)
    splits = [] if names else [(s, split, v) for s in config.sources for split, v in s.splits.items()]
    for source, split, value in splits:
        if isinstance(value, SplitFolders) and not as_folders:
            images = value.images if isinstance(value.images, str) and with_images else None
            annotations = value.annotations if isinstance(value.annotations, list) else [value.annotations]
            for url in filter(None, (value.labels, *annotations, value.captions, images)):
                path = storage.archive_of(url, source.root)
                if path is None:
                    continue
                if (why := unexpanded(path)) is not None:
                    raise ConfigError(f"source.splits.{split}: {url}: {why}")
                if os.path.basename(path) in known:
                    add(os.path.basename(path), path)
                elif not os.path.exists(path):
                    raise ConfigError(
                        f"{path}: is not there, and fetch.archives does not say where to get {os.path.basename(path)!r}"
                    )
            continue
        for name, archive in known.items():
            if archive.task == source.task or (archive.split == split and with_images):
                add(name)
    return list(found.values())


def fetch(
    config: Config,
    progress: Progress,
    names: Sequence[str] = (),
    *,
    extract: bool = False,
    into: str | None = None,
    remove_archives: bool = False,
    overwrite: bool = False,
) -> Report:
    """Get what `config` needs, or the archives called `names` alone; returns the report.

    With `extract` archives that say where to are unpacked below ``source.root``, or below the folder `into`, and with
    `remove_archives` those are deleted afterwards. Files there that differ from the archive's stop it before it writes
    any, unless it may `overwrite` them.
    """
    if into is not None and (why := unexpanded(into)) is not None:
        raise ConfigError(f"--into {into}: {why}")
    root = storage.local_path(into) if into is not None else _root(config) if extract else None
    files = needed(config, names, as_folders=into is not None)
    if not files:
        resolve(config)  # raises for a folder that nobody gets by this config, and says how
    todo = [one for one in files if root is None or overwrite or not _is_unpacked(one, root)]
    downloads = {one.name: _download(config, one) for one in todo}
    lacking = [one for one in todo if not downloads[one.name].there()]
    _refuse_without_room(lacking)
    moved: dict[str, int] = {}
    with _pinned({os.path.dirname(one.path) for one in lacking}), _FetchProgress(progress, lacking) as fetching:
        for one in lacking:
            moved[one.name] = _get(downloads[one.name], fetching, one)
    if root is not None:
        unpackings = [_compare(one, root, progress) for one in todo if one.archive.unpack]
        _refuse_different([u for u in unpackings if not overwrite])
        with _pinned({root} if unpackings else set()):
            for unpacking in unpackings:
                _unpack(unpacking, root, progress)
    found: list[dict[str, Any]] = []
    for one in files:
        unpacked = root is not None and bool(one.archive.unpack)
        if remove_archives and unpacked and os.path.exists(one.path):
            os.unlink(one.path)
        found.append(
            {
                "name": one.name,
                "path": one.path,
                "url": redact_url(_origin(config, one)),
                "moved": moved.get(one.name, 0),
                "status": "unpacked" if unpacked else "fetched" if one in lacking else "there",
            }
        )
    data = {
        "command": "fetch",
        "files": found,
        "moved": sum(moved.values()),
        "extracted": root,
        "removed": remove_archives,
    }
    return Report(data, warnings=[text for one in downloads.values() for text in one.warnings])


@contextlib.contextmanager
def _pinned(folders: set[str]) -> Iterator[None]:
    """Make `folders`, and pin them while inside: where a disk goes away, the next archive is not the system disk's."""
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders):
            storage.locate_writable(folder).make_folders([""])
            stack.enter_context(storage.pinned(folder))
        yield


class _FetchProgress:
    """Progress of each file and, where there are several, of all."""

    def __init__(self, progress: Progress, files: Sequence[Needed]) -> None:
        self._progress, self._files = progress, files
        self._one, self._all, self._counted = Step(), Step(), 0
        self._grown: set[str] = set()

    def __enter__(self) -> _FetchProgress:
        if len(self._files) > 1:
            known = sum(one.archive.size or 0 for one in self._files)
            self._all = self._progress.open(f"all {len(self._files)} {noun(len(self._files), 'file')}", known, "B")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._all.close()

    def begin(self, one: Needed, size: int | None, here: int) -> Callable[[int], None]:
        """A file is begun, or begun anew, of which `here` bytes are there; gives what counts on."""
        self._one.close()
        self._all.skip(here - self._counted)
        if one.archive.size is None and one.name not in self._grown:
            self._all.grow(size or 0)
        self._grown.add(one.name)
        self._counted = here
        number = f" ({self._files.index(one) + 1} of {len(self._files)})" if len(self._files) > 1 else ""
        self._one = self._progress.open(f"{one.name}{number}", size or 0, "B", here)
        return self._add

    def _add(self, count: int) -> None:
        self._one.add(count)
        self._all.add(count)
        self._counted += count

    def end(self) -> None:
        """The file is there, or given up."""
        self._one.close()
        self._one, self._counted = Step(), 0


def _refuse_without_room(files: Sequence[Needed]) -> None:
    """Before the first byte: what is known to come must fit on each disk, all of it together."""
    needed: Counter[str] = Counter()
    for one in files:
        folder = os.path.dirname(one.path)
        needed[folder] += max(0, (one.archive.size or 0) - bytes_there(one.path))
    for folder, size in needed.items():
        refuse_without_room(os.path.join(folder, ""), size, _LESS)


def _origin(config: Config, one: Needed) -> str:
    if config.fetch.mirror is None:
        return one.archive.url
    base, mark, query = config.fetch.mirror.partition("?")  # a signature of a container is one of all that is in it
    return f"{base.rstrip('/')}/{one.name}{mark}{query}"


def _download(config: Config, one: Needed) -> Download:
    archive = one.archive
    wanted = Wanted(_origin(config, one), one.path, archive.size, archive.sha256, archive.md5)
    return Download(wanted, limits(config))


def _get(download: Download, fetching: _FetchProgress, one: Needed) -> int:
    """Download one archive; returns the bytes moved."""
    try:
        download.run(functools.partial(fetching.begin, one))
    finally:
        fetching.end()
    return download.moved


# Unpacking


def _root(config: Config) -> str:
    source = config.sources[0]
    spelled_out = any(isinstance(s, SplitFolders) for s in source.splits.values())
    if len(config.sources) > 1 or source.root is None or spelled_out:
        raise ConfigError(
            "--extract: this config reads archives in place and needs nothing unpacked; to read folders, "
            "name one with --into DIR"
        )
    return storage.local_path(source.root)


def _marker(one: Needed, root: str) -> str:
    return os.path.join(root, f".{one.name}.unpacked")


def _is_unpacked(one: Needed, root: str) -> bool:
    """Whether an archive was unpacked below `root` and deleted; with one that is there the files are compared."""
    return (
        bool(one.archive.unpack)
        and not os.path.isfile(one.path)
        and os.path.isfile(_marker(one, root))
        and all(os.path.isdir(os.path.join(root, outer)) for outer in one.archive.unpack.values())
    )


@dataclass(frozen=True)
class _Unpacking:
    """An archive and what is to be unpacked of it: names by folder in the archive and the path below the root."""

    one: Needed
    names: dict[tuple[str, str], list[str]]
    different: list[str]


def _compare(one: Needed, root: str, progress: Progress) -> _Unpacking:
    """Find out what of an archive is lacking below `root`, and what is there but is not the archive's."""
    names: dict[tuple[str, str], list[str]] = {}
    different: list[str] = []
    for inner, outer in one.archive.unpack.items():
        zipped = storage.locate(f"zip://{inner}::{one.path}")
        assert isinstance(zipped, storage.ZipFolder)
        unusable = zipped.unusable_names()
        if unusable:
            raise DataError(
                f"{one.path}: {unusable[0][0]!r} {storage.UNUSABLE[unusable[0][1]]}; nothing of it is unpacked"
            )
        folder, inside = os.path.join(root, outer) if outer else root, sorted(zipped.names())
        if not inside:
            raise DataError(
                f"{one.path}: has no file below {inner!r}; correct `unpack` of {one.name} in fetch.archives, or get "
                "the archive again"
            )
        todo = names[inner, outer] = []
        with progress.stage(f"compare {one.name}", len(inside)) as step:
            for name, found in zip(inside, storage.compare_unpacked(zipped, folder, inside), strict=True):
                if found != storage.SAME:
                    todo.append(name)
                if found == storage.DIFFERENT:
                    different.append(os.path.join(folder, name))
                step.add(1)
    return _Unpacking(one, names, different)


def _refuse_different(unpackings: Sequence[_Unpacking]) -> None:
    """Raise `DataError` where files would be written over that somebody may have corrected, or that are damaged."""
    found = [path for unpacking in unpackings for path in unpacking.different]
    if found:
        archives = ", ".join(u.one.name for u in unpackings if u.different)
        more = f", … ({plural(len(found), 'file')})" if len(found) > _LISTED else ""
        raise DataError(
            f"{', '.join(found[:_LISTED])}{more}: not as in {archives}; nothing is unpacked: move them "
            "away, or replace them by the archive's with --overwrite"
        )


def _unpack(unpacking: _Unpacking, root: str, progress: Progress) -> None:
    """Unpack what is lacking of one archive below `root`: every file whole and checked."""
    top = storage.locate_writable(root)
    with top.lock(f"{_SCRATCH}.lock", f"the folder {root}") as ours:
        scratch = top.below(_SCRATCH)
        scratch.delete_many(scratch.flat_names(""))  # of a run that was killed
        try:
            _refuse_one_name(unpacking, root, top.traits(_SCRATCH))
            for (inner, outer), names in unpacking.names.items():
                zipped = storage.locate(f"zip://{inner}::{unpacking.one.path}")
                refuse_without_room(os.path.join(root, outer, ""), sum(size or 0 for size in zipped.sizes(names)))
                target = top.below(outer) if outer else top
                with progress.stage(f"unpack {unpacking.one.name}", len(names)) as step:
                    _copy(zipped, target, names, scratch, step)
                target.sync()
            ours()
            top.write(os.path.basename(_marker(unpacking.one, root)), b"")
        finally:
            top.drop_empty_folders(_SCRATCH)
            top.delete_many([f"{_SCRATCH}.lock"])


def _refuse_one_name(unpacking: _Unpacking, root: str, traits: storage.Traits) -> None:
    """Raise `DataError` for two files that the file system takes for one: the second would replace the first."""
    if traits.plain:
        return
    known: dict[str, str] = {}
    for path in (os.path.join(outer, name) for (_, outer), names in unpacking.names.items() for name in names):
        if (other := known.setdefault(traits.folded(path), path)) != path:
            raise DataError(
                f"{unpacking.one.path}: its files {other!r} and {path!r} are one name on the file system of {root}; "
                "nothing of it is unpacked: name a folder on another one with --into"
            )


def _copy(
    zipped: storage.Location,
    target: storage.WritableLocation,
    names: list[str],
    scratch: storage.WritableLocation,
    step: Step,
) -> None:
    for begin in range(0, len(names), _BATCH):
        some = names[begin : begin + _BATCH]
        results = target.copy_many(storage.Copies(some, zipped, some, zipped.sizes(some)), scratch=scratch)
        if results.failed:
            raise StorageError(next(iter(results.failed.values())))
        step.add(len(some))


def clean_fetched(config: Config) -> Report:
    """Delete the cached images that were fetched one by one; returns the report."""
    files, freed = storage.drop_cached(storage.local_path(config.workdir))
    return Report({"command": "fetch", "cleaned": {"files": files, "bytes": freed}})
