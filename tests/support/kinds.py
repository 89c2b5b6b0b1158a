"""Every kind of build, small: folders, a zip as source or target, a store, COCO JSON, labelme, split, fetch, repair.

No test stands here.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.support import stores
from tests.support.archives import pack_town
from tests.support.helpers import NAMES, contents, names_yaml, write_file
from tests.support.web import Silent, nginx_in, serving

#: A label of labelme: a triangle.
_SHAPE: dict[str, Any] = {"shape_type": "polygon", "points": [[1, 1], [60, 1], [30, 40]], "flags": {}, "group_id": None}


_ARCHIVES = ("labels.zip", "images.zip")


@dataclass
class Kind:
    """A build in `folder`: its config, its words, and where its bytes end.

    `first` are the words of what comes before it, if anything does; `swapped` those for other classes, if it has some.
    `refresh` is called when files changed behind a server's back; `stall` lets the server answer no more (True) or
    again (False), where there is one, and `server` is that of a store.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    words: list[str] = field(default_factory=lambda: ["build", "{config}"])
    first: list[str] | None = None
    swapped: list[str] = field(default_factory=list)
    at_store: Path | None = None
    refresh: Callable[[], None] = lambda: None
    stall: Callable[[bool], None] | None = None
    server: stores.Server | None = None

    @property
    def target(self) -> Path:
        """Where the bytes of the target are."""
        return self.at_store or self.folder / "out"

    @property
    def work(self) -> Path:
        """The workdir."""
        return self.folder / "work"

    def command(self, *more: str, words: list[str] | None = None) -> list[str]:
        """The words of the command."""
        path = write_file(self.folder / "c.yaml", yaml.safe_dump(self.config, sort_keys=False))
        return [*(w.format(config=path) for w in words or self.words), *more]

    def result(self) -> dict[str, bytes]:
        """What is at the target."""
        return contents(self.target, record=True)


def folders(folder: Path, crowd: Path, **target: Any) -> Kind:
    """Labels and images in folders."""
    config = {
        "source": {
            "root": str(crowd),
            "names": str(crowd / "coco.yaml"),
            "splits": {"train": "train2017", "val": "val2017"},
        },
        "classes": ["truck", "bicycle", "person"],
        "target": {"root": str(folder / "out"), **target},
        "index": {"buckets": 4},
        "workdir": str(folder / "work"),
    }
    return Kind("folders", folder, config, swapped=["--set", "classes=[bus, person]"])


def zip_target(folder: Path, crowd: Path) -> Kind:
    """A subset as one archive; its name has the digest of what is in it."""
    kind = folders(folder, crowd, archive="zip")
    kind.name = "zip target"
    return kind


def zip_source(folder: Path, crowd: Path) -> Kind:
    """Labels and images in archives."""
    kind = folders(folder, crowd)
    kind.name = "zip source"
    kind.config["source"].pop("root")
    kind.config["source"]["splits"] = pack_town(crowd, folder.parent / f"{folder.name}-zips")
    return kind


def split(folder: Path, crowd: Path) -> Kind:
    """Images that are assigned anew, stratified."""
    kind = folders(folder, crowd)
    kind.name = "split"
    kind.config["split"] = {"train": 0.7, "val": 0.3, "stratify": True, "seed": 3}
    return kind


def shaped(folder: Path, crowd: Path) -> Kind:
    """A subset of which limits, caps and a share of backgrounds decide, after a look at all buckets."""
    kind = folders(folder, crowd)
    kind.name = "shaped"
    kind.config["target"]["max_delete"] = "none"  # caps of other classes leave out so many images that a build brakes
    kind.config["select"] = {
        "objects": {"where": "w * h < 0.6"},
        "per_class": {"max_images": 30},
        "background": {"ratio": 0.2, "prefer": "near-miss"},
    }
    return kind


def repair(folder: Path, crowd: Path) -> Kind:
    """A target that somebody spoiled."""
    kind = folders(folder, crowd)
    kind.name, kind.words, kind.swapped = "repair", ["verify", "{config}", "--deep", "--repair"], []
    kind.first = ["build", "{config}"]
    return kind


def spoil(kind: Kind) -> None:
    """What a repair is to mend."""
    if kind.first is not None:
        labels = sorted((kind.folder / "out/labels/train").rglob("*.txt"))
        for path in labels[::5]:
            path.write_bytes(path.read_bytes()[::-1] + b"?")
        labels[1].unlink()


def coco_json(folder: Path, crowd: Path) -> Kind:
    """One JSON for each split, as a source and as the target."""
    source = folder.parent / f"{folder.name}-json"
    for split in ("train", "val"):
        images: list[Any] = []
        objects: list[Any] = []
        names = sorted(p for p in (crowd / f"images/{split}2017").rglob("*.*"))[:40]
        for number, path in enumerate(names, 1):
            name = str(path.relative_to(crowd / f"images/{split}2017"))
            images.append({"id": number, "file_name": name, "width": 64, "height": 48})
            write_file(source / f"{split}2017" / name, path.read_bytes())
            for k in range(number % 3):
                box = [k + 1.5, 2.25, 10.5, 8 + k]
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": number,
                        "category_id": (number + k) % 6,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
        document = {
            "images": images,
            "annotations": objects,
            "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        }
        write_file(source / f"annotations/instances_{split}2017.json", json.dumps(document))
    kind = folders(folder, crowd, format="coco")
    kind.name = "COCO JSON"
    kind.config["source"] = {
        "format": "coco",
        "splits": {
            s: {"annotations": f"{source}/annotations/instances_{s}2017.json", "images": f"{source}/{s}2017"}
            for s in ("train", "val")
        },
    }
    return kind


def labelme(folder: Path, crowd: Path) -> Kind:
    """A folder of labelme JSON."""
    source = folder.parent / f"{folder.name}-labelme"
    for number, path in enumerate(sorted((crowd / "images/train2017").rglob("*.jpg"))[:40]):
        write_file(source / f"photos/{number}.jpg", path.read_bytes())
        shapes = [_SHAPE | {"label": NAMES[(number + k) % 6]} for k in range(number % 3)]
        told = {"shapes": shapes, "imagePath": f"{number}.jpg", "imageWidth": 64, "imageHeight": 48, "version": "5.0"}
        write_file(source / f"photos/{number}.json", json.dumps(told))
    kind = folders(folder, crowd)
    kind.name = "labelme"
    kind.config["source"] = {"format": "labelme", "task": "segment", "root": str(source), "splits": {"train": "photos"}}
    return kind


@contextlib.contextmanager
def fetch(folder: Path, crowd: Path) -> Iterator[Kind]:
    """Archives of a server, unpacked below the root."""
    www = folder.parent / f"{folder.name}-www"
    write_file(www / "names.yaml", names_yaml())
    for part in ("labels", "images"):
        with zipfile.ZipFile(www / f"{part}.zip", "w") as archive:
            for path in sorted((crowd / part).rglob("*.*")):
                if path.is_file():
                    archive.write(path, f"{part}/{path.relative_to(crowd / part)}")

    answers = threading.Event()
    answers.set()

    class Handler(Silent, http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            while data := source.read(4096):
                answers.wait()
                outputfile.write(data)

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client went away
                super().handle()

    kind = folders(folder, crowd)
    kind.name, kind.words, kind.swapped = "fetch", ["fetch", "{config}", *_ARCHIVES, "--extract"], []
    kind.config["source"] |= {
        "root": str(folder / "out"),
        "names": str(www / "names.yaml"),
    }
    kind.config["target"] = {"root": str(folder / "subset")}
    kind.stall = lambda stalls: answers.clear() if stalls else answers.set()
    with serving(partial(Handler, directory=str(www))) as port:
        kind.config["fetch"] = {
            "archives": {
                name: {"url": f"http://127.0.0.1:{port}/{name}", "unpack": {name[:-4]: name[:-4]}} for name in _ARCHIVES
            }
        }
        yield kind


@contextlib.contextmanager
def web(folder: Path, crowd: Path) -> Iterator[Kind]:
    """Images one by one out of archives at a web server; those that were fetched stay in the workdir."""
    home = folder.parent / f"{folder.name}-www"
    home.mkdir()
    with nginx_in(home) as server:
        kind = zip_source(folder, crowd)
        kind.name = "web"
        for split in kind.config["source"]["splits"].values():
            path = Path(split["images"].rpartition("::")[2])
            split["images"] = f"zip://{path.stem}::{server.url}/{path.name}"
            write_file(server.www / path.name, path.read_bytes())
        process = server.process
        assert process is not None
        kind.stall = lambda stalls: process.send_signal(signal.SIGSTOP if stalls else signal.SIGCONT)
        yield kind


@contextlib.contextmanager
def store(folder: Path, crowd: Path) -> Iterator[Kind]:
    """A target at S3, served by rclone out of a folder."""
    home = folder.parent / f"{folder.name}-s3"
    with _at(stores.s3(home), "S3", "s3://bucket/out", home / "data/bucket/out", folder, crowd) as kind:
        server = kind.server

        def refresh() -> None:  # it remembers what its folders hold
            assert server is not None
            server.kill()
            server.start()

        kind.refresh = refresh
        yield kind


@contextlib.contextmanager
def sftp(folder: Path, crowd: Path) -> Iterator[Kind]:
    """A target at a server of SFTP."""
    home = folder.parent / f"{folder.name}-sftp"
    server = stores.sftp(home)
    with _at(server, "SFTP", f"{server.url}/out", home / "data/out", folder, crowd) as kind:
        yield kind


@contextlib.contextmanager
def _at(server: stores.Server, name: str, root: str, files: Path, folder: Path, crowd: Path) -> Iterator[Kind]:
    """A target `root` at a store that keeps its files in the folder `files`."""
    options = server.folder / "options/storage.yaml"
    with stores.running(server):
        write_file(options, yaml.safe_dump({server.protocol: server.options}))
        kind = folders(folder, crowd)
        kind.name, kind.config["target"] = name, {"root": root}
        kind.at_store, kind.server, kind.stall = files, server, server.stall
        yield kind
