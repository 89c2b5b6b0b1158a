"""Counts of one bucket: images, label files, rows and what is wrong with them, by split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.job.spec import IndexSpec
from pipeline.reports.documents import SourceTotals
from pipeline.stages.index.duplicates import duplicate_rows

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Ints


def bucket_summary(
    spec: IndexSpec, images: pa.Table, rows: pa.Table, problems: pa.Table, labels: pa.Table, contents: npt.NDArray[Any]
) -> dict[str, SourceTotals]:
    """Counts by split; those by class have the class id, as text, or the class name for their key.

    `images`, `rows` and `problems` are tables of the index, `labels` the label files (split and size) with their
    `contents`: numbers that change with what is in them.
    """
    keys = images["key"].combine_chunks()
    encoded = images["split"].combine_chunks().dictionary_encode()
    code_of = {name: code for code, name in enumerate(encoded.dictionary.to_pylist())}
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    image_of_row, image_of_problem = (_positions(table["key"], keys) for table in (rows, problems))
    counts = _RowCounts(rows, image_of_row)
    label_split, label_bytes = labels["split"].to_numpy(), labels["size"].to_numpy()
    result: dict[str, SourceTotals] = {}
    for number, split in enumerate(spec.splits):
        code = code_of.get(split.split, -1)
        of_problem = codes[image_of_problem] == code
        of_images, of_rows = _image_counts(images.filter(pa.array(codes == code))), counts.where(codes == code)
        counted: dict[str, Any] = {
            "images": of_images["images"],
            "labels": of_images["labels"],
            "rows": of_rows["rows"],
            "bad_rows": int(problems["rows"].to_numpy()[of_problem].sum()),
            "objects": of_rows["objects"],
            "class_images": of_rows["class_images"],
            "no_image": of_images["no_image"],
            "many_images": of_images["many_images"],
            "duplicate_rows": of_rows["duplicate_rows"],
            "zero_size": of_rows["zero_size"],
            "label_bytes": int(label_bytes[label_split == number].sum()),
            "problems": _value_counts(problems["reason"].filter(pa.array(of_problem))),
            "content": int(contents[label_split == number].sum()),  # modulo 2**64: the order does not matter
        } | {name: of_rows[name] for name in ("loss", "drawn", "numbered") if name in of_rows}
        result[split.split] = cast("SourceTotals", counted)
    return result


def _image_counts(images: pa.Table) -> dict[str, Any]:
    """Images, label files by state, label files without an image, and images of a stem that has several."""
    has_label, has_image = images["label_path"].is_valid(), images["image_path"].is_valid()
    return {
        "images": int(pc.sum(has_image).as_py() or 0),
        "labels": _value_counts(images["label_state"]),
        "no_image": int(pc.sum(pc.and_not(has_label, has_image)).as_py() or 0),
        "many_images": int(pc.sum(images["other_images"].is_valid()).as_py() or 0),
    }


class _RowCounts:
    """Counts of rows whose image, by its position, is one of some images."""

    def __init__(self, rows: pa.Table, image: Ints) -> None:
        self._image = image
        self._ids, self._names = _classes(rows)
        boxes = [rows[name].to_numpy() for name in ("cx", "cy", "w", "h")]
        self._duplicate = duplicate_rows(image, self._ids, boxes, rows["tail"])
        self._flat = (boxes[2] == 0) | (boxes[3] == 0)
        pairs = np.sort(image << 32 | self._ids)
        self._pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        self._losses = rows["loss"] if rows["loss"].null_count < rows.num_rows else None
        numbered = pc.fill_null(pc.equal(rows["loss"], "instance"), fill_value=False).to_numpy()
        self._numbered = numbered if self._losses is not None and numbered.any() else None
        self._drawn = pc.or_(rows["tail"].is_valid(), rows["raw"].is_valid()).to_numpy()

    def where(self, chosen: Bools) -> dict[str, Any]:
        """The counts for the `chosen` images."""
        here = chosen[self._image]
        pairs = self._pairs[chosen[self._pairs >> 32]]
        counts = {
            "rows": int(here.sum()),
            "objects": _class_counts(self._ids[here], self._names),
            "class_images": _class_counts(pairs & 0xFFFFFFFF, self._names),
            "duplicate_rows": int((self._duplicate & here).sum()),
            "zero_size": int((self._flat & here).sum()),
        }
        if self._losses is not None:
            counts["loss"] = _value_counts(self._losses.filter(pa.array(here)).drop_null())
        if self._names is not None:
            counts["drawn"] = _class_counts(self._ids[here & self._drawn], self._names)
            if self._numbered is not None:
                counts["numbered"] = _class_counts(self._ids[here & self._numbered], self._names)
        return counts


def _positions(keys: pa.ChunkedArray, among: pa.Array) -> Ints:
    return np.asarray(pc.index_in(keys, among).to_numpy(zero_copy_only=False), np.int64)


def _classes(rows: pa.Table) -> tuple[npt.NDArray[Any], list[str] | None]:
    """The class of each row as a number: its id or, where rows carry names, the index of its name among the names."""
    labels = rows["label"].combine_chunks()
    if labels.null_count == len(labels):
        return rows["class_id"].to_numpy(), None
    coded = labels.dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def _value_counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {str(e["values"]): int(e["counts"]) for e in sorted(values.value_counts().to_pylist(), key=str)}


def _class_counts(ids: npt.NDArray[Any], names: list[str] | None) -> dict[str, int]:
    values, counts = np.unique(ids, return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    if names is None:
        return {str(number): count for number, count in pairs}
    return dict(sorted((names[number], count) for number, count in pairs))
