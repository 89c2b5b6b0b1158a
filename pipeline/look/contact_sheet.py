"""The contact sheet: pictures in rows, each with the outlines of its objects and their classes' names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.humanize import plural
from pipeline.look.colours import colour_of, ink_on
from pipeline.look.fonts import Lettering
from pipeline.look.shapes import Shape

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.base.arrays import Floats

#: Pixels: the side of a tile, between tiles, around all of them, and of a line of text.
TILE, _GAP, _MARGIN, _LINE = 300, 14, 20, 16

#: Points of the letters below a tile.
_CAPTION = 11

#: Outlines are drawn so many times as large, and scaled down: they are smooth then.
_FINE = 2

_INK, _MUTED, _PAPER, _BEHIND, _HALO = "#1f2328", "#656d76", "#ffffff", "#eff1f3", "#00000066"

#: Names are written beside so many objects of an image, the largest; of a crowd they would hide it.
_NAMED = 12

#: Classes of the legend, and pixels of a name in it.
_LEGEND, _LEGEND_NAME = 24, 280


_NO_PICTURE = "no picture"


@dataclass(frozen=True)
class Tile:
    """A picture of the sheet; `shapes` are shares of it. None is an image that cannot be shown.

    `name` is written below it, as much of it as there is room for beside what is `said` after it.
    """

    image: Image.Image | None
    shapes: tuple[Shape, ...]
    name: str
    said: str = ""


def contact_sheet(
    tiles: Sequence[Tile], classes: Sequence[str], title: str, subtitle: str, letters: Lettering | None = None
) -> Image.Image:
    """`tiles` in rows under `title`, with a legend of the classes that are on them; names are by class id."""
    from PIL import Image, ImageDraw

    letters = letters or Lettering()
    numbers = sorted({s.class_id for t in tiles for s in t.shapes})
    letters.learn("".join([title, subtitle, *(t.name + t.said for t in tiles), *(classes[i] for i in numbers)]))
    columns = _columns(len(tiles))
    rows = math.ceil(len(tiles) / columns)
    width = 2 * _MARGIN + columns * (TILE + _GAP) - _GAP
    legend = _legend_rows(numbers, classes, width - 2 * _MARGIN, letters)
    top = _MARGIN + 54
    height = top + rows * (TILE + _LINE + 6 + _GAP) + len(legend) * 24 + _MARGIN - _GAP + (10 if legend else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)

    def write(x: float, y: float, text: str, most: float, size: int, colour: str) -> None:
        letters.write(sheet, (x, y), letters.cut(text, most, size), size, colour)

    write(_MARGIN, _MARGIN - 4, title, width - 2 * _MARGIN, 20, _INK)
    write(_MARGIN, _MARGIN + 24, subtitle, width - 2 * _MARGIN, 13, _MUTED)
    for i, tile in enumerate(tiles):
        x, y = _MARGIN + i % columns * (TILE + _GAP), top + i // columns * (TILE + _LINE + 6 + _GAP)
        sheet.paste(_drawn(tile, classes, letters), (x, y))
        said = letters.cut(tile.said, TILE, _CAPTION)
        name = letters.cut(tile.name, TILE - letters.length(said, _CAPTION), _CAPTION)
        letters.write(sheet, (x, y + TILE + 5), name + said, _CAPTION, _MUTED)
    y = top + rows * (TILE + _LINE + 6 + _GAP) + 4
    for line in legend:
        for x, number, name in line:
            if number is not None:
                pen.rounded_rectangle((_MARGIN + x, y + 3, _MARGIN + x + 11, y + 14), 2, fill=colour_of(number))
            letters.write(sheet, (_MARGIN + x + 17, y + 1), name, 13, _INK)
        y += 24
    return sheet


def _columns(count: int) -> int:
    """How many tiles are in a row: of a sheet that is a little wider than high, and with few places left over."""
    wide = max(1, math.ceil(math.sqrt(count * 1.3)))
    return (
        min((wide, max(2, wide - 1), wide + 1), key=lambda columns: -count % columns) if count > wide else max(1, count)
    )


def _legend_rows(
    numbers: Sequence[int], classes: Sequence[str], width: int, letters: Lettering
) -> list[list[tuple[int, int | None, str]]]:
    """Positions (x, class id, text) of the legend's entries, by line; the last may say how many more there are."""
    rows: list[list[tuple[int, int | None, str]]] = [[]] if numbers else []
    entries: list[tuple[int | None, str]] = [(number, f"{number} {classes[number]}") for number in numbers[:_LEGEND]]
    if len(numbers) > _LEGEND:
        entries.append((None, f"and {plural(len(numbers) - _LEGEND, 'more class', 'more classes')}"))
    x = 0
    for number, text in entries:
        name = letters.cut(text, min(_LEGEND_NAME, width - 17), 13)
        need = 17 + int(letters.length(name, 13)) + 22
        if x and x + need > width:
            rows.append([])
            x = 0
        rows[-1].append((x, number, name))
        x += need
    return rows


def _drawn(tile: Tile, classes: Sequence[str], letters: Lettering) -> Image.Image:
    """The picture of a tile with its objects, in the middle of a square."""
    from PIL import Image

    square = Image.new("RGB", (TILE, TILE), _BEHIND)
    if tile.image is None:
        x = (TILE - letters.length(_NO_PICTURE, 13)) / 2
        letters.write(square, (x, TILE / 2 - 8), _NO_PICTURE, 13, _MUTED)
        return square
    scale = TILE / max(tile.image.size)
    size = (max(1, round(tile.image.width * scale)), max(1, round(tile.image.height * scale)))
    picture = tile.image.resize((size[0] * _FINE, size[1] * _FINE), Image.Resampling.LANCZOS)
    order = sorted(tile.shapes, key=lambda s: -_area(s))  # small ones on top
    for shape in order:
        _outline(picture, shape)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    chips: list[tuple[float, float, float, float]] = []
    for shape in order[:_NAMED]:
        _name(picture, shape, classes[shape.class_id], letters, chips)
    square.paste(picture, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return square


def _area(shape: Shape) -> float:
    left, top, right, bottom = shape.box
    return (right - left) * (bottom - top)


def _outline(picture: Image.Image, shape: Shape) -> None:
    """Draw the outlines of `shape` on `picture`: in the class's colour, on a dark line that stands out on light."""
    from PIL import ImageDraw

    colour, width = colour_of(shape.class_id), 2 * _FINE
    pen = ImageDraw.Draw(picture, "RGBA")
    if shape.polygons:
        rings = [_pixels(polygon, picture) for polygon in shape.polygons]
        _fill(picture, rings, colour)
        for ring in rings:
            closed = [*ring, *ring[:2]]
            pen.line(closed, fill=_HALO, width=width + 2 * _FINE, joint="curve")
            pen.line(closed, fill=colour, width=width, joint="curve")
    else:
        left, top, right, bottom = (v * s for v, s in zip(shape.box, picture.size * 2, strict=True))
        box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        pen.rectangle((box[0] - _FINE, box[1] - _FINE, box[2] + _FINE, box[3] + _FINE), outline=_HALO, width=width + 2)
        pen.rectangle(box, outline=colour, width=width)
    if shape.points is not None:
        points = shape.points * picture.size
        for a, b in shape.edges:
            line = (*points[a].tolist(), *points[b].tolist())
            pen.line(line, fill=_HALO, width=width + 2 * _FINE)
            pen.line(line, fill=colour, width=width)
        radius = 2 * _FINE
        for (x, y), seen in zip(points.tolist(), shape.seen, strict=True):
            if seen:
                dot = (x - radius, y - radius, x + radius, y + radius)
                pen.ellipse(dot, fill=_PAPER, outline=colour, width=_FINE)


def _fill(picture: Image.Image, rings: Sequence[list[tuple[float, float]]], colour: str) -> None:
    """Shade what `rings`, in pixels, cover by the even-odd rule."""
    from PIL import Image, ImageChops, ImageDraw

    xs, ys = zip(*(point for ring in rings for point in ring), strict=True)
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    right, bottom = min(picture.width, math.ceil(max(xs)) + 1), min(picture.height, math.ceil(max(ys)) + 1)
    if left >= right or top >= bottom:
        return
    inside = Image.new("1", (right - left, bottom - top))
    for ring in rings:
        part = Image.new("1", inside.size)
        ImageDraw.Draw(part).polygon([(x - left, y - top) for x, y in ring], fill=1)
        inside = ImageChops.logical_xor(inside, part)
    picture.paste(colour, (left, top, right, bottom), inside.convert("L").point(lambda v: v * 72 // 255))


def _pixels(polygon: Floats, picture: Image.Image) -> list[tuple[float, float]]:
    return [(float(x * picture.width), float(y * picture.height)) for x, y in polygon]


def _name(
    picture: Image.Image,
    shape: Shape,
    name: str,
    letters: Lettering,
    chips: list[tuple[float, float, float, float]],
) -> None:
    """Write the class's name on a chip of its colour above the box, or within it where there is no room above.

    Where it would cover one of the `chips` that are there, it is left out: the colour says it. A name that no font has
    goes with its id, by which the legend has all of it.
    """
    from PIL import ImageDraw

    size = picture.size
    label = f"{shape.class_id} {name}" if letters.lacking.intersection(name) else name
    text = letters.cut(label, min(size[0] - 6, 160), 11)
    x, y = shape.box[0] * size[0], shape.box[1] * size[1]
    chip = (int(letters.length(text, 11)) + 7, 14)
    x = min(max(0, x - 1), max(0, size[0] - chip[0]))
    y = y - chip[1] if y >= chip[1] else min(y + 1, size[1] - chip[1])
    if any(x < right and left < x + chip[0] and y < bottom and top < y + chip[1] for left, top, right, bottom in chips):
        return
    chips.append((x, y, x + chip[0], y + chip[1]))
    colour = colour_of(shape.class_id)
    ImageDraw.Draw(picture).rectangle((x, y, x + chip[0] - 1, y + chip[1] - 1), fill=colour)
    letters.write(picture, (x + 3, y), text, 11, ink_on(colour))


def cropped(image: Image.Image, shape: Shape) -> tuple[Image.Image, Shape]:
    """The part of `image` around one object: a square, half as much again on each side; and the object in it."""
    import numpy as np

    size = np.array(image.size, np.float64)
    low, high = np.array(shape.box[:2]) * size, np.array(shape.box[2:]) * size
    side = max(48.0, float((high - low).max()) * 2)
    begin = np.maximum(0, np.floor((low + high - side) / 2))
    stop = np.minimum(size, np.ceil((low + high + side) / 2))
    begin, stop = np.minimum(begin, size - 1), np.maximum(stop, begin + 1)
    part = image.crop((int(begin[0]), int(begin[1]), int(stop[0]), int(stop[1])))
    return part, shape.moved(lambda xy: (xy * size - begin) / (stop - begin))
