"""What there is to see of a large dataset: seconds and memory of stats, show and report, and how heavy the page is.

    python -m tests.bench.bench_report [--images N] [--rounds 3] [--base DIR] [--keep]

Two folders of as many images as COCO has, with the classes of COCO and with those of LVIS, and a target made of the
first. An image is one of a few files of noise, with names of its own (hard links): all headers are read, and the sample
is decoded. `first` is a run without an index, `again` one with it. A headless Chromium loads the page from disk,
where there is one with Playwright.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.bench import measure
from tests.bench.bench_main import SETTLE, arguments_of, child_environment, pick_base, run_in

IMAGES, PER_IMAGE = 118_000, 7
CLASSES = {"80 classes": 80, "1,203 classes": 1203}

#: Promised: seconds and MB of the first report, MB and elements of the page, seconds to load it.
SECONDS, PEAK, PAGE, ELEMENTS, LOADS = 20.0, 500.0, 5.0, 6000, 1.0

#: Files of noise, each with its sides in pixels; JPEG makes it as large as a photograph.
_SIDES = ((640, 480), (480, 640), (640, 427), (500, 375))


class Elements(HTMLParser):
    """How many elements a page has."""

    count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count one more."""
        del tag, attrs
        self.count += 1


def make_folder(root: Path, images: int, classes: int) -> None:
    """A YOLO folder, one image in 24 for val; classes are as rare as Zipf has words, and one image in 100 has none."""
    rng = np.random.default_rng(classes)
    originals = []
    for i, (width, height) in enumerate(_SIDES):
        noise = rng.integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
        originals.append(root / f"{i}.jpg")
        root.mkdir(exist_ok=True)
        Image.fromarray(noise).resize((width, height)).save(originals[-1], quality=95)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
    counts = np.where(rng.random(images) < 0.01, 0, rng.poisson(PER_IMAGE, images))
    weights = 1 / np.arange(1, classes + 1)
    kinds = rng.choice(classes, counts.sum(), p=weights / weights.sum())
    boxes = rng.uniform(0.2, 0.8, (counts.sum(), 2)), rng.uniform(0.01, 0.4, (counts.sum(), 2))
    rows = [
        f"{kind} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
        for kind, (x, y), (w, h) in zip(kinds.tolist(), boxes[0].tolist(), boxes[1].tolist(), strict=True)
    ]
    stop = 0
    for i, count in enumerate(counts.tolist()):
        begin, stop = stop, stop + count
        name = f"{'val' if i % 24 == 0 else 'train'}/{i:012d}"
        (root / f"labels/{name}.txt").write_text("".join(rows[begin:stop]))
        os.link(originals[i % len(originals)], root / f"images/{name}.jpg")
    names = {i: f"class {i}" for i in range(classes)}
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": names}))


def make_target(source: Path, root: Path) -> None:
    """A target of all of `source`."""
    splits = {split: split for split in ("train", "val")}
    config = {
        "source": {"names": str(source / "data.yaml"), "root": str(source), "splits": splits},
        "target": {"root": str(root), "images": "hardlink"},
        "workdir": str(root.with_suffix(".work")),
    }
    file = root.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    measure.wall_seconds([sys.executable, "-m", "pipeline", "build", str(file), "-q"], child_environment())


def seconds_to_load(page: Path) -> float | None:
    """Median seconds until a browser has loaded `page`; None without a browser."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    found = []
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except Error:
            return None
        for _ in range(5):
            opened = browser.new_page()
            opened.goto(page.as_uri())
            found.append(opened.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
            opened.close()
        browser.close()
    return float(np.median(found))


def measured(name: str, what: Path, rounds: int) -> tuple[list[Sequence[str]], Sequence[str]]:
    """Rows of the table of commands, and the row of the page, of the dataset `what`."""
    page, work = what.with_suffix(".html"), what.with_suffix(".cache")
    arguments = {
        "stats": [],
        "show": ["-o", str(what.with_suffix(".jpg"))],
        "report": ["-o", str(page)],
    }
    env, rows = child_environment(), list[Sequence[str]]()
    for command, more in arguments.items():
        line = [sys.executable, "-m", "pipeline", command, str(what), "--workdir", str(work), "-q", *more]

        def prepare(when: str) -> None:
            if when == "first":
                shutil.rmtree(work, ignore_errors=True)

        timed = measure.alternate({"first": line, "again": line}, rounds, prepare, env, warm_up=rounds > 1)
        prepare("first")
        peak = measure.peak_memory(command, line, env)
        limits = command == "report" and timed["first"].median <= SECONDS and peak.megabytes <= PEAK
        first, again = (f"{timed[when].median:.1f}" for when in ("first", "again"))
        verdict = ("yes" if limits else "NO") if command == "report" else ""
        rows.append((f"{command}, {name}", first, again, f"{peak.megabytes:.0f}", verdict))
    content, elements, loads = page.read_bytes(), Elements(), seconds_to_load(page)
    elements.feed(content.decode())
    size = len(content) / 1e6
    met = size <= PAGE and elements.count <= ELEMENTS and (loads is None or loads <= LOADS)
    shown = "no browser" if loads is None else f"{loads:.2f}"
    return rows, (name, f"{size:.1f}", f"{elements.count:,}", shown, "yes" if met else "NO")


def main() -> int:
    """Print the tables; the exit code is 0 whether or not the promises were kept."""
    args = arguments_of("stats, show and report of large datasets, as tables", IMAGES)
    base = pick_base(args.base, 20_000 * args.images) / "report"

    def work() -> None:
        datasets = {}
        for name, classes in CLASSES.items():
            datasets[f"folder, {name}"] = base / str(classes)
            make_folder(base / str(classes), args.images, classes)
        datasets["target, 80 classes"] = base / "target"
        make_target(base / "80", base / "target")
        time.sleep(SETTLE)
        found = [measured(name, what, args.rounds) for name, what in datasets.items()]
        limits = f"report: {SECONDS:g} s, {PEAK:g} MB"
        print(f"\n### {args.images:,} images\n")
        print(
            measure.table(("command", "first s", "again s", "peak MB", limits), [r for rows, _ in found for r in rows])
        )
        limits = f"{PAGE:g} MB, {ELEMENTS:,}, {LOADS:g} s"
        print(
            f"\n{measure.table(('page', 'MB', 'elements', 'loads in s', limits), [row for _, row in found])}",
            flush=True,
        )

    return run_in(base, work, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
