"""What reading label files finds out, as tables."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pipeline import formats
from pipeline.tables import schema


def states_of(parsed: formats.Parsed) -> pa.Table:
    """What was found out about the image of each label file."""
    images = parsed.images if parsed.images is not None else pa.table({})
    columns = [
        images[field.name].combine_chunks()
        if field.name in images.column_names
        else pa.nulls(len(parsed.states), field.type)
        for field in facts()
    ]
    return pa.Table.from_arrays([pa.array(parsed.states, pa.string()), *columns], schema=states_schema())


def states_schema() -> pa.Schema:
    """What reading a label file finds out about its image."""
    return pa.schema([schema.images().field("label_state"), *facts()])


def facts() -> list[pa.Field]:
    """What a label file may say of its image."""
    names = ("width", "height", "raw", "image_said", "held_suffix", "held_size", "captions", "exhaustive")
    return [schema.images().field(name) for name in names]


def annotations_table(bucket: int, parts: Sequence[pa.Table]) -> pa.Table:
    """Rows of formats, with their key, as the table `schema.annotations`; columns that a format lacks are null."""
    fitting = schema.annotations()
    if not parts:
        return fitting.empty_table()
    table = pa.concat_tables(parts, promote_options="default")
    table = table.append_column("bucket", pa.array(np.full(table.num_rows, bucket, np.int32)))
    for field in fitting:
        if field.name not in table.column_names:
            table = table.append_column(field.name, pa.nulls(table.num_rows, field.type))
    return table.select(fitting.names)


#: The fields of `schema.problems`.
ProblemRow = tuple[str, str, int | None, str, str, int]


def problem_table(problems: Sequence[ProblemRow]) -> pa.Table:
    """Problems as the table `schema.problems`."""
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
