"""A task of an export: which annotation counts, what image it is of, and its regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.formats._values import as_pixels, category_name, shown

#: Kinds of results that are shapes, by what they are called without ``labels``.
SHAPES = frozenset({"rectangle", "polygon", "ellipse", "keypoint", "brush", "bitmask"})

_LABELS = "labels"

#: Keys of ``data`` under which an image is likeliest.
_IMAGE_KEYS = ("image", "img", "image_url", "url", "photo", "picture", "file_name")

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".jp2", ".dng", ".mpo")


@dataclass(frozen=True)
class Region:
    """A shape: its number in the annotation (from 1), kind, values, label or None, and the image's size as said.

    `key` is its id, `parent` that of the region below which it is in the list of regions, `text` what was noted of it.
    """

    number: int
    kind: str
    value: Mapping[str, Any]
    label: str | None
    size: tuple[int, int] | None
    rotated: bool
    key: int | str | None = None
    parent: int | str | None = None
    text: str = ""


class LabelledTask:
    """A task as JSON has it; `results` are those of the annotation that counts, None where nobody labelled it.

    `annotators` is how many annotations could count, `predicted` whether there are predictions.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        given = next((data[key] for key in ("annotations", "completions") if isinstance(data.get(key), list)), None)
        self.results: list[Any] | None
        if given is None:
            self.results = _results_of_min(data)
            self.annotators = int(self.results is not None)
        else:
            good = [a for a in given if isinstance(a, dict) and not (a.get("was_cancelled") or a.get("skipped"))]
            first = next((a for a in good if a.get("ground_truth")), good[0] if good else {})
            results = first.get("result", [] if good else None)
            self.results = results if isinstance(results, list) else [] if good else None
            self.annotators = len(good)
        self.predicted = bool(data.get("predictions"))

    @property
    def images(self) -> tuple[str, str]:
        """What the task calls its image, and what it was called when it was uploaded; empty where it does not say."""
        fields = self._data.get("data")
        fields = fields if isinstance(fields, dict) else self._data
        texts = {key: value for key, value in fields.items() if isinstance(value, str) and value}
        likely = [texts[key] for key in _IMAGE_KEYS if key in texts]
        likely += [text for text in texts.values() if text.partition("?")[0].lower().endswith(_IMAGES)]
        upload = self._data.get("file_upload")
        return next(iter(likely), ""), upload if isinstance(upload, str) else ""

    @property
    def where(self) -> str:
        """How the user knows the task: by its id, and by its image."""
        key, name = self._data.get("id"), shown(self.images[0] or self.images[1])
        return f"task {shown(key)}, image {name}" if key is not None else f"image {name}"

    def _valued(self) -> list[dict[str, Any]]:
        """The results that have values: all but relations."""
        return [r for r in self.results or () if isinstance(r, dict) and isinstance(r.get("value"), dict)]

    def regions(self) -> Iterator[Region]:
        """The shapes of the annotation that counts, in its order."""
        results = self._valued()
        labels: dict[Any, str] = {}
        shapes = set()
        for result in results:
            name = _label_in(result["value"])
            if name is not None and _is_id(result.get("id")):
                labels.setdefault(result["id"], name)
            if _kind(result) in SHAPES and _is_id(result.get("id")):
                shapes.add(result["id"])
        for number, result in enumerate(results, 1):
            value, key = result["value"], result.get("id") if _is_id(result.get("id")) else None
            kind = _kind(result)
            if kind == "" and key not in shapes and {"x", "y", "width", "height"} <= value.keys():
                kind = "rectangle"  # an object of `Labels` alone
            if kind in SHAPES:
                label = _label_in(value) or labels.get(key)
                width, height = (
                    as_pixels(result.get(name, value.get(name))) for name in ("original_width", "original_height")
                )
                size = (width, height) if width is not None and height is not None else None
                merged = value if "rle" in value or "rle" not in result else {**value, "rle": result["rle"]}
                rotated = result.get("image_rotation") not in (None, 0, "0", 0.0)
                parent = above if _is_id(above := result.get("parentID")) else None
                yield Region(number, kind, merged, label, size, rotated, key, parent, _noted(result.get("meta")))

    def others(self) -> Counter[str]:
        """Results that are no shapes, by their kind; those that give a shape its label do not count."""
        shapes = {r.number for r in self.regions()}
        results = self._valued()
        named = {r.get("id") for i, r in enumerate(results, 1) if i in shapes and _is_id(r.get("id"))}
        found: Counter[str] = Counter()
        valued = {id(result) for result in results}
        for result in self.results or ():
            if id(result) in valued:
                of_shape = _is_id(result.get("id")) and result["id"] in named
                if _kind(result) in SHAPES or (_kind(result) == "" and of_shape):
                    continue
            kind = result.get("type") if isinstance(result, dict) else None
            found[kind[:40] if isinstance(kind, str) and kind else "relation"] += 1
        return found


def _noted(meta: Any) -> str:
    """The text of a region, which Label Studio has as ``{"text": ["…"]}``."""
    given = meta.get("text") if isinstance(meta, dict) else None
    lines = given if isinstance(given, list) else [given]
    return "\n".join(line for line in lines if isinstance(line, str) and line)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int)


def _kind(result: Mapping[str, Any]) -> str:
    """``rectangle`` of ``rectanglelabels``."""
    return str(result.get("type") or "").lower().removesuffix(_LABELS)


def _label_in(value: Mapping[str, Any]) -> str | None:
    """The first label of a region; None for one that has none."""
    for key, names in value.items():
        if key.lower().endswith(_LABELS) and isinstance(names, list) and names:
            return category_name({"name": names[0]})
    return None


def labels_of(value: Mapping[str, Any]) -> int:
    """How many labels a region has."""
    return max([len(v) for k, v in value.items() if k.lower().endswith(_LABELS) and isinstance(v, list)], default=0)


def _results_of_min(data: Mapping[str, Any]) -> list[Any] | None:
    """The results of a task of JSON-MIN, which has those of each control under its name; None without an annotation."""
    found: list[Any] = []
    for values in data.values():
        for value in values if isinstance(values, list) else ():
            if not isinstance(value, dict):
                continue
            kinds = (key for key in value if key.lower().removesuffix(_LABELS) in SHAPES)
            kind = next(kinds, "labels" if "labels" in value else None)
            if kind is not None:
                sizes = {name: value.get(name) for name in ("original_width", "original_height")}
                found.append({"type": kind, "value": value, **sizes})
    return found if found or "annotation_id" in data else None


def where_of(data: Any, number: int) -> str:
    """How the user knows a task."""
    key = data.get("id") if isinstance(data, dict) else None
    return f"task {number} (id {shown(key)})" if key is not None else f"task {number}"
