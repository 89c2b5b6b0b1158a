"""The images of a bucket: one row a key that has a label file or an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.job.spec import IndexSpec
from pipeline.stages.index.label_tables import facts
from pipeline.tables import schema
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools


def image_rows(spec: IndexSpec, bucket: int, labels: pa.Table, images: pa.Table, states: pa.Table) -> pa.Table:
    """The table `schema.images` of label files and listed images, see `ListedFiles`.

    `states` (`states_schema`) is what reading found out of each label file, in the order of `labels`.
    """
    first = _first_of_key(images["key"].combine_chunks())
    chosen = images.filter(pa.array(first))
    label_keys, image_keys = (table["key"].combine_chunks() for table in (labels, chosen))
    keys = pc.unique(pa.concat_arrays([label_keys, image_keys]))
    keys = keys.take(pc.sort_indices(keys))
    of_label, of_image = pc.index_in(keys, label_keys), pc.index_in(keys, image_keys)

    def either(column: str) -> pa.Array:
        return pc.coalesce(
            labels[column].combine_chunks().take(of_label), chosen[column].combine_chunks().take(of_image)
        )

    splits = pa.array([split.split for split in spec.splits], pa.string())
    states = states.combine_chunks().take(of_label)
    columns = {
        "bucket": pa.array(np.full(len(keys), bucket, np.int32)),
        "key": keys,
        "split": splits.take(either("split")),
        "stem": either("stem"),
        "label_path": labels["path"].combine_chunks().take(of_label),
        "label_state": pc.fill_null(states["label_state"], LabelState.MISSING.value),
        "image_path": chosen["path"].combine_chunks().take(of_image),
        "image_size": chosen["size"].combine_chunks().take(of_image),
        "other_images": _other_images(keys, images.filter(pa.array(~first))),
        **{field.name: states[field.name] for field in facts()},
    }
    return pa.table(columns).select(schema.images().names).cast(schema.images())


def _first_of_key(keys: pa.Array) -> Bools:
    """Which of sorted `keys` differ from the one before."""
    first = np.ones(len(keys), np.bool_)
    if len(keys) > 1:
        first[1:] = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
    return first


def _other_images(keys: pa.Array, images: pa.Table) -> pa.Array:
    """The paths of `images` by key, one a line; null for keys that have none."""
    paths: dict[str, list[str]] = {}
    for row in images.select(["key", "path"]).to_pylist():
        paths.setdefault(row["key"], []).append(row["path"])
    if not paths:
        return pa.nulls(len(keys), pa.string())
    return pa.array(["\n".join(paths[key]) if key in paths else None for key in keys.to_pylist()], pa.string())
