"""What the files of a target's ``.coco-diy`` claim, checked before anything is done by it.

A target may have come with a download, or a disk may have damaged it: paths lead nowhere but to files of a layout,
names of parts are digests, and every field is of the type that a build writes, at any depth, or a sentence says which
file is not to be believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from pipeline.base.digest import fitted
from pipeline.base.errors import TargetError
from pipeline.base.terms import Task

if TYPE_CHECKING:
    import pyarrow as pa

#: A step of a path: any name but `.` and `..`; both Python and RE2, which Arrow has, read it alike.
_STEP = r"(?:[^./\x00][^/\x00]*|\.[^./\x00][^/\x00]*|\.\.[^/\x00]+)"

_PATH = re.compile(rf"{_STEP}(?:/{_STEP})*")

#: First steps of the folders in which all layouts (`LAYOUTS` of an exporter) keep their labels and images.
LAYOUT_FOLDERS = ("images", "labels", "train", "valid", "test", "train2017", "val2017", "test2017")

_INSIDE = rf"\A(?:{'|'.join(LAYOUT_FOLDERS)})(?:/{_STEP})+\z"

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Buckets = Annotated[int, Meta(ge=1, le=65536)]
_FormatName = Annotated[str, Meta(pattern=r"\A[a-z0-9_]+\Z")]
_Bucket = Annotated[str, Meta(pattern=r"\A[0-9]{1,5}\Z")]


class _File(msgspec.Struct):
    size: _Count
    digest: _Digest


class _Subset(msgspec.Struct):
    """Counts of one split."""

    images: _Count
    objects: dict[str, _Count]
    images_by_class: dict[str, _Count]


class _Files(msgspec.Struct):
    files: _Count
    bytes: _Count


class _Report(msgspec.Struct):
    """What is read of the report of the build that was the last."""

    classes: list[str]
    format: _FormatName
    subset: dict[str, _Subset]
    ok: bool
    warnings: list[str]
    fingerprint: str | None = None
    task: Task | None = None
    held: dict[str, _Files] | None = None
    made_of: dict[str, list[str]] | None = None


class _Target(msgspec.Struct):
    images: str
    archive: str
    format: _FormatName
    layout: _FormatName = "default"


class _Folders(msgspec.Struct):
    labels: str | None = None
    annotations: str | Annotated[list[str], Meta(min_length=1)] | None = None


class _Source(msgspec.Struct):
    name: str
    splits: dict[str, _Folders]
    task: Task = Task.DETECT
    root: str | None = None


class _Config(msgspec.Struct):
    """What is read of a config but by `config.load.validate`, which says itself what is wrong."""

    target: _Target
    source: _Source | Annotated[list[_Source], Meta(min_length=1)]


class _Base(msgspec.Struct):
    buckets: _Buckets
    parts: list[_Digest | None]


#: Fields of `manifest.Manifest`.
_OF_MANIFEST: dict[str, Any] = {
    "tool": str,
    "recipe": str,
    "source": str | None,
    "buckets": _Buckets,
    "parts": list[_Digest | None],
    "meta": dict[str, _File],
    "report": _Report,
    "images": str | None,
    "folders": dict[str, int],
    "prefixes": dict[str, str],
    "config": _Config,
    "numbers": str | None,
    "name": str | None,
    "listed": dict[str, dict[str, _Count | None]],
    "serial": _Count,
    "left_out": _Digest | None,
}

#: Fields of ``intent.json``, see `manifest.Intent`.
_OF_INTENT: dict[str, Any] = {
    "serial": _Count,
    "folder": Annotated[str, Meta(pattern=r"\Aintent/[0-9a-f]{32}\Z")],
    "buckets": _Buckets,
    "touched": dict[_Bucket, _Digest],
    "base": _Base,
    "meta": list[str],
    "prefixes": dict[str, str],
}


def is_path(value: str) -> bool:
    """Whether `value` is the relative path of a file of the whole subset: no step of it is `..` or a folder of ours."""
    return bool(_PATH.fullmatch(value)) and not value.casefold().startswith(".coco-diy")


def check_rows(table: pa.Table, where: str) -> pa.Table:
    """`table`, where each of its paths is below a folder of a layout.

    Raises `TargetError`, naming `where` it is, for any other.
    """
    import pyarrow.compute as pc

    inside = pc.match_substring_regex(table["path"], _INSIDE)
    if not pc.all(inside, min_count=0).as_py():
        path = table["path"].filter(pc.invert(inside))[0].as_py()
        raise unfit(where, f"names {path!r}, which is no file of a subset")
    return table


def check_manifest(data: Mapping[str, Any], where: str) -> None:
    """Raise `TargetError` where the fields of a manifest (`manifest.Manifest`) are not what a build writes."""
    _check_fields(data, _OF_MANIFEST, where)
    _check_parts(data, where)
    _check_paths(data["meta"], where)
    report = data["report"]
    if any(set(report["classes"]) - counts[of].keys() for counts in report["subset"].values() for of in _BY_CLASS):
        raise unfit(where, "does not count every class")


_BY_CLASS = ("objects", "images_by_class")


def check_intent(data: Mapping[str, Any], where: str) -> None:
    """Raise `TargetError` where the content of an ``intent.json`` is not what `intent.write_intent` writes."""
    _check_fields(data, _OF_INTENT, where)
    _check_parts(data["base"], where)
    _check_paths(data["meta"], where)
    if any(int(bucket) >= data["buckets"] for bucket in data["touched"]):
        raise unfit(where, "names a bucket that is not there")


def _check_fields(data: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    for name, kind in kinds.items():
        if fitted({name: data.get(name)}, dict[str, kind]) is None:  # type: ignore[valid-type]
            raise unfit(where, f"has another `{name}` than a build writes")


def _check_parts(data: Mapping[str, Any], where: str) -> None:
    if len(data["parts"]) != data["buckets"]:
        raise unfit(where, "has more or fewer parts than buckets")


def _check_paths(paths: Iterable[str], where: str) -> None:
    for path in paths:
        if not is_path(path):
            raise unfit(where, f"names {path!r}, which is no file of a subset")


def unfit(where: str, why: str) -> TargetError:
    """What is said of a file at `where`, below ``.coco-diy``, that no build has written so."""
    folder = where[: where.rfind("/.coco-diy")] if "/.coco-diy" in where else where
    return TargetError(f"{where}: {why}; it is damaged or not made by coco-diy: build into a new folder than {folder}")
