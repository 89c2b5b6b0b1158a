"""What the files of a target's ``.coco-diy`` claim, checked before anything is done by it.

A target may have come with a download, or a disk may have damaged it: paths lead nowhere but to files of a layout, and
names of parts are digests, or a sentence says which file is not to be believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import TargetError
from pipeline.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa

#: A step of a path: any name but `.` and `..`; both Python and RE2, which Arrow has, read it alike.
_STEP = r"(?:[^./\x00][^/\x00]*|\.[^./\x00][^/\x00]*|\.\.[^/\x00]+)"

_PATH = re.compile(rf"{_STEP}(?:/{_STEP})*")

_PART = re.compile(r"[0-9a-f]{32}")

_INTENT = re.compile(r"intent/[0-9a-f]{32}")

_BUCKET = re.compile(r"[0-9]{1,5}")

_MOST_BUCKETS = 65536


def is_path(value: object) -> bool:
    """Whether `value` is the relative path of a file of the whole subset: no step of it is `..` or a folder of ours."""
    return isinstance(value, str) and bool(_PATH.fullmatch(value)) and not value.casefold().startswith(".coco-diy")


def is_part(value: object) -> bool:
    """Whether `value` names a part of the manifest: the digest of its content, or None for one without rows."""
    return value is None or (isinstance(value, str) and _PART.fullmatch(value) is not None)


#: Folders below which all layouts keep their labels and images (`FOLDERS` of an exporter).
LAYOUT_FOLDERS = ("images", "labels")

_INSIDE = rf"\A(?:{'|'.join(LAYOUT_FOLDERS)})(?:/{_STEP})+\z"


def check_rows(table: pa.Table, columns: tuple[str, ...], where: str) -> pa.Table:
    """`table`, where it has the `columns` of `schema.manifest` and each path lies below a folder of a layout.

    Raises `TargetError`, naming `where` it stands, for any other.
    """
    import pyarrow.compute as pc

    wanted = schema.manifest()
    found = {field.name: field.type for field in table.schema}
    if any(
        found.get(name) != wanted.field(name).type or (table[name].null_count and not wanted.field(name).nullable)
        for name in columns
    ):
        raise unfit(where, "has other columns than a part of a manifest")
    inside = pc.match_substring_regex(table["path"], _INSIDE)
    if not pc.all(inside).as_py():
        path = table["path"].filter(pc.invert(inside))[0].as_py()
        raise unfit(where, f"names {path!r}, which is no file of a subset")
    return table


def check_manifest(data: Mapping[str, Any], where: str) -> None:
    """Raise `TargetError` where the fields of a manifest (`manifest.Manifest`) are not what a build writes."""
    _check_parts(data["buckets"], data["parts"], where)
    _check_texts(data["prefixes"], "prefixes", where)
    _check_serial(data["serial"], where)
    _check_facts(data, where)
    if not isinstance(data["meta"], dict):
        raise unfit(where, "has no list of files")
    for path, file in data["meta"].items():
        if not is_path(path):
            raise unfit(where, f"names {path!r}, which is no file of a subset")
        if not (
            isinstance(file, dict)
            and isinstance(file.get("size"), int)
            and file.get("digest") is not None
            and is_part(file["digest"])
        ):
            raise unfit(where, f"has no size and digest of {path!r}")
    report, config = data["report"], data["config"]
    classes = report.get("classes") if isinstance(report, dict) else None
    if (
        not isinstance(classes, list)
        or not isinstance(report.get("subset"), dict)
        or not re.fullmatch(r"[a-z0-9_]+", str(report.get("format")))
    ):
        raise unfit(where, "does not say what the subset holds")
    target = config.get("target") if isinstance(config, dict) else None
    if not isinstance(target, dict) or not {"images", "archive"} <= target.keys():
        raise unfit(where, "does not say how the subset was made")


def check_intent(data: Mapping[str, Any], where: str) -> None:
    """Raise `TargetError` where the content of an ``intent.json`` is not what `manifest.write_intent` writes."""
    base, touched, meta = data.get("base"), data.get("touched"), data.get("meta")
    if not isinstance(data.get("folder"), str) or not _INTENT.fullmatch(data["folder"]) or not isinstance(base, dict):
        raise unfit(where, "does not say what the run was about")
    _check_parts(base.get("buckets"), base.get("parts"), where)
    _check_texts(data.get("prefixes"), "prefixes", where)
    _check_serial(data.get("serial"), where)
    buckets = data.get("buckets")
    if not isinstance(buckets, int) or not 1 <= buckets <= _MOST_BUCKETS or not isinstance(touched, dict):
        raise unfit(where, "does not say which buckets the run was about")
    if not all(_BUCKET.fullmatch(bucket) and int(bucket) < buckets for bucket in touched):
        raise unfit(where, "names a bucket that is not there")
    if not all(part is not None and is_part(part) for part in touched.values()):
        raise unfit(where, "names a part that is none of a manifest")
    if not isinstance(meta, list) or not all(map(is_path, meta)):
        raise unfit(where, "names a file that is no file of a subset")


def _check_parts(buckets: object, parts: object, where: str) -> None:
    if not isinstance(buckets, int) or not 1 <= buckets <= _MOST_BUCKETS or not isinstance(parts, list):
        raise unfit(where, "has no list of parts")
    if len(parts) != buckets or not all(map(is_part, parts)):
        raise unfit(where, "names a part that is none of a manifest")


def _check_serial(serial: object, where: str) -> None:
    if not isinstance(serial, int) or isinstance(serial, bool) or serial < 0:
        raise unfit(where, "has no serial number of a run")


def _check_facts(data: Mapping[str, Any], where: str) -> None:
    """Raise `TargetError` where what a manifest only compares is of another type than a build writes."""
    listed, folders = data["listed"], data["folders"]
    texts = [data["tool"], data["recipe"]]
    texts += [data[name] for name in ("source", "images", "numbers", "name", "left_out") if data[name] is not None]
    if not all(isinstance(text, str) for text in texts):
        raise unfit(where, "does not say what made the subset")
    if not isinstance(folders, dict) or not all(isinstance(time, int) for time in folders.values()):
        raise unfit(where, "has no change times of folders")
    if not isinstance(listed, dict) or not all(isinstance(counts, dict) for counts in listed.values()):
        raise unfit(where, "has no numbers of what was listed")


def _check_texts(value: object, what: str, where: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise unfit(where, f"has no {what}")


def unfit(where: str, why: str) -> TargetError:
    """What is said of a file at `where`, below ``.coco-diy``, that no build has written so."""
    folder = where[: where.rfind("/.coco-diy")] if "/.coco-diy" in where else where
    return TargetError(f"{where}: {why}; it is damaged or not made by coco-diy: build into a new folder than {folder}")
