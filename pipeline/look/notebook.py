"""A dataset in a notebook: its tables as Dask frames, its numbers, a contact sheet, and all of it as COCO JSON."""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.classes import Names
from pipeline.base.errors import DataError, UsageError
from pipeline.base.humanize import plural
from pipeline.base.terms import Task
from pipeline.base.text import printable
from pipeline.config.load import ConfigLike, as_config, is_config, load_config
from pipeline.look.bucket import Bucket, read_bucket, with_sizes
from pipeline.look.numbers import statistics_of
from pipeline.look.sheet import draw_sheet
from pipeline.look.stats import counts_of
from pipeline.look.thumbnails import encoded, fitted
from pipeline.look.view import View, open_view
from pipeline.reports.class_table import class_rows
from pipeline.reports.statistics import SIZES, Statistics
from pipeline.runtime.progress import Progress
from pipeline.stages.index.reader import frame_of
from pipeline.stages.plan.dataset_files import documents, records
from pipeline.storage import user_folder

if TYPE_CHECKING:
    from PIL import Image

#: A cell holds at most so many bytes; of its classes it shows the largest.
_CELL_BYTES, _CELL_CLASSES = 1_000_000, 20

#: Images of a cell's contact sheet, the longest side of that in pixels, and its quality.
_CELL_IMAGES, _CELL_SIDE, _CELL_QUALITY = 8, 900, 70


def open_subset(target: ConfigLike, workdir: str | Path | None = None) -> LookedAt:
    """The subset at `target`, a folder or URL that a build made; or what a config, or the file of one, would make.

    Its index is below `workdir`, by default in the user's cache folder. Raises `ConfigError` where nothing is.
    """
    return _opened(target, workdir)


def open_dataset(folder: str | Path, workdir: str | Path | None = None) -> LookedAt:
    """Any dataset folder: YOLO with its ``data.yaml``, COCO JSON, labelme; otherwise as `open_subset`."""
    return _opened(folder, workdir)


def _opened(given: ConfigLike, workdir: str | Path | None) -> LookedAt:
    workdir = os.fspath(workdir or user_folder("cache"))
    what = os.fspath(given) if isinstance(given, str | Path) else as_config(given)
    if isinstance(what, str) and os.path.isfile(what) and is_config(what):
        what = load_config(what)
    progress = Progress(sys.stderr, quiet="ipykernel" not in sys.modules)
    return LookedAt(open_view(what, workdir, progress), progress)


class LookedAt:
    """A dataset that was opened; nothing of it is ever changed."""

    def __init__(self, view: View, progress: Progress) -> None:
        self.view = view
        self._progress = progress

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; the position is the id."""
        return self.view.classes

    @property
    def images(self) -> Any:
        """One row an image, a Dask frame: key, split, image_path, and width and height in pixels where known."""
        return self._frame(_images)

    @property
    def objects(self) -> Any:
        """One row an object, a Dask frame: key, split, class_id, class_name, and its box.

        cx, cy, w and h are shares of the image, 0 to 1; left, top, width and height pixels, where those are known.
        """
        return self._frame(_objects)

    def _frame(self, part: Any) -> Any:
        read = functools.partial(part, self.view)
        return frame_of(read, self.view.buckets, read(0).slice(0, 0))

    @functools.cached_property
    def statistics(self) -> Statistics:
        """The counts of all of it, see `Statistics`."""
        return statistics_of(self.view, self._progress)

    def stats(self) -> Any:
        """A pandas frame with one row a class: images and objects by split, objects by size, and the share of all."""
        import pandas as pd

        rows = []
        for row in class_rows(counts_of(self.statistics, self.classes), every=True):
            counts = {f"{s} {what}": side[s] for s in row.images for what, side in
                      (("images", row.images), ("objects", row.objects))}  # fmt: skip
            sizes = dict(zip(SIZES, row.sizes, strict=True)) if row.sizes else {}
            rows.append({"id": row.number, "class": row.name, **counts, **sizes, "share": row.share})
        return pd.DataFrame(rows).set_index("id")

    def show(
        self,
        class_: str | Sequence[str] = (),
        n: int = 12,
        *,
        split: str | None = None,
        seed: int = 0,
        objects: bool = False,
        sort: str | None = None,
    ) -> Image.Image:
        """A contact sheet of `n` images or, with `objects`, of single objects; see `draw_sheet`."""
        classes = (class_,) if isinstance(class_, str) else tuple(class_)
        return draw_sheet(self.view, count=n, classes=classes, split=split, seed=seed, objects=objects, sort=sort)

    def to_coco(self, split: str | None = None) -> dict[str, Any]:
        """All objects as one COCO JSON, of `split` or of all splits one after another; categories count from 1.

        It is in memory as a whole. Raises `UsageError` for an unknown split, `DataError` for an image of unknown size
        in pixels.
        """
        view = self.view
        if split is not None and split not in view.splits:
            raise UsageError(f"{split}: is no split of {view.what}, which has {', '.join(view.splits)}")
        sources = [(one.classes, Names(one.classes.source, view.keypoints, None, {})) for one in view.sources]
        splits = (split,) if split is not None else view.splits
        task = Task.POSE if view.keypoints is not None else Task.DETECT
        parts = [_records(view, bucket) for bucket in range(view.buckets)]
        made: dict[str, Any] = {}
        for path, content in sorted(documents("coco", sources, task, splits, parts).items()):
            if not path.endswith(".json") or "captions" in path:
                continue
            found = json.loads(content)
            shift = {
                key: max((item["id"] for item in made.get(key, ())), default=0) for key in ("images", "annotations")
            }
            for item in found["images"]:
                item["id"] += shift["images"]
            for item in found["annotations"]:
                item["id"], item["image_id"] = item["id"] + shift["annotations"], item["image_id"] + shift["images"]
            made = {**found, **{key: [*made.get(key, ()), *found[key]] for key in ("images", "annotations")}}
        return made

    def __repr__(self) -> str:
        view, classes = self.view, plural(len(self.classes), "class", "classes")
        return f"<{view.kind} {printable(view.what)}: {classes} in {', '.join(view.splits)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the largest classes, and a contact sheet as small as it must be."""
        found, rows = self.statistics, class_rows(counts_of(self.statistics, self.classes))
        lines = "".join(
            f"<tr><td>{row.number}</td><td style='text-align:left'><bdi>{escape(printable(row.name))}</bdi></td>"
            f"<td>{sum(row.images.values()):,}</td><td>{row.total:,}</td><td>{row.share:.1%}</td></tr>"
            for row in rows[:_CELL_CLASSES]
        )
        more = (
            f"<p>and {plural(len(rows) - _CELL_CLASSES, 'more class', 'more classes')}</p>"
            if len(rows) > _CELL_CLASSES
            else ""
        )
        head = (
            f"<p><b><bdi>{escape(printable(self.view.what))}</bdi></b>: {plural(found.images, 'image')}, "
            f"{plural(found.objects, 'object')}, {plural(len(self.classes), 'class', 'classes')}</p>"
            "<table><thead><tr><th>id</th><th>class</th><th>images</th>"
            f"<th>objects</th><th>share</th></tr></thead><tbody>{lines}</tbody></table>{more}"
        )
        if not found.images:
            return head
        sheet = self.show(n=_CELL_IMAGES)
        for side in (_CELL_SIDE, _CELL_SIDE // 2, _CELL_SIDE // 4):
            data = base64.b64encode(encoded(fitted(sheet, side), ".jpg", _CELL_QUALITY)).decode()
            cell = f'{head}<img alt="a sample of the images with their objects" src="data:image/jpeg;base64,{data}">'
            if len(cell.encode()) <= _CELL_BYTES:
                return cell
        return head


def _images(view: View, bucket: int) -> Any:
    found = with_sizes(view, read_bucket(view, bucket).images)
    return found.select(["key", "split", "image_path", "width", "height"])


def _objects(view: View, bucket: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = read_bucket(view, bucket)
    images = with_sizes(view, found.images)
    rows, image = found.objects, pa.array(found.image)
    names = pa.array(view.classes, pa.string()).take(rows["class_id"].combine_chunks())
    width, height = (images[name].combine_chunks().take(image).cast(pa.float64()) for name in ("width", "height"))
    cx, cy, w, h = (rows[name].combine_chunks() for name in ("cx", "cy", "w", "h"))
    columns = {
        "key": rows["key"],
        "split": images["split"].combine_chunks().take(image),
        "class_id": rows["class_id"],
        "class_name": names,
        "cx": cx,
        "cy": cy,
        "w": w,
        "h": h,
        "left": pc.multiply(pc.subtract(cx, pc.divide(w, 2.0)), width),
        "top": pc.multiply(pc.subtract(cy, pc.divide(h, 2.0)), height),
        "width": pc.multiply(w, width),
        "height": pc.multiply(h, height),
    }
    return pa.table(columns)


def _records(view: View, bucket: int) -> Any:
    found: Bucket = read_bucket(view, bucket, raw=True)
    images = with_sizes(view, found.images)
    if images["width"].null_count:
        row = images["width"].is_null().to_pylist().index(True)
        raise DataError(f"{images['key'][row].as_py()}: the size of its image is not known, and COCO JSON needs it")
    return records("coco", found.objects, images, view.keypoints)
