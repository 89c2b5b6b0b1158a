"""Stage 0: get the source. Which archives a config needs, their downloads, and, where asked for, their unpacking.

What is fetched comes in whole and checked, or not at all; an interrupted fetch goes on where it was.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.config.model import Archive, Config, SplitFolders
from pipeline.errors import ConfigError, DataError, StorageError, UnknownNameError, unknown
from pipeline.job.limits import limits
from pipeline.runtime.progress import Progress, Step
from pipeline.stages.fetch.download import Download, Wanted, shown
from pipeline.storage.local.disk_space import bytes_there, refuse_without_room

_BATCH = 512


@dataclass(frozen=True)
class Needed:
    """An archive that a config needs: its name in ``fetch.archives``, what it is, and its path."""

    name: str
    archive: Archive
    path: str


def needed(config: Config, more: Sequence[str] = ()) -> list[Needed]:
    """The archives that `config` reads, or that hold what its folders are to hold; and those named in `more`.

    Raises `ConfigError` where an archive is neither there nor known, `UnknownNameError` for a name in `more`.
    """
    known = config.fetch.archives
    with_images = config.target.images != "none"
    found: dict[str, Needed] = {}

    def add(name: str, path: str | None = None) -> None:
        path = path or os.path.join(storage.local_path(config.fetch.folder), name)
        found.setdefault(name, Needed(name, known[name], path))

    for source, split, value in ((s, split, v) for s in config.sources for split, v in s.splits.items()):
        if isinstance(value, SplitFolders):
            images = value.images if isinstance(value.images, str) and with_images else None
            for url in filter(None, (value.labels, value.annotations, value.captions, images)):
                path = storage.archive_of(url)
                if path is None:
                    continue
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
    for name in more:
        if name not in known:
            raise UnknownNameError(unknown("archive", name, known))
        add(name)
    return list(found.values())


def fetch(
    config: Config,
    progress: Progress,
    more: Sequence[str] = (),
    *,
    extract: bool = False,
    remove_archives: bool = False,
) -> dict[str, Any]:
    """Get what `config` needs; returns the report. `more` are further names of ``fetch.archives``.

    With `extract` archives that say where to are unpacked below ``source.root``, and with `remove_archives` those are
    deleted afterwards.
    """
    root = _root(config) if extract else None
    files = needed(config, more)
    todo = [one for one in files if root is None or not _is_unpacked(one, root)]
    downloads = {one.name: _download(config, one) for one in todo}
    lacking = [one for one in todo if not downloads[one.name].there()]
    _refuse_without_room(lacking)
    told = []
    with _Telling(progress, lacking) as telling:
        for one in files:
            moved = _get(downloads[one.name], telling, one) if one in lacking else 0
            unpacked = root is not None and bool(one.archive.unpack)
            if root is not None and unpacked and one in todo:
                _unpack(one, root, progress)
            if remove_archives and unpacked and os.path.exists(one.path):
                os.unlink(one.path)
            told.append(
                {
                    "name": one.name,
                    "path": one.path,
                    "url": shown(_origin(config, one)),
                    "moved": moved,
                    "status": "unpacked" if unpacked else "fetched" if one in lacking else "there",
                }
            )
    return {
        "command": "fetch",
        "files": told,
        "moved": sum(f["moved"] for f in told),
        "extracted": root,
        "removed": remove_archives,
    }


class _Telling:
    """Progress of each file and, where there are several, of all."""

    def __init__(self, progress: Progress, files: Sequence[Needed]) -> None:
        self._progress, self._files = progress, files
        self._one, self._all, self._counted = Step(), Step(), 0
        self._grown: set[str] = set()

    def __enter__(self) -> _Telling:
        if len(self._files) > 1:
            known = sum(one.archive.size or 0 for one in self._files)
            self._all = self._progress.open(f"all {len(self._files)} files", known, "B")
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
    needed: dict[str, int] = {}
    for one in files:
        folder = os.path.dirname(one.path)
        needed[folder] = needed.get(folder, 0) + max(0, (one.archive.size or 0) - bytes_there(one.path))
    for folder, size in needed.items():
        refuse_without_room(os.path.join(folder, ""), size)


def _origin(config: Config, one: Needed) -> str:
    mirror = config.fetch.mirror
    return f"{mirror.rstrip('/')}/{one.name}" if mirror else one.archive.url


def _download(config: Config, one: Needed) -> Download:
    archive = one.archive
    wanted = Wanted(_origin(config, one), one.path, archive.size, archive.sha256, archive.md5)
    return Download(wanted, limits(config))


def _get(download: Download, telling: _Telling, one: Needed) -> int:
    """Download one archive; returns the bytes moved."""
    try:
        download.run(functools.partial(telling.begin, one))
    finally:
        telling.end()
    return download.moved


# Unpacking


def _root(config: Config) -> str:
    source = config.sources[0]
    spelled_out = any(isinstance(s, SplitFolders) for s in source.splits.values())
    if len(config.sources) > 1 or source.root is None or spelled_out:
        raise ConfigError(
            "--extract: this config reads archives in place and needs nothing unpacked; to read folders, "
            "set source.root and give the splits as folder names, as in train: train2017"
        )
    return storage.local_path(source.root)


def _marker(one: Needed, root: str) -> str:
    return os.path.join(root, f".{one.name}.unpacked")


def _is_unpacked(one: Needed, root: str) -> bool:
    return (
        bool(one.archive.unpack)
        and os.path.exists(_marker(one, root))
        and all(os.path.isdir(os.path.join(root, outer)) for outer in one.archive.unpack.values())
    )


def _unpack(one: Needed, root: str, progress: Progress) -> None:
    """Unpack one archive below `root`: every file whole and checked; what is there already is left."""
    for inner, outer in one.archive.unpack.items():
        place = storage.locate(f"zip://{inner}::{one.path}")
        target = storage.locate(os.path.join(root, outer) if outer else root)
        odd = place.odd_names()
        if odd:
            raise DataError(f"{one.path}: {odd[0][0]!r} {storage.ODD[odd[0][1]]}; nothing of it is unpacked")
        names = sorted(place.names())
        sizes = place.sizes(names)
        todo = [(n, s) for n, s, now in zip(names, sizes, target.sizes(names), strict=True) if s != now]
        refuse_without_room(os.path.join(root, outer, ""), sum(s or 0 for _, s in todo))
        with progress.stage(f"unpack {one.name}", len(todo)) as step:
            for begin in range(0, len(todo), _BATCH):
                some = todo[begin : begin + _BATCH]
                batch = [n for n, _ in some]
                results = target.copy_many(batch, place, batch, [s for _, s in some], "copy")
                if results.failed:
                    raise StorageError(next(iter(results.failed.values())))
                step.add(len(some))
        target.sync()
    storage.locate(root).write(os.path.basename(_marker(one, root)), b"")


def clean(config: Config) -> dict[str, Any]:
    """Delete the images that were fetched one by one and kept; returns the report."""
    files, freed = storage.drop_kept(storage.local_path(config.workdir))
    return {"command": "fetch", "cleaned": {"files": files, "bytes": freed}}
