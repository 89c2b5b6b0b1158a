"""Sealed records: what was written comes back, also what earlier builds wrote; what was damaged does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.digest import digest_of, seal, unseal
from tests.support.helpers import repeated

_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters())  # halves of surrogate pairs too: names of files that are not UTF-8
_PLAIN = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT, lambda c: st.lists(c) | st.dictionaries(_TEXT, c), max_leaves=20
)
_RECORDS = st.dictionaries(_TEXT.filter(lambda key: key != "digest"), _PLAIN)


@pytest.mark.slow
@settings(max_examples=repeated(100))
@given(_RECORDS)
def test_a_record_is_the_text_that_the_standard_library_makes(record: dict[str, Any]) -> None:
    """Records of targets that exist are whole as long as their text, and so their digest, stays what it was."""

    def text(content: dict[str, Any]) -> bytes:
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")

    assert seal(record) == text(record | {"digest": digest_of(text(record)).hex()})
    assert unseal(seal(record)) == record


def test_keys_that_are_numbers_are_text_when_they_are_read() -> None:
    assert unseal(seal({"parts": {10: "x", 9: "y"}})) == {"parts": {"10": "x", "9": "y"}}


@settings(max_examples=repeated(100))
@given(_RECORDS, st.data())
def test_a_flipped_bit_is_found(record: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(seal(record))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    found = unseal(bytes(whole))
    assert found is None or found == record  # a blank may become another blank
    assert unseal(seal(record)[:at]) is None


@pytest.mark.parametrize("data", [None, b"", b"[]", b"{}", b'{"digest": 1}', b'{"x": NaN, "digest": ""}'])
def test_what_is_no_record_is_none(data: bytes | None) -> None:
    assert unseal(data) is None


@dataclass
class Record:
    parts: dict[int, str]
    names: tuple[str, ...]


def test_a_dataclass_is_its_fields() -> None:
    assert seal(Record({10: "x", 9: "y"}, ("a",))) == seal({"parts": {"9": "y", "10": "x"}, "names": ["a"]})


def test_nesting_that_no_stack_takes_is_none() -> None:
    assert unseal(b"[" * 9999) is None
