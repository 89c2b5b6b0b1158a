"""COCO JSON as large as the files that people have: COCO's, LVIS's and Objects365's, made from a seed.

Each has as many images, annotations and categories as its model; fields, their order and the length of polygons are
alike; owners are in no order, but in Objects365's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.bench.tree import COCO

COCO_IMAGES, COCO_PER_IMAGE = 118_287, 860_001 / 118_287

LVIS_IMAGES, LVIS_PER_IMAGE, LVIS_CLASSES = 100_170, 1_270_141 / 100_170, 1_203

OBJECTS365_IMAGES, OBJECTS365_PER_IMAGE, OBJECTS365_CLASSES = 600_000, 10_000_000 / 600_000, 365

_SHAPES = 4096

#: Images and annotations that are written at once.
_STEP = 20_000


def make_coco(path: Path, images: int) -> int:
    """Write a file like ``instances_train2017.json``; returns how many annotations it has.

    One annotation in a hundred is a crowd and one in fourteen has two polygons.
    """
    rng = np.random.default_rng(2017)
    count = round(images * COCO_PER_IMAGE)
    ids = np.sort(rng.choice(600_000 if images < 500_000 else 10 * images, images, replace=False)).tolist()
    shapes = [
        f'{{"segmentation": {_crowd(rng) if number % 100 == 99 else _polygons(rng, 16, 2 if number % 14 == 13 else 1)},'
        f'"area": 2765.1486500000005,"iscrowd": {int(number % 100 == 99)},'
        for number in range(_SHAPES)
    ]
    weights = np.array([objects for _, objects, _ in COCO], float)
    category = (rng.choice(len(COCO), count, p=weights / weights.sum()) + 1).tolist()
    owners = rng.integers(0, images, count).tolist()
    chosen = rng.integers(0, _SHAPES, count).tolist()
    with path.open("w", encoding="ascii") as sink:
        sink.write('{"info": {"description": "like COCO 2017"},"licenses": [{"id": 1,"name": "any"}],"images": [')
        sink.writelines(
            _elements(
                images,
                lambda i: (
                    f'{{"license": 3,"file_name": "{ids[i]:012d}.jpg","coco_url": '
                    f'"http://images.example.org/train2017/{ids[i]:012d}.jpg","height": 480,"width": 640,'
                    '"date_captured": "2013-11-14 11:18:45","flickr_url": '
                    f'"http://farm9.example.org/8186/8119368305_4e622c8349_z.jpg","id": {ids[i]}}}'
                ),
            )
        )
        sink.write('],"annotations": [')
        sink.writelines(
            _elements(
                count,
                lambda i: (
                    f'{shapes[chosen[i]]}"image_id": {ids[owners[i]]},"bbox": [199.84,200.46,77.71,70.88],'
                    f'"category_id": {category[i]},"id": {900_000_000_000 + i}}}'
                ),
            )
        )
        names = [{"supercategory": "thing", "id": i + 1, "name": name} for i, (name, _, _) in enumerate(COCO)]
        sink.write('],"categories": ' + json.dumps(names) + "}")
    return count


def make_lvis(path: Path, images: int) -> int:
    """Write a file like ``lvis_v1_train.json``; returns how many annotations it has.

    Images have no name but that in their URL, and say which classes are labelled everywhere in them.
    """
    rng = np.random.default_rng(1203)
    count = round(images * LVIS_PER_IMAGE)
    shapes = [_polygons(rng, 31, 1 + (number % 9 == 8) + (number % 40 == 39)) for number in range(_SHAPES)]
    weights = 1 / np.arange(1, LVIS_CLASSES + 1)
    category = (rng.choice(LVIS_CLASSES, count, p=weights / weights.sum()) + 1).tolist()
    owners = rng.integers(0, images, count).tolist()
    chosen = rng.integers(0, _SHAPES, count).tolist()
    absent = [sorted(some.tolist()) for some in rng.integers(1, LVIS_CLASSES + 1, (_SHAPES, 8))]
    with path.open("w", encoding="ascii") as sink:
        sink.write('{"info": {"description": "like LVIS v1", "version": "v1.0"}, "annotations": [')
        sink.writelines(
            _elements(
                count,
                lambda i: (
                    f'{{"area": 2765.15, "id": {i + 1}, "segmentation": {shapes[chosen[i]]}, '
                    f'"image_id": {10 + 3 * owners[i]}, "bbox": [199.84, 200.46, 77.71, 70.88], '
                    f'"category_id": {category[i]}}}'
                ),
            )
        )
        sink.write('], "images": [')
        sink.writelines(
            _elements(
                images,
                lambda i: (
                    f'{{"date_captured": "2013-11-14 17:02:52", "neg_category_ids": {absent[i % _SHAPES]}, "id": '
                    f'{10 + 3 * i}, "license": 4, "height": 480, "width": 640, "flickr_url": '
                    '"http://farm7.example.org/6116/6255196340_da26cf2c9e_z.jpg", "coco_url": '
                    f'"http://images.example.org/train2017/{10 + 3 * i:012d}.jpg", "not_exhaustive_category_ids": '
                    f"{absent[i % _SHAPES][:1]}}}"
                ),
            )
        )
        names = [
            {
                "frequency": "c", "id": i + 1, "synset": f"thing.n.{i:04d}", "image_count": 10, "instance_count": 10,
                "synonyms": [f"thing_{i}"], "def": "a thing that is like others", "name": f"thing_{i}",
            }
            for i in range(LVIS_CLASSES)
        ]  # fmt: skip
        sink.write('], "categories": ' + json.dumps(names) + "}")
    return count


def make_objects365(path: Path, images: int) -> int:
    """Write a file like ``zhiyuan_objv2_train.json``, boxes alone; returns how many annotations it has."""
    rng = np.random.default_rng(365)
    count = round(images * OBJECTS365_PER_IMAGE)
    boxes = np.stack([rng.uniform(0, 400, (_SHAPES, 2)), rng.uniform(5, 200, (_SHAPES, 2))], axis=1).reshape(-1, 4)
    shapes = [
        f'"iscrowd": 0, "isfake": 0, "area": {float(w * h)!r}, "isreflected": 0, '
        f'"bbox": [{x:.10f}, {y:.10f}, {w:.10f}, {h:.10f}]'
        for x, y, w, h in boxes
    ]
    weights = 1 / np.arange(1, OBJECTS365_CLASSES + 1)
    category = (rng.choice(OBJECTS365_CLASSES, count, p=weights / weights.sum()) + 1).astype(np.int16)
    owners = np.sort(rng.integers(0, images, count)).astype(np.int32)
    with path.open("w", encoding="ascii") as sink:
        sink.write('{"images": [')
        sink.writelines(
            _elements(
                images,
                lambda i: (
                    f'{{"height": 512, "id": {3 * i + 1}, "license": 5, "width": 769, "file_name": '
                    f'"images/v1/patch{i % 51}/objects365_v1_{3 * i + 1:08d}.jpg", "url": ""}}'
                ),
            )
        )
        sink.write('], "annotations": [')
        sink.writelines(
            _elements(
                count,
                lambda i: (
                    f'{{"id": {i + 1}, {shapes[i % _SHAPES]}, "image_id": {3 * owners[i] + 1}, '
                    f'"category_id": {category[i]}}}'
                ),
            )
        )
        names = [{"name": f"Thing {i}", "id": i + 1} for i in range(OBJECTS365_CLASSES)]
        sink.write('], "categories": ' + json.dumps(names) + ', "licenses": [{"name": "any", "id": 5, "url": ""}]}')
    return count


def _elements(count: int, element: Callable[[int], str]) -> Iterator[str]:
    """Elements 0 to `count` of an array, some at a time."""
    for begin in range(0, count, _STEP):
        yield ("," if begin else "") + ",".join(map(element, range(begin, min(begin + _STEP, count))))


def _polygons(rng: np.random.Generator, length: float, parts: int) -> str:
    """Polygons of some 1.6 times `length` numbers."""
    points = rng.integers(100, 47_999, 2 * parts * max(3, int(rng.gamma(1.6, length) / parts))) / 100
    return f"[{','.join('[' + ','.join(map(repr, part.tolist())) + ']' for part in np.split(points, parts))}]"


def _crowd(rng: np.random.Generator) -> str:
    """Run lengths of a crowd."""
    turns = np.sort(rng.choice(480 * 640, 300, replace=False))
    runs = np.diff(turns, prepend=0, append=480 * 640).tolist()
    return f'{{"counts": {json.dumps(runs, separators=(",", ":"))},"size": [480,640]}}'
