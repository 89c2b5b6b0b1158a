"""The index of label files that name their image: 118,000 of Pascal VOC, beside images, without, and with other names.

    python -m tests.bench.bench_formats [--images N] [--rounds 3] [--base DIR] [--keep]

Label files are like those of VOC 2012, a kilobyte each with two or three objects; images are one JPEG of 1 KB under all
names. Where images are called otherwise than their label files, each is the one that its ``<filename>`` says.
"""

from __future__ import annotations

import functools
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.bench import measure
from tests.bench.bench_main import arguments_of, child_environment, pick_base, run_in

IMAGES, WIDTH, HEIGHT = 118_000, 500, 375

#: Promised: seconds of an index of 118,000 label files.
INDEX = 20.0

NAMES = ("aeroplane", "bicycle", "bottle", "car", "chair", "dog", "person", "tvmonitor")

_FILE = """<annotation>
	<folder>VOC2012</folder>
	<filename>{image}</filename>
	<source>
		<database>The VOC2008 Database</database>
		<annotation>PASCAL VOC2008</annotation>
		<image>flickr</image>
	</source>
	<size>
		<width>500</width>
		<height>375</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{objects}</annotation>
"""

_OBJECT = """	<object>
		<name>{name}</name>
		<pose>Unspecified</pose>
		<truncated>{truncated}</truncated>
		<occluded>0</occluded>
		<bndbox>
			<xmin>{box[0]}</xmin>
			<ymin>{box[1]}</ymin>
			<xmax>{box[2]}</xmax>
			<ymax>{box[3]}</ymax>
		</bndbox>
		<difficult>0</difficult>
	</object>
"""

#: What images are called; None: there are none.
_IMAGES = {"beside images": "{:06d}.jpg", "without images": None, "images called otherwise": "IMG_{:06d}.jpg"}


def make_source(folder: Path, images: int, image_name: str | None) -> None:
    """Label files and images as Pascal VOC lays them out."""
    rng = np.random.default_rng(17)
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    jpeg = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(jpeg, "JPEG", quality=1, optimize=True)
    low = rng.integers(1, (WIDTH - 100, HEIGHT - 100), (images, 3, 2))
    boxes = np.concatenate([low, low + rng.integers(5, 100, low.shape)], axis=2).tolist()
    for number, (count, some) in enumerate(zip(rng.integers(2, 4, images).tolist(), boxes, strict=True)):
        objects = "".join(
            _OBJECT.format(name=NAMES[(number + i) % len(NAMES)], truncated=(number + i) % 2, box=box)
            for i, box in enumerate(some[:count])
        )
        image = (image_name or "{:06d}.jpg").format(number)
        (folder / f"Annotations/{number:06d}.xml").write_text(_FILE.format(image=image, objects=objects))
        if image_name is not None:
            with open(folder / f"JPEGImages/{image}", "wb") as file:
                file.write(jpeg.getvalue())


def index_of(folder: Path) -> list[str]:
    """The command that makes the index of the source in `folder`."""
    splits = {"train": {"labels": "Annotations", "images": "JPEGImages"}}
    source = {"format": "voc", "root": str(folder / "source"), "splits": splits}
    config = {"source": source, "target": {"root": str(folder / "out")}, "workdir": str(folder / "work")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "pipeline", "index", str(folder / "config.yaml"), "-q"]


def main() -> int:
    """Print the table; the exit code is 0 whether or not the promise was kept, 2 where a command failed."""
    args = arguments_of("the index of label files that name their image, as a table", IMAGES)
    base = pick_base(args.base, 8_000 * args.images)
    rows: list[tuple[str, ...]] = []

    def work(folder: Path, what: str, image_name: str | None) -> None:
        make_source(folder / "source", args.images, image_name)
        command = index_of(folder)

        def forget(_name: str) -> None:
            shutil.rmtree(folder / "work", ignore_errors=True)

        taken = measure.alternate({what: command}, args.rounds, forget, child_environment(), warm_up=False)[what]
        spread = f"{taken.median:.1f}", f"{taken.low:.1f}", f"{taken.high:.1f}"
        rows.append((what, *spread, "yes" if taken.median <= INDEX * args.images / IMAGES else "NO"))

    for what, image_name in _IMAGES.items():
        folder = base / what.replace(" ", "-")
        if code := run_in(folder, functools.partial(work, folder, what, image_name), keep=args.keep):
            return code
    headers = ("label files", "median s", "min s", "max s", f"{INDEX:g} s")
    print(f"\n### Index of {args.images:,} files of Pascal VOC\n\n{measure.table(headers, rows)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
