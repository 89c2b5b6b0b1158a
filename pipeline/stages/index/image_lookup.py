"""The image of a label file that has none of its stem, or does not say its size."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import formats, storage
from pipeline.images.header import IMAGE_SUFFIXES, Picture, picture_of
from pipeline.job.spec import IndexSpec


class Finder:
    """Looks for images of the source `spec`; `pictures` are those listed in the bucket, with key and path.

    `keep` is as in `storage.locate`.
    """

    def __init__(self, spec: IndexSpec, pictures: pa.Table, keep: str | None) -> None:
        self._spec, self._keep = spec, keep
        self._pictures = pictures
        self._by_key: dict[str, str] | None = None

    def asked(self, split: int, labels: Sequence[str], keys: Sequence[str]) -> formats.Pictures:
        """What a format may ask about a batch of label files, all of split number `split`."""

        def picture(number: int, said: str | None) -> Picture | None:
            folder = self._spec.splits[split].images
            path = self._listed(keys[number]) or self._said(split, labels[number], said)
            data = storage.locate(folder, self._keep).read(path) if folder is not None and path is not None else None
            return picture_of(data) if data else None

        return picture

    def complete(self, images: pa.Table) -> pa.Table:
        """`images` (`schema.images`) with the image that a label file says, where there is none of its stem."""
        lacking = pc.and_(images["image_path"].is_null(), images["image_said"].is_valid())
        if not pc.any(lacking).as_py():
            return images
        number = {s.split: i for i, s in enumerate(self._spec.splits)}
        rows = images.select(["split", "label_path", "image_path", "image_said"]).to_pylist()
        found = [
            row["image_path"] or self._said(number[row["split"]], row["label_path"], row["image_said"]) for row in rows
        ]
        place = images.schema.get_field_index("image_path")
        return images.set_column(place, images.schema.field(place), pa.array(found, pa.string()))

    def _listed(self, key: str) -> str | None:
        if self._by_key is None:
            pairs: list[dict[str, Any]] = self._pictures.select(["key", "path"]).to_pylist()
            self._by_key = {p["key"]: p["path"] for p in reversed(pairs)}
        return self._by_key.get(key)

    def _said(self, split: int, label: str, said: str | None) -> str | None:
        """The path of the image that a label file says, if it is one of the split's and no other label file's own."""
        spec = self._spec.splits[split]
        if said is None or spec.images is None:
            return None
        folder = posixpath.dirname(label)
        suffix = formats.load(self._spec.format).SUFFIX
        # Folders are often wrong, since label files were moved; then the name alone may be right.
        for candidate in (
            posixpath.normpath(posixpath.join(folder, said)),
            posixpath.join(folder, posixpath.basename(said)),
        ):
            stem, dot, kind = candidate.rpartition(".")
            if candidate.startswith("../") or f"{dot}{kind}".lower() not in IMAGE_SUFFIXES:
                continue
            (there,) = storage.locate(spec.images, self._keep).exist_many([candidate])
            (taken,) = storage.locate(spec.labels, self._keep).exist_many([f"{stem}{suffix}"])
            if there and not taken:
                return candidate
        return None


def unsettled(images: pa.Table, problems: pa.Table) -> bool:
    """Whether files of other buckets may decide about images or label files of this one."""
    path = images["image_path"]
    own = pc.equal(pc.replace_substring_regex(path, r"\.[^./]*$", ""), images["stem"])
    borrowed = pc.and_(images["image_said"].is_valid(), pc.invert(pc.fill_null(own, False)))
    return bool(pc.any(borrowed).as_py() or pc.any(curable(problems)).as_py())


def curable(problems: pa.Table) -> pa.ChunkedArray:
    """Which `problems` another image may cure, though the label file stays as it is."""
    return pc.is_in(problems["reason"], pa.array(["no_size"]))
