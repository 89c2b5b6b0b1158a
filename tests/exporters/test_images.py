"""What all layouts say of their files."""

from __future__ import annotations

import pyarrow as pa
import pytest
import xxhash

from pipeline.exporters._images import digests

VALUES = [b"", b"one", b"", b"three" * 100, b"4"]


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize(("begin", "count"), [(0, 5), (1, 3), (2, 1), (2, 0)])
def test_digests_are_those_of_the_values(begin: int, count: int, type_: pa.DataType) -> None:
    found = digests(pa.array(VALUES, type_).slice(begin, count))
    assert found.type == pa.binary(16)
    assert found.to_pylist() == [xxhash.xxh3_128_digest(value) for value in VALUES[begin : begin + count]]


@pytest.mark.parametrize("values", [[], [b""], [b"", b""]])
def test_digests_of_nothing(values: list[bytes]) -> None:
    assert digests(pa.array(values, pa.binary())).to_pylist() == [xxhash.xxh3_128_digest(b"")] * len(values)
