"""`make demo`: what it prints is in the README, and what it leaves is right, file by file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.forks import write_command
from tests.support.helpers import PROJECT, settle

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.slow]

SAMPLE = PROJECT / "tests" / "sample"
COCO: dict[int, str] = yaml.safe_load((PROJECT / "conf" / "coco.yaml").read_text())["names"]

#: Target below build/: folder of the sample, and class names of the source with their new numbers.
DEMOS: dict[str, tuple[str, dict[str, int]]] = {
    "demo": ("detect", {"bicycle": 0, "car": 1, "bus": 1, "truck": 1}),
    "demo-segment": ("segment", {"dog": 0, "person": 1}),
    "demo-pose": ("pose", {"person": 0}),
}
TITLES = {"demo": ["bicycle", "vehicle"], "demo-segment": ["dog", "person"], "demo-pose": ["person"]}


@dataclass(frozen=True)
class Demo:
    """A run of `make demo`: its folder and what it printed, with paths relative to that folder."""

    folder: Path
    out: str
    err: str


def make_demo(folder: Path) -> Demo:
    """Run `make demo` in `folder` beside a copy of the sample, so that the checkout's own build/ stays as it is."""
    shutil.copytree(SAMPLE, folder / "tests" / "sample")
    for name in ("Makefile", "pipeline", "conf"):
        (folder / name).symlink_to(PROJECT / name)
    settle()
    # A make that runs these tests would have its say in the inner one.
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "PYTHONPATH")}
    diy = write_command(folder.parent / "coco-diy")
    command = ["make", "--no-print-directory", "demo", f"PY={sys.executable}", f"DIY={diy}"]
    done = subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return Demo(folder, done.stdout.replace(f"{folder.resolve()}/", ""), done.stderr)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory.mktemp("demo") / "checkout")


def expected_labels(task: str, new: dict[str, int]) -> dict[str, str]:
    """The label files of a subset, by the plainest way to make them."""
    found = {}
    for path in (SAMPLE / task / "labels").rglob("*.txt"):
        rows = [line.split(" ", 1) for line in path.read_text().splitlines()]
        kept = [f"{new[COCO[int(number)]]} {rest}\n" for number, rest in rows if COCO[int(number)] in new]
        if kept:
            found[f"{path.parent.name.removesuffix('2017')}/{path.stem}"] = "".join(kept)
    return found


def test_it_prints_what_the_readme_shows(demo: Demo) -> None:
    from tests.test_docs import blocks, demo_shown

    shown = next(block.text for block in blocks("README.md") if block.kind == "demo")
    assert demo.err == ""
    assert demo_shown(demo.out) == shown, "`python -m tests.test_docs` writes the outputs of all pages anew"


@pytest.mark.parametrize("name", DEMOS)
def test_labels_are_the_source_rows_with_new_numbers(demo: Demo, name: str) -> None:
    root = demo.folder / "build" / name / "labels"
    made = {f"{p.parent.name}/{p.stem}": p.read_text() for p in root.rglob("*.txt")}
    assert made == expected_labels(*DEMOS[name])


@pytest.mark.parametrize("name", DEMOS)
def test_each_label_has_its_image_and_nothing_else_is_there(demo: Demo, name: str) -> None:
    task, new = DEMOS[name]
    root = demo.folder / "build" / name
    labels = set(expected_labels(task, new))
    images = {f"{p.parent.name}/{p.stem}": p for p in (root / "images").rglob("*") if p.is_file()}
    assert set(images) == labels
    for key, path in images.items():
        split = key.split("/")[0]
        assert path.read_bytes() == (SAMPLE / task / "images" / f"{split}2017" / path.name).read_bytes()
    assert {p.name for p in root.iterdir()} == {".coco-diy", "DATASET.md", "data.yaml", "images", "labels"}


@pytest.mark.parametrize("name", DEMOS)
def test_the_yaml_is_what_trainers_take(demo: Demo, name: str) -> None:
    data = yaml.safe_load((demo.folder / "build" / name / "data.yaml").read_text())
    assert data["names"] == dict(enumerate(TITLES[name]))
    assert (data["train"], data["val"]) == ("images/train", "images/val")
    assert "path" not in data
    assert data.get("kpt_shape") == ([17, 3] if name == "demo-pose" else None)


@pytest.mark.parametrize("name", DEMOS)
def test_counts_are_those_of_the_rows(demo: Demo, name: str) -> None:
    counts: dict[tuple[str, str], int] = {}
    for key, text in expected_labels(*DEMOS[name]).items():
        for row in text.splitlines():
            place = (row.split(" ")[0], key.split("/")[0])
            counts[place] = counts.get(place, 0) + 1
    told = demo.out.split(f"$ coco-diy stats build/{name} --workdir build/work\n")[1].split("\n\n")[0]
    rows = re.findall(r"^(\d+) +\S+(?: <- .*?)? +(\d+) +(\d+) +(\d+) +(\d+) ", told, re.MULTILINE)
    shown = {(row[0], split): int(row[column]) for row in rows for split, column in (("train", 2), ("val", 4))}
    assert shown == counts


def test_the_second_build_does_nothing(demo: Demo) -> None:
    assert demo.out.count("\nNothing to do: ") == len(DEMOS)


def test_it_changes_nothing_outside_of_build(demo: Demo) -> None:
    assert {p.name for p in demo.folder.iterdir()} == {"Makefile", "build", "conf", "pipeline", "tests"}
    assert {p.name for p in (demo.folder / "build").iterdir()} == {
        *(f"{name}{end}" for name in DEMOS for end in ("", ".jpg", ".html")),
        "work",
    }
