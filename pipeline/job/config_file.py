"""The file of a config that a command names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.config.load import instead_of
from pipeline.config.templates import available
from pipeline.runtime.run import running
from pipeline.storage import options_beside


@contextmanager
def config_file(path: str) -> Iterator[str | None]:
    """While inside, the run is that of the config in the file `path`; see `storage.options_beside`, also for the value.

    Raises `ConfigError` where no file is there.
    """
    with running() as run:
        run.config = os.path.abspath(os.path.expanduser(path))
    if "://" in path:
        raise ConfigError(f"{path}: is a URL, and a config is a file of this machine; download it first")
    if Path(path).is_dir():
        raise ConfigError(f"{path}: is a folder, and a config is a file; name one, such as conf/bicycle.yaml")
    if not Path(path).exists():
        ready = f"`coco-diy init {Path(path).stem}` makes it" if Path(path).stem in available() else None
        cure = ready or instead_of(path) or "`coco-diy init` lists some to start from"
        raise ConfigError(f"{path}: no such config file; {cure}")
    with options_beside(path) as passed_over:
        yield passed_over
