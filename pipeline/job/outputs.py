"""Files that options name to be written: noted in the run, so that what reads a source can refuse those in it."""

from __future__ import annotations

import os

from pipeline import storage
from pipeline.runtime.run import running


def note_output(option: str, path: str, mark: bytes, *, instead: str | None = None) -> list[str]:
    """Note that `option` has the file `path` written; `instead` replaces it where it would be in a source or target.

    Returns the absolute paths of both. Raises `UsageError` where one of them is there without a match of `mark`, see
    `storage.output_path`.
    """
    with running() as run:
        run.outputs[option] = storage.output_path(option, path, mark)
        if instead is None:
            return [run.outputs[option]]
        run.elsewhere[option] = storage.output_path(option, instead, mark)
        return [run.outputs[option], run.elsewhere[option]]


def write_output(option: str, data: bytes) -> str:
    """Write `data` to the file that was noted for `option`; returns its absolute path."""
    with running() as run:
        path = run.outputs[option]
    folder, name = os.path.split(path)
    storage.locate_writable(folder).write(name, data)
    return path
