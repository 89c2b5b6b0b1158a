"""The contact sheet: what it shows, where outlines lie on its pixels, and how a terminal gets it."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images.header import _TURNS
from pipeline.look.contact_sheet import TILE, Tile, _columns, _legend_rows, contact_sheet
from pipeline.look.fonts import Lettering
from pipeline.look.sample import Wish, choose
from pipeline.look.shapes import of_annotation, of_row
from pipeline.look.terminals import inline, protocol_of
from pipeline.look.thumbnails import open_upright, why_none
from pipeline.look.view import open_view
from tests.conftest import Run, Subset
from tests.support.helpers import write_file
from tests.support.images import KINDS, MARK, marked_image

SAMPLE = Path(__file__).parents[1] / "sample"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", _TURNS)
def test_a_mark_is_where_its_box_says(kind: str, orientation: int) -> None:
    """Whatever the file is and however it is turned, what its box encloses is what was labelled: to the pixel."""
    image = marked_image(kind, orientation)
    opened = open_upright(image.data, 4000)
    assert opened is not None
    assert opened.image.size == opened.size == image.shown
    # Labels of the upright image, and labels of the image as it is stored, come to lie at the same pixels.
    # What keeps its size when it is turned tells nothing: such labels count as those of the upright image.
    upright = of_row(0, image.box, b"", None)
    box = image.stored_box if image.stored != image.shown else image.box
    stored = opened.as_shown(of_row(0, box, b"", None), image.stored)
    corners = [np.array(shape.box).reshape(2, 2) * image.shown for shape in (upright, stored)]
    assert np.allclose(corners[0], corners[1])
    dark = np.asarray(opened.image.convert("L")).astype(int) < MARK
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    found = [[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]
    assert np.abs(corners[0] - found).max() <= (1 if kind in ("jpeg", "cmyk") else 1e-9)


def test_outlines_lie_on_the_sheet() -> None:
    shape = of_row(0, (0.5, 0.5, 0.5, 0.25), b"", None)
    sheet = contact_sheet([Tile(Image.new("RGB", (TILE, TILE), "white"), (shape,), "a.jpg")], ["x"], "t", "s")
    blue = (np.asarray(sheet).astype(int) - (0x2F, 0x6F, 0xDE)).__abs__().max(axis=2) < 40
    rows, columns = np.flatnonzero(blue[:380].sum(axis=1) > 100), np.flatnonzero(blue.sum(axis=0) > 60)
    assert abs((columns[-1] + 1 - columns[0]) - TILE / 2) <= 2
    assert abs((rows[-1] + 1 - rows[0]) - TILE / 4) <= 2 + 14  # the chip with the name is above


def test_the_legend_says_how_many_it_leaves_out() -> None:
    for count, said in ((24, "23 class 23"), (25, "and 1 more class"), (160, "and 136 more classes")):
        lines = _legend_rows(range(count), [f"class {i}" for i in range(count)], 900, Lettering())
        assert [text for line in lines for *_, text in line][-1] == said


@pytest.mark.parametrize("count", range(1, 60))
def test_a_sheet_has_few_places_left_over(count: int) -> None:
    columns = _columns(count)
    rows = -(-count // columns)
    assert columns * (rows - 1) < count <= columns * rows
    assert columns * rows - count < max(2, columns / 2)
    assert columns >= rows


@pytest.mark.parametrize(
    ("tail", "keypoints", "polygons", "points"),
    [
        (b" 0.5 0.5 0.2 0.2", None, 0, 0),
        (b" 0.1 0.1 0.2 0.1 0.2 0.2", None, 1, 0),
        (b" 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", None, 1, 0),
        (b" 0.5 0.5 0.2 0.2 0.4 0.4 2 0 0 0", (2, 3), 0, 2),
        (b" 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6", (2, 2), 0, 2),
    ],
)
def test_shapes_of_rows(tail: bytes, keypoints: tuple[int, int] | None, polygons: int, points: int) -> None:
    shape = of_row(3, (0.5, 0.5, 0.2, 0.2), tail, keypoints)
    assert (shape.class_id, len(shape.polygons), len(shape.seen)) == (3, polygons, points)
    assert np.allclose(shape.box, (0.4, 0.4, 0.6, 0.6))


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1]],
        [[1, 2, 3]],
        "x",
        3,
        {},
        {"size": [1e9, 1e9], "counts": "x"},
        {"size": [2, 2], "counts": [9]},
        [5],
    ],
)
def test_a_segmentation_that_is_none_is_a_box(segmentation: object) -> None:
    shape = of_annotation(0, (0.5, 0.5, 1, 1), {"segmentation": segmentation, "keypoints": [1, 2]}, 10, 10)
    assert (shape.polygons, shape.points, shape.box) == ((), None, (0, 0, 1, 1))


def test_a_mask_is_its_outline() -> None:
    annotation = {"segmentation": {"size": [4, 4], "counts": [5, 2, 2, 2, 5]}}
    (polygon,) = of_annotation(0, (0.5, 0.5, 0.5, 0.5), annotation, 4, 4).polygons
    assert sorted(map(tuple, (polygon * 4).tolist())) == [(1, 1), (1, 3), (3, 1), (3, 3)]


@pytest.mark.parametrize("tail", [b" 0.5 0.5" * 100_000, b" 0.5 0.5 1 1" + b" 0.5 0.5 2" * 100_000])
def test_an_outline_of_very_many_points_is_drawn_with_fewer(tail: bytes) -> None:
    shape = of_row(0, (0.5, 0.5, 1, 1), tail, (100_000, 3))
    assert 1_000 < shape.corners <= 2_000
    annotation = {"segmentation": [[1, 1, 2, 1, 2, 2]] * 100_000, "keypoints": [1, 1, 2] * 100_000}
    assert of_annotation(0, (0.5, 0.5, 1, 1), annotation, 9, 9).corners == 2_000


def test_a_mask_of_any_size_is_outlined() -> None:
    """It would be 4 * 10^18 pixels: what is inside alone is gone through, on a grid that is as coarse as it must be."""
    side = 2_000_000_000
    runs = [side * 1000 + 700, *([10_000, side - 10_000] * 5_000)]
    runs[-1] += side * side - sum(runs)
    box = np.array([(1000, 700), (6000, 10_700)])
    (polygon,) = of_annotation(
        0, (0.5, 0.5, 1, 1), {"segmentation": {"size": [side, side], "counts": runs}}, side, side
    ).polygons
    assert np.abs(np.array([polygon.min(axis=0), polygon.max(axis=0)]) * side - box).max() <= 20


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with 2,500 boxes, the smallest first, and one with 400 polygons of 100 points; both of one class."""
    root = tmp_path_factory.mktemp("crowd")
    turn = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    ring = 0.5 + 0.1 * np.stack([np.cos(turn), np.sin(turn)], 1).ravel()
    write_file(root / "labels/train/boxes.txt", "".join(f"0 0.5 0.5 {i / 2500:g} 0.5\n" for i in range(1, 2501)))
    write_file(root / "labels/train/rings.txt", ("0 " + " ".join(f"{v:.4f}" for v in ring) + "\n") * 400)
    write_file(root / "data.yaml", "train: images/train\nnames: [bird]\n")
    (root / "images/train").mkdir(parents=True)
    for name in ("boxes", "rings"):
        Image.new("RGB", (64, 48), "white").save(root / f"images/train/{name}.jpg")
    return root


def test_of_a_crowd_the_largest_are_drawn(crowd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    view = open_view(str(crowd), str(tmp_path))
    found = {Path(str(sample.path)).stem: sample for sample in choose(view, Wish(9))}
    widths = [shape.box[2] - shape.box[0] for shape in found["boxes"].shapes]
    assert np.allclose(widths, np.arange(2500, 1500, -1) / 2500)
    assert found["boxes"].others == 1500
    assert (len(found["rings"].shapes), found["rings"].others) == (200, 200)
    assert "1,700 objects are not drawn" in caplog.text
    (one,) = choose(view, Wish(1, objects=True, sort="smallest"))
    assert (len(one.shapes), one.others, one.single) == (1, 0, True)
    assert np.isclose(one.shapes[0].box[2] - one.shapes[0].box[0], 1 / 2500)


@pytest.mark.slow
def test_how_many_are_not_drawn_is_said(crowd: Path, run: Run, tmp_path: Path) -> None:
    assert (
        "1,700 objects are not drawn" in run("show", crowd, "-o", tmp_path / "x.png", "--workdir", tmp_path / "w").err
    )
    told = run("report", crowd, "-o", tmp_path / "x.html", "--workdir", tmp_path / "w")
    assert "and 1 more image: 1,700 objects are not drawn" in told.err
    page = (tmp_path / "x.html").read_text()
    assert "1,500 more objects not drawn; 1000 bird" in page
    assert "200 more objects not drawn; 200 bird" in page


def test_show_writes_what_is_asked(subset: Subset, run: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "sheets" / "x.png"
    sheet.parent.mkdir()
    told = run("show", SAMPLE / "labelme", "-o", sheet, "-n", "4", "--workdir", tmp_path / "w")
    assert told.out == f"{sheet}\n"
    with Image.open(sheet) as image:
        assert image.size == (2 * 20 + 2 * TILE + 14, image.height)
    first = sheet.read_bytes()
    run("show", SAMPLE / "labelme", "-o", sheet, "-n", "4", "--workdir", tmp_path / "w")
    assert sheet.read_bytes() == first
    run("show", SAMPLE / "labelme", "-o", sheet, "-n", "4", "--seed", "5", "--workdir", tmp_path / "w")
    assert sheet.read_bytes() != first
    assert run("show", SAMPLE / "labelme", "-o", sheet, "--json", "--workdir", tmp_path / "w").json["sheet"] == str(
        sheet
    )


@pytest.mark.parametrize(
    ("words", "clause"),
    [
        (("-o", "x.bmp"), "end it in .jpg"),
        (("--class", "dgo"), "dog"),
        (("--split", "test"), "train"),
        (("--sort", "most", "--mode", "objects"), "smallest"),
        (("-o", "-", "--json"), "-o - and --json: name one of them"),
    ],
)
def test_what_cannot_be_shown(run: Run, tmp_path: Path, words: tuple[str, ...], clause: str) -> None:
    told = run("show", SAMPLE / "labelme", "--workdir", tmp_path / "w", "-o", tmp_path / "y.png", *words, code=2)
    assert clause in told.err
    assert not (tmp_path / "y.png").exists()


def test_why_there_is_no_picture() -> None:
    large, cut = io.BytesIO(), io.BytesIO()
    Image.new("1", (20_000, 12_000)).save(large, "PNG")  # as an aerial image may be
    Image.new("RGB", (64, 48)).save(cut, "PNG")
    for data, said in (
        (large.getvalue(), "is too large to decode"),
        (cut.getvalue()[:60], "is no image that can be decoded"),
        (b"<html>", "is no image that can be decoded"),
    ):
        assert open_upright(data, 300) is None
        assert why_none(data) == said


@pytest.mark.parametrize("sort", ["smallest", "largest", "extreme", "random"])
def test_objects_one_by_one(run: Run, tmp_path: Path, sort: str) -> None:
    sheet = tmp_path / "x.png"
    run("show", SAMPLE / "segment", "--workdir", tmp_path / "w", "-o", sheet, code=2)  # nobody names its classes
    run("show", SAMPLE / "labelme", "--mode", "objects", "--sort", sort, "--class", "kite", "--workdir", tmp_path / "w",
        "-o", sheet, "-n", "3")  # fmt: skip
    assert sheet.read_bytes()


@pytest.mark.parametrize("name", ["x.png", "x.html"])
def test_a_pipe_is_not_replaced(run: Run, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    told = run("show" if name.endswith("png") else "report", SAMPLE / "labelme", "-o", tmp_path / name, code=2)
    assert "is there and no file; name another" in told.err
    assert (tmp_path / name).is_fifo()


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    """A picture that no protocol makes small: of several chunks, and with all colours in each row of sixels."""
    return Image.fromarray(np.random.default_rng(2).integers(0, 255, (120, 170, 3)).astype(np.uint8))


def test_kitty(noise: Image.Image) -> None:
    """Chunks of at most 4,096 bytes, each but the last whole groups of four; the first says what it is, the last `m=0`.

    https://sw.kovidgoyal.net/kitty/graphics-protocol/#remote-client
    """
    stream = inline(noise, "kitty")
    assert re.fullmatch(rb"(?:\x1b_G[^;\x1b]*;[A-Za-z0-9+/=]*\x1b\\)+\n", stream)
    chunks = [tuple(found) for found in re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", stream)]
    assert len(chunks) > 2
    keys = [dict(pair.split(b"=") for pair in given.split(b",")) for given, _ in chunks]
    assert keys[0] == {b"a": b"T", b"f": b"100", b"m": b"1"}
    assert keys[1:] == [{b"m": b"1"}] * (len(chunks) - 2) + [{b"m": b"0"}]
    assert all(len(text) <= 4096 and len(text) % 4 == 0 for _, text in chunks)
    data = base64.b64decode(b"".join(text for _, text in chunks), validate=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(noise))


def test_iterm2(noise: Image.Image) -> None:
    """https://iterm2.com/documentation-images.html"""
    found = re.fullmatch(rb"\x1b]1337;File=inline=1;size=(\d+):([A-Za-z0-9+/=]+)\x07\n", inline(noise, "iterm2"))
    assert found is not None
    data = base64.b64decode(found[2], validate=True)
    assert len(data) == int(found[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(noise))


@pytest.mark.parametrize("colours", [1, 2, 4, 256])
def test_sixels(noise: Image.Image, colours: int) -> None:
    flat = noise.quantize(colours).convert("RGB")
    assert (np.abs(np.asarray(flat).astype(int) - of_sixels(inline(flat, "sixel"))) <= 2).all()


@pytest.mark.parametrize("size", [(1, 1), (170, 120), (63, 35), (200, 7)])
def test_sixels_as_libsixel_reads_them(noise: Image.Image, size: tuple[int, int], tmp_path: Path) -> None:
    if shutil.which("sixel2png") is None:
        pytest.skip("needs sixel2png (Debian: libsixel-bin)")
    flat = noise.resize(size).quantize(256).convert("RGB")
    stream = inline(flat, "sixel")
    made = tmp_path / "x.png"
    subprocess.run(["sixel2png", "-o", made], input=stream, check=True)
    with Image.open(made) as found:
        assert found.size == size
        assert np.abs(np.asarray(found.convert("RGB")).astype(int) - np.asarray(flat)).max() <= 2  # shares of 100


def of_sixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The pixels that a terminal would show: DEC's grammar, read for itself."""
    width, height = map(int, re.search(rb'"1;1;(\d+);(\d+)', data).groups())  # type: ignore[union-attr]
    pixels = np.zeros((height + 6, width, 3), np.int64)
    palette: dict[int, list[float]] = {}
    x = y = colour = 0
    body = data[data.index(b'"') :].split(b"\x1b")[0]
    for word in re.findall(rb"#\d+(?:;\d+)*|!\d+.|[$-]|[?-~]", body[re.match(rb'"[\d;]+', body).end() :]):  # type: ignore[union-attr]
        if word[:1] == b"#":
            colour, *rest = map(int, word[1:].split(b";"))
            if rest:
                palette[colour] = [v * 255 / 100 for v in rest[1:]]
        elif word == b"$":
            x = 0
        elif word == b"-":
            x, y = 0, y + 6
        else:
            count, sixel = (int(word[1:-1]), word[-1]) if word[:1] == b"!" else (1, word[0])
            for bit in range(6):
                if (sixel - 63) >> bit & 1:
                    pixels[y + bit, x : x + count] = palette[colour]
            x += count
    return pixels[:height]


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app", "TERM": "xterm-256color"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "3"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, "iterm2"),
        ({"TERM": "mlterm"}, "sixel"),
        ({"TERM": "linux", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_which_terminal(environment: dict[str, str], protocol: str | None) -> None:
    assert protocol_of(environment) == protocol
