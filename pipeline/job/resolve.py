"""From a config to a job: names aligned, splits found, folders checked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pipeline import exporters, formats, storage
from pipeline.base.errors import ConfigError, UnknownNameError, UsageError
from pipeline.base.terms import Task
from pipeline.config.load import load_names, load_specs
from pipeline.config.model import Config, Source, SplitFolders
from pipeline.job.checks import check_locations, keep_apart, no_split_is_another
from pipeline.job.job import Job, SourceJob, _check_marker
from pipeline.job.named_splits import listed_images
from pipeline.job.spec import IndexSpec, SplitSpec

if TYPE_CHECKING:
    from pipeline.formats import SingleFileFormat
    from pipeline.job.spec import Found

T = TypeVar("T")


def resolve(config: Config) -> Job:
    """Check `config` as far as it goes without reading the source, and make it a `Job`.

    Raises `UsageError`s: an unknown class, format or name stops here, before anything is read; what is said of a key
    begins with the file and the line that have it. Raises `BrakeError` where the marker of a source is missing.
    """
    storage.begin_listings()
    try:
        return _resolve(config)
    except UsageError as error:
        raise error.saying(_located(config, str(error))) from None


def _located(config: Config, sentence: str) -> str:
    """The sentence, which may begin with a key, after the file and line or the override that has this key."""
    key, colon, rest = sentence.partition(": ")
    if not colon or key.partition(".")[0] not in Config.model_fields:
        return sentence
    position = config.written.position(key)
    if position is not None:
        return f"{position}: {rest if position.startswith(f'--set {key}=') else sentence}"
    return sentence if config.written.options is None else f"{config.written.name_of(key)}: {rest}"


def _resolve(config: Config) -> Job:
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise ConfigError(f"the locale's encoding is {encoding}: names of files would be misread; set PYTHONUTF8=1")
    for source in config.sources:
        _check_marker(source)
    workdir = storage.local_path(config.workdir)
    _known("target.format", lambda: exporters.load(config.target.format))
    _known("target.layout", lambda: exporters.layout(config.target.format, config.target.layout))
    sources = tuple(_source(source, workdir) for source in config.sources)
    if len(tasks := {s.spec.task: s.source.name for s in sources}) > 1:
        listed = " and ".join(f"{name} has {task}" for task, name in tasks.items())
        raise ConfigError(f"source: the sources of one subset have one task, but {listed}; declare the same task")
    specs = load_specs(config)
    job = Job(
        config,
        sources,
        None if specs is None else tuple(specs),
        (),
        storage.locate_writable(config.target.root).url,
        workdir,
    )
    job = job.with_names([None] * len(sources))
    for one in sources:
        for split in one.spec.splits:
            check_locations(one, split, config)
    if job.target.local is None and config.target.images in ("hardlink", "symlink"):
        raise ConfigError(f"target.images: a {config.target.images} cannot be made in {job.root}; set it to copy")
    keep_apart(job)
    return job


def _known(key: str, load: Callable[[], T]) -> T:
    """What `load` gives; the error for a name that it does not know begins with the `key` that has it."""
    try:
        return load()
    except UnknownNameError as error:
        raise UnknownNameError(f"{key}: {error}") from None


def _source(source: Source, workdir: str) -> SourceJob:
    format_ = _known("source.format", lambda: formats.load(source.format))
    if source.task not in format_.TASKS:
        raise ConfigError(f"source.task: format {source.format} holds no task {source.task}")
    if source.names is None and not format_.NAMED:
        raise ConfigError(
            f"source.names: is missing; label files of format {source.format} have numbers for classes, "
            "so name the YAML with their names, as in `names: conf/coco.yaml`"
        )
    names = load_names(source)
    if source.task is Task.POSE and not format_.NAMED and names is not None and names.kpt_shape is None:
        raise ConfigError(
            f"{source.names}: task pose needs the line `kpt_shape: [17, 3]` (number of keypoints, 2 or 3 values each)"
        )
    if source.task is Task.POSE and "keypoints" in _fields(format_) and not source.options.get("keypoints"):
        raise ConfigError(
            f"source.options: task pose of format {source.format} needs the labels of the points, in their order, as "
            "in --set 'source.options.keypoints=[nose, left_eye]'"
        )
    keypoints = names.kpt_shape if names is not None and (source.task is Task.POSE or not format_.NAMED) else None
    spec = IndexSpec(
        source.name, source.format, source.task, keypoints, tuple(_splits(source, format_)), _options(source, format_)
    )
    return SourceJob(source, spec, workdir, names, names)


def _fields(format_: formats.Format) -> Collection[str]:
    """The names of the options of a format."""
    return format_.Options.model_fields if format_.Options is not None else ()


def _options(source: Source, format_: formats.Format) -> str:
    """The options of the format, complete, as JSON."""
    if format_.Options is None:
        if source.options:
            raise ConfigError(f"source.options: format {source.format} has none")
        return "{}"
    import pydantic

    from pipeline.config.values import in_words, shown

    try:
        return json.dumps(format_.Options.model_validate(source.options).model_dump(mode="json"), sort_keys=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        known = ", ".join(format_.Options.model_fields)
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"source.options.{key}: unknown; format {source.format} knows {known}") from None
        raise ConfigError(f"source.options.{key}: {in_words(first)}{shown(first['input'])}") from None


def _splits(source: Source, format_: formats.Format) -> list[SplitSpec]:
    single = formats.load_single_file(source.format) if format_.WHOLE else None
    found = [_split(source, str(split), value, format_, single) for split, value in source.splits.items()]
    if single is None:
        no_split_is_another(found)
    shared = single.HOLDS_SPLITS if single is not None else any(spec.image_lists for spec, *_ in found)
    # The folder's name is part of the key; where splits share it (train/labels, valid/labels), one more level is taken.
    for depth in range(1, 10):
        folders = ["/".join(labels.key_path.split("/")[-depth:]) for _, labels, _ in found]
        if single is not None:
            folders = [os.path.splitext(folder)[0] for folder in folders]
        if shared:
            folders = [f"{folder}/{spec.split}" for folder, (spec, *_) in zip(folders, found, strict=True)]
        if len(set(folders)) == len(folders):
            return [replace(spec, folder=folder) for folder, (spec, *_) in zip(folders, found, strict=True)]
    same = next(a for a in found if sum(b.url == a[1].url for _, b, _ in found) > 1)
    names = " and ".join(spec.split for spec, labels, _ in found if labels.url == same[1].url)
    what = "file of annotations" if single else "folder of labels"
    raise ConfigError(f"source.splits: {names} have the same {what}, {same[1].url}; give each its own")


def _split(
    source: Source, split: str, value: str | SplitFolders, format_: formats.Format, single: SingleFileFormat | None
) -> Found:
    """One split as `value` says it: its paths, or its folder in the format's layout, or a list of its images."""
    if isinstance(value, SplitFolders):
        paths = value.model_dump()
    elif value.endswith(".txt") and single is None and source.root is not None:
        paths = listed_images(storage.local_path(source.root), storage.locate_below(source.root, value).url)
    else:
        paths = format_.layout(value, source.task)
    captions_too = single is not None and single.CAPTIONS
    key, other = ("annotations", "labels") if single else ("labels", "annotations")
    if paths.get(key) is None or paths.get(other) is not None or (paths.get("captions") and not captions_too):
        raise ConfigError(
            f"source.splits.{split}: format {source.format} has `{key}` and `images`"
            f"{' and perhaps `captions`' if captions_too else ''}, as in "
            f"`{split}: {{{key}: …, images: …}}`"
        )
    lists = [given] if isinstance(given := paths.get("image_list") or [], str) else given
    if lists and single is not None:
        raise ConfigError(f"source.splits.{split}: format {source.format} has no image_list: its file names the images")
    files = [given] if isinstance(given := paths[key], str) else given
    if not files or (len(files) > 1 and not (single is not None and single.SEVERAL_FILES)):
        raise ConfigError(
            f"source.splits.{split}: format {source.format} has one file of annotations for a split; name one"
        )
    images = paths.get("images")
    suffix = images["suffix"] if isinstance(images, dict) else None
    labels, images, captions = (
        storage.locate_below(source.root, path) if path is not None else None
        for path in (files[0], images["url"] if isinstance(images, dict) else images, paths.get("captions"))
    )
    if images is not None and isinstance(value, str) and not images.exists():
        images = None  # labels alone are a source too; a build that is to copy images says what is missing
    assert labels is not None
    spec = SplitSpec(
        split,
        "",
        labels.url,
        images.url if images is not None else None,
        captions.url if captions is not None else None,
        suffix,
        tuple(storage.locate_below(source.root, path).url for path in lists),
        tuple(storage.locate_below(source.root, path).url for path in files[1:]),
    )
    return spec, labels, images
