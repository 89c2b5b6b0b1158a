"""A config resolved: names read, classes mapped, folders made absolute, all checked that can be checked early."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from pipeline import exporters, formats, storage
from pipeline.classes import ClassMap, Names
from pipeline.config import Config, Source, SplitFolders, load_classes, load_names
from pipeline.errors import ConfigError
from pipeline.schema import VERSION, Task
from pipeline.spec import IndexSpec, SplitSpec


@dataclass(frozen=True)
class Job:
    """One subset to make. All paths are absolute; `root` is the target's."""

    config: Config
    names: Names
    classes: ClassMap
    spec: IndexSpec
    root: str
    workdir: str

    @property
    def target(self) -> storage.Location:
        """The place of the target."""
        return storage.locate(self.root)

    @property
    def index_dir(self) -> str:
        """Folder of the index: one a source and task, whatever the classes and the target are."""
        spec = self.spec
        return os.path.join(self.workdir, "index", f"{spec.name}-{spec.task}-{spec.digest()[:8]}")

    @property
    def plan_dir(self) -> str:
        """Folder of the plan for this target."""
        from pipeline.digest import digest_of

        name = os.path.basename(self.root) or "root"
        return os.path.join(self.workdir, "plans", f"{name}-{digest_of(self.root.encode()).hex()[:8]}")

    @property
    def need_image(self) -> bool:
        """Whether images are part of the subset."""
        return self.config.target.images != "none"

    def portable_config(self) -> dict[str, Any]:
        """The config as plain data that means the same in every working directory of this machine."""
        data = self.config.model_dump(mode="json", by_alias=True)
        data["source"] |= {"names": os.path.abspath(self.config.source.names), "splits": {
            s.split: {"labels": s.labels, "images": s.images} for s in self.spec.splits}}
        data["source"].pop("root")
        data["target"]["root"], data["workdir"] = self.root, self.workdir
        if isinstance(data["classes"], str):
            data["classes"] = os.path.abspath(data["classes"])
        return data

    def recipe(self) -> str:
        """Digest of everything in the config that decides about the files of the subset."""
        from pipeline.digest import digest_of

        target = self.config.target
        parts: list[Any] = [
            VERSION, self.spec.digest(), self.names.names, self.names.kpt_shape, self.names.flip_idx,
            sorted(self.names.kpt_names.items()), self.classes.names, self.classes.lut,
            self.config.select.model_dump(), target.format, target.images, target.yaml, target.archive,
            self.root if target.yaml != "portable" else "", self.config.on_error,
        ]
        return digest_of(json.dumps(parts, sort_keys=True).encode()).hex()


def resolve(config: Config) -> Job:
    """Check `config` as far as it goes without reading the source, and make it a `Job`.

    Raises `UsageError`s: an unknown class, format or name stops here, before anything is read.
    """
    source = config.source
    names = load_names(source)
    classes = load_classes(config, names)
    format_ = formats.load(source.format)
    exporters.load(config.target.format)
    if source.task not in format_.TASKS:
        raise ConfigError(f"source.task: format {source.format} holds no task {source.task}")
    keypoints = names.kpt_shape if source.task is Task.POSE else None
    spec = IndexSpec(source.name, source.format, source.task, keypoints, tuple(_splits(source)))
    for split in spec.splits:
        for folder, what in ((split.labels, "labels"), (split.images, "images")):
            if folder is None:
                continue
            place = storage.locate(folder)
            if not place.exists():
                cure = "correct source.root or source.splits" if place.local else "`coco-diy fetch CONFIG` gets it"
                raise ConfigError(f"source: the {what} folder of split {split.split}, {folder}, does not exist; {cure}")
            if what == "images" and place.local is None and config.target.images in ("hardlink", "symlink"):
                raise ConfigError(f"target.images: {folder} has no files that a {config.target.images} could lead to; "
                                  "set it to copy")
    job = Job(config, names, classes, spec, storage.local_path(config.target.root), storage.local_path(config.workdir))
    _keep_apart(job)
    return job


def _splits(source: Source) -> list[SplitSpec]:
    found = []
    for split, value in source.splits.items():
        folders = value if isinstance(value, SplitFolders) else SplitFolders(
            labels=f"labels/{value}", images=f"images/{value}")
        labels = storage.locate_below(source.root, folders.labels)
        images = storage.locate_below(source.root, folders.images) if folders.images is not None else None
        if images is not None and isinstance(value, str) and not images.exists():
            images = None  # labels alone are a source too; a build that is to copy images says what is missing
        found.append((str(split), labels, images))
    # The folder's name is part of the key; where splits share it (train/labels, valid/labels), one more level is taken.
    for depth in range(1, 10):
        folders_ = ["/".join(labels.key_path.split("/")[-depth:]) for _, labels, _ in found]
        if len(set(folders_)) == len(folders_):
            return [SplitSpec(s, f, la.url, im.url if im else None)
                    for f, (s, la, im) in zip(folders_, found, strict=True)]
    raise ConfigError("source.splits: two splits have the same folder of labels")


def _keep_apart(job: Job) -> None:
    """The source is never written to: neither target nor workdir may lie in a folder of it, or hold one as its own."""
    root = storage.locate(job.config.source.root).local if job.config.source.root is not None else None
    for what, place in (("target.root", job.root), ("workdir", job.workdir)):
        for folder in ("", "labels", "images"):
            if root is not None and (_within(place, os.path.join(root, folder)) if folder else _same(place, root)):
                raise ConfigError(f"{what}: {place} lies in the source {root}, which is never written to; choose a "
                                  "place beside it")
    above = os.path.dirname(job.root)
    while above != os.path.dirname(above):
        if os.path.exists(os.path.join(above, ".coco-diy", "manifest.json")):
            raise ConfigError(f"target.root: {job.root} lies in {above}, which is a subset already; choose a place "
                              "beside it")
        above = os.path.dirname(above)
    for split in job.spec.splits:
        for folder in filter(None, (storage.locate(url).local for url in (split.labels, split.images) if url)):
            for what, place in (("target.root", job.root), ("workdir", job.workdir)):
                if _within(place, folder):
                    raise ConfigError(f"{what}: {place} lies in the source folder {folder}, which is never written to; "
                                      "choose another place")
            for own in _own_folders(job):
                if _within(folder, own) or _within(own, folder):
                    raise ConfigError(f"target.root: {own} holds the source folder {folder}, or leads into it, and a "
                                      "source is never written to; choose another place")
    if _within(job.workdir, job.root):
        raise ConfigError(f"workdir: {job.workdir} lies in the target {job.root}; choose a place beside it")


def _own_folders(job: Job) -> list[str]:
    """Folders that a build writes to, as far as they can be links to somewhere else."""
    layout = exporters.load(job.config.target.format).FOLDERS
    below = [f"{folder}/{split.split}" for folder in layout for split in job.spec.splits]
    return [os.path.join(job.root, folder) for folder in (".coco-diy", *layout, *below)]


def _same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _within(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
