"""Rows of wanted images, which every layout that copies images shares."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pipeline.tables import schema
from pipeline.tables.schema import Kind

if TYPE_CHECKING:
    import pyarrow as pa


def pictures(images: pa.Table) -> pa.Table:
    """The wanted images of one bucket, as `schema.wanted`: ``images/<split>/<stem>`` with the suffix they have."""
    import pyarrow.compute as pc

    split = images["split"].combine_chunks()
    stem = images["stem"].combine_chunks()
    suffix = pc.struct_field(pc.extract_regex(images["image_path"].combine_chunks(), r"(?P<s>\.[^./]*)$"), "s")
    return wanted_files(
        images,
        Kind.IMAGE,
        split,
        pc.binary_join_element_wise("images/", split, "/", stem, suffix, ""),
        source=images["source"].combine_chunks(),
        size=images["size"].combine_chunks(),
        digest=digests(images["mark"].combine_chunks()),
    )


def as_named(images: pa.Table) -> pa.Table:
    """`images` with the stem that their file has: where two have the same one, that of the later is its whole name."""
    import pyarrow.compute as pc

    stem, path = images["stem"].combine_chunks(), images["image_path"].combine_chunks()
    name = pc.replace_substring_regex(path, r"^.*/", "")
    whole = pc.fill_null(pc.equal(pc.replace_substring_regex(stem, r"^.*/", ""), name), False)
    if not pc.any(whole).as_py():
        return images
    stem = pc.if_else(whole, pc.replace_substring_regex(stem, r"\.[^./]*$", ""), stem)
    return images.set_column(images.schema.get_field_index("stem"), images.schema.field("stem"), stem)


def wanted_files(images: pa.Table, kind: Kind, split: pa.Array, path: pa.Array, **columns: pa.Array) -> pa.Table:
    """The table `schema.wanted` of one file of a `kind` for each of `images`; further `columns` by their name.

    What is not given is null.
    """
    import pyarrow as pa

    fitting = schema.wanted()
    columns |= {
        "path": path,
        "kind": pa.repeat(pa.scalar(kind.value), images.num_rows),
        "key": images["key"].combine_chunks(),
        "split": split,
    }
    arrays = [columns[f.name] if f.name in columns else pa.nulls(images.num_rows, f.type) for f in fitting]
    return pa.Table.from_arrays([a.cast(f.type) for a, f in zip(arrays, fitting, strict=True)], schema=fitting)


def digests(values: pa.Array) -> pa.Array:
    """XXH3-128 (16 bytes) of each of the binary `values`."""
    import pyarrow as pa
    import xxhash

    digest, count, values = xxhash.xxh3_128_digest, len(values), values.cast(pa.binary())
    if not count:
        return pa.array([], pa.binary(16))
    _, offsets, data = values.buffers()
    edges = memoryview(offsets).cast("i")[values.offset : values.offset + count + 1].tolist()
    texts = memoryview(data if data is not None else b"")  # as they are: copies would be as large again
    return pa.array([digest(texts[begin:end]) for begin, end in itertools.pairwise(edges)], pa.binary(16))
