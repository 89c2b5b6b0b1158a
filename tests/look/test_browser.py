"""The page in a real browser: it loads alone, is used by keys and without scripts, and outlines lie where they must."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.look.page import page_of
from pipeline.look.view import open_view
from tests.look.conftest import OpenedPage, OpenPage
from tests.support.helpers import write_file
from tests.support.images import KINDS, MARK, marked_image

pytestmark = pytest.mark.browser

HOSTILE = (
    '<script>document.title="pwned"</script>',
    '"><img src=x onerror=document.title=1>',
    "</script><b>bold</b>",
    "\u202egnp.exe",
    "emoji 🚲 家",
    "a&amp;b",
    "it's",
    "a name that never ends " + "x" * 200,
)


#: Elements whose text reaches beyond the page's right edge, and which nothing cuts off or scrolls.
_STICKING_OUT = """width => [...document.querySelectorAll('main *, header *')].filter(e => {
  if (e.closest('.scroll, .gallery, pre, option')) return false;
  return e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).overflowX === 'visible'
    && e.getBoundingClientRect().left + e.scrollWidth > width;
}).map(e => e.outerHTML.slice(0, 80))"""


def dataset(folder: Path, names: tuple[str, ...], files: dict[str, tuple[bytes, str]], suffix: str = ".png") -> Path:
    """A YOLO folder: by split and stem an image and the text of its label file."""
    import yaml

    for path, (image, label) in files.items():
        write_file(folder / "images" / f"{path}{suffix}", image)
        write_file(folder / "labels" / f"{path}.txt", label)
    splits = sorted({path.split("/")[0] for path in files})
    data = {**{split: f"images/{split}" for split in splits}, "names": dict(enumerate(names))}
    write_file(folder / "data.yaml", yaml.safe_dump(data, allow_unicode=True))
    return folder


def made(folder: Path, tmp_path: Path, **options: Any) -> Path:
    page = tmp_path / "page.html"
    page.write_bytes(page_of(open_view(str(folder), str(tmp_path / "cache")), **options))
    return page


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    files = {}
    for i in range(8):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (90, 120, 3)).astype(np.uint8)).save(out, "PNG")
        files[f"{'train' if i % 2 else 'val'}/{i}"] = (
            out.getvalue(),
            f"{i % 2} 0.5 0.5 0.3 0.3\n{i % 3} 0.3 0.3 0.2 0.1\n",
        )
    return made(dataset(tmp_path / "set", ("cat", "dog", "owl"), files), tmp_path)


def alone(opened: OpenedPage, path: Path) -> None:
    """The page asked for nothing but itself, and the console has nothing to say."""
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_loads_alone_and_fits(sample: Path, open_page: OpenPage, scheme: str, width: int) -> None:
    opened = open_page(sample, width=width, scheme=scheme)
    alone(opened, sample)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (
        sum(map(int, opened.page.evaluate(f"getComputedStyle(document.body).{what}").strip("rgba()").split(",")[:3]))
        for what in ("color", "backgroundColor")
    )
    assert (ink > paper) == (scheme == "dark")
    loose = "[...document.images].filter(i => !i.alt || !i.complete || !i.naturalWidth).length"
    assert opened.page.evaluate(loose) == 0


def test_a_large_page_loads_alone(large_page: Path, open_page: OpenPage) -> None:
    opened = open_page(large_page)
    alone(opened, large_page)
    assert opened.count("*") <= 6_000
    figures = opened.count(".gallery figure")
    assert figures > 50
    opened.page.select_option("#by-class", label="class 7")
    assert 0 < opened.count(".gallery figure:not(.gone)") < figures
    alone(opened, large_page)


def test_filter_keys_and_search(sample: Path, open_page: OpenPage) -> None:
    opened = open_page(sample)
    page = opened.page
    figures = opened.count(".gallery figure")
    assert figures == 8
    page.select_option("#by-split", "val")
    assert opened.count(".gallery figure:not(.gone)") == 4
    page.select_option("#by-class", label="owl")
    shown = opened.count(".gallery figure:not(.gone)")
    assert 0 < shown < 4
    page.select_option("#by-class", "")
    page.click(".gallery figure:not(.gone) >> nth=0")
    first = page.evaluate("location.hash")
    assert page.locator("figure:target").bounding_box()["width"] == 1280
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash") not in (first, "#images")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("location.hash") == first
    page.keyboard.press("Alt+ArrowDown")  # the browser's
    assert page.evaluate("location.hash") == first
    page.keyboard.press("Escape")
    assert opened.count("figure:target") == 0
    page.keyboard.press("Enter")  # the picture that was enlarged has the focus
    assert page.evaluate("location.hash") == first
    page.keyboard.press("Escape")
    page.fill("#search", "OW")
    assert [text.strip() for text in page.locator("#classes tbody tr td:nth-child(2)").all_text_contents()] == ["owl"]
    page.fill("#search", "")
    page.click("#classes th:nth-child(2) button")
    assert page.locator("#classes tbody tr td:nth-child(2)").all_text_contents() == ["cat", "dog", "owl"]
    alone(opened, sample)


def test_without_scripts_and_in_print(sample: Path, open_page: OpenPage, tmp_path: Path) -> None:
    opened = open_page(sample, script=False)
    assert opened.count("#classes tbody tr") == 3
    assert opened.page.locator(".tools").first.is_hidden()
    opened.page.click(".gallery figure >> nth=2")
    assert opened.page.locator("figure:target").bounding_box()["width"] == 1280
    printed = open_page(sample).page.pdf()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Subtype /Image") >= 8


def test_names_are_text(tmp_path: Path, open_page: OpenPage) -> None:
    image = marked_image("png").data
    rows = "".join(f"{i} 0.5 0.5 0.2 0.2\n" for i in range(len(HOSTILE)))
    stem = "train/<img src=x onerror=alert(1)>&\"'"
    path = made(dataset(tmp_path / "<i>set", HOSTILE, {stem.replace("/<", "/a<"): (image, rows)}), tmp_path)
    for script in (True, False):
        opened = open_page(path, script=script)
        alone(opened, path)
        assert "pwned" not in opened.page.title()
        assert opened.count("img[src=x]") == 0
        assert opened.count("table b") == 0
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
        cells = opened.page.locator("#classes td:nth-child(2)").all_text_contents()
        assert set(cells) == {name.replace("\u202e", "\\u202e") for name in HOSTILE}
    opened = open_page(path, width=360)
    assert opened.page.evaluate(_STICKING_OUT, 360) == []
    opened.page.click("#classes th:nth-child(2) button")
    assert len(opened.page.locator("#classes td:nth-child(2)").all_text_contents()) == len(HOSTILE)
    alone(opened, path)


def pixels(page: Any, query: str) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
    """A screenshot of what `query` finds, and where it lies on the page."""
    box = page.locator(query).first.bounding_box()
    shot = page.locator(query).first.screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int), box


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    ("kind", "orientation"), [*((kind, 1) for kind in KINDS), ("jpeg", 6), ("png", 8), ("jpeg", 3)]
)
def test_a_box_lies_on_its_pixels(tmp_path: Path, open_page: OpenPage, kind: str, orientation: int, scale: int) -> None:
    """The outline's middle, read back from the screen, is the edge of what it encloses: 0 px at 1x, at most 1 at 2x."""
    image = marked_image(kind, orientation)
    label = "0 {} {} {} {}\n".format(*image.box)
    suffix = {"jpeg": ".jpg", "cmyk": ".jpg", "webp": ".webp", "tiff": ".tif"}.get(kind, ".png")
    path = made(dataset(tmp_path / "set", ("mark",), {"train/a": (image.data, label)}, suffix), tmp_path)
    page = open_page(path, scale=scale).page
    # Beside each other, at the picture's own size: every pixel of the file is one of the page.
    page.evaluate(
        """() => { const sheet = new CSSStyleSheet(); sheet.replaceSync('.frame { border-radius: 0 !important }'
        + '.frame img { height: 96px !important; width: 160px !important; image-rendering: pixelated }'
        + '.frame .halo { display: none }'); document.adoptedStyleSheets = [sheet]; }"""
    )
    with_box, _ = pixels(page, ".frame")
    page.evaluate("document.querySelector('.frame svg').remove()")
    without, _ = pixels(page, ".frame")
    drawn = (
        (np.abs(with_box - without).max(axis=2) > 60).sum(axis=0) > 20 * scale,
        (np.abs(with_box - without).max(axis=2) > 60).sum(axis=1) > 40 * scale,
    )
    dark = without.max(axis=2) < MARK
    for lines, edges in zip(drawn, (dark.any(axis=0), dark.any(axis=1)), strict=True):
        columns, marked = np.flatnonzero(lines), np.flatnonzero(edges)
        middle = (columns[0] + columns[-1] + 1) / 2, (marked[0] + marked[-1] + 1) / 2
        assert abs(middle[0] - middle[1]) <= scale - 1
        # A stroke of two pixels lies half on each side of the edge.
        assert abs(columns[0] + scale - marked[0]) <= scale - 1
        assert abs(columns[-1] + 1 - scale - (marked[-1] + 1)) <= scale - 1
