"""Configs that nobody wrote: of the folder of a dataset, with what its layout says instead of a file."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from typing import Any, cast

from pipeline import exporters, formats, storage
from pipeline.base.classes import Names
from pipeline.base.errors import ConfigError
from pipeline.base.terms import SPLITS, Task
from pipeline.config.class_names import read_names
from pipeline.config.load import read_text
from pipeline.job.annotation_files import pieces_of
from pipeline.job.copies import on_this_disk
from pipeline.job.folder_names import FolderNames
from pipeline.job.layouts import find_names, find_splits, has_labels, only_folder
from pipeline.job.spec import first_file
from pipeline.job.split_folders import NoLayoutError
from pipeline.target.manifest import FOLDER, INTENT_PATH, MANIFESTS, TargetState, home

#: What `convert` takes for keys of a config, each with an example; `remake` takes other ones for some of them.
CONVERT_OPTIONS = {
    "source": "SRC",
    "source.format": "--from FORMAT",
    "source.task": "--task segment",
    "source.names": "--labels FILE",
    "split": "--split 0.8",
    "split.seed": "--seed 1",
    "target": "DST",
    "target.format": "--to FORMAT",
    "workdir": "--workdir DIR",
}
REMAKE_OPTIONS = {
    "source": "SRC",
    "source.task": "--task segment",
    "source.names": "--src-yaml YAML",
    "classes": "--dst-yaml YAML",
    "target": "DST",
    "workdir": "--workdir DIR",
}

#: What commands have instead that show a folder as it is.
FOLDER_OPTIONS = {"source": "FOLDER", "split": "`coco-diy convert … --split 0.8`", "workdir": "--workdir DIR"}


def conversion(
    source: str,
    target: str,
    *,
    from_format: str,
    to_format: str,
    task: str | None = None,
    names: str | None = None,
    shares: str | None = None,
    seed: int = 0,
    workdir: str,
    names_option: str = "--labels",
) -> dict[str, Any]:
    """The config, as plain data, that makes `target` of the folder (or COCO's JSON file) `source`.

    All its images are taken, also those without an object. Who trains on label rows takes an image without a label file
    for one of these; to other tools it is an image that nobody labelled, which is left out.

    `shares` is ``0.8`` (train, the rest val) or ``0.7,0.2,0.1`` (train, val, test); None keeps the splits that the
    source has. Where neither `task` nor `names` is given, the file of names that a tool left in the folder says both:
    it has ``kpt_shape`` for pose. Raises `UsageError` where the source has no layout that its format knows.
    """
    if not _is_there(source):
        swapped = "; SRC comes first, then DST" if _is_there(target) else "; correct the path of the dataset"
        raise ConfigError(f"{source}: does not exist{swapped}")
    storage.refuse_packed(source)
    source = _zip_of(source) or source
    several = _found(source, from_format, task, names, workdir)
    found = several[0]
    if found["names"] is None and not formats.load(from_format).NAMED:
        raise ConfigError(
            f"{source}: has no data.yaml or classes.txt with names of classes; name such a file with {names_option}"
        )
    format_ = formats.load(from_format)
    captions = format_.WHOLE and formats.load_single_file(from_format).CAPTIONS
    if captions and from_format == to_format:  # label rows hold no captions
        task = Task(found["task"])
        splits = found["splits"].items()
        found["splits"] = {split: _with_captions(source, value, format_, task) for split, value in splits}
    return {
        "source": several if len(several) > 1 else found,
        "select": {"background": "empty" if format_.NAMED else "unlabelled"},
        "split": None if shares is None else {**_shares(shares), "seed": seed},
        "target": {"root": target, "format": to_format},
        "workdir": workdir,
    }


def sources() -> list[str]:
    """Names of the formats that `conversion` reads."""
    return formats.available()


def targets() -> list[str]:
    """Names of the formats that `conversion` writes."""
    return exporters.available()


def is_target(what: str) -> bool:
    """Whether `what` is a subset, see `manifest.home`: it has a manifest, or a build has begun there."""
    root = home(what)
    if os.path.isfile(os.path.expanduser(root)):
        return False
    return root != what or any(storage.locate(root).exist_many([FOLDER, *MANIFESTS, INTENT_PATH]))


def dataset(folder: str, workdir: str) -> dict[str, Any]:
    """The config, as plain data, that reads the folder of a dataset, whichever format fits; with all classes.

    Bad rows are counted and left out. Its target is never made: it is for commands that only read a source. Formats of
    one file a split are tried first, and last those whose label files are beside images. Raises `ConfigError` where
    none fits."""
    if not _is_there(folder):
        raise ConfigError(f"{folder}: no such config, target or folder; correct its path")
    storage.refuse_packed(folder)
    several = _fitting(_zip_of(folder) or folder, workdir)
    if several is None:
        raise ConfigError(
            f"{folder}: is no dataset folder that is known: no layout of {', '.join(formats.available())} fits it"
        )
    source = several[0]
    if source["names"] is None and not formats.load(source["format"]).NAMED:
        raise ConfigError(
            f"{folder}: has label files of format {source['format']}, but no data.yaml or classes.txt that "
            "names classes; add it"
        )
    target = {"root": os.path.join(workdir, "nowhere")}
    return {"source": several if len(several) > 1 else source, "target": target, "workdir": workdir, "on_error": "skip"}


def unasked(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with which no image of a source at a store is asked for its size, where its one label file says it."""
    source = config["source"]
    several = source if isinstance(source, list) else [source]
    if not formats.load(several[0]["format"]).WHOLE or storage.locate(several[0]["root"]).on_disk:
        return config
    options = dict(formats.load_single_file(several[0]["format"]).UNASKED)
    return {**config, "source": [{**one, "options": options} for one in several]}


def fitting_format(source: str, workdir: str) -> str:
    """The name of the format that fits the folder or file `source`. Raises `ConfigError` where none does."""
    if not _is_there(source):
        raise ConfigError(f"{source}: does not exist; correct its path")
    storage.refuse_packed(source)
    several = _fitting(_zip_of(source) or source, workdir)
    if several is not None:
        return str(several[0]["format"])
    known = formats.available()
    if os.path.isfile(os.path.expanduser(source)) and _zip_of(source) is None:
        whole = ", ".join(name for name in known if formats.load(name).WHOLE)
        raise ConfigError(
            f"{source}: is no file of all labels ({whole}); name the folder of the dataset, or the format with --from"
        )
    raise ConfigError(
        f"{source}: no layout of {', '.join(known)} fits it; correct the path, or name the format with --from"
    )


def _fitting(folder: str, workdir: str, listed: FolderNames | None = None) -> list[dict[str, Any]] | None:
    """The sources of a config that reads `folder` by the format that fits it; None where none does."""
    listed = listed or FolderNames()
    names = sorted(formats.available(), key=_likelihood)
    apart = [name for name in names if not _is_beside(name)]
    tries = [(name, False) for name in apart]
    tries += [(name, True) for name in apart if formats.load(name).WHOLE]  # one file of any name
    tries += [(name, False) for name in names if _is_beside(name)]
    doubtful = None
    for name, any_name in tries:
        with contextlib.suppress(NoLayoutError):
            several = _source(folder, name, None, None, workdir, listed, any_name=any_name)
            whole = formats.load(name).WHOLE
            if _is_recognised(several[0]) if whole else _is_read(several[0], listed):
                return several
            doubtful = doubtful or (several if not whole and not _is_beside(name) else None)
    return doubtful


def _is_recognised(source: Mapping[str, Any]) -> bool:
    """Whether the files of a source, of a format with one file a split, begin as those of the format do."""
    format_, task = formats.load_single_file(source["format"]), Task(source["task"])
    for value in source["splits"].values():
        paths = value if isinstance(value, dict) else format_.layout(value, task)
        path = first_file(paths["annotations"]) or ""
        if not format_.recognises(next(pieces_of(source["root"], path), b"")):
            return False
    return True


def _is_read(source: Mapping[str, Any], listed: FolderNames) -> bool:
    """Whether the format of a source takes one of its first label files as its own: they could be anybody's."""
    format_ = formats.load_label_files(source["format"])
    numbered = source["names"] is not None and not format_.NAMED
    keypoints = read_names(read_text(source["names"], "class names"), source["names"]).kpt_shape if numbered else None
    own = {"not_json", "not_xml", "not_a_number", "tokens", f"not_{source['format']}"}
    for value in source["splits"].values():
        labels = value["labels"] if isinstance(value, dict) else format_.layout(value, Task(source["task"]))["labels"]
        location = storage.locate_below(source["root"], labels)
        some = itertools.islice(listed.below(location.url), 1000)
        names = [name for name in some if name.lower().endswith(format_.SUFFIX)]
        contents, _, failed = location.read_many(names[:3], 64 << 20)
        parsed = format_.parse(contents, Task(source["task"]), keypoints, {})
        read = {p.file for p in parsed.problems if p.reason not in own}
        if (read | parsed.readable) - set(failed):
            return True
    return False


def _found(source: str, name: str, task: str | None, names: str | None, workdir: str) -> list[dict[str, Any]]:
    """`_source`; where the labels are of another format than that called `name`, its error says of which."""
    listed = FolderNames()
    try:
        return _source(source, name, task, names, workdir, listed)
    except NoLayoutError:
        other = _fitting(source, workdir, listed)
        if other is None:
            raise
        raise ConfigError(
            f"{source}: has no labels of format {name}, but of format {other[0]['format']}; "
            f"write --from {other[0]['format']}"
        ) from None


def _likelihood(name: str) -> tuple[bool, bool, bool, str]:
    """The order in which formats are tried: what a folder can be called by accident comes last.

    Of formats with a label file for each image those are first whose folder has a file of names as well.
    """
    format_ = formats.load(name)
    return not format_.WHOLE, _is_beside(name), format_.NAMED, name


def _is_beside(name: str) -> bool:
    """Whether label files of a format are beside their images."""
    format_ = formats.load(name)
    return not format_.WHOLE and format_.layout("x", Task.DETECT)["labels"] == "x"


def _is_there(source: str) -> bool:
    """Whether `source` is a folder or a file."""
    return storage.locate(source).exists() or os.path.isfile(os.path.expanduser(source)) or _zip_of(source) is not None


def _zip_of(source: str) -> str | None:
    """The location of what is in the zip file `source`, of this machine or at a store; None for anything else."""
    if not source.lower().endswith(".zip") or source.startswith("zip://"):
        return None
    within = storage.locate(f"zip://::{source}")
    return within.url if within.exists() else None


def _source(
    source: str,
    name: str,
    task: str | None,
    names: str | None,
    workdir: str,
    listed: FolderNames,
    *,
    any_name: bool = True,
) -> list[dict[str, Any]]:
    """The sources of a config, several where a split has several folders.

    They are of the folder `source`, whose label files are of the format called `name`.

    What is unpacked is often in a folder of its own: where no layout fits and there is one folder, that is taken.
    `any_name` is as in `find_splits`.
    """
    try:
        return _source_at(source, name, task, names, workdir, listed, any_name=any_name)
    except NoLayoutError:
        inner = only_folder(source, listed)
        if inner is not None:
            with contextlib.suppress(NoLayoutError):
                names = names or _names_file(source, workdir)
                return _source_at(inner, name, task, names, workdir, listed, any_name=any_name)
        raise


def _source_at(
    source: str, name: str, task: str | None, names: str | None, workdir: str, listed: FolderNames, *, any_name: bool
) -> list[dict[str, Any]]:
    """`_source` of the very folder `source`."""
    format_ = formats.load(name)
    if not format_.WHOLE and os.path.isfile(os.path.expanduser(source)):
        raise NoLayoutError(f"{source}: is a file, and format {name} has folders; name the folder, unpack an archive")
    if not format_.NAMED:
        names = names or _names_file(source, workdir)
        task = task or _made_for(source)
        known = read_names(read_text(names, "class names"), names) if names is not None and task is None else None
        task = task or _task_of(known)
    splits = find_splits(source, name, format_, Task(task or "detect"), names=names, any_name=any_name, listed=listed)
    task = task or _task_of_splits(source, splits, format_)
    if not has_labels(source, splits, format_, Task(task), listed):
        raise NoLayoutError(f"{source}: has no label file ({format_.SUFFIX}) of format {name}; correct the path")
    made = {"format": name, "task": task, "names": names, "root": source}
    count = max(map(len, splits.values()))
    parts = [
        {split: paths[i] for split, paths in splits.items() if paths[i : i + 1] not in ([], [{}])} for i in range(count)
    ]
    parts = [_with_copies(source, part, format_, Task(task), workdir) for part in parts]
    if count == 1:
        return [{**made, "splits": parts[0]}]
    return [{"name": f"part{i}", **made, "splits": part} for i, part in enumerate(parts, 1)]


def _names_file(source: str, workdir: str) -> str | None:
    """The file with class names that a tool left in the folder `source`; None without one."""
    name, location = find_names(source), storage.locate(source)
    if name is None or location.local is not None:
        return None if name is None else os.path.join(os.path.expanduser(source), name)
    return on_this_disk(location, name, workdir)


def _with_copies(source: str, splits: Mapping[str, Any], format_: formats.Format, task: Task, workdir: str) -> Any:
    """`splits` of which no file of all labels is in an archive or at a store."""
    location = storage.locate(source)
    if not format_.WHOLE or location.local is not None or os.path.isfile(os.path.expanduser(source)):
        return splits
    found: dict[str, dict[str, Any]] = {
        s: {**value} if isinstance(value, dict) else format_.layout(value, task) for s, value in splits.items()
    }
    for paths in found.values():
        files = [given] if isinstance(given := paths["annotations"], str) else given
        here = [on_this_disk(location, file, workdir) for file in files]
        paths["annotations"] = here if len(here) > 1 else here[0]
    return found


def _made_for(source: str) -> str | None:
    """The task of a subset that coco-diy made; None for any other folder."""
    location = storage.locate(source)
    made = TargetState(location).manifest if isinstance(location, storage.WritableLocation) else None
    return made.report.get("task") if made is not None else None


def _task_of(names: Names | None) -> str | None:
    """The task that a names file says."""
    if names is None or (names.task is None and names.kpt_shape is None):
        return None
    return names.task or "pose"


def _task_of_splits(source: str, splits: Mapping[str, list[Any]], format_: formats.Format) -> str:
    """That which a file of several splits says.

    Else pose where all annotations files are called as those of pose, and those of other tasks otherwise; else detect.
    """
    if format_.WHOLE and (single := cast("formats.SplitFileFormat", format_)).HOLDS_SPLITS:
        paths = next(iter(splits.values()))[0]
        if not isinstance(paths, dict):
            return "detect"
        return single.contents(pieces_of(source, paths["annotations"])).task or "detect"
    pose, other = (format_.layout("", task).get("annotations", "") for task in (Task.POSE, Task.DETECT))
    prefix = os.path.splitext(os.path.basename(pose))[0]
    each = [paths for several in splits.values() for paths in several]
    files = [first_file(paths.get("annotations")) or "" if isinstance(paths, dict) else "" for paths in each]
    all_pose = bool(files) and all(os.path.basename(path).startswith(prefix) for path in files)
    return "pose" if pose != other and all_pose else "detect"


def _with_captions(source: str, value: str | dict[str, str], format_: formats.Format, task: Task) -> Any:
    """The paths of a split with the captions of its images, where the layout has such a file."""
    root = os.path.abspath(os.path.expanduser(source))
    paths = value if isinstance(value, dict) else format_.layout(value, task)
    folder, name = os.path.split(paths["annotations"])
    captions = os.path.join(folder, f"captions_{name.rpartition('_')[2]}")
    if not os.path.isfile(os.path.join(root, captions)):
        return value
    if isinstance(value, str) and not os.path.isdir(os.path.join(root, paths["images"])):
        paths = {"annotations": paths["annotations"]}
    return {**paths, "captions": captions}


def _shares(text: str) -> dict[str, float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or any(not 0 < v <= 1 for v in values):
        raise ConfigError(
            f"--split {text}: must be the share of train, as in --split 0.8, or of train, val and test, "
            "as in --split 0.7,0.2,0.1"
        )
    if len(values) == 1 and values[0] < 1:
        values.append(round(1 - values[0], 12))
    return dict(zip(SPLITS, values, strict=False))
