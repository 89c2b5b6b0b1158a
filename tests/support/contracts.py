"""What every format and every exporter must hold; their tests are subclasses with samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import xxhash
import yaml

from pipeline import exporters, formats
from pipeline.base.classes import Names
from pipeline.base.errors import UnknownNameError
from pipeline.base.terms import Task
from pipeline.config.class_map import ClassSpec, class_map
from pipeline.exporters import Dataset
from pipeline.formats import Parsed
from pipeline.formats.yolo import render
from pipeline.images.header import Picture
from pipeline.tables import schema
from pipeline.tables.schema import LabelState

#: Columns of `Parsed.rows` beside ``file``.
ROW_COLUMNS = ("line", "class_id", "head", "tail", "cx", "cy", "w", "h", "n_tokens")

GARBAGE = [
    b"\0",
    b"\xff\xfe\x00\x01",
    b"garbage\n",
    b"{",
    b"\r\r\r x",
    b"0 0.5 0.5 0.5\n",
    b"\xef\xbb\xbf" * 2 + b"0",
    b"1" * 5000,
    b"- 1 1 1 1",
    b"\xd9\xa1 1 1 1 1",
    b"0 0,5 0,5 0,5 0,5\n",
]


class FormatContract:
    """A format: bytes to rows and back. `samples` are whole files of each task that are in order."""

    name: ClassVar[str]
    samples: ClassVar[Mapping[Task, Sequence[bytes]]]
    keypoints: ClassVar[tuple[int, int] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}
    nothing: ClassVar[bytes] = b""
    picture: ClassVar[Picture | None] = None

    @property
    def format(self) -> formats.LabelFileFormat:
        """The module under test."""
        return formats.load_label_files(self.name)

    def parse(self, files: Sequence[bytes], task: Task) -> Parsed:
        """Parse with the keypoints and the image of the samples."""
        keypoints = self.keypoints if task is Task.POSE else None
        return self.format.parse(files, task, keypoints, self.options, lambda _number, _path: self.picture)

    def test_is_registered(self) -> None:
        assert self.name in formats.available()
        assert self.format.SUFFIX.startswith(".")
        assert self.format.SUFFIX.lower() == self.format.SUFFIX
        assert frozenset(self.samples) == self.format.TASKS

    def test_rows_have_the_schema(self) -> None:
        for task, files in self.samples.items():
            rows = self.parse(files, task).rows
            assert rows["file"].type == pa.int32()
            for column in ROW_COLUMNS:
                assert rows[column].type == schema.annotations().field(column).type, column
                assert schema.annotations().field(column).nullable or rows[column].null_count == 0, column

    def test_samples_are_in_order(self) -> None:
        for task, files in self.samples.items():
            parsed = self.parse(files, task)
            assert parsed.problems == []
            assert parsed.states == [LabelState.FOUND] * len(files)
            assert set(parsed.rows["file"].to_pylist()) == set(range(len(files)))
            places = list(zip(parsed.rows["file"].to_pylist(), parsed.rows["line"].to_pylist(), strict=True))
            assert places == sorted(places)

    def test_boxes_are_where_objects_are(self) -> None:
        for task, files in self.samples.items():
            rows = self.parse(files, task).rows
            for column in ("cx", "cy", "w", "h"):
                values = rows[column].to_numpy()
                assert np.isfinite(values).all()
                assert ((values > -0.02) & (values < 1.02)).all()

    def test_a_file_does_not_depend_on_its_batch(self) -> None:
        for task, files in self.samples.items():
            mixed = [part for file in files for part in (file, *GARBAGE)]
            together = self.parse(mixed, task)
            for number, file in enumerate(mixed):
                alone = self.parse([file], task)
                mask = pa.array(together.rows["file"].to_numpy() == number)
                assert together.rows.filter(mask).drop_columns("file").equals(alone.rows.drop_columns("file"))
                assert together.states[number] == alone.states[0]
                told = [(p.line, p.reason, p.detail) for p in together.problems if p.file == number]
                assert told == [(p.line, p.reason, p.detail) for p in alone.problems]

    def test_nothing_is_no_problem(self) -> None:
        for task in self.samples:
            assert self.parse([], task).rows.num_rows == 0
            parsed = self.parse([self.nothing, self.nothing], task)
            assert (parsed.rows.num_rows, parsed.states, parsed.problems) == (0, [LabelState.EMPTY] * 2, [])

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_garbage_is_a_problem_not_an_exception(self, garbage: bytes) -> None:
        for task in self.samples:
            parsed = self.parse([self.nothing, garbage], task)
            assert parsed.states == [LabelState.EMPTY, LabelState.CORRUPT]
            assert parsed.rows.num_rows == 0
            for problem in parsed.problems:
                assert problem.file == 1
                assert problem.line is None or problem.line > 0
                assert problem.reason.isidentifier()
                assert "\n" not in problem.detail

    def test_an_unknown_name_tells_what_there_is(self) -> None:
        with pytest.raises(UnknownNameError) as caught:
            formats.load("tfrecord")
        assert str(caught.value) == f"unknown format 'tfrecord'; available: {', '.join(formats.available())}"


class RowFormatContract(FormatContract):
    """A format whose rows are those that the YOLO layout writes."""

    def test_render_gives_the_files_back(self) -> None:
        for task, files in self.samples.items():
            rows = self.parse(files, task).rows
            lines = self.render(rows, rows["class_id"].combine_chunks())
            numbers = rows["file"].to_pylist()
            for number, file in enumerate(files):
                made = b"".join(line for line, n in zip(lines, numbers, strict=True) if n == number)
                assert made == file

    def test_render_changes_the_class_alone(self) -> None:
        for task, files in self.samples.items():
            rows = self.parse(files, task).rows
            other = pa.array(np.arange(rows.num_rows, dtype=np.int32) + 100)
            lines, numbers = self.render(rows, other), rows["file"].to_pylist()
            made = [b"".join(ln for ln, n in zip(lines, numbers, strict=True) if n == i) for i in range(len(files))]
            again = self.parse(made, task).rows
            assert again["class_id"].to_pylist() == other.to_pylist()
            for column in ("head", "tail", "cx", "cy", "w", "h", "n_tokens"):
                assert again[column].to_pylist() == rows[column].to_pylist()

    def render(self, rows: pa.Table, class_id: pa.Array) -> list[bytes]:
        """Rendered rows as a list."""
        made: list[bytes] = render(rows["head"].combine_chunks(), class_id, rows["tail"].combine_chunks()).to_pylist()
        return made


class ExporterContract:
    """An exporter: rows to wanted files. Rows and images here are in order, as the stages hand them on."""

    name: ClassVar[str]

    @property
    def exporter(self) -> exporters.Exporter:
        """The module under test."""
        return exporters.load(self.name)

    @staticmethod
    def images(*stems: str, pictures: bool = True) -> pa.Table:
        """Rows of `schema.images`: of split val where the stem begins with v, else of train."""
        empty: dict[str, Any] = dict.fromkeys(schema.images().names)
        rows = [
            empty
            | {
                "bucket": 0,
                "key": f"source/x/{s}",
                "split": "val" if s.startswith("v") else "train",
                "stem": s,
                "label_path": f"{s}.txt",
                "label_state": "found",
                "image_path": f"{s}.JPG",
            }
            for s in sorted(stems)
        ]
        table = pa.Table.from_pylist(rows, schema.images())
        if not pictures:
            return table
        marks = pa.array([f"mark of {s}".encode() for s in sorted(stems)], pa.binary())
        table = table.append_column("source", pa.array([f"/src/{s}.JPG" for s in sorted(stems)], pa.string()))
        return table.append_column("size", pa.array([7] * len(stems), pa.int64())).append_column("mark", marks)

    @staticmethod
    def rows(*entries: tuple[str, int, bytes]) -> pa.Table:
        """Rows of (stem, class id, bytes after it), sorted by key."""
        placed = sorted(entries, key=lambda e: e[0])
        return pa.table(
            {
                "key": pa.array([f"source/x/{s}" for s, _, _ in placed], pa.string()),
                "class_id": pa.array([c for _, c, _ in placed], pa.int32()),
                "head": pa.nulls(len(placed), pa.binary()),
                "tail": pa.array([t for _, _, t in placed], pa.binary()),
            }
        )

    def fragment(self, rows: pa.Table, images: pa.Table) -> list[dict[str, Any]]:
        """The wanted files as dicts, after a look at what holds for all of them."""
        table = self.exporter.fragment(rows, images)
        assert table.schema.equals(schema.wanted())
        for field in schema.wanted():
            assert field.nullable or table[field.name].null_count == 0, field.name
        wanted: list[dict[str, Any]] = table.to_pylist()
        paths = [w["path"] for w in wanted]
        assert len(set(paths)) == len(paths)
        for file in wanted:
            assert file["path"].split("/")[0] in self.exporter.FOLDERS
            assert ".." not in file["path"].split("/")
            assert (file["content"] is None) != (file["source"] is None)
            if file["content"] is not None:
                assert file["size"] == len(file["content"])
                assert file["digest"] == xxhash.xxh3_128_digest(file["content"])
        return wanted

    ROWS = (("a", 0, b" 0.1 0.1 0.1 0.1"), ("a", 1, b" 0.2 0.2 0.2 0.2"), ("v", 1, b" 0.3 0.3 0.3 0.3"))

    def test_every_object_is_counted(self) -> None:
        if "labels" not in self.exporter.FOLDERS:
            return  # its objects are in one file with those of all buckets, which its own tests look at
        wanted = self.fragment(self.rows(*self.ROWS), self.images("a", "b", "v"))
        counted = [dict(w["objects"]) for w in wanted if w["objects"] is not None]
        assert sum(sum(c.values()) for c in counted) == 3
        assert sum(c.get(1, 0) for c in counted) == 2

    def test_pictures_are_copied_from_their_source(self) -> None:
        wanted = self.fragment(self.rows(*self.ROWS), self.images("a", "b", "v"))
        copied = [w for w in wanted if w["kind"] == "image"]
        assert [w["source"] for w in copied] == ["/src/a.JPG", "/src/b.JPG", "/src/v.JPG"]
        assert all(w["size"] == 7 and w["objects"] is None for w in copied)
        assert copied[0]["digest"] == xxhash.xxh3_128_digest(b"mark of a")
        assert not [w for w in self.fragment(self.rows(), self.images("a", pictures=False)) if w["kind"] == "image"]

    def test_fragments_of_parts_are_parts_of_the_fragment(self) -> None:
        whole = self.fragment(self.rows(*self.ROWS), self.images("a", "b", "v"))
        parts = self.fragment(self.rows(*self.ROWS[:2]), self.images("a", "b")) + self.fragment(
            self.rows(self.ROWS[2]), self.images("v")
        )
        assert sorted(whole, key=lambda w: w["path"]) == sorted(parts, key=lambda w: w["path"])

    def test_slices_are_read_as_tables_of_their_own(self) -> None:
        rows, images = self.rows(*self.ROWS), self.images("a", "v")
        assert self.fragment(rows.slice(2), images.slice(1)) == self.fragment(self.rows(self.ROWS[2]), self.images("v"))

    def test_nothing_gives_nothing(self) -> None:
        assert self.fragment(self.rows(), self.images()) == []

    def assemble(self, **changes: Any) -> dict[str, bytes]:
        """The files of the whole dataset for a small subset at /data/mine."""
        names = Names(("a", "b"))
        classes = class_map(names.names, [ClassSpec("b", ("b",)), ClassSpec("no", ("a",))])
        facts: dict[str, Any] = {
            "maps": (classes,),
            "sources": (names,),
            "task": Task.DETECT,
            "splits": ("train", "val"),
            "root": "/data/mine",
            "yaml": "portable",
        }
        made = self.exporter.assemble(Dataset(**facts | changes))
        return {path: content if isinstance(content, bytes) else b"".join(content) for path, content in made.items()}

    def test_assembled_files_name_the_classes_in_order(self) -> None:
        made = self.assemble()
        assert made == self.assemble()
        assert all(not path.startswith("/") and isinstance(content, bytes) for path, content in made.items())
        told = [yaml.safe_load(content) for path, content in made.items() if path.endswith(".yaml")]
        categories = [json.loads(content)["categories"] for path, content in made.items() if "instances" in path]
        ids = [{c["id"] - 1: c["name"] for c in told} for told in categories] + [t["names"] for t in told]
        heads = [json.loads(c.partition(b"\n")[0]) for path, c in made.items() if path.endswith(".ndjson")]
        ids += [{int(number): name for number, name in head["class_names"].items()} for head in heads]
        assert ids
        assert all(found == {0: "b", 1: "no"} for found in ids)

    def test_a_portable_dataset_does_not_know_its_place(self) -> None:
        assert not any(b"/data" in content for content in self.assemble().values())

    def test_an_unknown_name_tells_what_there_is(self) -> None:
        with pytest.raises(UnknownNameError) as caught:
            exporters.load("tfrecord")
        assert str(caught.value) == f"unknown target format 'tfrecord'; available: {', '.join(exporters.available())}"
