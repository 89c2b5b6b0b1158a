"""Copies of the few files of a dataset that are read on this machine alone: class names, and a JSON of all labels."""

from __future__ import annotations

import os

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import ConfigError


def on_this_disk(location: storage.Location, path: str, workdir: str) -> str:
    """The file `path` at `location` as one of this machine: itself, or a copy of it below `workdir`.

    Raises `ConfigError` where it is gone.
    """
    if location.local is not None:
        return os.path.join(location.local, path)
    data = location.read(path)
    if data is None:
        raise ConfigError(f"{location.join(path)}: is gone; run again, or write it anew")
    beside = f"shown/{digest_of(location.url.encode()).hex()[:8]}/{path}"
    storage.locate_writable(workdir).write(beside, data)
    return os.path.join(workdir, beside)
