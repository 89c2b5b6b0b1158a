"""Layouts of a dataset: rows to wanted files. One module each; its name is the key in a config.

An exporter module has

- ``FOLDERS``: the kinds of files that it has by image (labels, images), of which each has a folder a split;
- ``LAYOUTS``: by name the `Layout`s that it knows, ``default`` among them: where these folders are;
- ``COLUMNS``: columns of `schema.annotations` that it needs beside key, class_id, head and tail;
- ``OF_TASK``: whether it writes rows of the task, and cannot hold objects of other tasks;
- ``GATHERS``: whether files of the whole dataset are made of the objects of all buckets: it is a `GatheringExporter`;
- ``fragment(rows, images) -> pyarrow.Table``: the wanted files (`schema.wanted`) of one bucket, their paths
  ``<kind>/<split>/<stem>``, wherever the layout has that folder;
- ``assemble(dataset, records) -> dict[str, bytes | Iterable[bytes]]``: files of the whole dataset, by path;
- ``training(task, path) -> str``: the line that trains on it.

Nothing here touches a file system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from pipeline.base import plugins
from pipeline.base.errors import UnknownNameError, unknown
from pipeline.exporters._layouts import DEFAULT, Layout, flat_stems, usual

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.classes import ClassMap, Names
    from pipeline.base.terms import Task

__all__ = ["DEFAULT", "Layout", "flat_stems", "usual"]


@dataclass(frozen=True)
class Dataset:
    """What an exporter needs to know of a whole subset.

    `maps` has the class map of each source, `sources` what each calls its classes; `splits` are those with an image,
    in the order train, val, test; `root` is the target's path, for the YAML that names it; `yaml` is portable,
    absolute or cloud. `digest` is the short digest of the subset, by which a training is traced to it. `documents` is,
    for each source that has such, by split what its file says beside images and annotations, as JSON. `layout` is that
    of the target; None: the usual one.
    """

    maps: tuple[ClassMap, ...]
    sources: tuple[Names, ...]
    task: Task
    splits: tuple[str, ...]
    root: str
    yaml: str
    digest: str = ""
    documents: tuple[Mapping[str, str], ...] = ()
    layout: Layout | None = None


#: A segmentation that is a list of polygons, or run lengths.
_OUTLINE = r'"segmentation"\s*:\s*(\[\s*\[|\{)'


@dataclass(frozen=True)
class BucketObjects:
    """JSON objects of one bucket, for a file that holds those of all.

    Both tables are the exporter's own. Of COCO JSON `images` has key, split, text (the object), id (null: none that can
    be kept) and where that is in the text (id_begin, id_stop; 0 and 0: nowhere), sorted by key. `objects` has image
    (row of `images`), kind (annotation or caption), text, id, id_begin, id_stop, image_id_begin, image_id_stop, and
    right (the image's id is there as the image has it), sorted by kind and image. Each text begins with
    what separates two objects of a list.
    """

    images: pa.Table
    objects: pa.Table

    def has_captions(self, split: str) -> bool:
        """Whether an image of `split` has a caption."""
        import pyarrow.compute as pc

        rows = self.objects["image"].filter(pc.equal(self.objects["kind"], "caption"))
        return bool(pc.any(pc.equal(self.images["split"].take(rows), split)).as_py())

    def has_masks(self, split: str) -> bool:
        """Whether an object of `split` that is no crowd is a mask of run lengths."""
        import pyarrow.compute as pc

        texts = self.objects["text"]
        crowd = pc.match_substring_regex(texts, r'"iscrowd"\s*:\s*1')
        masks = pc.and_(pc.match_substring(texts, '"counts"'), pc.invert(crowd))
        rows = self.objects["image"].filter(masks)
        return bool(pc.any(pc.equal(self.images["split"].take(rows), split)).as_py())

    @property
    def has_outlines(self) -> bool:
        """Whether an object has a polygon or a mask."""
        import pyarrow.compute as pc

        return bool(pc.any(pc.match_substring_regex(self.objects["text"], _OUTLINE)).as_py())


class Exporter(Protocol):
    """What an exporter module offers."""

    FOLDERS: tuple[str, ...]
    LAYOUTS: Mapping[str, Layout]
    COLUMNS: tuple[str, ...]
    OF_TASK: bool
    GATHERS: bool

    def fragment(self, rows: pa.Table, images: pa.Table) -> pa.Table:
        """The wanted files of one bucket."""

    def assemble(self, dataset: Dataset, records: Sequence[BucketObjects] = ()) -> dict[str, bytes | Iterable[bytes]]:
        """Files of the whole dataset: path below the target to content, at once or in pieces."""

    def training(self, task: Task, path: str) -> str:
        """The line that trains on the subset: `path` is its folder, or its zip where that is what was made."""


class GatheringExporter(Exporter, Protocol):
    """An exporter that makes files of the whole dataset of the objects of all buckets."""

    #: Whether it needs the width and height of each image; else it has those of images that are copied, or known.
    NEEDS_SIZES: bool

    def records(self, rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> BucketObjects:
        """What `assemble` needs of one bucket; `keypoints` is (K, D) for pose."""


def available() -> list[str]:
    """Names of all exporters."""
    return plugins.available(__name__)


def load(name: str) -> Exporter:
    """The exporter module called `name`; raises `UnknownNameError` with what there is."""
    return cast("Exporter", plugins.load(__name__, "target format", name))


def layout(exporter: str, name: str) -> Layout:
    """The layout `name` of an exporter; raises `UnknownNameError` with what there is."""
    known = load(exporter).LAYOUTS
    if name not in known:
        raise UnknownNameError(unknown(f"layout of format {exporter}", name, list(known)))
    return known[name]


def load_gathering(name: str) -> GatheringExporter:
    """The exporter called `name`, which `GATHERS`."""
    return cast("GatheringExporter", load(name))
