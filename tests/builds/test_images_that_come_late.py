"""While the images of one subset come over the network, the index is free for other subsets of its sources."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSubset, Run, Subset
from tests.support.helpers import contents, settle, write_file
from tests.support.web import Silent, serving


class Gate:
    """A web server that gives the files of a folder, images as soon as it is open."""

    def __init__(self, folder: Path) -> None:
        gate = self
        self.open, self.reached = threading.Event(), threading.Event()

        class Handler(Silent, http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_GET(self) -> None:
                gate.reached.set()
                gate.open.wait(60)
                super().do_GET()

        self.handler, self.url = Handler, ""


@pytest.fixture
def gate(own_town: Path) -> Iterator[Gate]:
    for path in (own_town / "images").rglob("*.*"):
        path.rename(path.with_suffix(".jpg"))
    gate = Gate(own_town / "images")
    with serving(gate.handler) as port:
        gate.url = f"http://127.0.0.1:{port}"
        yield gate
        gate.open.set()


@pytest.fixture
def pair(own_town: Path, gate: Gate, make_subset: MakeSubset) -> tuple[Subset, Subset]:
    """Two subsets of one source and workdir: one with images of the server, one of labels alone."""
    splits = {
        split: {
            "labels": str(own_town / f"labels/{split}2017"),
            "images": {"url": f"{gate.url}/{split}2017", "suffix": ".jpg"},
        }
        for split in ("train", "val")
    }
    source = {"names": str(own_town / "coco.yaml"), "splits": splits}
    workdir = str(own_town.parent / "work")
    one = make_subset(own_town, "one", source=source, workdir=workdir)
    target = {"root": str(one.target.parent / "two"), "images": "none"}
    return one, make_subset(own_town, "two", source=source, workdir=workdir, target=target)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_an_index_is_free_while_images_come(
    pair: tuple[Subset, Subset], gate: Gate, own_town: Path, run: Run, changed: bool
) -> None:
    """And where the other subset finds other label files, both are of these in the end."""
    one, two = pair
    ended: list[dict[str, Any]] = []
    from pipeline import api

    with_images = threading.Thread(target=lambda: ended.append(api.build(one.config).data))
    with_images.start()
    assert gate.reached.wait(60)
    if changed:
        write_file(own_town / "labels/train2017/a.txt", "1 0.2 0.2 0.1 0.1\n2 0.4 0.4 0.1 0.1\n")
        settle()
    built = run("build", two.config, "--json", code=0).json
    assert (built["status"], with_images.is_alive()) == ("built", True)
    gate.open.set()
    with_images.join(60)
    assert [data["status"] for data in ended] == ["built"]
    labels = {path: data for path, data in contents(one.target).items() if path.startswith("labels/")}
    assert labels == {path: data for path, data in contents(two.target).items() if path.startswith("labels/")}
    assert labels["labels/train/a.txt"].startswith(b"0 0.2 0.2") == changed
    assert run("verify", one.target, "--deep", "--json").json["differences"] == {}
    settle()
    assert [run("build", s.config, "--json").json["status"] for s in pair] == ["nothing to do"] * 2
