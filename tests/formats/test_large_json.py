"""Elements of large arrays are found where they are, whatever is in them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import _large_json
from pipeline.formats._large_json import LargeObject

#: What looks like the edge of an object, and is none.
LURES = ["}, {", "},{", "}", "{", ",", "\\", '"}, {"', "}\n,\n{"]

VALUES = st.recursive(
    st.sampled_from([*LURES, 1, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", *LURES]), inner, max_size=3)
    ),
    max_leaves=6,
)

OBJECTS = st.dictionaries(st.sampled_from(["id", *LURES]), VALUES, max_size=3)

#: Before the opening brace, before the comma, after it, before the closing bracket.
BLANKS = st.tuples(*[st.sampled_from(["", " ", "\n", " \r\n\t"])] * 4)


def written(elements: list[Any], blanks: tuple[str, ...], indent: int | None) -> bytes:
    before, until, after, last = blanks
    joined = f"{until},{after}".join(json.dumps(one, indent=indent) for one in elements)
    return f'{{"things": [{before}{joined}{last}], "rest": [{{}}, {{}}]}}'.encode()


def spans(text: bytes, step: int, decoders: Any) -> tuple[list[list[int]], list[Any]]:
    file = LargeObject((text[i : i + step] for i in range(0, len(text), step)), {"things"}, decoders)
    chunks = list(file.chunks())
    assert file.rest == {"rest": b"[{}, {}]"}
    assert all(chunk.found is None or len(chunk.found) == len(chunk) for chunk in chunks)
    found = itertools.chain.from_iterable(chunk.found or () for chunk in chunks)
    return [span for chunk in chunks for span in chunk.spans.tolist()], list(found)


@given(st.lists(OBJECTS, max_size=8), BLANKS, st.sampled_from([None, 0, 2]), st.integers(1, 80))
def test_a_decoder_changes_nothing_about_where_objects_are(
    objects: list[Any], blanks: tuple[str, ...], indent: int | None, step: int
) -> None:
    text = written(objects, blanks, indent)
    here, found = spans(text, step, {"things": msgspec.json.Decoder(list[dict[str, Any]]).decode})
    assert here == spans(text, step, None)[0]
    assert [json.loads(text[begin:stop]) for begin, stop in here] == objects
    assert all(one in objects for one in found)


@given(st.lists(st.one_of(OBJECTS, VALUES), max_size=6), st.integers(1, 80))
def test_what_a_decoder_refuses_is_found_all_the_same(elements: list[Any], step: int) -> None:
    text = written(elements, ("",) * 4, None)
    here, _ = spans(text, step, {"things": msgspec.json.Decoder(list[dict[str, Any]]).decode})
    assert [json.loads(text[begin:stop]) for begin, stop in here] == elements


@pytest.mark.parametrize("between", ["},{", "}, {", "} ,\n  {"])
def test_objects_are_found_by_their_braces_alone(between: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ('[{"a": {"b": [1]}' + between + '"c": [[2]]' + between + '"d": "{"}]').encode()
    monkeypatch.setattr(_large_json, "_raws", None)
    file = LargeObject([b'{"things": ' + text, b"}"], {"things"}, {"things": msgspec.json.Decoder(list[Any]).decode})
    found = [json.loads(chunk.element(i)) for chunk in file.chunks() for i in range(len(chunk))]
    assert found == [{"a": {"b": [1]}}, {"c": [[2]]}, {"d": "{"}]
