"""Every table's Arrow schema, with units and nullability; and the enums.

All tables have one Parquet file a bucket (`part_name`). Rows of one file are sorted by `key`, annotations by
(`key`, `line`). A field's meaning is in its metadata (`doc`), so that it travels with the Parquet file.

``head`` + first token + ``tail`` + line end is the source row, byte for byte.
"""

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: Digest of a file of ours whose content is not known, because a run ended before it was done.
UNKNOWN = b"\0" * 16


class Kind(StrEnum):
    """What a file is to us."""

    LABEL = "label"
    IMAGE = "image"
    META = "meta"


class LabelState(StrEnum):
    """The state of an image's label file, as Ultralytics counts them."""

    FOUND = "found"
    EMPTY = "empty"
    MISSING = "missing"
    CORRUPT = "corrupt"


class Action(StrEnum):
    """What is to be done about one file of the target."""

    WRITE = "write"
    COPY = "copy"
    KEEP = "keep"
    DELETE = "delete"


def part_name(bucket: int) -> str:
    """File name of a bucket's part of any table."""
    return f"bucket-{bucket:05d}.parquet"


def _schema(*fields: tuple[str, str, bool, str]) -> "pa.Schema":
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "binary": pa.binary(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "uint64": pa.uint64(),
        "float64": pa.float64(),
        "digest": pa.binary(16),
        "counts": pa.map_(pa.int32(), pa.int32()),
    }
    return pa.schema([pa.field(name, types[kind], nullable, {"doc": doc}) for name, kind, nullable, doc in fields])


@cache
def files() -> "pa.Schema":
    """What was listed in the source: one row a file."""
    return _schema(
        ("bucket", "int32", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "source/split folder/relative stem, with /"),
        ("kind", "string", False, "label or image"),
        ("path", "string", False, "path relative to the folder of its split and kind"),
        ("size", "int64", True, "bytes; null where the listing does not have it"),
        (
            "fingerprint",
            "binary",
            True,
            "size, mtime_ns, ctime_ns and inode as little-endian int64 (or an etag, or a "
            "CRC); null: too young when listed to be trusted, or not asked for",
        ),
        ("content", "uint64", True, "labels: XXH3-64 of the bytes, seeded with the CRC-32 of split/path; 0: not read"),
    )


@cache
def images() -> "pa.Schema":
    """One row an image: whatever has a label file, an image file, or both."""
    return _schema(
        ("bucket", "int32", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "source/split folder/relative stem, with /"),
        ("split", "string", False, "split of the source"),
        ("stem", "string", False, "relative stem, with /"),
        ("label_path", "string", True, "label file, relative to the split's label folder; null: there is none"),
        ("label_state", "string", False, "found, empty, missing or corrupt"),
        ("image_path", "string", True, "image file, relative to the split's image folder; null: there is none"),
        ("image_size", "int64", True, "bytes; null where the listing does not have it"),
        ("width", "int32", True, "pixels; null until something needs it"),
        ("height", "int32", True, "pixels; null until something needs it"),
        ("other_images", "string", True, "further image files of the same stem, one a line"),
        ("raw", "binary", True, "COCO image object, as it was written; null where the source has none"),
        (
            "image_said",
            "string",
            True,
            "where the label file says that its image is, relative to itself; used where there is no image of its stem",
        ),
        ("held_suffix", "string", True, "suffix of the image that the label file itself holds; null: it holds none"),
        ("held_size", "int64", True, "bytes of that image"),
        ("captions", "binary", True, "JSON list of the image's COCO caption annotations, each as it was written"),
    )


@cache
def annotations() -> "pa.Schema":
    """One row an object, as its label file has it."""
    return _schema(
        ("bucket", "int32", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "key of the image"),
        ("line", "int32", False, "line in the label file, from 1, blank lines counted"),
        (
            "class_id",
            "int32",
            False,
            "class id of the source: of a row, the category's id in COCO JSON, -1 where there are names alone",
        ),
        ("label", "string", True, "name of the class, as the source has it; null where rows carry numbers"),
        ("head", "binary", True, "blanks before the first token; null: none"),
        (
            "tail",
            "binary",
            True,
            "every byte after the first token, line end excluded; null: no row of the task, see loss",
        ),
        ("cx", "float64", False, "cxcywhn: centre x of the object's box, normalised 0-1"),
        ("cy", "float64", False, "cxcywhn: centre y of the object's box, normalised 0-1"),
        ("w", "float64", False, "cxcywhn: width of the object's box, normalised 0-1"),
        ("h", "float64", False, "cxcywhn: height of the object's box, normalised 0-1"),
        ("n_tokens", "int32", False, "tokens of the row, the class id included"),
        ("raw", "binary", True, "COCO annotation object, as it was written or made of a shape; null for rows"),
        ("loss", "string", True, "counted reason why this is no row of the task; null: it is one"),
    )


@cache
def problems() -> "pa.Schema":
    """Rows and files that could not be taken, each with where and why."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("path", "string", False, "the file, as the user knows it"),
        ("line", "int32", True, "line in the file, from 1; null: the whole file"),
        ("reason", "string", False, "short name of the reason, the word that is counted"),
        ("detail", "string", False, "a clause that says what is wrong and what cures it"),
        ("rows", "int32", False, "rows that are lost with it; 0 where nobody could count them"),
    )


@cache
def checks() -> "pa.Schema":
    """Images that were checked, so that they need not be again: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("mark", "binary", False, "the image's fingerprint when it was checked"),
        ("level", "string", False, "header or full"),
        ("reason", "string", True, "why it cannot be used, the word that is counted; null: it is in order"),
        ("detail", "string", True, "a clause that says what is wrong with it"),
        ("width", "int32", True, "pixels; null where the header does not have it"),
        ("height", "int32", True, "pixels; null where the header does not have it"),
    )


@cache
def headers() -> "pa.Schema":
    """What images say of themselves, so that they need not be read again: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("mark", "binary", False, "the image's fingerprint when its header was read"),
        ("stored_width", "int32", False, "pixels, as the file stores the image"),
        ("stored_height", "int32", False, "pixels, as the file stores the image"),
        ("orientation", "int32", False, "EXIF orientation, 1 to 8: how the image is shown"),
    )


@cache
def wanted() -> "pa.Schema":
    """What an exporter wants at the target: one row a file. `content` is null for files that are copied."""
    return _schema(
        ("path", "string", False, "path relative to the target's root"),
        ("kind", "string", False, "label, image or meta"),
        ("key", "string", False, "key of the image; empty for meta"),
        ("split", "string", False, "split of the subset; empty for meta"),
        ("source", "string", True, "image to copy: path or URL"),
        ("content", "binary", True, "bytes to write"),
        ("size", "int64", True, "bytes; null where unknown before the copy"),
        ("digest", "digest", False, "XXH3-128 of the content, or of the source's fingerprint where it is not read"),
        ("objects", "counts", True, "objects by class id of the subset; labels only"),
    )


@cache
def plan() -> "pa.Schema":
    """What a build does to the target: one row a file."""
    import pyarrow as pa

    action = _schema(("action", "string", False, "write, copy, keep or delete"))
    fields = list(wanted())
    return pa.schema([*fields[:4], action.field(0), *fields[4:], manifest().field("content_digest")])


@cache
def manifest() -> "pa.Schema":
    """What we put at the target: one row a file."""
    import pyarrow as pa

    keep = ("path", "kind", "key", "split", "size", "digest", "objects")
    read = _schema(("content_digest", "digest", True, "XXH3-128 of an image's content; null where it was not read"))
    return pa.schema([*(wanted().field(name) for name in keep), read.field(0)])
