"""Lists of images to take or to leave out: names, stems or keys."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.base.errors import ConfigError, unknown
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.base.text import composed
from pipeline.job.named_splits import image_lines, read_list

#: Columns of a table that name images, the first that it has.
COLUMNS = ("key", "file_name")


def read_names(path: str, key: str) -> list[str]:
    """The entries of a list: lines of a text file, or a column of a CSV or Parquet file.

    Raises `ConfigError`, which calls it by `key`, for a file that cannot be read, has no such column, or is empty.
    """
    full = os.path.expanduser(path)
    suffix = os.path.splitext(full)[1].lower()
    if suffix == ".parquet" and os.path.exists(full):
        names = _of_parquet(full, path, key)
    elif suffix in (".csv", ".tsv"):
        rows = csv.DictReader(io.StringIO(read_list(full)), delimiter="\t" if suffix == ".tsv" else ",")
        column = _column(rows.fieldnames or (), path, key)
        names = [row[column] or "" for row in rows]
    else:
        names = read_list(full).splitlines()
    entries = image_lines("\n".join(names))
    if not entries:
        raise ConfigError(f"{key}: {path} names no image; write a name, stem or key a line, or leave the key out")
    return entries


def _of_parquet(full: str, path: str, key: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = _column(pq.read_schema(full).names, path, key)
        return [str(name) for name in pq.read_table(full, columns=[column])[column].to_pylist() if name is not None]
    except (pa.ArrowException, OSError):
        raise ConfigError(f"{key}: {path} is no Parquet file that can be read; write it anew") from None


def _column(there: Iterable[str], path: str, key: str) -> str:
    columns = list(there)
    for name in COLUMNS:
        if name in columns:
            return name
    hint = unknown("column", columns[0], COLUMNS) if len(columns) == 1 else f"it has {', '.join(columns[:6]) or 'none'}"
    raise ConfigError(f"{key}: {path} has no column {' or '.join(COLUMNS)}: {hint}")


@dataclass
class NameList:
    """The entries of a list, and which images they name.

    An entry is an image's key, or the end of its path, of whole steps and with or without the suffix; a longer path, of
    another machine, names the image whose path, the folder of the split included, it ends in. An entry that is the key
    of an image (`add_key`) names no image of another source that has the same path.
    """

    entries: Sequence[str]
    matched: set[int] = field(default_factory=set)
    _whole: set[int] = field(default_factory=set)
    _by_name: dict[str, list[tuple[int, tuple[str, ...]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, entry in enumerate(self.entries):
            steps = _steps(entry)
            if steps:
                self._by_name.setdefault(steps[-1], []).append((number, steps))

    def add_key(self, key: str) -> None:
        """Note that there is an image of `key`; to be done of all before any is asked for."""
        whole = tuple(composed(key).split("/"))
        self._whole.update(number for number, steps in self._by_name.get(whole[-1], ()) if steps == whole)

    def names(self, key: str) -> bool:
        """Whether an entry names the image of `key`; the entries that do are `matched`."""
        name = composed(key)
        entries = self._by_name.get(name[name.rfind("/") + 1 :])
        if entries is None:
            return False
        whole, found = tuple(name.split("/")), False
        for number, steps in entries:
            least = min(len(steps), len(whole) - 1)
            ends = steps[-least:] == whole[-least:] and (len(steps) < len(whole) or least > 1)
            if steps == whole or (ends and number not in self._whole):
                self.matched.add(number)
                found = True
        return found

    @property
    def unmatched(self) -> list[str]:
        """The entries that name no image, in their order."""
        return [entry for number, entry in enumerate(self.entries) if number not in self.matched]


def _steps(entry: str) -> tuple[str, ...]:
    """The steps of a path, without the suffix of an image."""
    path = composed(entry)
    stem, suffix = os.path.splitext(path)
    path = stem if suffix.lower() in IMAGE_SUFFIXES else path
    return tuple(step for step in path.split("/") if step not in ("", "."))
