"""The `data.yaml` that Ultralytics' trainers read, with names in a flow or a block that any YAML reader takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.base.yaml_document import dump_yaml

if TYPE_CHECKING:
    from pipeline.base.classes import ClassMap, Names


def dataset_yaml(
    maps: Sequence[ClassMap], sources: Sequence[Names], *, header: str, paths: Mapping[str, str], pose: bool
) -> bytes:
    """The training YAML of a subset, UTF-8. `maps` and `sources` are of its sources, one or more.

    `paths` gives the value of each split's key (train, val, test). ``kpt_shape``, ``flip_idx`` and ``kpt_names``
    (whose class ids are mapped) go along when `pose`. Format: https://docs.ultralytics.com/datasets/detect/
    """
    blocks = [dump_yaml(dict(paths))] if paths else []
    blocks += [dump_yaml({"names": dict(enumerate(maps[0].names))})]
    source = sources[0]
    if pose and source.kpt_shape:
        blocks.append(dump_yaml({"kpt_shape": list(source.kpt_shape)}, flow=None))
        if source.flip_idx:
            blocks.append(dump_yaml({"flip_idx": list(source.flip_idx)}, flow=None))
        by_new = {
            classes.lut[k]: list(v)
            for classes, names in zip(reversed(maps), reversed(sources), strict=True)
            for k, v in sorted(names.kpt_names.items(), reverse=True)
            if k < len(classes.lut) and classes.lut[k] >= 0
        }
        if by_new:
            blocks.append(dump_yaml({"kpt_names": dict(sorted(by_new.items()))}))
    return (header + "\n".join(blocks)).encode()
