"""What reading label files finds out, as tables."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import xxhash

from pipeline import formats
from pipeline.tables import schema


def states_of(parsed: formats.Parsed) -> pa.Table:
    """What was found out about the image of each label file."""
    told, count = parsed.images, len(parsed.states)
    columns = [
        pa.array(parsed.states, pa.string()),
        *(
            told[f.name].combine_chunks()
            if told is not None and f.name in told.column_names
            else pa.nulls(count, f.type)
            for f in facts()
        ),
    ]
    return pa.Table.from_arrays(columns, schema=states_schema())


def states_schema() -> pa.Schema:
    """What reading a label file finds out about its image."""
    return pa.schema([schema.images().field("label_state"), *facts()])


def facts() -> list[pa.Field]:
    """What a label file may tell of its image."""
    names = ("width", "height", "raw", "image_said", "held_suffix", "held_size", "captions")
    return [schema.images().field(name) for name in names]


def problem_table(problems: Sequence[tuple[str, str, int | None, str, str, int]]) -> pa.Table:
    """Problems, each with the fields of `schema.problems`, as a table."""
    columns: list[Sequence[Any]] = list(zip(*problems, strict=True)) or [()] * 6
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema.problems(), strict=True)]
    return pa.table(arrays, schema=schema.problems())


def content_marks(
    split: str, names: Sequence[str], contents: Sequence[bytes | memoryview], failed: Mapping[int, str]
) -> list[int]:
    """A number for each file that changes with its content, its path and its split; 0 for one that was not read."""
    mark, crc, seed = xxhash.xxh3_64_intdigest, zlib.crc32, zlib.crc32(f"{split}/".encode())
    marks = [mark(content, crc(name.encode(), seed)) for name, content in zip(names, contents, strict=True)]
    for i in failed:
        marks[i] = 0
    return marks
