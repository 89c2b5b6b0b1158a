"""What shaping a subset costs: a plan with each key of `select` alone and with all of them, against the plain plan.

    python -m tests.bench.bench_shape [--images N] [--rounds 3] [--base DIR] [--keep] [--processor]

Whole processes plan person, bicycle and car of a tree of COCO's size, in turn. Each image is a JPEG of its own, of
noise and 64 x 48 pixels or so: all headers and hashes are read once, and cached, before anything is timed. Then the
decisions alone, of as many candidates: what the caps leave out, and which backgrounds are drawn.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline.stages.select.caps import Limits, capped
from pipeline.stages.select.draw import drawn
from tests.bench import measure
from tests.bench.bench_main import SETTLE, arguments_of, child_environment, pick_base, run_in
from tests.bench.measure import Comparison
from tests.bench.tree import COCO_LABELLED, make_tree

CLASSES = ["person", "bicycle", "car"]

#: Promised: a plan with all keys, by the plain plan.
ALL = 2.0

#: Sides of the images in pixels, those of photographs by ten.
_SIDES = ((64, 48), (48, 64), (64, 43), (50, 38))

#: What `select` has of each plan; the lists are beside the tree.
KEYS: dict[str, dict[str, object]] = {
    "plain": {},
    "objects": {"objects": {"min_side": 2, "max_aspect": 8, "where": "w * h > 0.0001"}},
    "objects_per_image": {"objects_per_image": {"max": 20}},
    "images, exclude_images": {"images": "listed.txt", "exclude_images": "excluded.txt"},
    "dedup": {"dedup": {"across": ["train", "val"], "keep": "val"}},
    "per_class": {"per_class": {"max_images": 20_000, "max_objects": {"car": 30_000}}},
    "background: all": {"background": "all"},
    "background: ratio": {"background": {"ratio": 0.1}},
    "background: near-miss": {"background": {"ratio": 0.1, "prefer": "near-miss"}},
}


def make_images(tree: Path, images: Path) -> int:
    """A JPEG beside each label file of `tree`, below `images`; returns how many there are."""
    rng = np.random.default_rng(16)
    count = 0
    for split in ("train2017", "val2017"):
        (images / split).mkdir(parents=True)
        for file in sorted((tree / "labels" / split).iterdir()):
            width, height = _SIDES[count % len(_SIDES)]
            noise = Image.fromarray(rng.integers(0, 256, (8, 9), np.uint8)).resize((width, height))
            sink = io.BytesIO()
            noise.save(sink, "JPEG", quality=75)
            (images / split / f"{file.stem}.jpg").write_bytes(sink.getvalue())
            count += 1
    return count


def make_lists(images: Path, base: Path) -> None:
    """Lists of names: all but one image in ten, and one in fifty."""
    names = [path.name for split in sorted(images.iterdir()) for path in sorted(split.iterdir())]
    (base / "listed.txt").write_text("\n".join(name for i, name in enumerate(names) if i % 10) + "\n")
    (base / "excluded.txt").write_text("\n".join(names[::50]) + "\n")


def config_of(name: str, select: dict[str, object], base: Path, tree: Path, images: Path) -> Path:
    """The config of one plan."""
    lists = {key: str(base / str(select[key])) for key in ("images", "exclude_images") if key in select}
    splits = {
        split: {"labels": str(tree / "labels" / folder), "images": str(images / folder)}
        for split, folder in (("train", "train2017"), ("val", "val2017"))
    }
    config = {
        "source": {"names": str(tree / "coco.yaml"), "splits": splits},
        "classes": CLASSES,
        "select": select | lists,
        "target": {"root": str(base / "target"), "images": "hardlink"},
        "workdir": str(base / "work"),
    }
    file = base / f"{''.join(filter(str.isalpha, name))}.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def bench_plans(base: Path, tree: Path, images: Path, rounds: int, *, processor: bool) -> None:
    """The first plan with all keys, and each plan once all that is cached is there."""
    everything: dict[str, object] = {}
    for select in KEYS.values():
        everything |= select
    env = child_environment()
    commands = {
        name: [sys.executable, "-m", "pipeline", "plan", str(config_of(name, select, base, tree, images)), "-q"]
        for name, select in (KEYS | {"all": everything}).items()
    }
    clock = measure.processor_seconds if processor else measure.wall_seconds
    clock(commands["plain"], env)  # the index
    first = clock(commands["all"], env)
    timed = measure.alternate(commands, rounds, env=env, clock=clock)
    plain = timed.pop("plain")
    compared = [Comparison(name, one, plain, ALL if name == "all" else None) for name, one in timed.items()]
    what = "processor seconds" if processor else "seconds"
    measure.print_comparisons(f"A plan of {', '.join(CLASSES)}, {what}; all for the first time: {first:.1f}", compared)


def bench_decisions(images: int, rounds: int) -> None:
    """What is decided of all candidates at once."""
    rng = np.random.default_rng(17)
    rank = rng.integers(0, 2**63 - 1, images)
    pairs = np.unique(rng.integers(0, images, images * 3) << 32 | np.minimum(rng.geometric(0.06, images * 3), 80) - 1)
    image, class_id, count = pairs >> 32, pairs & 0xFFFFFFFF, rng.geometric(0.3, len(pairs))
    background, split = rng.random(images) < 0.4, (rng.random(images) < 0.04).astype(np.int64)
    limits = Limits(dict.fromkeys(range(80), 2_000), dict.fromkeys(range(80), 10_000))
    calls = {
        "caps of 80 classes": lambda: capped(limits, rank, image, class_id, count),
        "draw, random": lambda: drawn(rank, split, background, 0.1, None),
        "draw, weighted": lambda: drawn(rank, split, background, 0.1, None, rng.random(images)),
    }
    measure.print_summaries(f"Decisions on {images:,} candidates", measure.alternate(calls, rounds).values())


def main() -> int:
    """Print the tables; the exit code is 0 whether or not the promise was kept."""
    args = arguments_of("what shaping a subset costs, as tables", COCO_LABELLED, processor=True)
    base = pick_base(args.base, 16_000 * args.images) / "shape"

    def work() -> None:
        tree, images = base / "tree", base / "images"
        make_tree(tree, args.images, max(1, args.images // 24))
        count = make_images(tree, images)
        make_lists(images, base)
        print(f"\n{count:,} images, each a JPEG of its own of some {_SIDES[0][0]} x {_SIDES[0][1]} pixels", flush=True)
        time.sleep(SETTLE)
        bench_plans(base, tree, images, args.rounds, processor=args.processor)
        bench_decisions(count, args.rounds)

    return run_in(base, work, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
