"""Bytes that are written as base64, in whichever of its forms a tool writes."""

from __future__ import annotations

import base64
import binascii

#: RFC 4648's alphabet for URLs as that of all others.
_PLAIN = bytes.maketrans(b"-_", b"+/")

_NO_DIGITS = b" \t\r\n=\"'"

#: As much of a text may be in front of the digits: ``data:image/jpeg;base64,``.
_MOST_IN_FRONT = 128


def from_base64(text: bytes, most: int | None = None) -> bytes | None:
    """The bytes that `text` is in base64, of them the first `most`; None where it is not base64.

    It may be a data URL (RFC 2397), the ``b'…'`` of Python's `str`, of the alphabet for URLs (RFC 4648, 5), broken into
    lines as MIME has it, and without its padding.
    """
    if text[:5].lower() == b"data:" and (comma := text.find(b",", 0, _MOST_IN_FRONT)) > 0:
        text = text[comma + 1 :]
    elif text[:2] in (b"b'", b'b"'):
        text = text[2:]
    if most is not None:
        digits = text[: 2 * most + _MOST_IN_FRONT].translate(None, _NO_DIGITS)
        text = digits[: most // 3 * 4]
    if b"-" in text or b"_" in text:
        text = text.translate(_PLAIN)
    try:
        return base64.b64decode(text + b"===") or None  # passes over what is no digit, and over padding too much
    except (binascii.Error, ValueError):
        return None
