"""The `data.yaml` that Ultralytics' trainers read, with names in a flow or a block that any YAML reader takes; and the
command that trains on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.terms import Task
from pipeline.base.yaml_document import dump_yaml

if TYPE_CHECKING:
    from pipeline.base.classes import ClassMap, Names


#: What Ultralytics' smallest model is called, by task. https://docs.ultralytics.com/models/yolo11/
_MODELS = {
    Task.DETECT: "yolo11n.pt",
    Task.SEGMENT: "yolo11n-seg.pt",
    Task.POSE: "yolo11n-pose.pt",
    Task.OBB: "yolo11n-obb.pt",
}


def training_on(task: Task, data: str) -> str:
    """The command by which Ultralytics trains on `data`: the path of what names classes and images."""
    return f"yolo {task} train data={shlex.quote(data)} model={_MODELS[task]}"


def dataset_yaml(
    maps: Sequence[ClassMap], sources: Sequence[Names], *, header: str, paths: Mapping[str, str], task: Task
) -> bytes:
    """The training YAML of a subset, UTF-8. `maps` and `sources` are of its sources, one or more.

    `paths` gives the value of each split's key (train, val, test). ``kpt_shape``, ``flip_idx`` and ``kpt_names``
    (whose class ids are mapped) go along with task pose. ``task`` is there for obb, whose rows could be polygons: it is
    what Ultralytics' NDJSON converter writes, too. Format: https://docs.ultralytics.com/datasets/detect/
    """
    blocks = [dump_yaml(dict(paths))] if paths else []
    blocks += [dump_yaml({"names": dict(enumerate(maps[0].names))})]
    if task is Task.OBB:
        blocks += [dump_yaml({"task": task.value})]
    if task is Task.POSE:
        for name, value in keypoint_facts(maps, sources).items():
            blocks.append(dump_yaml({name: value}) if name == "kpt_names" else dump_yaml({name: value}, flow=None))
    return (header + "\n".join(blocks)).encode()


def keypoint_facts(maps: Sequence[ClassMap], sources: Sequence[Names]) -> dict[str, Any]:
    """``kpt_shape``, ``flip_idx`` and ``kpt_names`` (by the subset's class id), as far as they are known."""
    source = sources[0]
    if not source.kpt_shape:
        return {}
    found: dict[str, Any] = {"kpt_shape": list(source.kpt_shape)}
    if source.flip_idx:
        found["flip_idx"] = list(source.flip_idx)
    by_new = {
        classes.lut[k]: list(v)
        for classes, names in zip(reversed(maps), reversed(sources), strict=True)
        for k, v in sorted(names.kpt_names.items(), reverse=True)
        if k < len(classes.lut) and classes.lut[k] >= 0
    }
    return found | ({"kpt_names": dict(sorted(by_new.items()))} if by_new else {})
