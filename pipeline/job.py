"""A config resolved: names read, classes mapped, folders made absolute, all checked that can be checked early."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import exporters, formats, storage
from pipeline.classes import ClassMap, ClassSpec, Names
from pipeline.config import Config, Source, SplitFolders, load_names, load_specs, map_classes
from pipeline.errors import BrakeError, ConfigError, MissingSourceError
from pipeline.manifest import Manifest
from pipeline.schema import Task
from pipeline.spec import IndexSpec, SplitSpec
from pipeline.storage import Location


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
        return storage.locate(self.root, links=self.layout)

    @property
    def work(self) -> storage.Location:
        """The place of the workdir; users put folders of it on another disk, too."""
        return storage.locate(self.workdir, links=frozenset({"index", "plans", "members", "splits", "fetched"}))

    @property
    def layout(self) -> frozenset[str]:
        """Folders of the target, relative to it, that users may put on another disk and leave a link for."""
        folders = exporters.load(self.config.target.format).FOLDERS
        return frozenset((*folders, *(f"{folder}/{split}" for folder in folders for split in self.splits)))

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
        return {f"{s.spec.name}/{split.split}" if self.several else split.split: s.spec.prefix(split)
                for s in self.sources for split in s.spec.splits}

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the subset, as far as they are declared, in the order train, val, test."""
        if self.config.split is not None:
            return tuple(self.config.split.shares)
        found = {split.split for s in self.sources for split in s.spec.splits}
        return tuple(split for split in ("train", "val", "test") if split in found)

    @property
    def _target_name(self) -> str:
        return target_name(self.root)

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
        from pipeline.digest import digest_of

        facts = [[[old if source.named else i, new] for i, (old, new) in enumerate(zip(m.source, m.lut, strict=True))
                  if new >= 0] for source, m in zip(self.sources, self.maps, strict=True)]
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
        if self.task is Task.POSE:
            _same_keypoints(sources, maps)
        return replace(self, sources=sources, maps=maps)


    def keep_numbers(self, before: Manifest | None) -> Job:
        """This job with the numbers that classes have at the target, whose manifest is `before`; new ones come after.

        So it is where the sources' own names decide, because neither the config nor a names file gives an order: a
        label that comes or goes is not to change what the others mean. A class that went keeps its number.
        """
        ordered = self.specs is not None or any(source.file_names is not None for source in self.sources)
        if before is None or ordered or not self.maps or before.config.get("classes") is not None:
            return self
        held = before.report.get("classes", [])
        if not set(held) & set(self.classes):
            return self
        names = tuple(dict.fromkeys([*held, *self.classes]))
        maps = tuple(replace(m, names=names, lut=tuple(names.index(name) for name in m.source)) for m in self.maps)
        return replace(self, maps=maps)


def _same_keypoints(sources: Sequence[SourceJob], maps: Sequence[ClassMap]) -> None:
    """Refuse sources whose keypoints differ: rows of both would be read by the facts of one."""
    first = sources[0]
    for source in sources[1:]:
        for what in ("kpt_shape", "flip_idx"):
            one, other = (getattr(s.names, what) for s in (first, source))
            if one != other:
                told = (f"{s.source.name} has {list(v) if v else 'none'}" for s, v in ((first, one), (source, other)))
                raise ConfigError(f"source: the sources of one subset have the same {what}, but {' and '.join(told)}; "
                                  "correct the names YAML of one, or build two subsets")
    called: dict[int, tuple[str, tuple[str, ...]]] = {}
    for source, classes in zip(sources, maps, strict=True):
        for number, points in (source.names.kpt_names if source.names else {}).items():
            new = classes.lut[number] if number < len(classes.lut) else -1
            name, before = called.setdefault(new, (source.source.name, points))
            if new >= 0 and before != points:
                raise ConfigError(f"source: the keypoints of class {classes.names[new]!r} have other names or another "
                                  f"order in {source.source.name} than in {name}; correct kpt_names of one, or build "
                                  "two subsets")


def target_name(root: str) -> str:
    """A name for the target at `root`, fit for a file."""
    return f"{os.path.basename(root) or 'root'}-{_short(root)}"


def _short(text: str) -> str:
    from pipeline.digest import digest_of

    return digest_of(text.encode()).hex()[:8]


def resolve(config: Config) -> Job:
    """Check `config` as far as it goes without reading the source, and make it a `Job`.

    Raises `UsageError`s: an unknown class, format or name stops here, before anything is read. Raises `BrakeError`
    where the marker of a source is missing.
    """
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise ConfigError(f"the locale's encoding is {encoding}: names of files would be misread; set PYTHONUTF8=1")
    for source in config.sources:
        _check_marker(source)
    workdir = storage.local_path(config.workdir)
    exporters.load(config.target.format)
    sources = tuple(_source(source, workdir) for source in config.sources)
    if len(tasks := {s.spec.task: s.source.name for s in sources}) > 1:
        told = " and ".join(f"{name} has {task}" for task, name in tasks.items())
        raise ConfigError(f"source: the sources of one subset have one task, but {told}; declare the same task")
    specs = load_specs(config)
    job = Job(config, sources, None if specs is None else tuple(specs), (), storage.locate(config.target.root).url,
              workdir)
    job = job.with_names([s.names for s in sources])
    for one in sources:
        for split in one.spec.splits:
            _check_places(one, split, config)
    if job.target.local is None and config.target.images in ("hardlink", "symlink"):
        raise ConfigError(f"target.images: a {config.target.images} cannot stand in {job.root}; set it to copy")
    _keep_apart(job)
    return job


def _source(source: Source, workdir: str) -> SourceJob:
    format_ = formats.load(source.format)
    if source.task not in format_.TASKS:
        raise ConfigError(f"source.task: format {source.format} holds no task {source.task}")
    if source.names is None and not format_.NAMED:
        raise ConfigError(f"source.names: is missing; label files of format {source.format} have numbers for classes, "
                          "so name the YAML that tells what they are, as in `names: conf/coco.yaml`")
    names = load_names(source)
    if source.task is Task.POSE and not format_.NAMED and names is not None and names.kpt_shape is None:
        raise ConfigError(f"{source.names}: task pose needs the line `kpt_shape: [17, 3]` "
                          "(number of keypoints, 2 or 3 values each)")
    keypoints = names.kpt_shape if names is not None and (
        source.task is Task.POSE or not format_.NAMED) else None
    spec = IndexSpec(source.name, source.format, source.task, keypoints, tuple(_splits(source, format_)),
                     _options(source, format_))
    return SourceJob(source, spec, workdir, names, names)


def _options(source: Source, format_: formats.Format) -> str:
    """What the format may be told, complete, as JSON."""
    if format_.Options is None:
        if source.options:
            raise ConfigError(f"source.options: format {source.format} has none")
        return "{}"
    import pydantic

    try:
        return json.dumps(format_.Options.model_validate(source.options).model_dump(mode="json"), sort_keys=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        known = ", ".join(format_.Options.model_fields)
        what = f"unknown; format {source.format} knows {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(f"source.options.{key}: {what[:1].lower()}{what[1:]}") from None


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
        raise BrakeError(f"{url}: the marker of source {source.name} is missing: its disk is not mounted; mount it and "
                         "run again", "marker")


def _check_places(source: SourceJob, split: SplitSpec, config: Config) -> None:
    images = config.target.images
    whole = formats.load(source.spec.format).WHOLE
    for url, what, there in (
        (split.labels, "annotations file" if whole else "labels folder", os.path.isfile if whole else _is_place),
        (split.captions, "captions file", os.path.isfile),
        (split.images, "images folder", _is_place),
    ):
        if url is not None and not there(url):
            known = os.path.basename(storage.archive_of(url) or "") in config.fetch.archives
            cure = "`coco-diy fetch CONFIG` gets it" if known else "correct source.root or source.splits"
            if os.path.isfile(url):
                raise ConfigError(f"source: the {what} of split {split.split}, {url}, is a file; a folder in a zip "
                                  f"archive is named as in zip://train2017::{url}, other archives must be unpacked")
            raise MissingSourceError(f"source: the {what} of split {split.split}, {url}, does not exist; {cure}", url)
    if split.images is None:
        return
    place = storage.locate(split.images)
    if place.local is None and images in (("symlink",) if place.far else ("hardlink", "symlink")):
        raise ConfigError(f"target.images: {split.images} has no files that a {images} could lead to; set it to copy")
    if place.far and config.target.zipped:
        raise ConfigError(f"target.archive: a zip takes no images out of {split.images}; build a folder of them first")
    if split.suffix is not None and config.select.backgrounds != "none":
        raise ConfigError(f"select.backgrounds: {config.select.backgrounds} wants images without a label file, and "
                          f"{split.images} cannot be listed; set it to none, or name a folder or an archive")


def _is_place(url: str) -> bool:
    return storage.locate(url).exists()


#: A split with its labels, images, captions, and the suffix of images that nobody lists.
_Found = tuple[str, Location, Location | None, Location | None, str | None]


def _splits(source: Source, format_: formats.Format) -> list[SplitSpec]:
    found: list[_Found] = []
    for split, value in source.splits.items():
        given = isinstance(value, SplitFolders)
        places = value.model_dump() if isinstance(value, SplitFolders) else format_.layout(value, source.task)
        key, other = ("annotations", "labels") if format_.WHOLE else ("labels", "annotations")
        if places.get(key) is None or places.get(other) is not None or (places.get("captions") and not format_.WHOLE):
            raise ConfigError(f"source.splits.{split}: format {source.format} has `{key}` and `images`"
                              f"{' and perhaps `captions`' if format_.WHOLE else ''}, as in "
                              f"`{split}: {{{key}: …, images: …}}`")
        images = places.get("images")
        suffix = images["suffix"] if isinstance(images, dict) else None
        labels, images, captions = (
            storage.locate_below(source.root, place) if place is not None else None
            for place in (places[key], images["url"] if isinstance(images, dict) else images, places.get("captions")))
        if images is not None and not given and not images.exists():
            images = None  # labels alone are a source too; a build that is to copy images says what is missing
        assert labels is not None
        found.append((str(split), labels, images, captions, suffix))
    if not format_.WHOLE:
        _no_split_within_another(found)
    # The folder's name is part of the key; where splits share it (train/labels, valid/labels), one more level is taken.
    for depth in range(1, 10):
        folders = ["/".join(labels.key_path.split("/")[-depth:]) for _, labels, *_ in found]
        if format_.WHOLE:
            folders = [os.path.splitext(folder)[0] for folder in folders]
        if len(set(folders)) == len(folders):
            return [SplitSpec(s, f, la.url, im.url if im else None, ca.url if ca else None, suffix)
                    for f, (s, la, im, ca, suffix) in zip(folders, found, strict=True)]
    raise ConfigError(f"source.splits: two splits have the same {'file of annotations' if format_.WHOLE else ''}"
                      f"{'' if format_.WHOLE else 'folder of labels'}")


def _no_split_within_another(found: Sequence[_Found]) -> None:
    """Subfolders belong to a split: one inside another would put its images into both, the worst of leaks."""
    for split, labels, images, *_ in found:
        for other, other_labels, other_images, *__ in found:
            for inner, outer, what in ((labels, other_labels, "labels"), (images, other_images, "images")):
                if split != other and inner and outer and inner.url != outer.url and is_below(inner, outer):
                    raise ConfigError(f"source.splits: the {what} of {split}, {inner.url}, lie in those of {other}, "
                                      f"{outer.url}, so they would be in both; give each split a folder of its own")


def is_below(place: Location, other: Location) -> bool:
    """Whether the folder `place` lies in the folder `other`, links followed."""
    if place.local is not None and other.local is not None:
        return storage.within(place.local, other.local)
    rest = place.key_path.removeprefix(f"{other.key_path}/")
    return rest != place.key_path and other.join(rest) == place.url


def _keep_apart(job: Job) -> None:
    """The source is never written to: neither target nor workdir may lie in a folder of it, or hold one as its own."""
    for source in job.sources:
        _keep_apart_from(job, source)
    if job.target.local is not None:
        keep_out_of_subsets(job)
    for what, place in (("workdir", job.workdir), ("split.table", job.split_table)):
        if place is not None and storage.within(place, job.root):
            raise ConfigError(f"{what}: {place} lies in the target {job.root}; choose a place beside it")


def _keep_apart_from(job: Job, source: SourceJob) -> None:
    root = storage.locate(source.source.root).url if source.source.root is not None else None
    for what, place in (("target.root", job.root), ("workdir", job.workdir)):
        for folder in ("", "labels", "images"):
            if root is not None and (storage.within(place, f"{root}/{folder}") if folder
                                     else storage.same_place(place, root)):
                raise ConfigError(f"{what}: {place} lies in the source {root}, which is never written to; choose a "
                                  "place beside it")
    for split in source.spec.splits:
        places = (split.labels, split.images, split.captions)
        for folder in (url for url in places if url):
            table = [("split.table", job.split_table)] if job.split_table else []
            for what, place in (("target.root", job.root), ("workdir", job.workdir), *table):
                if storage.within(place, folder):
                    raise ConfigError(f"{what}: {place} lies in the source folder {folder}, which is never written to; "
                                      "choose another place")
            for own in _own_folders(job):
                if storage.within(folder, own) or storage.within(own, folder):
                    raise ConfigError(f"target.root: {own} holds the source folder {folder}, or leads into it, and a "
                                      "source is never written to; choose another place")


def keep_out_of_subsets(job: Job) -> None:
    """A subset must not lie in another: one would delete the other's files, or call them foreign."""
    above = os.path.dirname(job.root)
    while above != os.path.dirname(above) and not above.endswith((":", ":/")):
        if storage.locate(above).exist_many([".coco-diy/manifest.json"])[0]:
            raise ConfigError(f"target.root: {job.root} lies in {above}, which is a subset already; choose a place "
                              "beside it")
        above = os.path.dirname(above)


def _own_folders(job: Job) -> list[str]:
    """Folders that a build writes to, as far as they can be links to somewhere else."""
    return [f"{job.root}/{folder}" for folder in (".coco-diy", *sorted(job.layout))]
