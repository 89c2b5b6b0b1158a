"""Draw the sample collection that `make demo` and the tests work on.

    python tests/sample/draw.py [OUTDIR]

Three small datasets in YOLO layout, `detect`, `segment` and `pose`, go to OUTDIR (this folder, if none is named). Each
has `images/` and `labels/`, and in them `train2017` and `val2017`, as COCO 2017 has. A fourth, `labelme`, is a folder
of pictures with a JSON file beside each, as labelme saves them.

Nothing in a label is made up beside the picture: an object's pixels are remembered while it is drawn; its box is their
extent, its polygon their outline, and a person's keypoints are the joints that the limbs were drawn between.

The numbers are written as the three COCO archives write them: `%.6f` for boxes and keypoints, `%g` for polygons.

The same files come out everywhere: the standard library only, one seed a picture (its number), and plain arithmetic, no
sines. Only the packing of the PNG files is zlib's, so another zlib may give other bytes of the same pixels.
"""

import json
import random
import struct
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

Colour = tuple[int, int, int]
Point = tuple[float, float]
Corner = tuple[int, int]

WIDE, TALL = (120, 90), (90, 120)
OUTLINE_TOLERANCE = 0.8  # pixels that a polygon may leave out: people do not click at every step of the stairs either

DARK, GREY, GLASS, WHITE = (38, 38, 42), (150, 152, 156), (168, 205, 222), (240, 240, 236)
YELLOW, RED, GREEN = (244, 208, 63), (200, 52, 46), (60, 160, 84)
SKIN = ((236, 195, 160), (198, 142, 104), (122, 82, 58))
CLOTHES = ((206, 62, 58), (46, 104, 168), (238, 170, 48), (104, 62, 132), (232, 232, 226), (36, 120, 110))
TROUSERS = ((44, 52, 84), (70, 64, 58), (26, 30, 34))
PAINT = ((186, 40, 44), (32, 84, 160), (226, 226, 222), (224, 148, 30), (96, 102, 110), (22, 110, 96))
FUR = ((120, 78, 44), (58, 50, 46), (214, 178, 128))


class Picture:
    """Rows of colours, and the pixels of the object that is being drawn."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.width, self.height = size
        self.rows: list[list[Colour]] = [[WHITE] * self.width for _ in range(self.height)]
        self.touched: set[Corner] = set()

    def fill(
        self, colour: Colour, box: tuple[float, float, float, float], inside: Callable[[float, float], bool]
    ) -> None:
        """Colour the pixels of `box` (left, top, right, bottom) whose centre is `inside`."""
        left, top, right, bottom = box
        for y in range(max(0, int(top)), min(self.height, int(bottom) + 1)):
            for x in range(max(0, int(left)), min(self.width, int(right) + 1)):
                if inside(x + 0.5, y + 0.5):
                    self.rows[y][x] = colour
                    self.touched.add((x, y))

    def polygon(self, colour: Colour, points: list[Point]) -> None:
        edges = list(zip(points, points[1:] + points[:1], strict=True))

        def inside(x: float, y: float) -> bool:
            odd = False
            for (ax, ay), (bx, by) in edges:
                if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
                    odd = not odd
            return odd

        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.fill(colour, (min(xs), min(ys), max(xs), max(ys)), inside)

    def ellipse(self, colour: Colour, centre: Point, rx: float, ry: float, hole: float = 0.0) -> None:
        """Fill a disc, or with a `hole` (a part of the radius) a ring."""
        cx, cy = centre

        def inside(x: float, y: float) -> bool:
            return hole * hole <= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1

        self.fill(colour, (cx - rx, cy - ry, cx + rx, cy + ry), inside)

    def line(self, colour: Colour, start: Point, end: Point, thick: float) -> None:
        (ax, ay), (bx, by) = start, end
        dx, dy = bx - ax, by - ay
        radius = max(thick / 2, 0.75)  # a thinner line would break into pieces
        length2 = dx * dx + dy * dy or 1.0

        def inside(x: float, y: float) -> bool:
            along = min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / length2))
            return (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 <= radius * radius

        box = (min(ax, bx) - radius, min(ay, by) - radius, max(ax, bx) + radius, max(ay, by) + radius)
        self.fill(colour, box, inside)

    def png(self) -> bytes:
        def chunk(name: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
        lines = b"".join(b"\0" + bytes(channel for colour in row for channel in colour) for row in self.rows)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body


@dataclass
class Place:
    """Where one object stands in a picture. Its parts are drawn in 0..1, sizes are parts of its height."""

    picture: Picture
    rng: random.Random
    left: float
    top: float
    width: float
    height: float
    mirrored: bool

    def at(self, point: Point) -> Point:
        x, y = point
        return self.left + (1 - x if self.mirrored else x) * self.width, self.top + y * self.height

    def any(self, colours: tuple[Colour, ...]) -> Colour:
        return colours[int(self.rng.random() * len(colours))]

    def shape(self, colour: Colour, *points: Point) -> None:
        self.picture.polygon(colour, [self.at(point) for point in points])

    def slab(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        self.shape(colour, (left, top), (right, top), (right, bottom), (left, bottom))

    def disc(self, colour: Colour, centre: Point, radius: float, *, flat: float = 1.0, hole: float = 0.0) -> None:
        """`flat` widens it: 2 is twice as wide as high."""
        self.picture.ellipse(colour, self.at(centre), radius * flat * self.height, radius * self.height, hole)

    def bar(self, colour: Colour, thick: float, *points: Point) -> None:
        for start, end in pairwise(points):
            self.picture.line(colour, self.at(start), self.at(end), thick * self.height)

    def wheels(self, radius: float, *centres: Point) -> None:
        for centre in centres:
            self.disc(DARK, centre, radius)
            self.disc(GREY, centre, radius * 0.45)


# Keypoints: x, y, visibility, in pixels; an absent one is 0 0 0.
Keypoints = list[tuple[float, float, int]]

# COCO's order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right. The person looks at
# us, so the left hand is on the right.
STANDING: list[Point] = [
    (0.50, 0.10), (0.56, 0.08), (0.44, 0.08), (0.64, 0.09), (0.36, 0.09), (0.70, 0.25), (0.30, 0.25), (0.82, 0.39),
    (0.18, 0.39), (0.87, 0.53), (0.13, 0.53), (0.62, 0.54), (0.38, 0.54), (0.64, 0.75), (0.36, 0.75), (0.66, 0.95),
    (0.34, 0.95),
]  # fmt: skip
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
STANCES: dict[str, dict[int, Point]] = {
    "stands": {},
    "waves": {7: (0.92, 0.19), 9: (0.86, 0.04)},
    "walks": {7: (0.86, 0.36), 9: (0.92, 0.46), 13: (0.76, 0.74), 15: (0.86, 0.94), 14: (0.30, 0.76), 16: (0.16, 0.94)},
    "hides a hand": {8: (0.20, 0.40), 10: (0.42, 0.46)},
    "looks away": {},
}


def person(place: Place) -> Keypoints:
    stance = list(STANCES)[int(place.rng.random() * len(STANCES))]
    joints = [STANCES[stance].get(i, point) for i, point in enumerate(STANDING)]
    skin, shirt, trousers = place.any(SKIN), place.any(CLOTHES), place.any(TROUSERS)
    for side in (0, 1):
        place.bar(skin, 0.07, joints[5 + side], joints[7 + side], joints[9 + side])
        place.bar(trousers, 0.10, joints[11 + side], joints[13 + side], joints[15 + side])
        place.bar(DARK, 0.07, joints[15 + side], (joints[15 + side][0], 0.965))
        place.bar(shirt, 0.08, joints[5 + side], joints[7 + side])
    place.bar(skin, 0.07, (0.5, 0.12), (0.5, 0.24))
    place.bar(shirt, 0.08, *(joints[i] for i in (5, 6, 12, 11, 5)))
    place.shape(shirt, *(joints[i] for i in (5, 6, 12, 11)))
    hair = place.any(FUR)
    place.disc(hair, (0.5, 0.085), 0.085, flat=0.85)
    visible = [2] * len(joints)
    if stance == "looks away":
        visible[:3] = [0, 0, 0]  # no face to be seen
    else:
        place.disc(skin, (0.5, 0.10), 0.07, flat=0.85)
        for eye in joints[1:3]:
            place.bar(DARK, 0.01, eye, eye)
    if stance == "hides a hand":
        visible[10] = 1  # there, behind the back
    points = [(*place.at(point), seen) if seen else (0.0, 0.0, 0) for point, seen in zip(joints, visible, strict=True)]
    swapped = place.mirrored != (stance == "looks away")  # seen from behind, the left hand is on the left
    return [points[FLIP[i]] for i in range(len(points))] if swapped else points


def car(place: Place) -> None:
    place.shape(
        place.any(PAINT), (0, 0.55), (0.03, 0.42), (0.2, 0.38), (0.33, 0.04), (0.68, 0.02), (0.82, 0.36), (0.97, 0.44),
        (1, 0.6), (0.99, 0.84), (0.01, 0.84),
    )  # fmt: skip
    place.shape(GLASS, (0.26, 0.40), (0.37, 0.13), (0.50, 0.12), (0.50, 0.40))
    place.shape(GLASS, (0.54, 0.40), (0.54, 0.12), (0.65, 0.12), (0.75, 0.40))
    place.disc(YELLOW, (0.95, 0.56), 0.06)
    place.wheels(0.19, (0.2, 0.8), (0.8, 0.8))


def bus(place: Place) -> None:
    paint = place.any(PAINT)
    place.shape(paint, (0, 0.06), (0.02, 0), (0.97, 0), (1, 0.5), (1, 0.88), (0, 0.88))
    for i in range(5):
        place.slab(GLASS, 0.04 + 0.16 * i, 0.12, 0.17 + 0.16 * i, 0.45)
    place.slab(GLASS, 0.86, 0.12, 0.97, 0.80)
    place.slab(WHITE, 0.0, 0.56, 0.83, 0.64)
    place.wheels(0.14, (0.2, 0.86), (0.74, 0.86))


def truck(place: Place) -> None:
    paint = place.any(PAINT)
    place.slab(WHITE, 0, 0, 0.68, 0.78)
    place.slab(paint, 0.04, 0.28, 0.64, 0.44)
    place.slab(DARK, 0, 0.76, 1, 0.86)
    place.shape(paint, (0.70, 0.26), (0.88, 0.26), (0.96, 0.54), (1, 0.58), (1, 0.86), (0.70, 0.86))
    place.shape(GLASS, (0.78, 0.33), (0.87, 0.33), (0.93, 0.53), (0.78, 0.53))
    place.wheels(0.15, (0.12, 0.85), (0.36, 0.85), (0.86, 0.85))


def bicycle(place: Place) -> None:
    paint = place.any(PAINT[:2] + PAINT[3:])
    rear, front, pedals, saddle, head = (0.195, 0.68), (0.805, 0.68), (0.45, 0.7), (0.36, 0.32), (0.68, 0.3)
    for wheel in (rear, front):
        place.disc(DARK, wheel, 0.32, hole=0.72)
    place.bar(paint, 0.06, rear, pedals, head, saddle, rear)
    place.bar(paint, 0.06, saddle, pedals)
    place.bar(paint, 0.06, (0.66, 0.12), head, front)
    place.bar(DARK, 0.07, saddle, (0.35, 0.22))
    place.bar(DARK, 0.08, (0.28, 0.2), (0.44, 0.2))
    place.bar(DARK, 0.07, (0.62, 0.08), (0.74, 0.14))


def motorcycle(place: Place) -> None:
    paint = place.any(PAINT)
    place.wheels(0.28, (0.17, 0.72), (0.83, 0.72))
    place.shape(GREY, (0.3, 0.5), (0.62, 0.46), (0.6, 0.8), (0.36, 0.8))
    place.shape(paint, (0.02, 0.3), (0.3, 0.4), (0.44, 0.26), (0.66, 0.24), (0.74, 0.48), (0.2, 0.62))
    place.bar(DARK, 0.1, (0.14, 0.33), (0.40, 0.33))
    place.bar(GREY, 0.09, (0.83, 0.72), (0.68, 0.16))
    place.bar(DARK, 0.08, (0.58, 0.08), (0.72, 0.12))
    place.disc(YELLOW, (0.76, 0.28), 0.08)


def dog(place: Place) -> None:
    fur = place.any(FUR)
    place.bar(fur, 0.12, (0.06, 0.12), (0.16, 0.42))
    for x in (0.2, 0.3, 0.62, 0.72):
        place.bar(fur, 0.12, (x, 0.55), (x, 0.93))
    place.disc(fur, (0.45, 0.48), 0.2, flat=2.2)
    place.bar(fur, 0.2, (0.68, 0.42), (0.76, 0.26))
    place.disc(fur, (0.80, 0.22), 0.17, flat=1.0)
    place.bar(fur, 0.14, (0.82, 0.27), (0.94, 0.29))
    place.bar(DARK, 0.12, (0.74, 0.12), (0.71, 0.28))
    place.disc(DARK, (0.97, 0.27), 0.05)


def bench(place: Place) -> None:
    wood, iron = (150, 100, 56), (70, 70, 74)
    for x in (0.1, 0.9):
        place.bar(iron, 0.07, (x, 0.05), (x, 0.96))
    for y in (0.05, 0.26):
        place.slab(wood, 0, y, 1, y + 0.14)
    place.slab(wood, 0, 0.52, 1, 0.68)


def traffic_light(place: Place) -> None:
    place.slab((84, 88, 92), 0.4, 0.3, 0.6, 1)
    place.slab(DARK, 0.1, 0, 0.9, 0.44)
    for i, lamp in enumerate((RED, YELLOW, GREEN)):
        place.disc(lamp, (0.5, 0.08 + 0.14 * i), 0.055)


def kite(place: Place) -> None:
    place.shape(place.any(CLOTHES[:4]), (0.5, 0), (1, 0.4), (0.5, 1), (0, 0.4))


@dataclass(frozen=True)
class Kind:
    """What can be drawn: its id among COCO's 80 classes, and its size in metres (long vehicles shortened)."""

    class_id: int
    width: float
    height: float
    draw: Callable[[Place], Keypoints | None]
    lift: float = 0.0


KINDS = {
    "person": Kind(0, 0.75, 1.75, person),
    "bicycle": Kind(1, 1.75, 1.05, bicycle),
    "car": Kind(2, 3.6, 1.45, car),
    "motorcycle": Kind(3, 2.0, 1.15, motorcycle),
    "bus": Kind(5, 5.2, 2.5, bus),
    "truck": Kind(7, 4.8, 2.3, truck),
    "traffic light": Kind(9, 0.75, 2.5, traffic_light),
    "bench": Kind(13, 1.6, 0.85, bench),
    "dog": Kind(16, 1.05, 0.7, dog),
    "kite": Kind(33, 0.6, 0.8, kite, lift=1.5),
}


@dataclass(frozen=True)
class Scene:
    number: int
    things: str
    size: tuple[int, int] = WIDE
    label_file: bool = True
    suffix: str = ".png"


SCENES: dict[str, dict[str, list[Scene]]] = {
    "detect": {
        "train2017": [
            Scene(700012, "car"),
            Scene(700025, "bicycle, person"),
            Scene(700034, "bus"),
            Scene(700049, "person, dog"),
            Scene(700063, "truck, car"),
            Scene(700078, "bicycle, bicycle"),
            Scene(700081, "car, person, car"),
            Scene(700096, "", label_file=False),  # a background, as COCO has them: an image and no label file
            Scene(700113, "bench, person"),
            Scene(700127, "motorcycle, car", suffix=".PNG"),
            Scene(700138, "traffic light, bus, person"),
            Scene(700150, "dog"),
            Scene(700164, "bicycle, car", TALL),
            Scene(700189, "truck"),
            Scene(700201, "person, person, person", TALL),
            Scene(700217, "bicycle, dog, bench"),
        ],
        "val2017": [
            Scene(710005, "car, bicycle"),
            Scene(710018, "bus, person"),
            Scene(710036, ""),  # the other way to have no objects: an empty label file
            Scene(710042, "dog, person"),
            Scene(710057, "motorcycle, truck"),
            Scene(710079, "bicycle, person", TALL),
        ],
    },
    "segment": {
        "train2017": [
            Scene(720003, "person"),
            Scene(720019, "dog, person"),
            Scene(720028, "car"),
            Scene(720044, "person, bicycle"),
            Scene(720051, "dog, dog", TALL),
            Scene(720066, "kite, person"),
            Scene(720072, "bus, car"),
            Scene(720095, "person, dog, person"),
        ],
        "val2017": [
            Scene(730007, "dog"),
            Scene(730021, "person, car"),
            Scene(730033, "truck"),
            Scene(730048, "bicycle, dog, person"),
        ],
    },
    "pose": {  # only persons have rows here
        "train2017": [
            Scene(740006, "person", TALL),
            Scene(740011, "person, person"),
            Scene(740023, "person, dog"),
            Scene(740037, "person, person, person"),
            Scene(740042, "person"),
            Scene(740058, "bench, person, person"),
            Scene(740064, "person, person", TALL),
            Scene(740083, "person"),
        ],
        "val2017": [
            Scene(750009, "person"),
            Scene(750014, "person, person"),
            Scene(750026, "person", TALL),
            Scene(750031, "person, person, person"),
        ],
    },
}


#: What somebody would label by hand: pictures of the street, with kites and dogs that COCO's sample has too.
PHOTOS = [
    Scene(760002, "dog, person"),
    Scene(760004, "kite"),
    Scene(760007, "dog, kite", TALL),
    Scene(760009, "person, kite"),
    Scene(760011, "dog"),
    Scene(760014, "kite, dog, person"),
    Scene(760015, "dog, dog"),
    Scene(760019, ""),
]


@dataclass
class Thing:
    """A drawn object: which pixels it covers."""

    name: str
    pixels: set[Corner] = field(repr=False)
    keypoints: Keypoints | None

    def box(self) -> tuple[int, int, int, int]:
        xs, ys = [x for x, _ in self.pixels], [y for _, y in self.pixels]
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def background(picture: Picture, rng: random.Random) -> None:
    """Paint sky, something on the horizon, ground."""
    width, height = picture.width, picture.height
    horizon = int(height * (0.50 + 0.08 * rng.random()))
    red, green, blue = ((150, 196, 232), (206, 212, 216), (244, 196, 150))[int(rng.random() * 3)]
    for band in range(3):
        colour = (red + 5 * band, green + 6 * band, blue + 7 * band)
        picture.fill(colour, (0, band * horizon / 3, width, horizon), lambda _x, _y: True)
    picture.ellipse(WHITE, (width * rng.random(), height * 0.16), 10, 4)
    if rng.random() < 0.5:  # a street of houses
        x = -width * 0.1 * rng.random()
        while x < width:
            wide, high = 14 + 12 * rng.random(), height * (0.10 + 0.16 * rng.random())
            wall = ((176, 160, 146), (158, 140, 136), (190, 178, 160))[int(rng.random() * 3)]
            picture.polygon(wall, [(x, horizon), (x, horizon - high), (x + wide, horizon - high), (x + wide, horizon)])
            x += wide
        ground = (126, 128, 130)
    else:  # hills
        for _ in range(2):
            peak = width * rng.random()
            hill = [
                (peak - width * 0.6, horizon + 1.0),
                (peak, horizon - height * 0.18),
                (peak + width * 0.6, horizon + 1.0),
            ]
            picture.polygon((128, 158, 122) if rng.random() < 0.5 else (142, 166, 140), hill)
        ground = (150, 176, 104)
    picture.fill(ground, (0, horizon, width, height), lambda _x, y: y > horizon)
    kerb = horizon + int(height * 0.06)
    picture.fill((196, 194, 186), (0, kerb, width, kerb + 1), lambda _x, _y: True)


def draw(scene: Scene) -> tuple[Picture, list[Thing]]:
    """Make the picture, and its objects in the order they were drawn."""
    rng = random.Random(scene.number)
    picture = Picture(scene.size)
    background(picture, rng)
    names = scene.things.split(", ") if scene.things else []
    # Side by side, so that none hides another; as many pixels a metre as fit.
    metres = sum(KINDS[name].width for name in names) + 0.25 * (len(names) + 1)
    tallest = max((KINDS[name].height + KINDS[name].lift for name in names), default=1.0)
    scale = min(picture.width / metres, picture.height * 0.84 / tallest, 48.0)
    spare = picture.width - metres * scale
    left = spare * rng.random() + 0.25 * scale
    things = []
    for name in names:
        kind = KINDS[name]
        depth = 0.82 + 0.18 * rng.random()  # further back: smaller and higher up
        width, height = kind.width * scale * depth, kind.height * scale * depth
        ground = picture.height * (0.95 - 0.6 * (1 - depth)) - kind.lift * scale * depth
        place = Place(picture, rng, left, ground - height, width, height, mirrored=rng.random() < 0.5)
        picture.touched = set()
        keypoints = kind.draw(place)
        things.append(Thing(name, picture.touched, keypoints))
        left += (kind.width + 0.25) * scale
    return picture, things


def outline(pixels: set[Corner]) -> list[Corner]:
    """Walk the corners around a connected set of pixels, clockwise. Holes are left out, as in COCO's polygons."""
    steps: dict[Corner, list[Corner]] = defaultdict(list)
    for x, y in pixels:
        if (x, y - 1) not in pixels:
            steps[x, y].append((x + 1, y))
        if (x + 1, y) not in pixels:
            steps[x + 1, y].append((x + 1, y + 1))
        if (x, y + 1) not in pixels:
            steps[x + 1, y + 1].append((x, y + 1))
        if (x - 1, y) not in pixels:
            steps[x, y + 1].append((x, y))
    top, left = min((y, x) for x, y in pixels)
    start, here, before = (left, top), (left + 1, top), (left, top)
    ring = [start]
    while here != start:
        ring.append(here)
        dx, dy = here[0] - before[0], here[1] - before[1]
        turn_left = (here[0] + dy, here[1] - dx)  # where pixels meet at a corner, go on to the other one
        ways = steps[here]
        before, here = here, turn_left if turn_left in ways else ways[0]
    return ring


def simplify(points: list[Corner]) -> list[Corner]:
    """Leave out what is within the tolerance of a straight line (Douglas and Peucker). Both ends stay."""
    (ax, ay), (bx, by) = points[0], points[-1]
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    away = [((x - ax) * dy - (y - ay) * dx) ** 2 / length2 for x, y in points]
    worst = away.index(max(away))
    if away[worst] <= OUTLINE_TOLERANCE**2:
        return [points[0], points[-1]]
    return simplify(points[: worst + 1])[:-1] + simplify(points[worst:])


def polygon(thing: Thing) -> list[Corner]:
    ring = outline(thing.pixels)
    extent = (min(x for x, _ in ring), min(y for _, y in ring), max(x for x, _ in ring), max(y for _, y in ring))
    if extent != thing.box():
        message = f"a {thing.name} came out in pieces: outline {extent}, pixels {thing.box()}"
        raise ValueError(message)
    x0, y0 = ring[0]
    far = max(range(len(ring)), key=lambda i: (ring[i][0] - x0) ** 2 + (ring[i][1] - y0) ** 2)
    return simplify(ring[: far + 1])[:-1] + simplify([*ring[far:], ring[0]])[:-1]


def box_numbers(thing: Thing, picture: Picture) -> list[str]:
    left, top, right, bottom = thing.box()
    centre = [(left + right) / 2 / picture.width, (top + bottom) / 2 / picture.height]
    return [f"{n:.6f}" for n in [*centre, (right - left) / picture.width, (bottom - top) / picture.height]]


def row(task: str, thing: Thing, picture: Picture) -> str | None:
    """Write the label row, or None if this object has none in a dataset of this task."""
    if task == "segment":
        numbers = [f"{n:g}" for x, y in polygon(thing) for n in (x / picture.width, y / picture.height)]
    else:
        numbers = box_numbers(thing, picture)
    if task == "pose":
        if thing.keypoints is None:
            return None
        for x, y, seen in thing.keypoints:
            numbers += [f"{x / picture.width:.6f}", f"{y / picture.height:.6f}", f"{seen:.6f}"]
    return " ".join([str(KINDS[thing.name].class_id), *numbers])


def sample() -> Iterator[tuple[str, bytes, Counter[str]]]:
    """Yield every file of the collection: its path, its content, and for a label file its objects by class."""
    for task, folders in SCENES.items():
        for folder, scenes in folders.items():
            for scene in scenes:
                picture, things = draw(scene)
                yield f"{task}/images/{folder}/{scene.number:012d}{scene.suffix}", picture.png(), Counter()
                if scene.label_file:
                    rows = [(thing.name, text) for thing in things if (text := row(task, thing, picture))]
                    content = "".join(f"{text}\n" for _, text in rows).encode("ascii")
                    path = f"{task}/labels/{folder}/{scene.number:012d}.txt"
                    yield path, content, Counter(name for name, _ in rows)


def labelme_file(name: str, things: list[Thing], picture: Picture) -> bytes:
    """Write what labelme 5 saves: dogs as rectangles, other things as polygons."""
    shapes: list[dict[str, object]] = []
    for thing in things:
        left, top, right, bottom = thing.box()
        boxed = thing.name == "dog"
        points = [(right, bottom), (left, top)] if boxed else polygon(thing)
        shapes.append(
            {
                "label": thing.name,
                "points": [[float(x), float(y)] for x, y in points],
                "group_id": None,
                "description": "",
                "shape_type": "rectangle" if boxed else "polygon",
                "flags": {},
                "mask": None,
            }
        )
    data: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": picture.height,
        "imageWidth": picture.width,
    }
    return json.dumps(data, indent=2).encode("ascii") + b"\n"


def photos() -> Iterator[tuple[str, bytes, Counter[str]]]:
    """Yield the pictures that labelme labelled, as `sample` does."""
    for scene in PHOTOS:
        picture, things = draw(scene)
        name = f"photo{scene.number % 100:02d}"
        yield f"labelme/{name}.png", picture.png(), Counter()
        yield f"labelme/{name}.json", labelme_file(f"{name}.png", things, picture), Counter(t.name for t in things)


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.stderr.write("usage: draw.py [OUTDIR]\n")
        return 2
    out = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    files: Counter[str] = Counter()
    objects: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, content, names in [*sample(), *photos()]:
        if path.startswith("labelme/"):
            task, kind, folder = "labelme", "labels" if path.endswith(".json") else "images", "photos"
        else:
            task, kind, folder, _ = path.split("/")
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        files[f"{task} {folder} {kind}"] += 1
        objects[f"{task} {folder}"].update(names)
    for name, counts in objects.items():
        listed = ", ".join(f"{n} {thing}" for thing, n in sorted(counts.items()))
        sys.stdout.write(f"{name}: {files[f'{name} images']} images, {files[f'{name} labels']} label files: {listed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
