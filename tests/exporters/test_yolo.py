"""The YOLO layout: where files go, what they hold, and the training YAML."""

from __future__ import annotations

import yaml

from pipeline.base.classes import Names
from pipeline.base.terms import Task
from pipeline.config.class_map import class_map
from tests.support.contracts import ExporterContract


class TestYoloExporter(ExporterContract):
    name = "yolo"

    def test_labels_stand_beside_images(self) -> None:
        wanted = self.fragment(self.rows(*self.ROWS), self.images("a", "sub/b.c", "v"))
        assert [(w["path"], w["kind"], w["split"], w["key"]) for w in wanted] == [
            ("labels/train/a.txt", "label", "train", "source/x/a"),
            ("labels/train/sub/b.c.txt", "label", "train", "source/x/sub/b.c"),
            ("labels/val/v.txt", "label", "val", "source/x/v"),
            ("images/train/a.JPG", "image", "train", "source/x/a"),
            ("images/train/sub/b.c.JPG", "image", "train", "source/x/sub/b.c"),
            ("images/val/v.JPG", "image", "val", "source/x/v"),
        ]
        assert [w["content"] for w in wanted[:3]] == [
            b"0 0.1 0.1 0.1 0.1\n1 0.2 0.2 0.2 0.2\n",
            b"",
            b"1 0.3 0.3 0.3 0.3\n",
        ]
        assert [dict(w["objects"]) for w in wanted[:3]] == [{0: 1, 1: 1}, {}, {1: 1}]

    def test_the_yaml_names_the_splits_that_are_there(self) -> None:
        for splits in (("train",), ("train", "val"), ("train", "val", "test")):
            told = yaml.safe_load(self.assemble(splits=splits)["data.yaml"])
            assert told == {**{s: f"images/{s}" for s in splits}, "names": {0: "b", 1: "no"}}

    def test_the_yaml_of_each_kind(self) -> None:
        assert yaml.safe_load(self.assemble(yaml="absolute")["data.yaml"])["val"] == "/data/mine/images/val"
        cloud = self.assemble(yaml="cloud")
        assert list(cloud) == ["mine.yaml"]
        assert cloud["mine.yaml"] == self.assemble()["data.yaml"]

    def test_the_yaml_of_keypoints(self) -> None:
        names = Names(("a",), (2, 3), (1, 0))
        made = self.assemble(sources=(names,), maps=(class_map(names.names, None),), task=Task.POSE)["data.yaml"]
        told = yaml.safe_load(made)
        assert (told["kpt_shape"], told["flip_idx"]) == ([2, 3], [1, 0])
