"""Digests of contents, and records that carry their own: XXH3-128, fast and with no claim to security."""

from __future__ import annotations

import json
from typing import Any, TypeVar

T = TypeVar("T")


def digest_of(content: bytes) -> bytes:
    """XXH3-128 of `content`, 16 bytes."""
    import xxhash

    return bytes(xxhash.xxh3_128_digest(content))


def seal(content: Any) -> bytes:
    """`content`, plain data or a dataclass, as JSON with its own digest in it."""
    import msgspec

    plain = msgspec.to_builtins(content, str_keys=True)  # keys are text, and sorted so, as when it is read
    return _text(plain | {"digest": digest_of(_text(plain)).hex()})


def unseal(data: bytes | None) -> dict[str, Any] | None:
    """The content of a sealed record; None where it is not there, or not whole."""
    try:
        content = json.loads(data or b"")
        digest = content.pop("digest", None) if isinstance(content, dict) else None
        return content if digest is not None and digest == digest_of(_text(content)).hex() else None
    except (ValueError, RecursionError):  # what can be read may still be nested too deeply to be written
        return None


def fitted(content: object, kind: type[T]) -> T | None:
    """Plain data as a `kind` (a type that msgspec knows, as a dataclass); None where it does not fit, at any depth."""
    import msgspec

    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):  # of halves of surrogate pairs; of nesting
        return None


def _text(content: dict[str, Any]) -> bytes:
    """As ``json.dumps(content, indent=1, sort_keys=True)``, ten times as fast: that one indents in Python."""
    import msgspec

    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return msgspec.json.format(text.encode(errors="surrogatepass"), indent=1)
