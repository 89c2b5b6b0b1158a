"""The NDJSON exporter: lines by format's rules, addresses, names."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from pipeline.base.classes import Names
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.terms import Task
from pipeline.config.class_map import ClassSpec, class_map
from pipeline.exporters import BucketObjects, Dataset, ndjson
from tests.support.contracts import ExporterContract


def lines(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of the file."""
    (content,) = made.values()
    text = content if isinstance(content, bytes) else b"".join(content)
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def dataset(task: Task = Task.DETECT, **more: Any) -> Dataset:
    names = Names(("a", "b"), **more)
    maps = (class_map(names.names, [ClassSpec("b", ("b",)), ClassSpec("no", ("a",))]),)
    return Dataset(maps, (names,), task, ("train", "val"), "/data/mine", "portable", "abc")


class TestNdjson(ExporterContract):
    name = "ndjson"

    def records(self, *stems: str, rows: pa.Table | None = None, **columns: list[Any]) -> BucketObjects:
        """Of images without copies where `columns` of them are given, else of copied ones."""
        images = self.images(*stems, pictures=not columns)
        for name, values in columns.items():
            array = pa.array(values, images.schema.field(name).type if name in images.column_names else None)
            images = (
                images.set_column(images.schema.get_field_index(name), name, array)
                if name in images.column_names
                else images.append_column(name, array)
            )
        return ndjson.records(self.rows() if rows is None else rows, images, None)

    def test_a_line_an_image_in_the_order_of_splits_and_keys(self) -> None:
        parts = [
            self.records("v", "z", rows=self.rows(("v", 1, b" 0.3 0.3 0.3 0.3"))),
            self.records("a", "b", rows=self.rows(("a", 0, b" 0.10 0.1 0.1 0.1"), ("a", 1, b"\t0.2  0.2 0.2 0.2 "))),
        ]
        found = lines(ndjson.assemble(dataset(), parts))
        assert found == lines(ndjson.assemble(dataset(), parts[::-1]))
        assert found[0] == {
            "type": "dataset", "task": "detect", "name": "mine", "class_names": {"0": "b", "1": "no"}, "path": ".",
            "description": "Made by coco-diy; digest of the subset: abc",
        }  # fmt: skip
        image = {"type": "image", "split": "train"}
        box = [0.1] * 4
        assert found[1:] == [
            {**image, "file": "a.JPG", "annotations": {"boxes": [[0, *box], [1, 0.2, 0.2, 0.2, 0.2]]}},
            {**image, "file": "b.JPG", "annotations": {"boxes": []}},
            {**image, "file": "z.JPG", "annotations": {"boxes": []}},
            {**image, "file": "v.JPG", "split": "val", "annotations": {"boxes": [[1, 0.3, 0.3, 0.3, 0.3]]}},
        ]

    def test_digits_stay_and_what_json_does_not_know_is_written_anew(self) -> None:
        made = self.records("a", rows=self.rows(("a", 3, b" 0.500000 1e-05 .5 +1."), ("a", 3, b" 0.50 1 0 2E+1")))
        assert made.images["rows"].to_pylist() == [b"[3,0.5,1e-05,0.5,1.0],[3,0.50,1,0,2E+1]"]

    @pytest.mark.parametrize(("task", "name"), [("segment", "segments"), ("pose", "pose"), ("detect", "segments")])
    def test_what_objects_are_called(self, task: str, name: str) -> None:
        rows = self.rows(("a", 0, b" 0.1 0.1 0.2 0.2 0.3 0.3"))
        found = lines(ndjson.assemble(dataset(Task(task)), [self.records("a", rows=rows)]))
        assert found[1]["annotations"] == {name: [[0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]]}

    def test_keypoints_are_described(self) -> None:
        known: dict[str, Any] = {"kpt_shape": (2, 3), "flip_idx": (1, 0), "kpt_names": {1: ("l", "r")}}
        head = lines(ndjson.assemble(dataset(Task.POSE, **known), [self.records("a")]))[0]
        assert (head["kpt_shape"], head["flip_idx"], head["kpt_names"]) == ([2, 3], [1, 0], {"0": ["l", "r"]})
        assert "kpt_shape" not in lines(ndjson.assemble(dataset(**known), [self.records("a")]))[0]

    def test_images_on_a_web_server_are_named_by_their_address(self) -> None:
        """That where they are fetched from; else that which COCO JSON has, unless it is signed."""
        raws = [b'{"id": 1, "coco_url": "http://h/c/%s.jpg"}' % name for name in (b"a", b"s/b")]
        made = self.records("a", "s/b", url=["https://w/a.JPG", None], raw=raws, width=[4, None], height=[3, None])
        found = lines(ndjson.assemble(dataset(), [made]))
        assert "path" not in found[0]
        assert [(line["file"], line["url"]) for line in found[1:]] == [
            ("a.JPG", "https://w/a.JPG"), ("s/b.JPG", "http://h/c/s/b.jpg")
        ]  # fmt: skip
        assert [(line.get("width"), line.get("height")) for line in found[1:]] == [(4, 3), (None, None)]
        for bad in (b'{"coco_url": "http://h/a.jpg?X-Amz-Signature=1"}', b'{"coco_url": "a.jpg"}', b"{}", None):
            with pytest.raises(ConfigError, match="without an address, such as source/x/a: trainers would not find it"):
                ndjson.assemble(dataset(), [self.records("a", raw=[bad])])

    def test_names_beside_the_file_have_no_folders(self) -> None:
        stems = ("s/t/a", "u_b")
        files = self.fragment(self.rows(), self.images(*stems))
        assert [file["path"] for file in files] == ["images/train/s__t__a.JPG", "images/train/u_b.JPG"]
        found = lines(ndjson.assemble(dataset(), [self.records(*stems)]))
        assert [line["file"] for line in found[1:]] == ["s__t__a.JPG", "u_b.JPG"]
        with pytest.raises(DataError, match=r"source/x/s/a and source/x/s__a would both be images/train/s__a\.JPG"):
            ndjson.assemble(dataset(), [self.records("s/a"), self.records("s__a")])

    def test_an_image_of_no_suffix_is_called_a_jpeg(self) -> None:
        made = self.records("a", url=["http://h/a"], image_path=["a"])
        assert made.images["file"].to_pylist() == ["a.jpg"]
