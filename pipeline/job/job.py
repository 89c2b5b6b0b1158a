"""A config resolved: names read, classes mapped, folders made absolute, all checked that can be checked early."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import formats, storage
from pipeline.config.class_map import ClassMap, ClassSpec
from pipeline.config.class_names import Names
from pipeline.config.load import map_classes
from pipeline.config.model import Config, Source
from pipeline.job.spec import IndexSpec
from pipeline.tables.schema import Task


@dataclass(frozen=True)
class SourceJob:
    """One source. `file_names` are from its names file, `names` those or, once it is indexed, the source's own."""

    source: Source
    spec: IndexSpec
    workdir: str
    file_names: Names | None
    names: Names | None

    @property
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
    def target(self) -> storage.Location:
        """The place of the target."""
        return storage.locate(self.root)

    @property
    def several(self) -> bool:
        """Whether there are several sources: then each has a folder of its own below the target's splits."""
        return len(self.sources) > 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the subset's classes, the place is the id; they are known once `maps` are."""
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
    def origins(self) -> dict[str, str | None]:
        """Where images come from, by what their keys begin with."""
        return {s.spec.prefix(split): split.images for s in self.sources for split in s.spec.splits}

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
        return tuple(split for split in ("train", "val", "test") if split in found)

    @property
    def _target_name(self) -> str:
        """A name for the target, fit for a file."""
        return f"{os.path.basename(self.root) or 'root'}-{_short(self.root)}"

    @property
    def plan_dir(self) -> str:
        """Folder of the plan for this target from these sources.

        Who writes or reads it holds the locks of their indexes: nobody plans anew what a build is carrying out.
        """
        indexes = "\0".join(s.index_dir for s in self.sources)
        return os.path.join(self.workdir, "plans", f"{self._target_name}-{_short(indexes)}")

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
        from pipeline.tables.digest import digest_of

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

        Raises `UnknownNameError` for a class that no source has.
        """
        sources = tuple(replace(s, names=s.file_names or names) for s, names in zip(self.sources, found, strict=True))
        if not all(s.names for s in sources):
            return replace(self, sources=sources)
        specs = list(self.specs) if self.specs is not None else None
        maps = map_classes(self.config, specs, [s.names.names for s in sources if s.names])
        return replace(self, sources=sources, maps=maps)


def _short(text: str) -> str:
    from pipeline.tables.digest import digest_of

    return digest_of(text.encode()).hex()[:8]
