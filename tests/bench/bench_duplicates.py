"""Duplicate images: hashes of images against decoding them, and the search for near ones at COCO's size.

    python -m tests.bench.bench_duplicates [--images N] [--rounds 3] [--base DIR] [--keep]

Images are noise that falls off in detail, 640 x 480, each another one; all are read from the same folder. Hashes are
those of such noise, too, a third of it with a sky of one brightness, so that many have rows of equal bits.
"""

from __future__ import annotations

import functools
import io
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.images.hashes import difference_hash
from pipeline.stages.select.near_duplicates import duplicates_dropped, near_pairs
from tests.bench import measure
from tests.bench.bench_main import SETTLE, arguments_of, child_environment, pick_base, run_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.stages.select.near_duplicates import Hashes

IMAGES, TRAIN, VAL = 2_000, 118_287, 5_000

#: Promised: seconds of the search, and times of decoding that hashing takes.
SEARCH, HASHING = 10.0, 1.0


def hashes(count: int, seed: int) -> Hashes:
    """Difference hashes as photographs have them."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(8)[:, None], np.fft.fftfreq(9)
    falling = np.maximum(np.hypot(y, x), 1 / 9) ** -1.3
    light = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 8, 9))) * falling).real
    sky = rng.integers(1, 6, count) * (rng.random(count) < 1 / 3)
    light[np.arange(8) < sky[:, None]] = 9
    steps = np.rint(light * 40)
    bits = steps[:, :, 1:] > steps[:, :, :-1]
    return np.packbits(bits.reshape(count, 64), axis=1).view(">u8")[:, 0].astype(np.uint64)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of `work`."""
    return float(np.median([measure.wall_seconds(work) for _ in range(rounds)]))


def near(first: Hashes, second: Hashes, bits: int) -> int:
    """How many pairs are near."""
    return sum(len(pairs.first) for pairs in near_pairs(first, second, bits))


def search(rounds: int) -> None:
    """Print how long the search takes."""
    train, val = hashes(TRAIN, 1), hashes(VAL, 2)
    band = np.uint64(0xFFFF)
    sets = {
        f"{TRAIN:,} x {VAL:,}": (train, val),
        "the same, one band of all equal": (train | band, val | band),
        f"{TRAIN:,} x {TRAIN:,}": (train, hashes(TRAIN, 3)),
    }
    rows = []
    for what, (first, second) in sets.items():
        for bits in (3, 8) if what == f"{TRAIN:,} x {VAL:,}" else (3,):
            taken = seconds(functools.partial(near, first, second, bits), rounds)
            rows.append((f"{what}, {bits} bits", f"{taken:.2f}", "yes" if taken <= SEARCH else "NO"))
    count = TRAIN + VAL
    table = pa.table(
        {
            "key": [f"coco/{i:012d}" for i in range(count)],
            "split": ["train"] * TRAIN + ["val"] * VAL,
            "hash": pa.array(np.concatenate([train, val])),
            "digest": pa.array([i.to_bytes(16, "big") for i in range(count)], pa.binary(16)),
        }
    )
    taken = seconds(lambda: duplicates_dropped(table, ["train", "val"], "val", 3), rounds)
    rows.append((f"what select.dedup drops of {count:,}", f"{taken:.2f}", "yes" if taken <= SEARCH else "NO"))
    print(f"\n### Near duplicates\n\n{measure.table(('search', 's', f'{SEARCH:g} s'), rows)}", flush=True)


def draw(root: Path, count: int) -> None:
    """A YOLO folder of images, one in 24 for val."""
    rng = np.random.default_rng(7)
    for i in range(count):
        name = f"{'val' if i % 24 == 0 else 'train'}/{i:012d}"
        for kind in ("images", "labels"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        layers = np.zeros((480, 640, 3))
        for cells in (4, 24, 160):
            coarse = rng.normal(size=(cells * 3 // 4, cells, 3))
            image = Image.fromarray(np.clip(coarse * 40 + 128, 0, 255).astype(np.uint8)).resize((640, 480))
            layers += np.asarray(image)
        Image.fromarray((layers / 3).astype(np.uint8)).save(root / f"images/{name}.jpg", quality=90)
        (root / f"labels/{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("{train: images/train, val: images/val, names: [cat]}\n")


def hashing(root: Path, images: int, rounds: int) -> None:
    """Print how long hashes take against decoding, and `verify --leaks` with and without them."""
    draw(root, images)
    time.sleep(SETTLE)
    files = sorted(root.rglob("*.jpg"))

    def decode() -> None:
        for file in files:
            Image.open(io.BytesIO(file.read_bytes())).load()

    def hash_all() -> None:
        for file in files:
            difference_hash(file.read_bytes())

    taken = measure.alternate({"difference hash": hash_all, "decoding": decode}, rounds)
    ratio = measure.Comparison("difference hash", taken["difference hash"], taken["decoding"], HASHING)
    measure.print_comparisons(f"{images:,} images of 640 x 480, one thread", [ratio])
    cache = root.with_suffix(".cache")
    env = child_environment() | {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "pipeline", "verify", str(root), "--leaks", "-q"]

    def prepare(name: str) -> None:
        if name == "first":
            shutil.rmtree(cache, ignore_errors=True)

    commands = {"first": command, "with all hashes cached": command, "without --leaks": [*command[:-2], "-q"]}
    found = measure.alternate(commands, rounds, prepare, env, warm_up=False)
    measure.print_summaries("verify FOLDER --leaks", found.values())


def main() -> int:
    """Print the tables; the exit code is 0 whether or not the promises were kept."""
    args = arguments_of("duplicate images, as tables", IMAGES)
    base = pick_base(args.base, 200_000 * args.images) / "duplicates"

    def work() -> None:
        search(args.rounds)
        hashing(base / "in", args.images, args.rounds)

    return run_in(base, work, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
