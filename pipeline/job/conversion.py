"""The config of `coco-diy convert`: one folder to another format, with what its layout tells instead of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pipeline import formats
from pipeline.base.errors import ConfigError
from pipeline.config.class_names import Names, read_names
from pipeline.config.load import read_text
from pipeline.job.layouts import find_names, find_splits
from pipeline.tables.schema import Task


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
) -> dict[str, Any]:
    """The config, as plain data, that makes `target` of the folder (or COCO's JSON file) `source`.

    `shares` is ``0.8`` (train, the rest val) or ``0.7,0.2,0.1`` (train, val, test); None keeps the splits that the
    source has. Where neither `task` nor `names` is given, the file of names that a tool left in the folder tells both:
    it has ``kpt_shape`` for pose. Raises `UsageError` where the source has no layout that its format knows.
    """
    folder = formats.load(from_format)
    if not folder.NAMED:
        names = names or find_names(source)
        known = read_names(read_text(names, "class names"), names) if names is not None and task is None else None
        task = task or _task_of(known)
    splits: dict[str, Any] = {**find_splits(source, from_format, folder, Task(task or "detect"))}
    task = task or _task_of_splits(splits, folder)
    captions = folder.WHOLE and formats.load_single_file(from_format).CAPTIONS
    if captions and from_format == to_format:  # label rows hold no captions
        splits = {split: _with_captions(source, value, folder, Task(task)) for split, value in splits.items()}
    places = {"root": source, "splits": splits}
    split = None if shares is None else {**_shares(shares), "seed": seed}
    return {
        "source": {"format": from_format, "task": task, "names": names, **places},
        "split": split,
        "target": {"root": target, "format": to_format},
        "workdir": workdir,
    }


def _task_of(names: Names | None) -> str | None:
    """The task that a names file tells."""
    if names is None or (names.task is None and names.kpt_shape is None):
        return None
    return names.task or "pose"


def _task_of_splits(splits: Mapping[str, Any], format_: formats.Format) -> str:
    """Pose where all annotations files are called as those of pose, and those of other tasks otherwise; else detect."""
    pose, other = (format_.layout("", task).get("annotations", "") for task in (Task.POSE, Task.DETECT))
    prefix = os.path.splitext(os.path.basename(pose))[0]
    files = [places.get("annotations", "") if isinstance(places, dict) else "" for places in splits.values()]
    all_pose = bool(files) and all(os.path.basename(path).startswith(prefix) for path in files)
    return "pose" if pose != other and all_pose else "detect"


def _with_captions(source: str, value: str | dict[str, str], format_: formats.Format, task: Task) -> Any:
    """The places of a split with the captions of its images, where the layout has such a file."""
    place = os.path.abspath(os.path.expanduser(source))
    places = value if isinstance(value, dict) else format_.layout(value, task)
    folder, name = os.path.split(places["annotations"])
    captions = os.path.join(folder, f"captions_{name.rpartition('_')[2]}")
    if not os.path.isfile(os.path.join(place, captions)):
        return value
    if isinstance(value, str) and not os.path.isdir(os.path.join(place, places["images"])):
        places = {"annotations": places["annotations"]}
    return {**places, "captions": captions}


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
    return dict(zip(("train", "val", "test"), values, strict=False))
