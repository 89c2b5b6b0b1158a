"""The steps of the selection on a table and on a Dask partition are the same."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.classes import ClassMap
from pipeline.stages.select.rows import remap, remap_table
from pipeline.tables.frames import to_arrow, to_pandas

NAMES = ["cat", "dog", "cow"]


def _rows(ids: list[int], labels: list[str | None] | None) -> pa.Table:
    columns = {"key": [f"s/{i}" for i in range(len(ids))], "class_id": pa.array(ids, pa.int32())}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    return pa.table(columns)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*NAMES, "yak", None])), max_size=20),
    st.lists(st.integers(-1, 1), min_size=3, max_size=3),
    st.booleans(),
)
def test_a_table_and_a_partition_are_mapped_alike(
    rows: list[tuple[int, str | None]], lut: list[int], named: bool
) -> None:
    table = _rows([i for i, _ in rows], [label for _, label in rows] if named else None)
    classes = ClassMap(tuple(NAMES), ("a", "b"), tuple(lut))
    found = remap_table(table, classes)
    assert found.combine_chunks() == to_arrow(remap(to_pandas(table), classes))
    numbers = [NAMES.index(label) if label in NAMES else 9 for _, label in rows] if named else [i for i, _ in rows]
    assert found["class_id"].to_pylist() == [lut[n] for n in numbers if n < len(lut) and lut[n] >= 0]
