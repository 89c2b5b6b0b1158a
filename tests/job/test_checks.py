"""Files that options name to be written are not of the source, of the config or of the target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from PIL import Image

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
    told = own_subset.command("build", option, output, code=2)
    assert told.err.count("\n") == 1
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
    assert "was not written by coco-diy" in run("show", own_subset.config, "-o", image, code=2).err
    new = image.with_suffix(".png")
    assert "which is read, or made, here" in run("show", own_subset.config, "-o", new, code=2).err
    assert (image.read_bytes(), new.exists()) == (before, False)


def test_a_log_begins_with_its_command(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.command("build", "--log-file", str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert " build begins: coco-diy " in lines[0]
    assert " ends with exit code 0 " in lines[-1]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("status", "{target}", "--log-file"), "{labels}"),
        (("diff", "{target}", "{target}", "--log-file"), "{images}"),
        (("verify", "{target}", "--log-file"), "{target}/data.yaml"),
        (("status", "{target}", "--log-file"), "{target}/.coco-diy/manifest.json"),
        (("stats", "{target}", "--log-file"), "{config}"),
        (("build", "{config}", "--metrics"), "{labels}.prom"),
        (("show", "{target}", "-o"), "{images}"),
        (("report", "{target}", "-o"), "{labels}.html"),
    ],
)
def test_an_option_replaces_nothing_that_is_not_ours(
    own_subset: Subset, run: Run, words: tuple[str, ...], name: str
) -> None:
    """Whatever is shown: also an image that another dataset has, or a file of a target that is compared alone."""
    own_subset.build()
    names = {
        "target": own_subset.target,
        "config": own_subset.config,
        "labels": next(own_subset.target.glob("labels/train/*.txt")),
        "images": own_subset.config.parent / "any.png",
    }
    Image.new("RGB", (9, 9)).save(names["images"])
    path = Path(name.format(**names))
    if not path.exists():
        path.write_text("<html>somebody's own</html>")
    before = path.read_bytes()
    told = run(*(word.format(**names) for word in words), path, code=2)
    assert f"{words[-1]} {path}: is there and was not written by coco-diy; name another file" in told.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("option", ["-o", "--log-file"])
def test_an_option_makes_no_folder_that_is_called_as_a_variable(own_subset: Subset, run: Run, option: str) -> None:
    told = run("report", own_subset.config, option, "$HOME/x.html", code=2).err
    assert f"{option} $HOME/x.html: $HOME is not expanded here; write the path out" in told


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.html"])
def test_what_is_ours_is_made_anew(own_subset: Subset, run: Run, tmp_path: Path, name: str) -> None:
    command = "report" if name.endswith("html") else "show"
    (tmp_path / name).touch()  # what is empty is nobody's loss
    for _ in range(2):
        run(command, own_subset.config, "-o", tmp_path / name)
    log = tmp_path / "x.log"
    for form in ("text", "json", "text"):
        run("status", own_subset.config, "--log-file", log, "--log-format", form, code=2)
        log.write_bytes(log.read_bytes()[-4000:])
    assert (tmp_path / name).stat().st_size > 1000
