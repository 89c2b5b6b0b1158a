"""One bucket of the index: what changed in it, its new tables, its counts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import formats, storage
from pipeline.images.header import IMAGE_SUFFIXES
from pipeline.job.spec import IndexSpec
from pipeline.stages.index.buckets import BucketListing
from pipeline.stages.index.image_lookup import Finder, composed_as, curable, unsettled
from pipeline.stages.index.label_tables import content_marks, facts, problem_table, states_of, states_schema
from pipeline.stages.index.parts import BucketState, sound_state, stated, write_part
from pipeline.tables import schema
from pipeline.tables.duplicates import duplicate_rows
from pipeline.tables.schema import Kind, LabelState, part_name

#: A label file larger than this is none.
MAX_LABEL_BYTES = 64 << 20

#: So many label files, or bytes of them, are in memory at once.
_BATCH_FILES = 4096

#: Label files in memory at once, bytes: labelme's hold photographs.
_BATCH_BYTES = 64 << 20

Ints = npt.NDArray[np.int64]

Bools = npt.NDArray[np.bool_]

_READ_REASONS = {
    "too_large": f"is larger than {MAX_LABEL_BYTES >> 20} MiB: no label file",
    "vanished": "was there when the folder was listed, but is gone; run again",
    "changed": "changed while it was read; run again",
    "not_a_file": "is no file",
    "damaged": "is damaged in its archive (wrong CRC-32 or length); get the archive again",
    "stale": "has a stale handle: the server of its disk lost it; run again",
    "unreadable": "cannot be read; allow it with chmod",
}


@dataclass(frozen=True)
class BucketDone:
    """What became of a bucket: label files in it, its counts, and the stats (4 int64 each) of its files as listed."""

    bucket: int
    files: int
    summary: dict[str, Any]
    stats: bytes


class BucketIndexer:
    """Makes the tables of bucket `bucket` of `buckets` in `directory`."""

    def __init__(self, spec: IndexSpec, directory: str, buckets: int, bucket: int, keep: str | None) -> None:
        self.spec, self.directory, self.bucket, self.keep = spec, directory, bucket, keep
        self.started_ns = time.time_ns()
        self.made_by = {"spec": spec.digest(), "buckets": buckets}
        self.unsettled = False
        self.picture_stats: Ints | None = None

    def run(self, dealt: BucketListing) -> BucketDone:
        """Update the bucket from its listing."""
        listed = self._listed(dealt)
        marks = np.frombuffer(dealt.marks, np.int64).reshape(-1, 6)
        labels = self._of_kind(listed, 0)
        pictures = composed_as(labels, self._of_kind(listed, 1))
        if formats.load(self.spec.format).SIZED:
            self.picture_stats = marks[pictures["position"].to_numpy(), 2:]
        self.finder = Finder(self.spec, pictures, self.keep)
        self.stats = marks[labels["position"].to_numpy(), 2:].copy()
        self.contents: npt.NDArray[np.uint64] = np.zeros(labels.num_rows, np.uint64)
        old_files, old_summary = self._old_files()
        same = self._unchanged(labels, pictures, old_files)
        if old_files is not None and old_summary is not None and same.all():
            fresh = self._files(labels, pictures)
            if old_files.equals(fresh) and not self.unsettled:
                return self._done(listed, labels, old_summary)
        rows, states, problems = self._read(labels, same)
        labels = labels.set_column(labels.schema.get_field_index("size"), "size", pa.array(self.stats[:, 0]))
        fresh = self._files(labels, pictures)
        pictures = self._with_named(labels, pictures, self._by_suffix(labels))
        images = self.finder.complete(self._images(labels, pictures, states))
        summary = self._summary(images, rows, problems, labels)
        self._write_tables(rows, images, problems, fresh, summary)
        return self._done(listed, labels, summary)

    @staticmethod
    def _listed(dealt: BucketListing) -> pa.Table:
        marks = np.frombuffer(dealt.marks, np.int64).reshape(-1, 6)
        names = dealt.paths.split(b"\0") if dealt.count else []
        return pa.table(
            {
                "path": pa.array(names, pa.binary()).cast(pa.string()),
                "split": pa.array(marks[:, 0]),
                "kind": pa.array(marks[:, 1]),
                "size": pc.if_else(pa.array(marks[:, 1] == 0), pa.array(marks[:, 2]), pa.scalar(None, pa.int64())),
                "position": pa.array(np.arange(dealt.count)),
            }
        )

    def _write_tables(
        self, rows: pa.Table, images: pa.Table, problems: pa.Table, files: pa.Table, summary: dict[str, Any]
    ) -> None:
        """Write all parts, and last the state: it says that they belong together, and what made them."""
        digests = {
            "annotations": self._write(
                "annotations",
                rows,
                schema.annotations(),
                use_dictionary=["bucket", "key", "class_id", "label", "n_tokens", "loss"],
                write_statistics=["class_id"],
                compression={"raw": "zstd"},
            ),  # numbers hardly shrink, and the rest is read for every subset
            "images": self._write("images", images, schema.images()),
            "problems": self._write("problems", problems, schema.problems()),
            "files": self._write("files", files, schema.files()),
        }
        state = BucketState(self.made_by, summary, unsettled(images, problems), digests)
        state.write(self.directory, self.bucket)

    def _done(self, listed: pa.Table, labels: pa.Table, summary: dict[str, Any]) -> BucketDone:
        stats = np.zeros((listed.num_rows, 4), np.int64)
        stats[labels["position"].to_numpy()] = self.stats
        return BucketDone(self.bucket, labels.num_rows, summary, stats.tobytes())

    def _of_kind(self, listed: pa.Table, kind: int) -> pa.Table:
        """The listed labels (0) or images (1) with their key, sorted by key and, among images, by suffix."""
        table = listed.filter(pc.equal(listed["kind"], kind)).combine_chunks()
        stem = pc.replace_substring_regex(table["path"], r"\.[^./]*$", "")
        prefixes = pa.array([f"{self.spec.name}/{s.folder}/" for s in self.spec.splits])
        key = pc.binary_join_element_wise(prefixes.take(table["split"]), stem, "")
        table = table.append_column("key", key).append_column("stem", stem)
        if kind == 0:
            return table.sort_by("key").combine_chunks()
        suffix = (
            pc.utf8_lower(pc.utf8_slice_codeunits(table["path"], 0))
            if not table.num_rows
            else pc.utf8_lower(pc.extract_regex(table["path"], r"(?P<s>\.[^./]*)$").combine_chunks().field("s"))
        )
        rank = pc.index_in(suffix, pa.array(IMAGE_SUFFIXES))
        table = table.append_column("rank", rank)
        return table.sort_by([("key", "ascending"), ("rank", "ascending"), ("path", "ascending")]).combine_chunks()

    def _with_named(self, labels: pa.Table, pictures: pa.Table, paths: pa.Array) -> pa.Table:
        """`pictures` with those that nobody lists: one for each label file of a split that has a suffix for them.

        `paths` are what the images of `labels` are called.
        """
        numbers, count = labels["split"].combine_chunks(), labels.num_rows
        asked = pa.array([s.suffix is not None for s in self.spec.splits]).take(numbers)
        if not pc.any(asked).as_py():
            return pictures
        named = (
            pa.table(
                {
                    "path": paths,
                    "split": numbers,
                    "kind": pa.array(np.ones(count, np.int64)),
                    "size": pa.nulls(count, pa.int64()),
                    "position": pa.nulls(count, pa.int64()),
                    "key": labels["key"],
                    "stem": labels["stem"],
                    "rank": pa.array(np.zeros(count, np.int32)),
                }
            )
            .filter(asked)
            .select(pictures.column_names)
            .cast(pictures.schema)
        )
        return (
            pa.concat_tables([pictures, named])
            .sort_by([("key", "ascending"), ("rank", "ascending"), ("path", "ascending")])
            .combine_chunks()
        )

    def _by_suffix(self, labels: pa.Table) -> pa.Array:
        """What images are called that nobody lists: their label file's stem and the suffix of the split."""
        suffixes = pa.array([s.suffix for s in self.spec.splits], pa.string()).take(labels["split"].combine_chunks())
        return pc.binary_join_element_wise(labels["stem"].combine_chunks(), suffixes, "")

    def _files(self, labels: pa.Table, pictures: pa.Table) -> pa.Table:
        both = pa.concat_tables([labels.select(["key", "path", "size"]), pictures.select(["key", "path", "size"])])
        kinds = pa.array([Kind.LABEL] * labels.num_rows + [Kind.IMAGE] * pictures.num_rows, pa.string())
        of_pictures = (
            pa.nulls(pictures.num_rows, pa.binary())
            if self.picture_stats is None
            else self._fingerprints(self.picture_stats)
        )
        marks = pa.concat_arrays([self._fingerprints(self.stats), of_pictures])
        return (
            pa.table(
                {
                    "bucket": pa.array(np.full(both.num_rows, self.bucket, np.int32)),
                    "key": both["key"],
                    "kind": kinds,
                    "path": both["path"],
                    "size": both["size"],
                    "fingerprint": marks,
                    "content": pa.concat_arrays([pa.array(self.contents), pa.nulls(pictures.num_rows, pa.uint64())]),
                }
            )
            .cast(schema.files())
            .combine_chunks()
        )

    def _fingerprints(self, stats: Ints) -> pa.Array:
        """Size, mtime_ns, ctime_ns and inode as 32 bytes each; null for a file too young to be trusted, or unread."""
        count = len(stats)
        offsets = np.arange(count + 1, dtype=np.int32) * 32
        marks = pa.BinaryArray.from_buffers(
            pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(stats, "<i8"))]
        )
        young = (stats[:, 2] > self.started_ns - storage.settle_ns()) | (stats[:, 3] == 0)
        return pc.if_else(pa.array(young), pa.scalar(None, pa.binary()), marks) if young.any() else marks

    def _path(self, table: str) -> str:
        return os.path.join(self.directory, table, part_name(self.bucket))

    def _old_files(self) -> tuple[pa.Table | None, dict[str, Any] | None]:
        """The bucket as it was, where the same specification made it and all its parts are as they were written."""
        state = stated(self.directory, self.bucket)
        if state is None or state.made_by != self.made_by or sound_state(self.directory, self.bucket) is None:
            return None, None
        table = pq.read_table(self._path("files"))
        if table.schema.names != schema.files().names:
            return None, None
        self.unsettled = state.unsettled
        return table.combine_chunks().replace_schema_metadata(None), state.summary

    def _unchanged(self, labels: pa.Table, pictures: pa.Table, old: pa.Table | None) -> Bools:
        """Which of `labels` have the fingerprint that they had and, where it decides about rows, their image too."""
        if old is None:
            return np.zeros(labels.num_rows, np.bool_)
        before = old.filter(pc.equal(old["kind"], Kind.LABEL.value))
        position = pc.index_in(labels["key"], before["key"].combine_chunks())
        had = before["fingerprint"].combine_chunks().take(position)
        equal = pc.fill_null(pc.equal(self._fingerprints(self.stats), had), False)
        if self.picture_stats is not None:
            equal = pc.and_(equal, self._same_pictures(labels, pictures, old))
        if self.unsettled:
            problems = pq.read_table(self._path("problems"))
            again = problems["key"].filter(curable(problems)).combine_chunks()
            equal = pc.and_not(equal, pc.is_in(labels["key"].combine_chunks(), again))
        same = np.asarray(equal.to_numpy(zero_copy_only=False), np.bool_)
        read = pc.fill_null(before["content"].combine_chunks().take(position), pa.scalar(0, pa.uint64())).to_numpy()
        self.contents[same] = read[same]
        return same

    def _same_pictures(self, labels: pa.Table, pictures: pa.Table, old: pa.Table) -> pa.Array:
        """Whether the image of each of `labels` has the fingerprint that it had, or there was and is none."""
        assert self.picture_stats is not None
        before = old.filter(pc.equal(old["kind"], Kind.IMAGE.value))
        found = []
        for table, marks in (
            (before, before["fingerprint"].combine_chunks()),
            (pictures, self._fingerprints(self.picture_stats)),
        ):
            position = pc.index_in(labels["key"].combine_chunks(), table["key"].combine_chunks())
            found += [position.is_valid(), marks.take(position)]
        had, mark_before, has, mark = found
        return pc.or_(pc.fill_null(pc.equal(mark, mark_before), False), pc.invert(pc.or_(had, has)))

    def _read(self, labels: pa.Table, same: Bools) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Annotations, state and facts of each label file, and problems: of `same` files from the old tables."""
        changed = labels.filter(pa.array(~same)) if same.any() else labels
        rows, states, problems = self._parse(changed, np.flatnonzero(~same))
        if not same.any():
            return rows, states, problems
        kept = labels.filter(pa.array(same))["key"].combine_chunks()
        old_rows = pq.read_table(self._path("annotations")).cast(schema.annotations())
        old_rows = old_rows.filter(pc.is_in(old_rows["key"], kept))
        rows = (
            pa.concat_tables([old_rows, rows.cast(schema.annotations())])
            .sort_by([("key", "ascending"), ("line", "ascending")])
            .combine_chunks()
        )
        old_images = pq.read_table(self._path("images"), columns=["key", *states_schema().names])
        old = old_images.drop_columns("key").take(pc.index_in(labels["key"], old_images["key"].combine_chunks()))
        new = states.take(pc.index_in(labels["key"], changed["key"].combine_chunks()))
        states = pa.table(
            [
                pc.if_else(pa.array(same), old[f.name].combine_chunks(), new[f.name].combine_chunks())
                for f in states_schema()
            ],
            schema=states_schema(),
        )
        old_problems = pq.read_table(self._path("problems"))
        old_problems = old_problems.filter(pc.is_in(old_problems["key"], kept)).cast(schema.problems())
        problems = pa.concat_tables([old_problems, problems.cast(schema.problems())]).sort_by(
            [("key", "ascending"), ("line", "ascending")]
        )
        return rows, states, problems

    def _parse(self, labels: pa.Table, positions: Ints) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Read and parse label files, some thousand at a time; their stats go to `positions` of `self.stats`."""
        format_ = formats.load(self.spec.format)
        options = json.loads(self.spec.options)
        rows: list[pa.Table] = []
        states: list[pa.Table] = [states_schema().empty_table()]
        problems: list[tuple[str, str, int | None, str, str, int]] = []
        edges = _edges(labels["split"].to_numpy())
        begin = 0
        while begin < labels.num_rows:
            stop = min(begin + _BATCH_FILES, next(edge for edge in edges if edge > begin))
            part = labels.slice(begin, stop - begin)
            split = self.spec.splits[part["split"][0].as_py()]
            place, names = storage.locate(split.labels, self.keep), part["path"].to_pylist()
            contents, stats, failed = place.read_many(names, MAX_LABEL_BYTES, _BATCH_BYTES)
            stop = begin + len(contents)
            part, names = part.slice(0, len(contents)), names[: len(contents)]
            self.stats[positions[begin:stop]] = np.frombuffer(stats, np.int64).reshape(-1, 4)
            self.contents[positions[begin:stop]] = content_marks(split.split, names, contents, failed)
            keys = part["key"].combine_chunks()
            pictures = self.finder.asked(part["split"][0].as_py(), names, keys.to_pylist())
            parsed = format_.parse(contents, self.spec.task, self.spec.keypoints, options, pictures)
            rows.append(parsed.rows.append_column("key", keys.take(parsed.rows["file"])))
            parsed.problems = [p for p in parsed.problems if p.file not in failed]
            for i, reason in failed.items():
                parsed.states[i] = LabelState.CORRUPT
                parsed.problems.append(formats.Problem(i, None, reason, _READ_REASONS[reason], rows=0))
            states.append(states_of(parsed))
            problems += [
                (keys[p.file].as_py(), place.join(names[p.file]), p.line, p.reason, p.detail, p.rows)
                for p in parsed.problems
            ]
            begin = stop
        told = problem_table(problems)
        return self._annotations(rows), pa.concat_tables(states).combine_chunks(), told

    def _annotations(self, parts: list[pa.Table]) -> pa.Table:
        if not parts:
            return schema.annotations().empty_table()
        table = pa.concat_tables(parts, promote_options="default")
        table = table.append_column("bucket", pa.array(np.full(table.num_rows, self.bucket, np.int32)))
        for absent in (f for f in schema.annotations() if f.name not in table.column_names):
            table = table.append_column(absent.name, pa.nulls(table.num_rows, absent.type))
        return table.select(schema.annotations().names)

    def _images(self, labels: pa.Table, pictures: pa.Table, states: pa.Table) -> pa.Table:
        """One row a key that has a label file or an image."""
        image_keys = pictures["key"].combine_chunks()
        first = np.ones(len(image_keys), np.bool_)
        if len(first) > 1:
            first[1:] = pc.not_equal(image_keys.slice(1), image_keys.slice(0, len(first) - 1)).to_numpy(
                zero_copy_only=False
            )
        chosen = pictures.filter(pa.array(first))
        keys = pc.unique(pa.concat_arrays([labels["key"].combine_chunks(), image_keys]))
        keys = keys.take(pc.sort_indices(keys))
        of_label = pc.index_in(keys, labels["key"].combine_chunks())
        of_image = pc.index_in(keys, chosen["key"].combine_chunks())

        def either(column: str) -> pa.Array:
            return pc.coalesce(
                labels[column].combine_chunks().take(of_label), chosen[column].combine_chunks().take(of_image)
            )

        splits = pa.array([s.split for s in self.spec.splits], pa.string())
        return (
            pa.table(
                {
                    "bucket": pa.array(np.full(len(keys), self.bucket, np.int32)),
                    "key": keys,
                    "split": splits.take(either("split")),
                    "stem": either("stem"),
                    "label_path": labels["path"].combine_chunks().take(of_label),
                    "label_state": pc.fill_null(
                        states["label_state"].combine_chunks().take(of_label), LabelState.MISSING.value
                    ),
                    "image_path": chosen["path"].combine_chunks().take(of_image),
                    "image_size": chosen["size"].combine_chunks().take(of_image),
                    "other_images": self._others(keys, pictures, first),
                    **{f.name: states[f.name].combine_chunks().take(of_label) for f in facts()},
                }
            )
            .select(schema.images().names)
            .cast(schema.images())
        )

    @staticmethod
    def _others(keys: pa.Array, pictures: pa.Table, first: Bools) -> pa.Array:
        others: dict[str, list[str]] = {}
        for row in pictures.filter(pa.array(~first)).select(["key", "path"]).to_pylist() if not first.all() else ():
            others.setdefault(row["key"], []).append(row["path"])
        if not others:
            return pa.nulls(len(keys), pa.string())
        return pa.array(["\n".join(others[k]) if k in others else None for k in keys.to_pylist()], pa.string())

    def _write(self, table: str, data: pa.Table, as_schema: pa.Schema, **options: Any) -> str:
        fitting = data.cast(as_schema).replace_schema_metadata(None)
        return write_part(self.directory, table, self.bucket, lambda file: pq.write_table(fitting, file, **options))

    def _summary(self, images: pa.Table, rows: pa.Table, problems: pa.Table, labels: pa.Table) -> dict[str, Any]:
        """Counts by split; those by class have the class id, as text, for their key."""
        keys = images["key"].combine_chunks()
        image_split = images["split"].combine_chunks().dictionary_encode()
        image_of_row = pc.index_in(rows["key"], keys).to_numpy(zero_copy_only=False).astype(np.int64)
        code_of = {name: i for i, name in enumerate(image_split.dictionary.to_pylist())}
        codes = image_split.indices.to_numpy(zero_copy_only=False)
        ids, names = _classes(rows)
        doubled = duplicate_rows(image_of_row, ids, [rows[c].to_numpy() for c in ("cx", "cy", "w", "h")], rows["tail"])
        flat = (rows["w"].to_numpy() == 0) | (rows["h"].to_numpy() == 0)
        pairs = np.sort(image_of_row << 32 | ids)
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        problem_image = pc.index_in(problems["key"], keys).to_numpy(zero_copy_only=False).astype(np.int64)
        states, reasons = images["label_state"], problems["reason"]
        lost_rows = problems["rows"].to_numpy()
        has_label = images["label_path"].is_valid()
        has_image = images["image_path"].is_valid()
        label_bytes = labels["size"].to_numpy()
        label_split = labels["split"].to_numpy()
        result: dict[str, Any] = {}
        for number, split in enumerate(self.spec.splits):
            code = code_of.get(split.split, -1)
            here = pa.array(codes == code)
            of_row = codes[image_of_row] == code
            of_pair = codes[pairs >> 32] == code
            of_problem = pa.array(codes[problem_image] == code)
            result[split.split] = {
                "images": int(pc.sum(pc.and_(here, has_image)).as_py() or 0),
                "labels": _value_counts(states.filter(here)),
                "rows": int(of_row.sum()),
                "bad_rows": int(lost_rows[codes[problem_image] == code].sum()),
                "objects": _class_counts(ids[of_row], names),
                "class_images": _class_counts(pairs[of_pair] & 0xFFFFFFFF, names),
                "no_image": int(pc.sum(pc.and_(here, pc.and_not(has_label, has_image))).as_py() or 0),
                "many_images": int(pc.sum(pc.and_(here, images["other_images"].is_valid())).as_py() or 0),
                "duplicate_rows": int((doubled & of_row).sum()),
                "zero_size": int((flat & of_row).sum()),
                "label_bytes": int(label_bytes[label_split == number].sum()),
                "problems": _value_counts(reasons.filter(of_problem)),
                "content": int(self.contents[label_split == number].sum()),  # modulo 2**64: the order does not matter
            }
            if rows["loss"].null_count < rows.num_rows:
                result[split.split]["loss"] = _value_counts(rows["loss"].filter(pa.array(of_row)).drop_null())
            if names is not None:
                drawn = of_row & pc.or_(rows["tail"].is_valid(), rows["raw"].is_valid()).to_numpy()
                result[split.split]["drawn"] = _class_counts(ids[drawn], names)
        return result


def _edges(splits: Ints) -> list[int]:
    """Where the files of a split end; files are sorted by split."""
    return [*(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(splits)]


def _value_counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {str(e["values"]): int(e["counts"]) for e in sorted(values.value_counts().to_pylist(), key=str)}


def _class_counts(ids: npt.NDArray[Any], names: list[str] | None) -> dict[str, int]:
    values, counts = np.unique(ids, return_counts=True)
    told = {
        names[v] if names is not None else str(v): int(c) for v, c in zip(values.tolist(), counts.tolist(), strict=True)
    }
    return told if names is None else dict(sorted(told.items()))


def _classes(rows: pa.Table) -> tuple[npt.NDArray[Any], list[str] | None]:
    """The class of each row as a number: its id or, where rows carry names, the place of its name among the names."""
    labels = rows["label"].combine_chunks()
    if labels.null_count == len(labels):
        return rows["class_id"].to_numpy(), None
    coded = labels.dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
