"""The README's picture, drawn from the sample and what `make demo` builds of it: `python -m tests.sample.picture`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipeline.api import build
from pipeline.config.class_names import read_names
from pipeline.config.load import load_config

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "tests/sample/detect"
OUT = Path(__file__).with_name("picture.png")

#: Images of the sample, by stem, four in a row.
STEMS = tuple(f"000000700{n:03d}" for n in (12, 25, 34, 49, 63, 78, 81, 96))
SCALE, GAP, COLUMNS = 2, 6, 4
INK, MUTED, PAPER = "#1f2328", "#8b949e", "#ffffff"
COLOURS = {"bicycle": "#d1242f", "vehicle": "#0969da"}

#: class, then centre and size as shares of the image's.
Box = tuple[int, float, float, float, float]


def boxes(labels: Path) -> list[Box]:
    """The rows of a label file; none where there is no file."""
    if not labels.is_file():
        return []
    rows = [line.split() for line in labels.read_text().splitlines() if line]
    return [(int(row[0]), *(float(v) for v in row[1:5])) for row in rows]  # type: ignore[misc]


def tile(image: Path, rows: Iterable[Box], names: tuple[str, ...], colours: dict[str, str]) -> Image.Image:
    """An image with its boxes and their classes' names, enlarged."""
    with Image.open(image) as found:
        drawn = found.convert("RGB").resize((found.width * SCALE, found.height * SCALE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(11)
    for number, cx, cy, w, h in rows:
        colour = colours.get(names[number], INK)
        left, top = (cx - w / 2) * drawn.width, (cy - h / 2) * drawn.height
        pen.rectangle((left, top, left + w * drawn.width, top + h * drawn.height), outline=colour, width=2)
        text = f"{number} {names[number]}"
        area = pen.textbbox((left, max(0, top - 14)), text, font=font)
        pen.rectangle((area[0] - 2, area[1] - 2, area[2] + 2, area[3] + 2), fill=colour)
        pen.text((left, max(0, top - 14)), text, fill=PAPER, font=font)
    return drawn


def panel(tiles: list[Image.Image | None], title: str) -> Image.Image:
    """Tiles in rows under a title; None leaves its place empty."""
    size = next(t.size for t in tiles if t is not None)
    rows = -(-len(tiles) // COLUMNS)
    width = COLUMNS * (size[0] + GAP) - GAP
    sheet = Image.new("RGB", (width, rows * (size[1] + GAP) + 26), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((0, 2), title, fill=INK, font=ImageFont.load_default(15))
    for i, drawn in enumerate(tiles):
        x, y = (i % COLUMNS) * (size[0] + GAP), 26 + (i // COLUMNS) * (size[1] + GAP)
        if drawn is None:
            pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), outline=MUTED)
            pen.text((x + size[0] // 2, y + size[1] // 2), "not copied", fill=MUTED, anchor="mm",
                     font=ImageFont.load_default(12))  # fmt: skip
        else:
            sheet.paste(drawn, (x, y))
    return sheet


def main(out: Path = OUT) -> None:
    """Build the demo's boxes into a folder of its own, and draw source and subset one below the other."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "demo"
        config = load_config(PROJECT / "conf/demo.yaml", [f"target.root={target}", f"workdir={folder}/work",
                                                          f"source.root={SAMPLE}",
                                                          f"source.names={PROJECT / 'conf/coco.yaml'}"])  # fmt: skip
        build(config)
        source_names = read_names((PROJECT / "conf/coco.yaml").read_text(), "conf/coco.yaml").names
        before: list[Image.Image | None] = []
        after: list[Image.Image | None] = []
        for stem in STEMS:
            image = SAMPLE / f"images/train2017/{stem}.png"
            before.append(tile(image, boxes(SAMPLE / f"labels/train2017/{stem}.txt"), source_names, {}))
            rows = boxes(target / f"labels/train/{stem}.txt")
            after.append(tile(image, rows, ("bicycle", "vehicle"), COLOURS) if rows else None)
        parts = [
            panel(before, "the source: COCO's 80 classes, all images"),
            panel(after, "the subset: classes: [bicycle, {name: vehicle, from: [car, bus, truck]}]"),
        ]
    margin = 12
    sheet = Image.new("RGB", (parts[0].width + 2 * margin, sum(p.height for p in parts) + 3 * margin), PAPER)
    y = margin
    for part in parts:
        sheet.paste(part, (margin, y))
        y += part.height + margin
    sheet.quantize(96).save(out, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
