"""The image of a label file that has none of its stem, or does not say its size."""

from __future__ import annotations

import functools
import itertools
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.base.text import composed
from pipeline.images.header import Picture
from pipeline.images.inspection import read_pictures
from pipeline.job.spec import IndexSpec

#: So many steps at the end of a path that was written elsewhere are searched for here.
_STEPS = 6


class Finder:
    """Searches for images of the source `spec`; `pictures` are those listed in the bucket, with key and path.

    `unclaimed` are the listed images of each split that have no label file of their stem, in whatever bucket, joined by
    NUL (see `buckets.unclaimed_images`): what a label file says is searched for among these, and no location is asked.
    `keep` is as in `storage.locate`.
    """

    def __init__(self, spec: IndexSpec, pictures: pa.Table, unclaimed: Sequence[bytes], keep: str | None) -> None:
        self._spec, self._keep = spec, keep
        self._pictures = pictures
        self._unclaimed = unclaimed
        self._by_key: dict[str, str] | None = None
        self._found: dict[tuple[int, str, str], str | None] = {}

    def asked(self, split: int, labels: Sequence[str], keys: Sequence[str]) -> AskedPictures:
        """What a format may ask about a batch of label files, all of split number `split`."""
        folder = self._spec.splits[split].images
        location = storage.locate(folder, self._keep) if folder is not None else None
        said = functools.partial(self._said, split)
        return AskedPictures(location, [self._listed(key) for key in keys], labels, said)

    def complete(self, images: pa.Table) -> pa.Table:
        """`images` (`schema.images`) with the image that a label file says or holds, where none has its stem."""
        lacking = pc.and_(
            images["image_path"].is_null(), pc.or_(images["image_said"].is_valid(), images["held_suffix"].is_valid())
        )
        if not pc.any(lacking).as_py():
            return images
        number = {s.split: i for i, s in enumerate(self._spec.splits)}
        rows = images.select(
            ["split", "stem", "label_path", "image_path", "image_size", "image_said", "held_suffix", "held_size"]
        ).to_pylist()
        for row, lacks in zip(rows, lacking.to_pylist(), strict=True):
            if not lacks:
                continue
            split = number[row["split"]]
            row["image_path"] = self._said(split, row["label_path"], row["image_said"])
            spec = self._spec.splits[split]
            if row["image_path"] is None and row["held_suffix"] is not None and spec.images == spec.labels:
                row["image_path"] = storage.embedded_name(row["label_path"], row["stem"], row["held_suffix"])
                row["image_size"] = row["held_size"]
        for name in ("image_path", "image_size"):
            at = images.schema.get_field_index(name)
            field = images.schema.field(at)
            images = images.set_column(at, field, pa.array([row[name] for row in rows], field.type))
        return images

    def _listed(self, key: str) -> str | None:
        if self._by_key is None:
            pairs: list[dict[str, Any]] = self._pictures.select(["key", "path"]).to_pylist()
            self._by_key = {p["key"]: p["path"] for p in reversed(pairs)}
        return self._by_key.get(key)

    def _said(self, split: int, label: str, said: str | None) -> str | None:
        """The path of the image that a label file says, if it is one of the split's and no other label file's own."""
        if said is None or not self._unclaimed or not self._unclaimed[split]:
            return None
        asked = split, label, said
        if asked not in self._found:
            names = _by_composed(self._unclaimed[split])
            paths = _candidates(posixpath.dirname(label), said)
            self._found[asked] = next((names[path] for path in paths if path in names), None)
        return self._found[asked]


class AskedPictures:
    """The images of a batch of label files, at `location` (None: there are none); a `formats.Pictures`.

    `own` are those of their stems, by the number of the label file in `labels`: they are looked up together when the
    first is asked for. `said` searches for what a label file says. Where each such image is a request over a network,
    it is answered by None, and noted, until `look_up` asks for all of them at once.
    """

    def __init__(
        self,
        location: storage.Location | None,
        own: Sequence[str | None],
        labels: Sequence[str],
        said: Callable[[str, str | None], str | None],
    ) -> None:
        self._location, self._own, self._labels, self._said = location, own, labels, said
        self._seen: dict[str, Picture | None] | None = None
        self._later: dict[str, None] = {}

    def __call__(self, number: int, said: str | None) -> Picture | None:
        """What the image says of itself, None where none is known."""
        if self._location is None:
            return None
        if self._seen is None:
            self._seen = headers(self._location, [path for path in self._own if path is not None])
        path = self._own[number] or self._said(self._labels[number], said)
        if path is None or path in self._seen:
            return self._seen[path] if path is not None else None
        if not self._location.on_disk:
            self._later[path] = None
            return None
        self._seen |= headers(self._location, [path])
        return self._seen[path]

    def look_up(self) -> bool:
        """Ask for all images that were noted; whether there were any, so that the files are to be parsed again."""
        if not self._later or self._location is None or self._seen is None:
            return False
        self._seen |= headers(self._location, [*self._later])
        self._later.clear()
        return True


@functools.lru_cache(maxsize=4)
def _by_composed(names: bytes) -> dict[str, str]:
    """Sorted `names`, joined by NUL, by themselves in Unicode's composed form; of equal ones the first."""
    return {composed(name): name for name in reversed(names.decode().split("\0"))}


def headers(location: storage.Location, paths: Sequence[str]) -> dict[str, Picture | None]:
    """What images say of themselves, by path; of those that would have to be fetched first, nothing."""
    if not paths:
        return {}
    here = list(itertools.compress(paths, location.at_hand(paths)))
    found: dict[str, Picture | None] = dict.fromkeys(paths)
    return found | {here[i]: picture for i, picture in read_pictures(location, here)}


def _candidates(folder: str, said: str) -> list[str]:
    """Where the image may be that a label file in `folder` says: as it says it, else by the end of that path.

    Folders are often wrong, since files were moved, or drawn on another machine: then the last steps alone may be
    right. Tools write URLs (``%20``) for paths. Paths are in Unicode's composed form, for machines compose letters in
    their own way.
    """
    found: dict[str, None] = {}
    for text in dict.fromkeys((said, urllib.parse.unquote(said))):
        path = re.sub(r"^(file:/*|[A-Za-z]:)", "/", text)
        if not path.startswith("/"):
            found[posixpath.normpath(posixpath.join(folder, path))] = None
        steps = [step for step in path.split("/") if step not in ("", ".", "..")]
        for first in range(max(len(steps) - _STEPS, 0), len(steps)):
            end = "/".join(steps[first:])
            found |= {posixpath.join(folder, end): None, end: None}
    return [path for path in map(composed, found) if not path.startswith(("../", "/"))]


def composed_as(labels: pa.Table, pictures: pa.Table) -> pa.Table:
    """`pictures` with key and stem of the label file whose stem is theirs but for how letters are composed.

    A Mac composes ``ü`` of two characters, everybody else writes it as one. Both tables have key and stem, sorted by
    key; where a label file has an image of its very stem, it stays its own.
    """
    if pc.all(pc.string_is_ascii(pictures["stem"])).as_py() is not False:
        return pictures
    own = pictures["key"].combine_chunks()
    lacking = labels.filter(pc.invert(pc.is_in(labels["key"], own)))
    composed = pc.utf8_normalize(lacking["key"].combine_chunks(), "NFC")
    position = pc.index_in(pc.utf8_normalize(own, "NFC"), composed)
    position = pc.if_else(pc.is_in(own, labels["key"].combine_chunks()), pa.scalar(None, pa.int32()), position)
    for name in ("key", "stem"):
        column = pictures.schema.get_field_index(name)
        taken = pc.coalesce(lacking[name].combine_chunks().take(position), pictures[name].combine_chunks())
        pictures = pictures.set_column(column, pictures.schema.field(column), taken)
    return pictures.sort_by([("key", "ascending"), ("rank", "ascending"), ("path", "ascending")]).combine_chunks()


def unsettled(images: pa.Table, problems: pa.Table) -> bool:
    """Whether files of other buckets may decide about images or label files of this one."""
    path = images["image_path"]
    own = pc.equal(pc.replace_substring_regex(path, r"\.[^./]*$", ""), images["stem"])
    borrowed = pc.and_(images["image_said"].is_valid(), pc.invert(pc.fill_null(own, False)))
    return bool(pc.any(borrowed).as_py() or pc.any(curable(problems)).as_py())


def curable(problems: pa.Table) -> pa.ChunkedArray:
    """Which `problems` another image may cure, though the label file stays as it is."""
    return pc.is_in(problems["reason"], pa.array(["no_size", "size_differs"]))
