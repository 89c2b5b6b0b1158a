"""The config that nobody wrote of a subset that coco-diy made: its manifest says what is there."""

from __future__ import annotations

import os
from typing import Any

from pipeline import formats, storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import ConfigError
from pipeline.target.manifest import Manifest, TargetState


def subset(state: TargetState, made: Manifest, workdir: str) -> dict[str, Any]:
    """The config, as plain data, that reads the subset whose manifest is `made` as a source; with all classes.

    Its target is never made. Raises `ConfigError` for a subset that is one zip file, or has lost its class names.
    """
    root = state.root.url
    name, first = made.config["target"]["format"], made.config["source"]
    first = first if isinstance(first, dict) else first[0]
    if made.config["target"].get("archive", "none") != "none":
        raise ConfigError(f"{root}: is one zip file; unpack it, and name the folder")
    format_ = formats.load(name)
    task = first.get("task", "detect")
    splits = {}
    for split, counts in made.report["subset"].items():
        if counts["images"]:
            splits[split] = {**format_.layout(split, task), "images": f"images/{split}"}
            if made.config["target"].get("images") == "none":
                del splits[split]["images"]
    names = None if format_.NAMED else _names_file(state, made, workdir)
    source = {"name": "source", "format": name, "task": task, "names": names, "root": root, "splits": splits}
    target = {"root": os.path.join(workdir, "nowhere"), "images": "none"}
    return {"source": source, "target": target, "workdir": workdir, "on_error": "skip"}


def _names_file(state: TargetState, made: Manifest, workdir: str) -> str:
    """A file on this machine with the class names of a target."""
    path = next((p for p in sorted(made.meta) if p.endswith(".yaml") and "/" not in p), None)
    data = state.root.read(path) if path is not None else None
    if path is None or data is None:
        raise ConfigError(f"{state.root.url}: has no YAML with its class names; run its build again")
    if state.root.local is not None:
        return os.path.join(state.root.local, path)
    beside = f"names/{digest_of(state.root.url.encode()).hex()[:8]}.yaml"
    storage.locate_writable(workdir).write(beside, data)
    return os.path.join(workdir, beside)
