"""The config of `coco-diy convert`: one folder to another format, with what its layout tells instead of a file."""

from __future__ import annotations

import os
from typing import Any

from pipeline import formats
from pipeline.errors import ConfigError
from pipeline.tables.schema import Task

#: What folders of a split are called, in COCO's layout and in everybody's; the first that is there counts.
_FOLDERS = {"train": ("train2017", "train"), "val": ("val2017", "val", "valid"), "test": ("test2017", "test")}


def conversion(
    source: str,
    target: str,
    *,
    from_format: str,
    to_format: str,
    task: str = "detect",
    names: str | None = None,
    shares: str | None = None,
    seed: int = 0,
    workdir: str,
) -> dict[str, Any]:
    """The config, as plain data, that makes `target` of the folder (or COCO's JSON file) `source`.

    `shares` is ``0.8`` (train, the rest val) or ``0.7,0.2,0.1`` (train, val, test); None keeps the splits that the
    source has. Raises `UsageError` where the source has no layout that its format knows.
    """
    folder = formats.load(from_format)
    splits = _splits(source, from_format, folder, Task(task))
    if folder.WHOLE and from_format == to_format:  # label rows hold no captions
        splits = {split: _with_captions(source, value, folder, Task(task)) for split, value in splits.items()}
    places = {"root": source, "splits": splits}
    split = None if shares is None else {**_shares(shares), "seed": seed}
    return {
        "source": {"format": from_format, "task": task, "names": names, **places},
        "split": split,
        "target": {"root": target, "format": to_format},
        "workdir": workdir,
    }


def _splits(source: str, name: str, folder: formats.Format, task: Task) -> dict[str, Any]:
    place = os.path.abspath(os.path.expanduser(source))
    if folder.WHOLE and os.path.isfile(place):
        return {"train": {"annotations": place, "images": _images_beside(place)}}
    found: dict[str, Any] = {}
    for split, candidates in _FOLDERS.items():
        for candidate in candidates:
            layout = folder.layout(candidate, task)
            if os.path.exists(os.path.join(place, layout["annotations" if folder.WHOLE else "labels"])):
                found.setdefault(split, _places(place, candidate, layout) if folder.WHOLE else candidate)
    if found:
        return found
    if os.path.isdir(place) and not folder.WHOLE and folder.layout("x", task)["labels"] == "x":
        return {"train": {"labels": place, "images": place}}
    example = folder.layout("train2017", task)
    raise ConfigError(
        f"{source}: has none of the splits train, val and test as format {name} lays them out, for "
        f"example {' and '.join(example.values())}; for any other layout write a config"
    )


def _places(place: str, folder: str, layout: dict[str, str]) -> str | dict[str, str]:
    """The places of a split: as the format lays them out or, as the targets made here, with ``images/<folder>``."""
    usual = os.path.isdir(os.path.join(place, layout["images"]))
    ours = f"images/{folder}"
    return {**layout, "images": ours} if not usual and os.path.isdir(os.path.join(place, ours)) else folder


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


def _images_beside(annotations: str) -> str:
    """The folder of images of a JSON file: ``images`` beside it if it is there, else the file's own folder."""
    folder = os.path.dirname(annotations)
    images = os.path.join(folder, "images")
    return images if os.path.isdir(images) else folder


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
