"""Zip archives of the town, and hostile ones byte by byte. No test stands here."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def pack(folder: Path, into: Path, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack the files below `folder` into the archive `into`, under `prefix`."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(into, "w", method) as archive:
        archive.mkdir(prefix or "top")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{prefix}/{path.relative_to(folder)}")
    return into


def pack_town(town: Path, into: Path) -> dict[str, Any]:
    """The town as the real downloads are: one archive of labels, one of images a split; returns the config's splits."""
    pack(town / "labels", into / "labels.zip", "coco/labels")
    splits = {}
    for split in ("train", "val"):
        folder = f"{split}2017"
        pack(town / "images" / folder, into / f"{folder}.zip", folder, zipfile.ZIP_STORED)
        splits[split] = {
            "labels": f"zip://coco/labels/{folder}::{into / 'labels.zip'}",
            "images": f"zip://{folder}::{into / folder}.zip",
        }
    return splits


@dataclass
class Member:
    """One member as its headers state it, true or not."""

    name: bytes
    content: bytes = b"1 0.5 0.5 0.1 0.1\n"
    method: int = 0
    flags: int = 0
    external: int = 0
    size: int | None = None
    crc: int | None = None
    offset: int | None = None
    zip64: bool = False
    extra: bytes = b""


def build(members: list[Member], *, count: int | None = None, comment: bytes = b"", before: bytes = b"") -> bytes:
    """The bytes of an archive, header by header."""
    body, directory = before, b""
    for m in members:
        packed = m.content
        if m.method == zipfile.ZIP_DEFLATED:
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = deflate.compress(m.content) + deflate.flush()
        size = len(m.content) if m.size is None else m.size
        crc = zlib.crc32(m.content) if m.crc is None else m.crc
        offset = len(body) - len(before) if m.offset is None else m.offset
        big = 0xFFFFFFFF
        extra = struct.pack("<2H3Q", 1, 24, size, len(packed), offset) if m.zip64 else b""
        extra += m.extra
        small = (big, big) if m.zip64 else (len(packed), size)
        made = 3 << 8 | 20 if m.external else 20
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, m.flags, m.method, 0, 0, crc, *small, len(m.name), 0)
        body += m.name + packed
        directory += (
            struct.pack(
                "<4s6H3L5H2L",
                b"PK\1\2",
                made,
                20,
                m.flags,
                m.method,
                0,
                0,
                crc,
                *small,
                len(m.name),
                len(extra),
                0,
                0,
                0,
                m.external,
                big if m.zip64 else offset,
            )
            + m.name
            + extra
        )
    number = len(members) if count is None else count
    start = len(body) - len(before)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), start, len(comment)) + comment
    return body + directory + end
