"""What the first bytes of a JSON file say of its format, for who asks which one a file is of."""

from __future__ import annotations

import codecs
from collections.abc import Collection

_BLANKS = b" \t\r\n"

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


#: By which a task of Label Studio is known that is in no list: keys of its annotations, early ones.
_OF_TASKS = ("completed_by", "was_cancelled", "from_name")


def is_task(head: bytes) -> bool:
    """Whether a file that begins with `head` is one task of Label Studio, whose `annotations` are not those of COCO."""
    return bool(head.removeprefix(codecs.BOM_UTF8).strip(_BLANKS)) and begins_with(head, b"{", _OF_TASKS)


def begins_with(head: bytes, opening: bytes, keys: Collection[str]) -> bool:
    """Whether a file that begins with `head` is JSON whose first character is `opening`, and has one of `keys`.

    An empty file may be anything. One in UTF-16 is looked at as if it were UTF-8: its format says what is wrong.
    """
    encoding = _UTF16.get(head[:2])
    if encoding is not None:
        head = head[2:].decode(encoding, "replace").encode()
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(_BLANKS)
    return not text or (text[:1] == opening and any(f'"{key}"'.encode() in text for key in keys))
