"""A subset that coco-diy made, by its manifest: its own config, one that reads it as a source, what it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pipeline import exporters, formats
from pipeline.base.errors import ConfigError
from pipeline.base.terms import Task
from pipeline.config.load import validate
from pipeline.config.model import Config
from pipeline.exporters import DEFAULT, Layout
from pipeline.job.conversion import dataset
from pipeline.job.copies import on_this_disk
from pipeline.job.spec import first_file
from pipeline.target.manifest import Manifest, TargetState


def subset(state: TargetState, made: Manifest, workdir: str) -> dict[str, Any]:
    """The config, as plain data, that reads the subset whose manifest is `made` as a source; with all classes.

    Its target is never made. A subset that is one zip file is read in it. Raises `ConfigError` for one that has
    lost its class names.
    """
    root = state.root.url
    name, first = made.config["target"]["format"], made.config["source"]
    first = first if isinstance(first, dict) else first[0]
    zipped = next((path for path in made.meta if path.endswith(".zip")), None)
    if zipped is not None:
        return dataset(state.root.join(zipped), workdir)
    format_ = formats.load(name)
    task = Task(first.get("task", Task.DETECT))
    splits, layout = {}, layout_of(made)
    for split, counts in made.report["subset"].items():
        if counts["images"]:
            paths = splits[split] = {"images": layout.folder("images", split)}
            if format_.WHOLE:
                paths["annotations"] = on_this_disk(state.root, layout.file(task, split), workdir)
            else:
                paths["labels"] = layout.folder("labels", split)
            if made.config["target"].get("images") == "none":
                del paths["images"]
    names = None if format_.NAMED else _names_file(state, made, workdir)
    source = {"name": "source", "format": name, "task": task.value, "names": names, "root": root, "splits": splits}
    target = {"root": os.path.join(workdir, "nowhere"), "images": "none"}
    return {"source": source, "target": target, "workdir": workdir, "on_error": "skip"}


def remembered_config(
    root: str, state: TargetState, made: Manifest, option: str, *, max_delete: str | None = None
) -> Config:
    """The config that the manifest `made` of the subset at `root` remembers, with `max_delete` for its own.

    Raises `ConfigError` where this machine did not write it: for `option` of ``coco-diy verify`` it would be read.
    """
    if not state.is_ours():
        raise ConfigError(
            f"{root}: this machine did not write its manifest, so the config in it is not carried "
            f"out; name the config: coco-diy verify CONFIG {option}"
        )
    target = made.config["target"] | {"root": state.root.url}  # it may have been moved
    here = made.config | {"target": target | ({"max_delete": max_delete} if max_delete is not None else {})}
    return validate(here, f"{root}: the config in its manifest", name=made.name)


def layout_of(made: Manifest) -> Layout:
    """The layout of the target whose manifest is `made`; raises `UnknownNameError` for one of another version."""
    return exporters.layout(made.report["format"], made.config["target"].get("layout", DEFAULT))


def _names_file(state: TargetState, made: Manifest, workdir: str) -> str:
    """A file on this machine with the class names of a target."""
    path = next((p for p in sorted(made.meta) if p.endswith(".yaml") and "/" not in p), None)
    if path is None:
        raise ConfigError(f"{state.root.url}: has no YAML with its class names; run its build again")
    return on_this_disk(state.root, path, workdir)


def made_of_target(made: Manifest) -> dict[str, list[str]]:
    """By class of a target what it was made of, see `base.classes.made_of`.

    Of a target of an earlier version these are the names in its config.
    """
    known = made.report.get("made_of")
    if known is not None:
        return {name: list(map(str, known.get(name, ()))) for name in made.report["classes"]}
    listed = made.config.get("classes")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    merged = {entry.get("name"): entry.get("from") for entry in entries}
    found = {name: merged.get(name, name) for name in made.report["classes"]}
    return {name: [from_] if isinstance(from_, str) else list(map(str, from_ or ())) for name, from_ in found.items()}


def made_from(made: Manifest) -> list[str]:
    """Where the sources of a target were: their roots, or of those without one the labels of their splits."""
    source = made.config["source"]
    return [
        one.get("root")
        or joined(paths.get("labels") or first_file(paths.get("annotations")) for paths in one["splits"].values())
        for one in (source if isinstance(source, list) else [source])
    ]


def joined(labels: Iterable[str | None]) -> str:
    """The folders or files `labels` of splits, for people."""
    return ", ".join(dict.fromkeys(filter(None, labels)))


def has_several(made: Manifest) -> bool:
    """Whether a target was made of several sources, so that their names are folders of it."""
    source = made.config["source"]
    return isinstance(source, list) and len(source) > 1
