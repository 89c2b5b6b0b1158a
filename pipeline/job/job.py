"""A config resolved: names read, classes mapped, folders made absolute, all checked that can be checked early."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import exporters, formats, storage
from pipeline.base.classes import ClassMap, Names
from pipeline.base.errors import BrakeError, ConfigError, UnknownNameError
from pipeline.base.terms import SPLITS, Task
from pipeline.config.class_map import ClassSpec, fitting
from pipeline.config.load import map_classes
from pipeline.config.model import Config, Source
from pipeline.exporters import Exporter, Layout
from pipeline.job.spec import IndexSpec
from pipeline.storage import Location
from pipeline.storage.origins import Origins
from pipeline.target.manifest import Manifest, TargetState
from pipeline.target.memory import Memory

#: Folders of the workdir that may be links: users put them on another disk.
WORK_LINKS = frozenset({"index", "plans", "members", "splits", "fetched"})


@dataclass(frozen=True)
class SourceJob:
    """One source. `file_names` are from its names file, `names` those or, once it is indexed, the source's own.

    `exhaustive` are those of the `names` that it labels everywhere, None: all.
    """

    source: Source
    spec: IndexSpec
    workdir: str
    file_names: Names | None
    names: Names | None
    exhaustive: frozenset[str] | None = None

    @functools.cached_property
    def index_dir(self) -> str:
        """Folder of the index: one a source and task, whatever the classes and the target are."""
        spec = self.spec
        return os.path.join(self.workdir, "index", f"{spec.name}-{spec.task}-{spec.digest()[:8]}")

    @property
    def named(self) -> bool:
        """Whether rows carry the names of their classes."""
        return formats.load(self.spec.format).NAMED


@dataclass(frozen=True)
class Job:
    """One subset to make. All paths are absolute; `root` is the target's.

    `maps` has the class map of each source; it is empty until the names of all sources are known, see `with_names`.
    """

    config: Config
    sources: tuple[SourceJob, ...]
    specs: tuple[ClassSpec, ...] | None
    maps: tuple[ClassMap, ...]
    root: str
    workdir: str

    @property
    def target(self) -> storage.WritableLocation:
        """The location of the target; who has its lock has pinned its folders, and they are not made anew."""
        return storage.locate_writable(self.root, links=self.folders)

    def state(self, *, remembered: bool = False) -> TargetState:
        """What the target's manifest and its intent say now; `remembered`: as this machine knows, if it is sure."""
        return TargetState(self.target, self.prefixes, self.memory if remembered else None)

    @property
    def work(self) -> storage.WritableLocation:
        """The location of the workdir; users put folders of it on another disk, too."""
        return storage.locate_writable(self.workdir, links=WORK_LINKS)

    @property
    def exporter(self) -> Exporter:
        """What lays out the target."""
        return exporters.load(self.config.target.format)

    @property
    def layout(self) -> Layout:
        """Where the files of the target are."""
        return exporters.layout(self.config.target.format, self.config.target.layout)

    @property
    def folders(self) -> frozenset[str]:
        """Folders of the target, relative to it, that users may put on another disk and leave a link for."""
        return frozenset((*self.layout.roots(), *self.layout.steps(self.splits)))

    def folder_times(self) -> dict[str, int]:
        """Change times (ns) of the target's folders: they say whether files came or went since the last run."""
        return self.target.folder_times(self.layout.roots())

    @property
    def several(self) -> bool:
        """Whether there are several sources: then each has a folder of its own below the target's splits."""
        return len(self.sources) > 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the subset's classes, the position is the id; they are known once `maps` are."""
        return self.maps[0].names

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes of all sources."""
        return tuple(dict.fromkeys(name for s in self.sources if s.names for name in s.names.names))

    @property
    def task(self) -> Task:
        """The task of all sources."""
        return self.sources[0].spec.task

    @property
    def origins(self) -> Origins:
        """Where images come from."""
        urls = {s.spec.prefix(split): split.images for s in self.sources for split in s.spec.splits}
        return Origins(urls, self.workdir)

    @property
    def prefixes(self) -> dict[str, str]:
        """What keys begin with, by the split that they are of or, of several sources, by source and split."""
        return {
            f"{s.spec.name}/{split.split}" if self.several else split.split: s.spec.prefix(split)
            for s in self.sources
            for split in s.spec.splits
        }

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the subset, as far as they are declared, in the order train, val, test."""
        if self.config.split is not None:
            return tuple(self.config.split.shares)
        found = {split.split for s in self.sources for split in s.spec.splits}
        return tuple(split for split in SPLITS if split in found)

    @property
    def _target_name(self) -> str:
        return target_name(self.root)

    @property
    def plan_dir(self) -> str:
        """Folder of the plan for this target from these sources.

        Who writes or carries it out holds its lock, see `locks.plan_lock`.
        """
        indexes = "\0".join(s.index_dir for s in self.sources)
        return os.path.join(self.workdir, "plans", f"{self._target_name}-{_short(indexes)}")

    @property
    def memory(self) -> Memory:
        """What this machine remembers of the target, whatever sources it is made from."""
        return Memory(self.work, f"plans/{self._target_name}.target")

    @property
    def split_table(self) -> str | None:
        """Path of the split table; None where the source's splits or the hash decide."""
        options = self.config.split
        if options is None or not (options.stratify or options.table):
            return None
        if options.table is not None:
            return storage.local_path(options.table)
        return os.path.join(self.workdir, "splits", f"{self._target_name}.csv")

    @property
    def need_image(self) -> bool:
        """Whether images are part of the subset."""
        return self.config.target.images != "none"

    def numbers(self) -> str:
        """Digest of which class of which source gets which number."""
        from pipeline.base.digest import digest_of

        facts = [
            [
                [old if source.named else i, new]
                for i, (old, new) in enumerate(zip(m.source, m.lut, strict=True))
                if new >= 0
            ]
            for source, m in zip(self.sources, self.maps, strict=True)
        ]
        return digest_of(json.dumps([self.classes, facts]).encode()).hex()

    def with_names(self, found: Sequence[Names | None]) -> Job:
        """This job with the names that the sources themselves have, as far as no file gives them; classes mapped.

        Those of a source that is not read yet are None. Raises `UnknownNameError` for a class that no source has.
        """
        sources = tuple(_named(s, names) for s, names in zip(self.sources, found, strict=True))
        specs = list(self.specs) if self.specs is not None else None
        unread = any(s.named and names is None for s, names in zip(sources, found, strict=True))
        if not all(s.names for s in sources) or (unread and any(spec.supercategories for spec in specs or ())):
            return replace(self, sources=sources)
        maps = map_classes(self.config, specs, [s.names for s in sources if s.names])
        if self.task is Task.POSE:
            _same_keypoints(sources, maps)
        return replace(self, sources=sources, maps=maps)

    def keep_numbers(self, before: Manifest | None) -> Job:
        """This job with the numbers that classes have at the target, whose manifest is `before`; new ones come after.

        So it is where the sources' own names decide, because neither the config nor a names file gives an order: a
        label that comes or goes is not to change what the others mean. A class that went keeps its number.
        """
        ordered = self.specs is not None and all(spec.name is not None for spec in self.specs)
        ordered = ordered or any(source.file_names is not None for source in self.sources)
        asked = self.config.model_dump(mode="json", by_alias=True)["classes"]
        if before is None or ordered or not self.maps or before.config.get("classes") != asked:
            return self
        before_classes = before.report.get("classes", [])
        if not set(before_classes) & set(self.classes):
            return self
        names = tuple(dict.fromkeys([*before_classes, *self.classes]))
        number = [*map(names.index, self.classes), -1]
        maps = tuple(replace(m, names=names, lut=tuple(number[new] for new in m.lut)) for m in self.maps)
        return replace(self, maps=maps)


def _named(source: SourceJob, found: Names | None) -> SourceJob:
    """A source with the names of its classes: its names file decides, and of supercategories `found` as well."""
    names = source.file_names or found
    if source.file_names is not None and found is not None:
        above = {**found.supercategories, **source.file_names.supercategories}
        names = replace(source.file_names, supercategories=above, ancestors=found.ancestors)
        if names.kpt_shape is None and found.kpt_shape is not None:  # of the options: a list of names has none
            number = {name: i for i, name in enumerate(names.names)}
            points = {number[found.names[k]]: v for k, v in found.kpt_names.items() if found.names[k] in number}
            names = replace(names, kpt_shape=found.kpt_shape, kpt_names=points)
    if names is None or source.source.exhaustive is None:
        return replace(source, names=names)
    try:
        everywhere = [name for text in source.source.exhaustive for name in fitting(text, names.names)]
    except UnknownNameError as error:
        raise UnknownNameError(f"source.exhaustive: {error}") from None
    return replace(source, names=names, exhaustive=frozenset(everywhere))


def _same_keypoints(sources: Sequence[SourceJob], maps: Sequence[ClassMap]) -> None:
    """Refuse sources whose keypoints differ: rows of both would be read by the facts of one."""
    first = sources[0]
    for source in sources[1:]:
        for what in ("kpt_shape", "flip_idx"):
            one, other = (getattr(s.names, what) for s in (first, source))
            if one != other:
                each = (f"{s.source.name} has {list(v) if v else 'none'}" for s, v in ((first, one), (source, other)))
                raise ConfigError(
                    f"source: the sources of one subset have the same {what}, but {' and '.join(each)}; "
                    "correct the names YAML of one, or build two subsets"
                )
    called: dict[int, tuple[str, tuple[str, ...]]] = {}
    for source, classes in zip(sources, maps, strict=True):
        for number, points in (source.names.kpt_names if source.names else {}).items():
            new = classes.lut[number] if number < len(classes.lut) else -1
            name, before = called.setdefault(new, (source.source.name, points))
            if new >= 0 and before != points:
                raise ConfigError(
                    f"source: the keypoints of class {classes.names[new]!r} have other names or another "
                    f"order in {source.source.name} than in {name}; correct kpt_names of one, or build "
                    "two subsets"
                )


def target_name(root: str) -> str:
    """A name for the target at `root`, fit for a file."""
    return f"{os.path.basename(root) or 'root'}-{_short(root)}"


def _short(text: str) -> str:
    from pipeline.base.digest import digest_of

    return digest_of(text.encode()).hex()[:8]


def marker_url(source: Source) -> str | None:
    """The file that says that the disk of `source` is mounted: below its `root`, or a path like all in a config."""
    if source.marker is None:
        return None
    below = storage.locate_below(source.root, source.marker).url
    return next((url for url in (below, storage.locate(source.marker).url) if _is_there(url)), below)


def _is_there(url: str) -> bool:
    folder, _, name = url.rpartition("/")
    return storage.locate(folder or "/").sizes([name])[0] is not None


def _check_marker(source: Source) -> None:
    """Exit code 4 and not 75: a disk that is not mounted waits for a person, and trying again does not mount it."""
    url = marker_url(source)
    if url is not None and not _is_there(url):
        raise BrakeError(
            f"{url}: the marker of source {source.name} is missing: its disk is not mounted; mount it and run again",
            "marker",
        )


def path_below(location: Location, other: Location) -> str | None:
    """The path of the folder `location` below `other`, links followed where the names do not say it; None elsewhere."""
    rest = location.key_path.removeprefix(f"{other.key_path}/")
    if rest != location.key_path and other.join(rest) == location.url:
        return rest
    if location.local is None or other.local is None or not storage.within(location.local, other.local):
        return None
    path = os.path.relpath(os.path.realpath(location.local), os.path.realpath(other.local))
    return path if path != "." else None


def is_below(location: Location, other: Location) -> bool:
    """Whether the folder `location` is in the folder `other`, links followed."""
    if location.local is not None and other.local is not None:
        return storage.within(location.local, other.local)
    rest = location.key_path.removeprefix(f"{other.key_path}/")
    return rest != location.key_path and other.join(rest) == location.url
