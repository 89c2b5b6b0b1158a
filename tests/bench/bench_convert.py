"""COCO JSON and labelme become COCO JSON, with and without a look at each image's size; beside them plain scripts.

    python -m tests.bench.bench_convert [--images N] [--rounds 3] [--base DIR] [--keep]

Images are names of one PNG of 640 x 480 pixels, each with seven polygons of COCO's lengths. The plain scripts use
`json` alone: one loads and dumps the document, the other makes it of labelme's files, with the box and the area of each
polygon. Whole processes run in turn.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.bench import measure
from tests.bench.bench_main import arguments_of, child_environment, pick_base, run_in
from tests.bench.measure import Comparison
from tests.bench.tree import NAMES

IMAGES, OBJECTS, WIDTH, HEIGHT = 5_000, 7, 640, 480

_COPY = "import json, sys; json.dump(json.load(open(sys.argv[1])), open(sys.argv[2], 'w'))"

_OF_LABELME = """
import json, pathlib, sys
images, annotations, names = [], [], {}
for number, path in enumerate(sorted(pathlib.Path(sys.argv[1]).glob('*.json'))):
    data = json.loads(path.read_text())
    size = {'width': data['imageWidth'], 'height': data['imageHeight']}
    images.append({'id': number, 'file_name': data['imagePath'], **size})
    for shape in data['shapes']:
        points = shape['points']
        x, y = [p[0] for p in points], [p[1] for p in points]
        area = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1]))) / 2
        box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        category = names.setdefault(shape['label'], len(names) + 1)
        annotations.append({'id': len(annotations), 'image_id': number, 'category_id': category, 'iscrowd': 0,
            'bbox': box, 'area': area, 'segmentation': [[v for p in points for v in p]]})
categories = [{'id': i, 'name': name} for name, i in names.items()]
json.dump({'images': images, 'annotations': annotations, 'categories': categories}, open(sys.argv[2], 'w'))
"""


def _polygons(rng: np.random.Generator) -> Iterator[list[list[float]]]:
    """Rings around points of an image, in pixels; 30 corners on average."""
    while True:
        corners = int(rng.integers(8, 53))
        angles = np.sort(rng.random(corners)) * 2 * np.pi
        radius = rng.uniform(8, 80) * rng.uniform(0.7, 1, corners)
        x = np.clip(rng.uniform(0, WIDTH) + radius * np.cos(angles), 0, WIDTH)
        y = np.clip(rng.uniform(0, HEIGHT) + radius * np.sin(angles), 0, HEIGHT)
        yield np.round(np.stack([x, y], axis=1), 2).tolist()


def make_sources(folder: Path, images: int) -> None:
    """The same objects as ``coco.json`` and as a folder ``labelme``, beside images."""
    rng = np.random.default_rng(12)
    polygons = _polygons(rng)
    (folder / "images").mkdir()
    (folder / "labelme").mkdir()
    first = folder / "first.png"
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(first)
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    document["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    for number in range(images):
        name = f"{number:012d}.png"
        os.link(first, folder / "images" / name)
        document["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        shapes: list[dict[str, object]] = []
        for _ in range(OBJECTS):
            points, label = next(polygons), int(rng.integers(len(NAMES)))
            flat = np.array(points)
            low, size = flat.min(axis=0), np.ptp(flat, axis=0)
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [*low.tolist(), *size.tolist()],
                    "area": float(size.prod()),
                    "iscrowd": 0,
                    "segmentation": [flat.ravel().tolist()],
                }
            )
            shapes.append({"label": NAMES[label], "points": points, "shape_type": "polygon", "flags": {}})
        data = {"version": "5.4.1", "shapes": shapes, "imagePath": name, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        (folder / "labelme" / f"{number:012d}.json").write_text(json.dumps(data))
    (folder / "coco.json").write_text(json.dumps(document))


def _commands(folder: Path) -> dict[str, list[str]]:
    out = str(folder / "plain.json")
    commands = {
        "json.load, json.dump": [sys.executable, "-c", _COPY, str(folder / "coco.json"), out],
        "json of labelme": [sys.executable, "-c", _OF_LABELME, str(folder / "labelme"), out],
    }
    images = str(folder / "images")
    for name, key, path, sizes in (
        ("coco, sizes auto", "annotations", "coco.json", "auto"),
        ("coco, sizes file", "annotations", "coco.json", "file"),
        ("labelme, sizes check", "labels", "labelme", "check"),
        ("labelme, sizes trust", "labels", "labelme", "trust"),
    ):
        source = {
            "format": name.partition(",")[0],
            "options": {"sizes": sizes},
            "splits": {"train": {key: str(folder / path), "images": images}},
        }
        target = {"root": str(folder / "out"), "format": "coco", "images": "none"}
        config = folder / f"{name.replace(', ', '-').replace(' ', '-')}.yaml"
        config.write_text(yaml.safe_dump({"source": source, "target": target, "workdir": str(folder / "work")}))
        commands[name] = [sys.executable, "-m", "pipeline", "build", str(config), "-q"]
    return commands


def main() -> int:
    """Print the table; the exit code is 2 where a command failed."""
    args = arguments_of("COCO JSON and labelme to COCO JSON, and plain scripts, as a table", IMAGES)
    folder = pick_base(args.base, 60_000 * args.images) / "convert"

    def forget(_name: str) -> None:
        for name in ("work", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)

    def work() -> None:
        make_sources(folder, args.images)
        commands = _commands(folder)
        timed = measure.alternate(commands, args.rounds, forget, child_environment())
        plain, of_labelme, *ours = commands
        compared = [
            Comparison(name, timed[name], timed[of_labelme if name.startswith("labelme") else plain], None)
            for name in ours
        ]
        measure.print_comparisons(f"COCO JSON of {args.images:,} images with {OBJECTS} polygons each", compared)

    return run_in(folder, work, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
