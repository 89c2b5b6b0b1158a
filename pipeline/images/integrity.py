"""Whether bytes are an image that trainers can use, and its size; pure.

Headers and pixels are Pillow's to read. It does not check whether a file ends where it must, so the ends of JPEG, PNG
and WebP files are checked here. HEIC and HEIF are beyond Pillow: of them only the signature is checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.base.humanize import plural
from pipeline.images.header import MAX_PIXELS, opened

TAIL_BYTES = 64

#: Ultralytics leaves out images with a side under this (`verify_image_label`).
MIN_SIDE = 10

_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"

_PNG_END = b"IEND\xaeB`\x82"

_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class ImageCheck:
    """What was seen: `reason` (the counted word) and `detail` (a clause) where it cannot be used; its size in pixels.

    Reasons: ``image_empty``, ``image_cut_short``, ``image_unreadable``, ``image_too_small``, ``image_too_large``.
    """

    reason: str | None = None
    detail: str | None = None
    width: int | None = None
    height: int | None = None


def by_header(size: int, head: bytes, tail: bytes) -> ImageCheck | None:
    """Check the beginning and the end of an image of `size` bytes; None where that is not enough.

    With all bytes as `head` there is always an answer.
    """
    if size == 0:
        return ImageCheck("image_empty", "has 0 bytes")
    whole = len(head) >= size
    ended = _has_end(size, head, tail)
    if ended is None and not whole:
        return None
    if not (ended if ended is not None else _has_end_within(head)):
        return ImageCheck("image_cut_short", f"is cut short: {plural(size, 'byte')} without the end of an image")
    found = _open(head)
    return _judge(*found) if found else _unopened(head, whole=whole)


def ends_whole(data: bytes) -> bool | None:
    """Whether all of an image has its end; None for a kind that has no such mark."""
    if data[:3] == b"\xff\xd8\xff" or data[:8] == _PNG_BEGIN:
        return _has_end_within(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _has_end(len(data), data, b"")
    return None


def _unopened(head: bytes, *, whole: bool) -> ImageCheck | None:
    """What to say of an image that Pillow cannot open."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis"):
        return ImageCheck()
    return ImageCheck("image_unreadable", "is no image that can be read") if whole else None


def _judge(width: int, height: int) -> ImageCheck:
    if min(width, height) < MIN_SIDE:
        return ImageCheck(
            "image_too_small",
            f"has {width} x {height} pixels: trainers leave out images with a side under {MIN_SIDE}",
            width,
            height,
        )
    return ImageCheck(None, None, width, height)


def by_decoding(data: bytes) -> ImageCheck:
    """Check all of an image: as `by_header`, and every pixel is decoded."""
    check = by_header(len(data), data, data[-TAIL_BYTES:])
    assert check is not None
    if check.reason is not None or check.width is None:
        return check
    if check.width * (check.height or 0) > MAX_PIXELS:
        return ImageCheck(
            "image_too_large",
            f"has {check.width} x {check.height} pixels, too many to decode; check headers "
            "only, with --set select.check_images=header",
            check.width,
            check.height,
        )
    try:
        with opened(data) as image:
            image.load()
    except Exception as error:  # noqa: BLE001 - Pillow's plug-ins raise anything, from struct.error to SyntaxError
        cut = "truncated" in str(error)
        return ImageCheck(
            "image_cut_short" if cut else "image_unreadable",
            "is cut short: not all of it can be decoded" if cut else "cannot be decoded",
            check.width,
            check.height,
        )
    return check


def _has_end(size: int, head: bytes, tail: bytes) -> bool | None:
    """Whether the file ends as its kind must; None where only all of it shows that."""
    if head[:3] == b"\xff\xd8\xff":
        return True if tail.endswith(_JPEG_END) else None
    if head[:8] == _PNG_BEGIN:
        return True if tail.endswith(_PNG_END) else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return True


def _has_end_within(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end somewhere: what follows is padding, which decoders ignore."""
    if data[:3] != b"\xff\xd8\xff":
        return _PNG_END in data
    # Segment by segment (ITU T.81, B.1.1.4) to the pixels: an embedded preview has an end of its own.
    offset = 2
    while data[offset : offset + 1] == b"\xff" and data[offset + 1 : offset + 2] != b"\xda":
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return data.find(_JPEG_END, offset) >= 0


def _open(head: bytes) -> tuple[int, int] | None:
    """Width and height as Pillow reads them from the beginning of an image; None where it cannot."""
    try:
        with opened(head) as image:
            return image.size
    except Exception:  # noqa: BLE001 - see `opened`
        return None
