"""Files that options name to be written are none of the source, of the config or of the target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.conftest import Run, Subset
from tests.support.helpers import contents, write_file


def _links(place: Path, link: str, output: Path) -> str:
    if link == "symlink":
        output.symlink_to(place)
    elif link == "hardlink":
        os.link(place, output)
    return str(output if link else place)


@pytest.mark.parametrize("link", ["", "symlink", "hardlink"])
@pytest.mark.parametrize("place", ["labels/train2017/a.txt", "images/train2017/new.jpg", "names.yaml", "config"])
@pytest.mark.parametrize(("option", "suffix"), [("--log-file", ".log"), ("--metrics", ".prom")])
def test_what_is_read_is_not_written(own_subset: Subset, place: str, link: str, option: str, suffix: str) -> None:
    known = {
        "config": own_subset.config,
        "names.yaml": Path(yaml.safe_load(own_subset.config.read_text())["source"]["names"]),
    }
    path = known.get(place, own_subset.source / place)
    if link == "hardlink" and not path.exists():
        pytest.skip("a link needs its file")
    before = contents(own_subset.source), {kept: kept.read_bytes() for kept in known.values() if kept.exists()}
    output = _links(path, link, own_subset.config.parent / f"output{suffix}")
    replaced = option == "--metrics" and link == "hardlink"  # by a new file: the other name stays as it is
    told = own_subset.command("build", option, output, code=0 if replaced else 2)
    assert replaced or told.err.count("\n") == 1
    assert (contents(own_subset.source), {kept: kept.read_bytes() for kept in before[1]}) == before


@pytest.mark.parametrize("name", ["images/train2017/a.html", "labels/val2017/page.html"])
def test_a_page_is_not_in_the_source(own_subset: Subset, run: Run, name: str) -> None:
    before = contents(own_subset.source)
    told = run("report", own_subset.config, "-o", own_subset.source / name, "--no-images", code=2)
    assert "which is read, or made, here" in told.err
    assert contents(own_subset.source) == before


@pytest.mark.parametrize("name", ["names.yaml", "device", "a.jpg"])
def test_a_page_is_called_one(own_subset: Subset, run: Run, name: str, tmp_path: Path) -> None:
    """Else it would replace what is there, be it a device of the machine."""
    there = write_file(tmp_path / "there" / name, "mine")
    assert "end it in .html" in run("report", own_subset.config, "-o", there, code=2).err
    assert there.read_text() == "mine"


def test_a_sheet_is_no_image_of_the_source(own_subset: Subset, run: Run) -> None:
    image = next((own_subset.source / "images/train2017").glob("*.jpg"))
    before = image.read_bytes()
    assert "which is read, or made, here" in run("show", own_subset.config, "-o", image, code=2).err
    assert image.read_bytes() == before


def test_a_log_begins_with_its_command(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.command("build", "--log-file", str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert " build begins: coco-diy " in lines[0]
    assert " ends with exit code 0 " in lines[-1]
