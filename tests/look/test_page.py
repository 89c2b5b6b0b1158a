"""The page as a file: how large it is, what it holds and what it leaves out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.api import build
from pipeline.config.load import load_config
from pipeline.look.colours import colour_of, ink_on
from pipeline.look.numbers import statistics_of
from pipeline.look.page import page_of
from pipeline.look.view import open_view
from pipeline.reports.class_table import bar
from tests.conftest import Run, Subset
from tests.support.helpers import contents, write_file

SAMPLE = Path(__file__).parents[1] / "sample"


class Elements(HTMLParser):
    """How many elements a page has, and its ids."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.count = 0
        self.ids: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += 1
        self.ids += [value for name, value in attrs if name == "id" and value]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,203 classes, as LVIS has, and pictures of noise, which JPEG makes large."""
    root = tmp_path_factory.mktemp("lvis")
    rng = np.random.default_rng(1)
    names = "".join(f"  {i}: class number {i}, with a long name as LVIS has\n" for i in range(1203))
    write_file(root / "data.yaml", f"train: images/train\nval: images/val\nnames:\n{names}")
    for i in range(320):
        split = "train" if i % 4 else "val"
        rows = "".join(
            f"{rng.integers(1203)} {x:.5f} {y:.5f} 0.2 0.2\n" for x, y in rng.uniform(0.2, 0.8, (20, 2)).tolist()
        )
        write_file(root / "labels" / split / f"{i}.txt", rows)
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 255, (180, 240, 3)).astype(np.uint8))
        noise.save(root / "images" / split / f"{i}.jpg", quality=95)
    return root


@pytest.mark.slow
def test_limits(many: Path, tmp_path: Path) -> None:
    page = page_of(open_view(str(many), str(tmp_path)))
    found = Elements(page)
    assert len(page) <= 5_000_000
    assert found.count <= 6_000
    assert len(found.ids) == len(set(found.ids))
    assert page.count(b"<figure id=") > 50
    assert page.count(b"<tr><td>") == 100
    assert all(f"class number {i}, with".encode() in page for i in range(1203))
    assert not re.findall(rb"(?:src|href)=\"(?!data:|#)", page)
    assert b"default-src &#x27;none&#x27;" in page


@pytest.mark.slow
def test_limits_of_a_large_page(large_page: Path) -> None:
    page = large_page.read_bytes()
    assert b"<b>118,000</b><span>images</span>" in page
    assert b"<b>354,000</b><span>objects</span>" in page
    assert page.count(b"<figure id=") > 50
    assert len(page) <= 5_000_000
    assert Elements(page).count <= 6_000


@pytest.mark.slow
def test_no_images_embeds_none(many: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "page.html"
    assert run("report", SAMPLE / "labelme", "-o", out, "--no-images", "--workdir", tmp_path / "w").out == f"{out}\n"
    assert b"image/jpeg" not in out.read_bytes()
    run("report", SAMPLE / "labelme", "-o", out, "--workdir", tmp_path / "w")
    assert b"image/jpeg" in out.read_bytes()
    assert b"copies of images" in out.read_bytes()
    assert run("report", SAMPLE / "labelme", "-o", out, "--json", "--workdir", tmp_path / "w").json["page"] == str(out)


def test_the_page_says_what_a_build_left_out(wanted: Subset, tmp_path: Path) -> None:
    wanted.build()
    page = page_of(open_view(str(wanted.target), str(tmp_path / "cache"))).decode()
    assert "What was left out" in page
    assert "of other classes" in page
    assert "last run" in page
    assert "small" in page
    assert "1 bicycle, 3 motorcycle" in page
    again = page_of(open_view(str(wanted.target), str(tmp_path / "cache"))).decode()
    assert page == again


@pytest.mark.slow
def test_the_page_says_how_a_subset_was_shaped(subset: Subset, tmp_path: Path) -> None:
    """Of a config from its plan, of a target from its manifest, and of a selection that only takes classes nothing."""
    plain = page_of(open_view(load_config(subset.config), str(tmp_path / "cache")), images=False).decode()
    assert 'id="steps"' not in plain
    options = ["select.per_class={max_images: 1}", "select.background={ratio: 0.2}"]
    report = build(load_config(subset.config, options)).data
    names = [
        name for name, _ in sorted(report["steps"]["lists"]["classes"].items(), key=lambda one: (-one[1]["in"], one[0]))
    ]
    for what in (load_config(subset.config, options), str(subset.target)):
        page = page_of(open_view(what, str(tmp_path / "cache")), images=False).decode()
        steps, balance = (re.findall(r"<tr><td>(.*?)</tr>", part, re.S) for part in _flows(page))
        cells = [[re.sub("<.*?>", "", cell) for cell in row.split("</td><td>")] for row in steps]
        assert [row[0] for row in cells] == list(report["steps"])
        for row, step in zip(cells, report["steps"].values(), strict=True):
            flows = [step[what][way] for what in ("images", "objects") for way in ("in", "out")]
            assert row[1:5] == [f"{count:,}" for count in flows]
        assert "above the caps of select.per_class" in steps[4]
        assert [re.sub("<.*?>", "", row.split("</td>")[0]) for row in balance] == names


def _flows(page: str) -> list[str]:
    return re.findall(r'<table class="flow">.*?<tbody>(.*?)</tbody>', page, re.S)


def test_bad_files_are_named(tmp_path: Path) -> None:
    write_file(tmp_path / "x/data.yaml", "train: images/train\nnames: [one]\n")
    write_file(tmp_path / "x/labels/train/good.txt", "0 0.5 0.5 0.1 0.1\n")
    write_file(tmp_path / "x/labels/train/bad.txt", "0 0.5 0.5 0.1 0.1\n0 nonsense\n")
    write_file(tmp_path / "x/images/train/good.jpg", "no image")
    view = open_view(str(tmp_path / "x"), str(tmp_path / "cache"))
    page = page_of(view).decode()
    assert "bad.txt, line 2" in page
    assert statistics_of(view).objects == 1 + 1
    assert "no image that can be shown" in page


def test_a_secret_in_a_url_is_not_on_the_page(subset: Subset, tmp_path: Path) -> None:
    from dataclasses import replace

    view = open_view(str(SAMPLE / "labelme"), str(tmp_path))
    source = {**view.facts["sources"][0], "root": "s3://key:hunter2@bucket/folder?sig=hunter2"}
    page = page_of(replace(view, facts={**view.facts, "sources": [source]}), images=False)
    assert b"bucket/folder" in page
    assert b"hunter2" not in page


@pytest.mark.parametrize("number", range(0, 1203, 97))
def test_colours_are_colours(number: int) -> None:
    assert re.fullmatch("#[0-9a-f]{6}", colour_of(number))
    assert ink_on(colour_of(number)) in ("#000000", "#ffffff")


def test_bars() -> None:
    assert (bar(0, 10, 4), bar(10, 10, 4), bar(5, 10, 4), bar(1, 10_000, 4)) == ("    ", "████", "██  ", "▏   ")


def test_a_build_leaves_its_page(subset: Subset, tmp_path: Path) -> None:
    told = subset.build("--report")
    page, sheet = (subset.target / ".coco-diy" / name for name in ("report.html", "sheet.jpg"))
    assert told["report"] == str(page)
    assert b"A data set that coco-diy made" in page.read_bytes()
    assert sheet.read_bytes().startswith(b"\xff\xd8")
    assert subset.command("verify", "--deep", "--json").json["differences"] == {}
    assert subset.build("--set", "target.report=true")["status"] == "nothing to do"
    assert page.exists()


def test_the_record_of_a_subset_leads_to_its_page(subset: Subset, tmp_path: Path) -> None:
    """Every file that it links is there; what is made of the same source and config is the same, wherever it is."""
    links = re.compile(r"\]\(([^)]+)\)")
    subset.build()
    assert links.findall((subset.target / "DATASET.md").read_text()) == []
    changed = subset.build("--report")
    assert (changed["status"], changed["changes"]) == ("built", 1)
    record = (subset.target / "DATASET.md").read_text()
    assert links.findall(record) == [".coco-diy/sheet.jpg", ".coco-diy/report.html"]
    assert all((subset.target / path).is_file() for path in links.findall(record))
    other = tmp_path / "other"
    options = ("--set", "index.buckets=3", "--set", f"workdir={tmp_path / 'w'}", "--set", f"target.root={other}")
    subset.build("--set", "target.report=true", *options)
    assert contents(other, record=True) == contents(subset.target, record=True)
    assert links.findall((other / "DATASET.md").read_text()) == links.findall(record)
    subset.build("--report", "--set", "target.images=none")
    assert links.findall((subset.target / "DATASET.md").read_text()) == [".coco-diy/report.html"]
