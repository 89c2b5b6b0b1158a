"""A COCO JSON as large as ``instances_train2017.json`` becomes an index; beside it, `json.load` of the same file.

    python -m tests.bench.bench_coco [--images N] [--rounds 3] [--base DIR] [--keep]

The file has as many images and annotations as COCO's (118,287 and 860,001; about 450 MB): fields, their order and the
length of polygons are those of COCO, owners are in no order, one annotation in a hundred is a crowd and one in fourteen
has two polygons. Whole processes run in turn. Memory is anonymous memory: pages of the mapped file are the system's to
drop.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

from tests.bench import measure
from tests.bench.bench_main import arguments_of, child_environment, pick_base
from tests.bench.measure import Comparison
from tests.bench.tree import COCO

IMAGES, PER_IMAGE = 118_287, 860_001 / 118_287
#: Promised: the time of `json.load`, and anonymous memory in MB.
RATIO, PEAK = 0.5, 550.0
_SHAPES = 4096


def make_json(path: Path, images: int) -> int:
    """Write the file; returns how many annotations it has."""
    rng = np.random.default_rng(2017)
    count = round(images * PER_IMAGE)
    ids = np.sort(rng.choice(600_000 if images < 500_000 else 10 * images, images, replace=False)).tolist()
    shapes = _shapes(rng)
    weights = np.array([objects for _, objects, _ in COCO], float)
    category = (rng.choice(len(COCO), count, p=weights / weights.sum()) + 1).tolist()
    with path.open("w", encoding="ascii") as sink:
        sink.write('{"info": {"description": "like COCO 2017"},"licenses": [{"id": 1,"name": "any"}],"images": [')
        for begin in range(0, images, 10_000):
            some = ids[begin : begin + 10_000]
            sink.write("," if begin else "")
            sink.write(
                ",".join(
                    [
                        f'{{"license": 3,"file_name": "{n:012d}.jpg","coco_url": "http://images.example.org/train2017/{n:012d}.jpg",'
                        f'"height": 480,"width": 640,"date_captured": "2013-11-14 11:18:45","flickr_url": '
                        f'"http://farm9.example.org/8186/8119368305_4e622c8349_z.jpg","id": {n}}}'
                        for n in some
                    ]
                )
            )
        sink.write('],"annotations": [')
        owners = rng.integers(0, images, count).tolist()
        chosen = rng.integers(0, _SHAPES, count).tolist()
        for begin in range(0, count, 50_000):
            rows = range(begin, min(begin + 50_000, count))
            sink.write("," if begin else "")
            sink.write(
                ",".join(
                    [
                        f'{shapes[chosen[i]]}"image_id": {ids[owners[i]]},"bbox": [199.84,200.46,77.71,70.88],'
                        f'"category_id": {category[i]},"id": {900_000_000_000 + i}}}'
                        for i in rows
                    ]
                )
            )
        names = [{"supercategory": "thing", "id": i + 1, "name": name} for i, (name, _, _) in enumerate(COCO)]
        sink.write('],"categories": ' + json.dumps(names) + "}")
    return count


def _shapes(rng: np.random.Generator) -> list[str]:
    """The first fields of annotations: polygons of some 26 points, crowds as run lengths."""
    made = []
    for number in range(_SHAPES):
        points = rng.integers(100, 47_999, 2 * max(3, int(rng.gamma(1.6, 16)))) / 100
        half = len(points) // 4 * 2
        parts = [points[:half], points[half:]] if number % 14 == 13 and half >= 6 else [points]
        text = f"[{','.join('[' + ','.join(map(repr, part.tolist())) + ']' for part in parts)}]"
        crowd = number % 100 == 99
        if crowd:
            turns = np.sort(rng.choice(480 * 640, 300, replace=False))
            runs = np.diff(turns, prepend=0, append=480 * 640).tolist()
            text = f'{{"counts": {json.dumps(runs, separators=(",", ":"))},"size": [480,640]}}'
        made.append(f'{{"segmentation": {text},"area": 2765.1486500000005,"iscrowd": {int(crowd)},')
    return made


def main() -> int:
    """Print the tables; the exit code is 0 whether or not the promises were kept."""
    args = arguments_of("COCO JSON to index, and json.load, as tables", IMAGES)
    base = pick_base(args.base, 12_000 * args.images)
    folder = base / "coco-json"
    file = folder / "instances.json"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        count = make_json(file, args.images)
        print(f"{file}: {args.images:,} images, {count:,} annotations, {file.stat().st_size / 1e6:.0f} MB", flush=True)
    load = [sys.executable, "-c", f"import json; json.load(open({str(file)!r}))"]
    commands = {"json.load": load}
    for task in ("detect", "segment"):
        config = folder / f"{task}.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "source": {"format": "coco", "task": task, "splits": {"train": {"annotations": str(file)}}},
                    "target": {"root": str(folder / "out"), "images": "none"},
                    "workdir": str(folder / "work"),
                }
            )
        )
        commands[f"index for {task}"] = [sys.executable, "-m", "pipeline", "index", str(config), "-q"]

    def forget(_name: str) -> None:
        shutil.rmtree(folder / "work", ignore_errors=True)

    env = child_environment()
    try:
        timed = measure.alternate(commands, args.rounds, forget, env)
        compared = [
            Comparison(name, timed[name], timed["json.load"], RATIO if "detect" in name else None)
            for name in itertools.islice(commands, 1, None)
        ]
        measure.print_comparisons("COCO JSON", compared)
        peaks = []
        for name, command in commands.items():
            forget(name)
            peak = measure.peak_memory(name, command, env, anonymous=True)
            peaks.append((peak, None if name == "json.load" else PEAK))
        measure.print_memory("Memory: anonymous, of all processes", peaks)
    except measure.CommandError as error:
        print(f"a measured command failed: {error}", file=sys.stderr)
        return 2
    finally:
        forget("")
        if not args.keep:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
