"""The config that nobody wrote of a subset that coco-diy made: its manifest says what is there."""

from __future__ import annotations

import os
from typing import Any

from pipeline import exporters, formats
from pipeline.base.errors import ConfigError
from pipeline.base.terms import Task
from pipeline.exporters import DEFAULT, Layout
from pipeline.job.conversion import dataset
from pipeline.job.copies import on_this_disk
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


def layout_of(made: Manifest) -> Layout:
    """The layout of the target whose manifest is `made`; raises `UnknownNameError` for one of another version."""
    return exporters.layout(made.report["format"], made.config["target"].get("layout", DEFAULT))


def _names_file(state: TargetState, made: Manifest, workdir: str) -> str:
    """A file on this machine with the class names of a target."""
    path = next((p for p in sorted(made.meta) if p.endswith(".yaml") and "/" not in p), None)
    if path is None:
        raise ConfigError(f"{state.root.url}: has no YAML with its class names; run its build again")
    return on_this_disk(state.root, path, workdir)
