"""Tables that we keep are read back as they were written, and no others, whoever vouches for them."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.digest import digest_of
from pipeline.stages.index.parts import TABLES, stated
from pipeline.stages.index.reader import IndexInfo
from pipeline.tables import schema
from pipeline.tables.parquet import Misfit, of_parquet, to_parquet
from pipeline.tables.schema import part_name
from tests.conftest import MakeSubset, Subset
from tests.stages.index.test_index import BUCKETS, check_as_fresh, make_index
from tests.support.fuzzing import bad_words
from tests.support.helpers import contents, repeated, slow

SCHEMAS = {
    made.__name__: made()
    for made in (
        schema.files, schema.images, schema.annotations, schema.problems, schema.checks, schema.headers, schema.wanted,
        schema.plan, schema.manifest, schema.excluded, schema.assigned,
    )
}  # fmt: skip
FILLED: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(codec="utf-8"), max_size=5),
    "binary": st.binary(max_size=5),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float64": st.floats(),
    "digest": st.binary(min_size=16, max_size=16),
    "counts": st.dictionaries(st.integers(0, 9), st.integers(0, 9), max_size=2).map(lambda d: list(d.items())),
    **{kind: st.integers(least, most) for kind, (_, least, most) in schema._RANGES.items()},
    **{kind: st.sampled_from(words) for kind, words in schema._WORDS.items()},
}


def kind_of(field: pa.Field) -> str:
    return str(field.metadata[b"kind"].decode())


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Schema, pa.Table]:
    """A schema, and a table of it with a few rows."""
    fitting, rows = SCHEMAS[draw(st.sampled_from(sorted(SCHEMAS)))], draw(st.integers(1, 4))
    columns = []
    for field in fitting:
        value = st.none() | FILLED[kind_of(field)] if field.nullable else FILLED[kind_of(field)]
        columns.append(pa.array(draw(st.lists(value, min_size=rows, max_size=rows)), field.type))
    return fitting, pa.Table.from_arrays(columns, schema=fitting)


def set_to(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def forgeries(fitting: pa.Schema, table: pa.Table) -> Iterator[pa.Table]:
    """Tables that are none of `fitting`: each column is gone, of another type, without values, twice, or strange."""
    for field in fitting:
        name, kind = field.name, kind_of(field)
        yield table.drop_columns([name])
        yield table.rename_columns([f"{n}x" if n == name else n for n in table.column_names])
        yield table.append_column(name, table[name])
        yield set_to(table, name, pa.array([[1]] * table.num_rows))
        if not field.nullable:
            yield set_to(table, name, pa.nulls(table.num_rows, field.type))
        if kind in schema._RANGES and schema._RANGES[kind][1:] != (0, 2**63 - 1):
            least = schema._RANGES[kind][1]
            yield set_to(table, name, pa.array([least - 1] * table.num_rows, field.type))
        if field.type == pa.string():
            text = pa.array([b"\xff"] * table.num_rows, pa.binary())
            yield set_to(table, name, pa.Array.from_buffers(pa.string(), table.num_rows, text.buffers()))
        if kind in schema._WORDS:
            yield set_to(table, name, pa.array(["word"] * table.num_rows))


@given(tables())
def test_what_was_written_comes_back(made: tuple[pa.Schema, pa.Table]) -> None:
    fitting, table = made
    data = to_parquet(table)
    found = of_parquet(data, fitting)
    assert found.schema.equals(fitting)
    assert to_parquet(found) == data
    name = fitting.names[-1]
    assert of_parquet(data, fitting, [name]).column_names == [name]


@settings(max_examples=repeated(20))
@given(tables())
def test_another_table_is_refused(made: tuple[pa.Schema, pa.Table]) -> None:
    fitting, table = made
    for forged in forgeries(fitting, table):
        with pytest.raises(Misfit):
            of_parquet(to_parquet(forged), fitting)


@given(tables(), st.data())
def test_damaged_bytes_are_a_table_or_refused(made: tuple[pa.Schema, pa.Table], data: st.DataObject) -> None:
    fitting, table = made
    damaged = bytearray(to_parquet(table))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = of_parquet(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), fitting)
    except Misfit:
        return
    assert found.schema.equals(fitting)
    assert schema.misfit(found, fitting) is None
    found.to_pylist()


def test_a_table_of_more_rows_than_bytes_is_not_read() -> None:
    """A few bytes can say that a column has a thousand million values."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"split": pa.repeat(pa.scalar("train"), 1_000_000)}), sink)
    assert len(sink.getvalue()) < 100_000
    with pytest.raises(Misfit, match="more rows than bytes"):
        of_parquet(sink.getvalue(), schema.images(), ["split"])


def vouch(index: Path, table: str, bucket: int, data: bytes) -> None:
    """Put a part in its place, with all that vouches for it made anew."""
    (index / table / part_name(bucket)).write_bytes(data)
    state = stated(str(index), bucket)
    info = IndexInfo.read(str(index))
    assert state is not None
    assert info is not None
    replace(state, parts=state.parts | {table: digest_of(data).hex()}).write(str(index), bucket)
    info.write(str(index))


FORGED: dict[str, Callable[[pa.Table, pa.Table], pa.Table]] = {
    "a column gone": lambda table, _: table.drop_columns(["key"]),
    "the part of another bucket": lambda _, other: other,
}


@pytest.mark.parametrize("table", ["annotations", *slow(*(name for name in TABLES if name != "annotations"))])
@pytest.mark.parametrize("how", FORGED)
def test_a_forged_part_of_an_index_is_named_and_made_anew(
    own_subset: Subset, make_subset: MakeSubset, table: str, how: str
) -> None:
    if (table, how) == ("problems", "the part of another bucket"):
        pytest.skip("there are none, and all parts are alike")
    own_subset.build("--set", BUCKETS)
    before = contents(own_subset.target)
    index = make_index(own_subset)
    parts = [pq.read_table(index / table / part_name(bucket)) for bucket in range(5)]
    bucket = max(range(5), key=lambda b: parts[b].num_rows)
    vouch(index, table, bucket, to_parquet(FORGED[how](parts[bucket], parts[bucket - 1])))
    other = ("--set", BUCKETS, "--set", "classes=[bus]")
    for command in ("stats", "plan"):
        told = own_subset.command(command, *other, code=None)
        assert bad_words(told.err) is None
        if told.code:
            assert f"{index}/{table}/{part_name(bucket)}: this part of the index is damaged" in told.err
            assert "`coco-diy index CONFIG` makes it anew" in told.err
            check_as_fresh(own_subset, make_subset)
    own_subset.build(*other)
    own_subset.build("--set", BUCKETS)
    assert contents(own_subset.target) == before


@pytest.mark.slow
def test_a_machine_without_memory_damages_no_file() -> None:
    """A column of 64 MB in a file of some kilobytes, where the process may have 16 MB more."""
    fitting = schema.wanted()
    row = {
        "kind": "meta",
        "key": "",
        "split": "",
        "path": "a",
        "size": 0,
        "digest": bytes(16),
        "content": bytes(1 << 26),
    }
    data = to_parquet(pa.Table.from_pylist([row], schema=fitting))
    program = (
        "import resource, sys, pyarrow, pyarrow.parquet\n"
        "from pipeline.runtime.interrupt import failure\n"
        "from pipeline.tables import schema\n"
        "from pipeline.tables.parquet import of_parquet\n"
        "data = sys.stdin.buffer.read()\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)\n"
        "try:\n    of_parquet(data, schema.wanted())\n"
        "except Exception as error:\n    print(failure(error)['error'])\n"
    )
    told = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=False, timeout=60)
    assert told.stdout.decode().startswith("memory is used up; "), told


def test_a_machine_without_free_descriptors_damages_no_file(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(to_parquet(schema.files().empty_table()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    of_parquet(str(path), schema.files())
    os.close(free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            of_parquet(str(path), schema.files())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
