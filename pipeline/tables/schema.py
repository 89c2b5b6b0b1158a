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


#: By kind of a column of numbers, beside its type: the least and the largest that a run writes.
_RANGES = {
    "bucket": ("int32", 0, 65535),
    "count": ("int32", 0, 2**31 - 1),
    "bytes": ("int64", 0, 2**63 - 1),
    "pixels": ("int32", 1, 2**31 - 1),
    "orientation": ("int32", 1, 8),
}

#: By kind of a column of words: those that there are.
_WORDS: dict[str, tuple[str, ...]] = {
    "kind": tuple(Kind),
    "label_state": tuple(LabelState),
    "action": tuple(Action),
    "level": ("header", "full"),
}


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
        **dict.fromkeys(_WORDS, pa.string()),
    }
    types |= {kind: types[number] for kind, (number, *_) in _RANGES.items()}
    return pa.schema(
        [pa.field(name, types[kind], nullable, {"doc": doc, "kind": kind}) for name, kind, nullable, doc in fields]
    )


def misfit(table: "pa.Table", fitting: "pa.Schema") -> str | None:
    """Why no run has written the columns `fitting` of `table`, in a clause; None where one may have.

    Their types are compared, what may be null, letters, and the values of numbers and words that have limits.
    """
    import pyarrow as pa

    for field in fitting:
        at = table.schema.get_all_field_indices(field.name)
        if len(at) != 1 or table.schema.field(at[0]).type != field.type:
            return f"has no column {field.name} of its type"
        if table[field.name].null_count and not field.nullable:
            return f"lacks values in the column {field.name}"
    try:
        table.select(fitting.names).validate(full=True)
    except pa.ArrowInvalid:
        return "has text that is not UTF-8, or lengths that do not fit"
    strange = next((field.name for field in fitting if not _is_within(table[field.name], field)), None)
    return strange and f"has a value in the column {strange} that no run writes"


def _is_within(column: "pa.ChunkedArray", field: "pa.Field") -> bool:
    """Whether all values of a column are within the limits of its kind."""
    import pyarrow.compute as pc

    kind = field.metadata[b"kind"].decode()
    if kind in _RANGES:
        _, least, most = _RANGES[kind]
        found = pc.min_max(column).as_py()
        return found["min"] is None or least <= found["min"] <= found["max"] <= most
    return kind not in _WORDS or {*pc.unique(column).to_pylist()} <= {*_WORDS[kind], None}


@cache
def files() -> "pa.Schema":
    """What was listed in the source: one row a file."""
    return _schema(
        ("bucket", "bucket", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "source/split folder/relative stem, with /"),
        ("kind", "kind", False, "label or image"),
        ("path", "string", False, "path relative to the folder of its split and kind"),
        ("size", "bytes", True, "bytes; null where the listing does not have it"),
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
        ("bucket", "bucket", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "source/split folder/relative stem, with /"),
        ("split", "string", False, "split of the source"),
        ("stem", "string", False, "relative stem, with /"),
        ("label_path", "string", True, "label file, relative to the split's label folder; null: there is none"),
        ("label_state", "label_state", False, "found, empty, missing or corrupt"),
        ("image_path", "string", True, "image file, relative to the split's image folder; null: there is none"),
        ("image_size", "bytes", True, "bytes; null where the listing does not have it"),
        ("width", "pixels", True, "pixels; null until something needs it"),
        ("height", "pixels", True, "pixels; null until something needs it"),
        ("other_images", "string", True, "further image files of the same stem, one a line"),
        ("raw", "binary", True, "COCO image object, as it was written; null where the source has none"),
        (
            "image_said",
            "string",
            True,
            "where the label file says that its image is, relative to itself; used where there is no image of its stem",
        ),
        ("held_suffix", "string", True, "suffix of the image that the label file itself holds; null: it holds none"),
        ("held_size", "bytes", True, "bytes of that image"),
        ("captions", "binary", True, "JSON list of the image's COCO caption annotations, each as it was written"),
        (
            "exhaustive",
            "string",
            True,
            "names of the classes that are labelled everywhere in the image, one a line; null: as its source says",
        ),
    )


@cache
def annotations() -> "pa.Schema":
    """One row an object, as its label file has it."""
    return _schema(
        ("bucket", "bucket", False, "crc32(key) modulo the number of buckets"),
        ("key", "string", False, "key of the image"),
        ("line", "count", False, "line in the label file, from 1, blank lines counted"),
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
        ("n_tokens", "count", False, "tokens of the row, the class id included"),
        ("raw", "binary", True, "COCO annotation object, as it was written or made of a shape; null for rows"),
        ("loss", "string", True, "counted reason why this is no row of the task; null: it is one"),
    )


@cache
def problems() -> "pa.Schema":
    """Rows and files that could not be taken, each with where and why."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("path", "string", False, "the file, as the user knows it"),
        ("line", "count", True, "line in the file, from 1; null: the whole file"),
        ("reason", "string", False, "short name of the reason, the word that is counted"),
        ("detail", "string", False, "a clause that says what is wrong and what cures it"),
        ("rows", "count", False, "rows that are lost with it; 0 where nobody could count them"),
    )


@cache
def checks() -> "pa.Schema":
    """Images that were checked, so that they need not be again: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("mark", "binary", False, "the image's fingerprint when it was checked"),
        ("level", "level", False, "header or full"),
        ("reason", "string", True, "why it cannot be used, the word that is counted; null: it is in order"),
        ("detail", "string", True, "a clause that says what is wrong with it"),
        ("width", "pixels", True, "pixels; null where the header does not have it"),
        ("height", "pixels", True, "pixels; null where the header does not have it"),
    )


@cache
def headers() -> "pa.Schema":
    """What images say of themselves, so that they need not be read again: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("mark", "binary", False, "the image's fingerprint when its header was read"),
        ("stored_width", "pixels", False, "pixels, as the file stores the image"),
        ("stored_height", "pixels", False, "pixels, as the file stores the image"),
        ("orientation", "orientation", False, "EXIF orientation, 1 to 8: how the image is shown"),
    )


@cache
def hashes() -> "pa.Schema":
    """What duplicate images are found by, so that they need not be decoded again: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"),
        ("mark", "binary", False, "the image's fingerprint when it was read"),
        ("hash", "uint64", True, "its difference hash, see `images.hashes`; null: it cannot be decoded"),
        ("digest", "digest", False, "XXH3-128 of its content"),
    )


@cache
def wanted() -> "pa.Schema":
    """What an exporter wants at the target: one row a file. `content` is null for files that are copied."""
    return _schema(
        ("path", "string", False, "path relative to the target's root"),
        ("kind", "kind", False, "label, image or meta"),
        ("key", "string", False, "key of the image; empty for meta"),
        ("split", "string", False, "split of the subset; empty for meta"),
        ("source", "string", True, "image to copy: path or URL"),
        ("content", "binary", True, "bytes to write"),
        ("size", "bytes", True, "bytes; null where unknown before the copy"),
        ("digest", "digest", False, "XXH3-128 of the content, or of the source's fingerprint where it is not read"),
        ("objects", "counts", True, "objects by class id of the subset; labels only"),
    )


@cache
def plan() -> "pa.Schema":
    """What a build does to the target: one row a file."""
    import pyarrow as pa

    action = _schema(("action", "action", False, "write, copy, keep or delete"))
    fields = list(wanted())
    return pa.schema([*fields[:4], action.field(0), *fields[4:], manifest().field("content_digest")])


@cache
def excluded() -> "pa.Schema":
    """Images that are no backgrounds, whatever their own label file says: one row an image."""
    return _schema(
        ("key", "string", False, "key of the image"), ("reason", "string", False, "the word that is counted")
    )


@cache
def assigned() -> "pa.Schema":
    """The split that a group of images is assigned to: one row a group."""
    return _schema(("group", "string", False, "name of the group"), ("split", "string", False, "split of the subset"))


@cache
def manifest() -> "pa.Schema":
    """What we put at the target: one row a file."""
    import pyarrow as pa

    keep = ("path", "kind", "key", "split", "size", "digest", "objects")
    read = _schema(
        (
            "content_digest",
            "digest",
            True,
            "XXH3-128 of an image's content, or of where its link leads; null: not known",
        )
    )
    return pa.schema([*(wanted().field(name) for name in keep), read.field(0)])
