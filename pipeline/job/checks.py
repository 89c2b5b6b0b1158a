"""What must hold of the folders of a job before anything is read or written."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline import formats, storage
from pipeline.base.errors import ConfigError, MissingSourceError
from pipeline.config import templates
from pipeline.config.model import Config
from pipeline.job.spec import SplitSpec
from pipeline.runtime.run import Run, current
from pipeline.storage.address import protocol_of
from pipeline.target.manifest import FOLDER, is_subset

if TYPE_CHECKING:
    from pipeline.job.job import Job, SourceJob
    from pipeline.job.spec import Found


def check_locations(source: SourceJob, split: SplitSpec, config: Config) -> None:
    """Raise `ConfigError` where a folder of a split is not there, or not of the kind that `config` says."""
    images, key = config.target.images, f"source.splits.{split.split}"
    whole = formats.load(source.spec.format).WHOLE
    for url, what, there in (
        (split.labels, "annotations file" if whole else "labels folder", os.path.isfile if whole else _exists),
        *((url, "annotations file", os.path.isfile) for url in split.further),
        (split.captions, "captions file", os.path.isfile),
        (split.images, "images folder", _exists),
        *((url, "list of images", _is_file) for url in split.image_lists),
    ):
        if url is not None and not there(url):
            if os.path.isfile(url):
                raise ConfigError(
                    f"{key}: the {what} {url} is a file; a folder in a zip archive is named as in "
                    f"zip://train2017::{url}, other archives must be unpacked"
                )
            raise MissingSourceError(
                f"{key}: the {what} {url} does not exist; {_cure(source, split, url, config)}", url
            )
    if split.images is None:
        return
    location = storage.locate(split.images)
    if location.local is None and images in (("symlink",) if location.remote else ("hardlink", "symlink")):
        raise ConfigError(f"target.images: {split.images} has no files that a {images} could lead to; set it to copy")
    if split.suffix is not None and config.select.backgrounds not in ("none", "empty"):
        raise ConfigError(
            f"select.background: {config.select.backgrounds} wants images without a label file, and "
            f"{split.images} cannot be listed; set it to none, or name a folder or an archive"
        )


def _cure(source: SourceJob, split: SplitSpec, url: str, config: Config) -> str:
    """How a folder or file of a split comes to be there."""
    if os.path.basename(storage.archive_of(url) or "") in config.fetch.archives:
        return "`coco-diy fetch CONFIG` gets it"
    root = source.source.root
    if root is None or not split.folder.endswith("2017") or protocol_of(root) is not None:
        return correct_paths(config)
    whole = formats.load(source.spec.format).WHOLE
    return f"correct source.root, or get COCO 2017: {templates.fetching_coco(root, source.spec.task, whole=whole)}"


def correct_paths(config: Config) -> str:
    """The cure for a source that is elsewhere, or has nothing."""
    return f"correct {' or '.join(dict.fromkeys(map(config.written.name_of, ('source.root', 'source.splits'))))}"


def _exists(url: str) -> bool:
    return storage.locate(url).exists()


def _is_file(url: str) -> bool:
    location, name = storage.locate_file(url)
    return bool(location.exist_many([name])[0])


def no_split_is_another(found: Sequence[Found]) -> None:
    """A folder that has two names by a link would put its images into two splits, the worst of leaks.

    A folder within that of another split, and what is listed by name, are the narrower split's: see `nested_splits`.
    """
    whole = [one for one in found if not one[0].image_lists]
    for spec, labels, images in whole:
        for other, other_labels, other_images in whole:
            for inner, outer, what in ((labels, other_labels, "labels"), (images, other_images, "images")):
                if spec == other or inner is None or outer is None or inner.url == outer.url:
                    continue
                if storage.is_same_location(inner.url, outer.url):
                    raise ConfigError(
                        f"source.splits: the {what} of {spec.split}, {inner.url}, are those of {other.split}, "
                        f"{outer.url}, by a link, so they would be in both splits; give each split a folder of its own"
                    )


def keep_apart(job: Job) -> None:
    """The source is never written to: neither target nor workdir may be in a folder of it, or contain one."""
    real = functools.cache(storage.real_path)  # of every pair of folders, so of each many times
    _keep_outputs_apart(job, real)
    for source in job.sources:
        _keep_apart_from(job, source, real)
    if job.target.local is not None:
        keep_out_of_subsets(job)
    for what, path in (("workdir", job.workdir), ("split.table", job.split_table)):
        if path is not None and storage.is_in(real(path), real(job.root)):
            raise ConfigError(f"{what}: {path} is in the target {job.root}; choose a folder beside it")


def _keep_outputs_apart(job: Job, real: Callable[[str], str]) -> None:
    """What options name to be written beside the target must be no file of the source, nor of the target."""
    run, report = current(), job.config.engine.performance_report
    if run:
        _move_out(job, run, real)
    outputs = dict(run.outputs) if run else {}
    if report is not None:
        outputs["engine.performance_report"] = storage.local_path(report)
    for option, path in outputs.items():
        for folder in (*_read(job), *_own_folders(job)):
            if storage.is_in(real(path), real(folder)):
                from pipeline.runtime.log_file import withdraw_log_file

                if run:
                    run.outputs.clear()
                if (made := withdraw_log_file()) is not None:
                    parent, name = os.path.split(os.path.realpath(made))
                    storage.locate_writable(parent).delete_many([name])
                raise ConfigError(
                    f"{option}: {path} is in {folder}, which is read, or made, here; name a file elsewhere"
                )


def _move_out(job: Job, run: Run, real: Callable[[str], str]) -> None:
    """Have what is written by default, and would be in a folder of the source or target, written elsewhere."""
    roots = [source.source.root for source in job.sources if source.source.root is not None]
    folders = [real(storage.locate(root).url) for root in roots] + [real(path) for path in (*_read(job), job.root)]
    for option, path in run.elsewhere.items():
        if any(storage.is_in(real(run.outputs[option]), folder) for folder in folders):
            run.outputs[option] = path


def _read(job: Job) -> Iterator[str]:
    """Folders and files that a job reads."""
    run, classes = current(), job.config.classes
    yield from filter(None, (run and run.config, classes if isinstance(classes, str) else None))
    for source in job.sources:
        yield from filter(None, (source.source.names, source.source.marker))
        for split in source.spec.splits:
            for url in filter(None, (*split.label_files, split.images, *split.image_lists)):
                yield storage.archive_of(url) or url


def _keep_apart_from(job: Job, source: SourceJob, real: Callable[[str], str]) -> None:
    root = storage.locate(source.source.root).url if source.source.root is not None else None
    for what, path in (("target.root", job.root), ("workdir", job.workdir)):
        for folder in ("", "labels", "images"):
            if root is not None and (
                storage.is_in(real(path), real(f"{root}/{folder}")) if folder else real(path) == real(root)
            ):
                raise ConfigError(
                    f"{what}: {path} is in the source {root}, which is never written to; choose a folder beside it"
                )
    for split in source.spec.splits:
        for folder in filter(None, (*split.label_files, split.images)):
            table = [("split.table", job.split_table)] if job.split_table else []
            for what, path in (("target.root", job.root), ("workdir", job.workdir), *table):
                if storage.is_in(real(path), real(folder)):
                    raise ConfigError(
                        f"{what}: {path} is in the source folder {folder}, which is never written to; "
                        "choose another folder"
                    )
            for own in _own_folders(job):
                if storage.is_in(real(folder), real(own)) or storage.is_in(real(own), real(folder)):
                    raise ConfigError(
                        f"target.root: {own} holds the source folder {folder}, or leads into it, and a "
                        "source is never written to; choose another folder"
                    )


def keep_out_of_subsets(job: Job) -> None:
    """A subset must not be in another: one would delete the other's files, or call them foreign."""
    above = os.path.dirname(job.root)
    while above != os.path.dirname(above) and not above.endswith((":", ":/")):
        if is_subset(storage.locate(above)):
            raise ConfigError(
                f"target.root: {job.root} is in {above}, which is a subset already; choose a folder beside it"
            )
        above = os.path.dirname(above)


def _own_folders(job: Job) -> list[str]:
    """Folders that a build writes to, as far as they can be links to somewhere else."""
    return [f"{job.root}/{folder}" for folder in (FOLDER, *sorted(job.folders))]
