"""Digests of contents: XXH3-128, fast and with no claim to security."""

from __future__ import annotations


def digest_of(content: bytes) -> bytes:
    """XXH3-128 of `content`, 16 bytes."""
    import xxhash

    return bytes(xxhash.xxh3_128_digest(content))
