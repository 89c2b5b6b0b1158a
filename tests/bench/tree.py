"""A YOLO label tree as large as COCO train2017, made from a seed: the input of every benchmark.

The real label archive is 117,266 files and 860,001 rows. It is neither ours to ship nor there on every machine, so
this makes one like it: as many files and rows, COCO's own count of objects and of images for each of the 80 classes,
several classes an image, rows of one class mostly together, image ids with gaps. A subset of one class then keeps as
large a share of the files and rows as it does in COCO, and that share is what a subset costs.

Everything is drawn and formatted by NumPy for a chunk of images at a time; Python only opens, writes and closes. Memory
is that of one chunk, whatever the number of files. A chunk's random stream depends on the seed, the split and the
chunk's number only, so a smaller tree is a prefix of a larger one, and the labels are the same with and without images.

What it leaves out: the archive prints coordinates with six significant digits (``%.6g``), this tree with six decimals
(``%.6f``), so its rows are 39 bytes at most; and every row is a sound box, since errors are no matter of speed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

#: Name, objects and images of each class in COCO train2017 (crowd objects included: they sum to 860,001). The position
#: is the class id of the YOLO archives.
COCO: tuple[tuple[str, int, int], ...] = (
    ("person", 262465, 64115),
    ("bicycle", 7113, 3252),
    ("car", 43867, 12251),
    ("motorcycle", 8725, 3502),
    ("airplane", 5135, 2986),
    ("bus", 6069, 3952),
    ("train", 4571, 3588),
    ("truck", 9973, 6127),
    ("boat", 10759, 3025),
    ("traffic light", 12884, 4139),
    ("fire hydrant", 1865, 1711),
    ("stop sign", 1983, 1734),
    ("parking meter", 1285, 705),
    ("bench", 9838, 5570),
    ("bird", 10806, 3237),
    ("cat", 4768, 4114),
    ("dog", 5508, 4385),
    ("horse", 6587, 2941),
    ("sheep", 9509, 1529),
    ("cow", 8147, 1968),
    ("elephant", 5513, 2143),
    ("bear", 1294, 960),
    ("zebra", 5303, 1916),
    ("giraffe", 5131, 2546),
    ("backpack", 8720, 5528),
    ("umbrella", 11431, 3968),
    ("handbag", 12354, 6841),
    ("tie", 6496, 3810),
    ("suitcase", 6192, 2402),
    ("frisbee", 2682, 2184),
    ("skis", 6646, 3082),
    ("snowboard", 2685, 1654),
    ("sports ball", 6347, 4262),
    ("kite", 9076, 2261),
    ("baseball bat", 3276, 2506),
    ("baseball glove", 3747, 2629),
    ("skateboard", 5543, 3476),
    ("surfboard", 6126, 3486),
    ("tennis racket", 4812, 3394),
    ("bottle", 24342, 8501),
    ("wine glass", 7913, 2533),
    ("cup", 20650, 9189),
    ("fork", 5479, 3555),
    ("knife", 7770, 4326),
    ("spoon", 6165, 3529),
    ("bowl", 14358, 7111),
    ("banana", 9458, 2243),
    ("apple", 5851, 1586),
    ("sandwich", 4373, 2365),
    ("orange", 6399, 1699),
    ("broccoli", 7308, 1939),
    ("carrot", 7852, 1683),
    ("hot dog", 2918, 1222),
    ("pizza", 5821, 3166),
    ("donut", 7179, 1523),
    ("cake", 6353, 2925),
    ("chair", 38491, 12774),
    ("couch", 5779, 4423),
    ("potted plant", 8652, 4452),
    ("bed", 4192, 3682),
    ("dining table", 15714, 11837),
    ("toilet", 4157, 3353),
    ("tv", 5805, 4561),
    ("laptop", 4970, 3524),
    ("mouse", 2262, 1876),
    ("remote", 5703, 3076),
    ("keyboard", 2855, 2115),
    ("cell phone", 6434, 4803),
    ("microwave", 1673, 1547),
    ("oven", 3334, 2877),
    ("toaster", 225, 217),
    ("sink", 5610, 4678),
    ("refrigerator", 2637, 2360),
    ("book", 24715, 5332),
    ("clock", 6334, 4659),
    ("vase", 6613, 3593),
    ("scissors", 1481, 947),
    ("teddy bear", 4793, 2140),
    ("hair drier", 198, 189),
    ("toothbrush", 1954, 1007),
)
NAMES = tuple(name for name, _, _ in COCO)
CLASSES = len(COCO)
#: Train images of COCO that have a label file: what the table's image counts are shares of.
COCO_LABELLED = 117_266

#: Labelled images drawn at a time. It sets the random streams, so another value makes another tree.
CHUNK = 4096
#: One image without objects (and so without a label file) follows every so many labelled ones; COCO has 0.9 %.
BACKGROUND_EVERY = 100
#: Rows in the fullest label file of COCO train2017.
MAX_ROWS = 93
#: Shape of the gamma law of how many classes an image has: 4 gives one class in 24 % of the images and 15 at most.
RICHNESS = 4
#: Shape of the gamma law of how crowded an image is, apart from what is in it; 3 gives COCO's long tail of rows.
CROWDING = 3
#: Bytes of the longest row, ``dd 0.dddddd 0.dddddd 0.dddddd 0.dddddd\n``; a class of one digit saves one.
ROW = 39
MILLION = 1_000_000

MARKER = "tree.json"
STARTED = "tree.started"
#: Raise it when the same parameters give another tree, so that kept trees are made anew.
VERSION = 1

THOUSAND: Bytes = np.frombuffer(b"".join(b"%03d" % i for i in range(1000)), dtype=np.uint8).reshape(1000, 3)


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds; counts, and bytes of all label files together."""

    files: int = 0
    rows: int = 0
    max_rows: int = 0
    label_bytes: int = 0
    #: Checksum of all rows in file order: two trees of the same parameters must agree.
    crc32: int = 0
    #: Image files, the background ones included; 0 without images.
    images: int = 0
    #: By class id: rows of the class, and label files that have at least one.
    objects: tuple[int, ...] = ()
    images_with: tuple[int, ...] = ()


@dataclass(frozen=True)
class TreeFacts:
    """A finished tree: where it is and what is in it. ``seconds`` is 0 for a tree that was reused."""

    root: Path
    train: SplitFacts
    val: SplitFacts
    seconds: float = field(default=0.0, compare=False)

    @property
    def files(self) -> int:
        """Label files of both splits."""
        return self.train.files + self.val.files

    @property
    def rows(self) -> int:
        """Label rows of both splits."""
        return self.train.rows + self.val.rows


class _Law:
    """The chances that reproduce COCO's two counts a class, worked out once.

    An image has a richness g (gamma, mean 1) and holds class c with the chance ``1 - exp(-g * rate[c])``; an image
    that got nothing is drawn again. Thus classes come together, as they do, and each still has its own share of the
    images.
    """

    def __init__(self) -> None:
        objects = np.array([row[1] for row in COCO], dtype=np.float64)
        images = np.array([row[2] for row in COCO], dtype=np.float64)
        share = images / COCO_LABELLED
        # Redrawing empty images raises every share by 1/(1 - empty), and how many are empty depends on the rates: a
        # fixed point, which settles to 1e-12 within some tens of rounds.
        empty = 0.0
        rate = share
        for _ in range(200):
            rate = RICHNESS * ((1 - share * (1 - empty)) ** (-1 / RICHNESS) - 1)
            empty = float((1 + rate.sum() / RICHNESS) ** -RICHNESS)
        self.rate: Floats = rate
        #: Mean number of further objects of a class in an image that has one.
        self.more: Floats = objects / images - 1


def _gamma(rng: np.random.Generator, shape: int, size: int) -> Floats:
    """Draw ``size`` numbers of the gamma law with a whole-numbered shape and mean 1, from uniform numbers alone.

    NumPy keeps ``random()`` stable between its versions, but not the streams of its distributions.
    """
    drawn: Floats = -np.log1p(-rng.random((size, shape))).sum(axis=1) / shape
    return drawn


def _draw(rng: np.random.Generator, law: _Law) -> tuple[Ints, Ints]:
    """Draw the objects of a chunk: of each, the image's number in the chunk (ascending) and the class id."""
    present = np.zeros((CHUNK, CLASSES), dtype=np.bool_)
    todo = np.arange(CHUNK)
    while todo.size:
        richness = _gamma(rng, RICHNESS, todo.size)
        present[todo] = rng.random((todo.size, CLASSES)) < -np.expm1(-richness[:, None] * law.rate)
        todo = todo[~present[todo].any(axis=1)]
    image, cls = np.nonzero(present)
    mean = law.more[cls] * _gamma(rng, CROWDING, CHUNK)[image]
    # A geometric law with this mean, by its inverse.
    count = 1 + np.floor(np.log1p(-rng.random(image.size)) / np.log(mean / (1 + mean))).astype(np.int64)
    # Rows of a class stand mostly together, as annotators leave them: each class has a place, each row strays from it.
    place = np.repeat(rng.random(image.size), count)
    image, cls = np.repeat(image, count), np.repeat(cls, count)
    order = np.argsort(2 * image + place + 0.5 * rng.random(image.size), kind="stable")
    cls = cls[order]
    first = np.searchsorted(image, np.arange(CHUNK))
    keep = np.arange(image.size) - first[image] < MAX_ROWS
    return image[keep], cls[keep]


def _boxes(rng: np.random.Generator, size: int) -> Ints:
    """Draw ``size`` boxes as millionths: centre x, centre y, width, height, all of it strictly inside the image.

    The side lengths follow COCO's: a median of 0.09 of the image, a tenth below 0.02, a tenth above 0.44.
    """
    odds = rng.random((size, 2))
    sides = np.clip(0.09 * (odds / (1 - odds)) ** 0.72, 0.002, 0.998)
    side: Ints = (sides * MILLION).astype(np.int64)
    half = side // 2 + 1
    centre: Ints = half + (rng.random((size, 2)) * (MILLION + 1 - 2 * half)).astype(np.int64)
    return np.hstack((centre, side))


def _render(cls: Ints, boxes: Ints) -> tuple[bytes, Ints]:
    """Format rows as ``%d %.6f %.6f %.6f %.6f``; give all their bytes and the length of each."""
    grid = np.empty((cls.size, ROW), dtype=np.uint8)
    grid[:, 0] = ord("0") + cls // 10
    grid[:, 1] = ord("0") + cls % 10
    for column in range(4):
        start = 2 + 9 * column
        grid[:, start : start + 3] = np.frombuffer(b" 0.", dtype=np.uint8)
        grid[:, start + 3 : start + 6] = THOUSAND[boxes[:, column] // 1000]
        grid[:, start + 6 : start + 9] = THOUSAND[boxes[:, column] % 1000]
    grid[:, ROW - 1] = ord("\n")
    used = np.ones(grid.shape, dtype=np.bool_)
    used[:, 0] = cls >= 10
    return grid[used].tobytes(), ROW - 1 + used[:, 0]


def _image_ids(position: Ints, val: bool) -> Ints:
    """Ids that ascend with gaps, as COCO's do (mean gap 5 in train, 120 in val), and never meet between the splits."""
    if val:
        return 120 * position + 5
    jitter = (position.astype(np.uint64) * np.uint64(2654435761) >> np.uint64(13)) & np.uint64(3)
    return 5 * position + 1 + jitter.astype(np.int64)


@dataclass(frozen=True)
class _Chunk:
    """A run of label files, ready to be written."""

    ids: list[int]
    data: bytes
    #: Where each file ends in ``data``; the first starts at 0.
    ends: list[int]
    image: Ints
    cls: Ints


def _chunks(files: int, val: bool, seed: int) -> Iterator[_Chunk]:
    """Draw a split chunk by chunk; the last is drawn whole and cut, so that a tree is a prefix of any larger one."""
    law = _Law()
    for number, start in enumerate(range(0, files, CHUNK)):
        rng = np.random.Generator(np.random.PCG64([seed, int(val), number]))
        image, cls = _draw(rng, law)
        boxes = _boxes(rng, cls.size)
        here = min(CHUNK, files - start)
        rows = int(np.searchsorted(image, here))
        image, cls = image[:rows], cls[:rows]
        data, lengths = _render(cls, boxes[:rows])
        ends = np.cumsum(lengths)[np.cumsum(np.bincount(image, minlength=here)) - 1]
        index = start + np.arange(here)
        ids = _image_ids(index + index // BACKGROUND_EVERY, val)
        yield _Chunk(ids.tolist(), data, ends.tolist(), image, cls)


def _put(folder: int, name: str, data: memoryview) -> None:
    """Write one new file into an open folder. ``open()`` would cost more than the write does."""
    out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
    try:
        while data:
            data = data[os.write(out, data) :]
    finally:
        os.close(out)


class _Images:
    """Writes the images of a split: any bytes, different for each id, because both programs only copy them."""

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.size = size
        self.count = 0
        rng = np.random.Generator(np.random.PCG64(seed))
        self.pool = (rng.random(max(MILLION, size) + size) * 256).astype(np.uint8).tobytes()
        self.starts = len(self.pool) - size

    def write(self, ids: list[int]) -> None:
        """One file an id; its first bytes are the id, so that a copy under a wrong name shows."""
        for number in ids:
            stem = f"{number:012d}"
            start = number * 7919 % self.starts
            data = stem.encode() + self.pool[start : start + self.size]
            _put(self.fd, stem + ".jpg", memoryview(data)[: self.size])
        self.count += len(ids)

    def close(self) -> None:
        """Give the folder's descriptor back."""
        os.close(self.fd)


def _write_split(root: Path, split: str, files: int, seed: int, image_bytes: int | None) -> SplitFacts:
    """Write one split and count what went into it; ``image_bytes`` is None where no images are wanted."""
    val = split.startswith("val")
    folder = root / "labels" / split
    folder.mkdir(parents=True)
    images: _Images | None = None
    if image_bytes is not None:
        (root / "images" / split).mkdir(parents=True)
        images = _Images(root / "images" / split, image_bytes, seed)
    labels = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    objects, images_with = np.zeros(CLASSES, dtype=np.int64), np.zeros(CLASSES, dtype=np.int64)
    rows = max_rows = label_bytes = crc = 0
    try:
        for chunk in _chunks(files, val, seed):
            data, start = memoryview(chunk.data), 0
            for number, end in zip(chunk.ids, chunk.ends, strict=True):
                _put(labels, f"{number:012d}.txt", data[start:end])
                start = end
            if images is not None:
                images.write(chunk.ids)
            rows += chunk.cls.size
            label_bytes += len(chunk.data)
            crc = zlib.crc32(chunk.data, crc)
            max_rows = max(max_rows, int(np.bincount(chunk.image).max()))
            objects += np.bincount(chunk.cls, minlength=CLASSES)
            images_with += np.bincount(np.unique(chunk.image * CLASSES + chunk.cls) % CLASSES, minlength=CLASSES)
        if images is not None:
            step = BACKGROUND_EVERY + 1
            gaps = np.arange(BACKGROUND_EVERY, files // BACKGROUND_EVERY * step, step, dtype=np.int64)
            images.write(_image_ids(gaps, val).tolist())
    finally:
        os.close(labels)
        if images is not None:
            images.close()
    return SplitFacts(
        files=files,
        rows=rows,
        max_rows=max_rows,
        label_bytes=label_bytes,
        crc32=crc,
        images=images.count if images is not None else 0,
        objects=tuple(objects.tolist()),
        images_with=tuple(images_with.tolist()),
    )


def _names_yaml(names: tuple[str, ...], folders: tuple[str, str]) -> str:
    """A names YAML in the dict style that the tutorial's script reads; COCO's names need no quotes."""
    head = f"train: images/{folders[0]}\nval: images/{folders[1]}\n\nnames:\n"
    return head + "".join(f"  {number}: {name}\n" for number, name in enumerate(names))


def write_yamls(root: Path) -> None:
    """Write ``coco.yaml`` (the source's names) and the subsets' ``bicycle.yaml``, ``person.yaml`` and ``all.yaml``.

    ``all.yaml`` names the 80 classes in alphabetical order, so that nearly every id really changes.
    """
    (root / "coco.yaml").write_text(_names_yaml(NAMES, ("train2017", "val2017")))
    for stem, names in {"bicycle": ("bicycle",), "person": ("person",), "all": tuple(sorted(NAMES))}.items():
        (root / f"{stem}.yaml").write_text(_names_yaml(names, ("train", "val")))


def _split_facts(raw: dict[str, Any]) -> SplitFacts:
    """What :func:`dataclasses.asdict` and JSON made of a split, back again."""
    return SplitFacts(**{**raw, "objects": tuple(raw["objects"]), "images_with": tuple(raw["images_with"])})


def _reuse(root: Path, parameters: dict[str, Any]) -> TreeFacts | None:
    """Return the finished tree at ``root`` if it has these parameters."""
    try:
        found = json.loads((root / MARKER).read_text())
    except FileNotFoundError:
        return None
    if found["parameters"] != parameters:
        return None
    return TreeFacts(root, _split_facts(found["train"]), _split_facts(found["val"]))


def make_tree(
    root: Path,
    files: int = COCO_LABELLED,
    val: int = 4_952,
    images: bool = False,
    seed: int = 17,
    image_bytes: int = 1024,
) -> TreeFacts:
    """Make the tree below ``root``, or reuse the finished one that is there with the same parameters.

    ``files`` and ``val`` count label files; both label folders exist whatever they are. ``image_bytes`` is the size of
    each image. An older or unfinished tree of ours is removed first; a folder with anything else in it is refused.
    """
    parameters = {
        "version": VERSION,
        "files": files,
        "val": val,
        "seed": seed,
        "image_bytes": image_bytes if images else None,
    }
    found = _reuse(root, parameters)
    if found is not None:
        return found
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).exists() and not (root / STARTED).exists():
            raise FileExistsError(f"{root} is not empty and not a benchmark tree: name another folder")
        shutil.rmtree(root)
    began = time.perf_counter()
    root.mkdir(parents=True, exist_ok=True)
    (root / STARTED).touch()
    size = image_bytes if images else None
    facts = TreeFacts(
        root,
        train=_write_split(root, "train2017", files, seed, size),
        val=_write_split(root, "val2017", val, seed, size),
        seconds=time.perf_counter() - began,
    )
    write_yamls(root)
    marker = {"parameters": parameters, "train": asdict(facts.train), "val": asdict(facts.val)}
    (root / STARTED).write_text(json.dumps(marker, indent=1))
    (root / STARTED).rename(root / MARKER)  # last, whole, and never a moment in which the tree is not known as ours
    return facts


def describe(facts: TreeFacts) -> str:
    """Say in a few lines what a tree holds and how near to COCO that is."""
    lines = [f"{facts.root}: " + (f"made in {facts.seconds:.1f} s" if facts.seconds else "reused")]
    for split, part in (("train", facts.train), ("val", facts.val)):
        lines.append(
            f"  {split}: {part.files:,} label files, {part.rows:,} rows (mean {part.rows / max(part.files, 1):.2f}, "
            f"max {part.max_rows}), {part.label_bytes / 1e6:.1f} MB, {part.images:,} images, crc32 {part.crc32:08x}"
        )
    part = facts.train
    for cls in (NAMES.index(name) for name in ("person", "car", "chair", "book", "bicycle", "toaster")):
        name, objects, images = COCO[cls]
        lines.append(
            f"  {name}: {part.objects[cls]:,} objects in {part.images_with[cls]:,} images "
            f"({100 * part.images_with[cls] / max(part.files, 1):.1f} %; COCO has {objects:,} in {images:,}, "
            f"{100 * images / COCO_LABELLED:.1f} %)"
        )
    return "\n".join(lines)


def main() -> None:
    """Make a tree from the command line."""
    parser = argparse.ArgumentParser(description="make a YOLO label tree like COCO train2017")
    parser.add_argument("root", type=Path)
    parser.add_argument("--files", type=int, default=COCO_LABELLED, help="label files in train (%(default)s)")
    parser.add_argument("--val", type=int, default=4_952, help="label files in val (%(default)s)")
    parser.add_argument("--images", action="store_true", help="an image for each label file, and 1 %% without one")
    parser.add_argument("--image-bytes", type=int, default=1024, help="bytes an image (%(default)s)")
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    print(describe(make_tree(args.root, args.files, args.val, args.images, args.seed, args.image_bytes)))


if __name__ == "__main__":
    main()
