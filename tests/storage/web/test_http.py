"""Images from a web server: only those that match, each fetched once, from folders and out of archives by ranges."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.server
import json
import os
import random
import signal
import socketserver
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline import storage
from pipeline.base.errors import ConfigError, Interrupted, StorageError
from pipeline.storage import Limits, retry
from pipeline.storage.archives.directory import find_directory
from pipeline.storage.web import pace
from pipeline.storage.web.cache import ImageCache
from tests.conftest import MakeSubset, Run, Subset
from tests.support.archives import pack
from tests.support.helpers import PROJECT, contents, make_tree, write_file
from tests.support.web import Faults, Nginx, Silent, between, faulty, nginx_in, serving

RNG = random.Random(9)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, _towns: Any) -> Iterator[Nginx]:
    """The town's images one by one, in archives, and a larger archive ``many.zip``."""
    with nginx_in(tmp_path_factory.mktemp("nginx")) as server:
        for split in ("train2017", "val2017"):
            images = _towns.common / "images" / split
            pack(images, server.www / f"{split}.zip", split, zipfile.ZIP_STORED)
            for path in images.rglob("*"):
                if path.is_file():
                    target = server.www / split / path.relative_to(images).with_suffix(".jpg")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
        with zipfile.ZipFile(server.www / "many.zip", "w") as archive:
            for i in range(2000):
                archive.writestr(f"train2017/{i:06d}.jpg", RNG.randbytes(2000 + i % 7000))
        yield server


def places(town: Path, nginx: Nginx, *, archives: bool) -> dict[str, Any]:
    splits = {}
    for split in ("train", "val"):
        folder = f"{split}2017"
        images: Any = {"url": f"{nginx.url}/{folder}", "suffix": ".jpg"}
        if archives:
            images = f"zip://{folder}::{nginx.url}/{folder}.zip"
        splits[split] = {"labels": str(town / "labels" / folder), "images": images}
    return {"names": str(town / "coco.yaml"), "splits": splits}


@pytest.fixture(params=[False, True], ids=["by URL", "out of an archive"])
def remote(request: pytest.FixtureRequest, town: Path, nginx: Nginx, make_subset: MakeSubset) -> Subset:
    """A subset of the town with images on a web server."""
    return make_subset(town, "far", source=places(town, nginx, archives=request.param))


def by_stem(found: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a subset, images by their stem; a YAML without its first line, whose digest is of all paths."""
    return {
        p.rsplit(".", 1)[0] if p.startswith("images") else p: d.partition(b"\n")[2] if p == "data.yaml" else d
        for p, d in found.items()
    }


def images_asked(nginx: Nginx) -> int:
    """Requests for images, or for parts of archives other than their ends; not those for the size of one."""
    return sum("-6" not in asked[:8] and asked != "bytes=0-0" for _, _, _, asked in nginx.log())


def test_only_what_matches_is_fetched_and_only_once(subset: Subset, remote: Subset, nginx: Nginx) -> None:
    nginx.log()
    plan = remote.plan()
    images = plan["subset"]["train"]["images"] + plan["subset"]["val"]["images"]
    told = plan["fetch"]
    assert told["images"] == images
    assert 0 < told["requests"] <= images
    assert images_asked(nginx) <= 2  # the directories' own
    assert remote.build()["status"] == "built"
    assert images_asked(nginx) == told["requests"]
    subset.build()
    assert by_stem(contents(remote.target)) == by_stem(contents(subset.target))
    assert remote.build()["status"] == "nothing to do"
    assert images_asked(nginx) == 0
    other = [f"target.root={remote.target}-2", "classes=[bicycle]"]
    again = remote.command("build", "--json", *(w for o in other for w in ("--set", o))).json
    assert again["fetch"]["requests"] == 0
    assert images_asked(nginx) == 0


def test_clean_frees_what_was_kept(remote: Subset, nginx: Nginx) -> None:
    done = remote.build()
    freed = remote.command("fetch", "--clean", "--json").json["cleaned"]
    assert freed["files"] == done["subset"]["train"]["images"] + done["subset"]["val"]["images"]
    assert freed["bytes"] > 0
    assert remote.command("fetch", "--clean").out.startswith("Freed 0 B")
    assert remote.build()["status"] == "nothing to do"


def test_clean_frees_what_is_kept_on_another_disk(tmp_path: Path) -> None:
    """A link, as users put it where a folder of the workdir grows; it stays, and so does what else that disk holds."""
    others = {"photos/cat.jpg": b"mine", "notes.txt": b"mine", "lost+found/#12": b"x", "run-20260101/log": b"mine"}
    for name, data in others.items():
        write_file(tmp_path / "disk" / name, data)
    (tmp_path / "work").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "work/fetched")
    for url in ("http://localhost:8080/images", f"zip://images::http://{'long.' * 20}org/träin.zip", "s3://b/c d"):
        with ImageCache(str(tmp_path / "work"), url) as cache:
            cache.put("a/b.jpg", b"x")
    assert storage.drop_cached(str(tmp_path / "work")) == (3, 3)
    assert (contents(tmp_path / "disk"), (tmp_path / "work/fetched").is_symlink()) == (others, True)


def test_what_was_fetched_is_copied_where_the_target_has_its_images_on_another_disk(
    remote: Subset, other_disk: Path
) -> None:
    """The folder for temporary files takes links to what was fetched; that of the images does not."""
    remote.target.mkdir()
    (remote.target / "images").symlink_to(other_disk)
    assert remote.build()["status"] == "built"
    assert any(path.is_file() for path in other_disk.rglob("*"))
    remote.run("verify", remote.target, "--deep", code=0)


def test_what_was_fetched_is_linked_and_takes_no_room_twice(remote: Subset, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.build()
    assert {p.stat().st_nlink for p in (remote.target / "images").rglob("*") if p.is_file()} == {2}
    assert remote.command("verify", "--deep").out.startswith("All is as it was built")
    made = contents(remote.target)

    def refuse(*args: object, **_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "link", refuse)
        remote.command("build", "--set", f"target.root={remote.target}-2")
    copies = remote.target.with_name(f"{remote.target.name}-2")
    assert {p.stat().st_nlink for p in (copies / "images").rglob("*") if p.is_file()} == {1}
    assert contents(copies) == made


def test_a_zip_of_remote_images_fetches_them_first(remote: Subset, subset: Subset, nginx: Nginx) -> None:
    zipped = ("--set", f"target.root={remote.target}-zip", "--set", "target.archive=zip")
    plan = remote.command("plan", "--json", *zipped).json
    assert plan["fetch"]["requests"] > 0
    assert plan["changes"] == 1
    done = remote.command("build", "--json", *zipped).json
    (path,) = remote.target.with_name(f"{remote.target.name}-zip").glob("*.zip")
    assert path.name == done["archive"]
    subset.build()
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    expected = {p: d for p, d in by_stem(contents(subset.target)).items() if p != "data.yaml"}
    assert {p: d for p, d in by_stem(found).items() if p in expected} == expected
    nginx.log()
    assert remote.command("build", "--json", *zipped).json["status"] == "nothing to do"
    assert remote.command("plan", "--json", *zipped).json["changes"] == 0
    assert images_asked(nginx) == 0


def test_links_as_the_config_says(remote: Subset) -> None:
    remote.build()
    assert "set it to copy" in remote.command("build", "--set", "target.images=symlink", code=2).err
    remote.command("build", "--set", "target.images=hardlink")
    assert {p.stat().st_nlink for p in (remote.target / "images").rglob("*") if p.is_file()} == {2}


def test_a_kept_image_that_was_damaged_is_fetched_again(remote: Subset) -> None:
    remote.build()
    before = contents(remote.target)
    for path in (remote.workdir / "fetched").rglob("*"):
        if path.is_file() and path.name != "failures.json":
            path.unlink()  # the target has links to it
            path.write_bytes(b"torn")
    remote.command("verify", "--deep")
    (remote.target / "images/train/a.jpg").unlink()
    assert list(remote.build(code=1)["failed"]) == ["images/train/a.jpg"]
    remote.build()
    assert contents(remote.target) == before


def test_background_images_cannot_be_had(town: Path, nginx: Nginx, make_subset: MakeSubset) -> None:
    subset = make_subset(town, source=places(town, nginx, archives=False), select={"backgrounds": "all"})
    assert "cannot be listed" in subset.command("plan", code=2).err
    plain = places(town, nginx, archives=False)
    plain["splits"]["train"]["images"] = f"{nginx.url}/train2017"
    assert "suffix: .jpg" in make_subset(town, "plain", source=plain).command("index", code=2).err


def test_an_image_that_is_not_there_fails_alone(town: Path, nginx: Nginx, make_subset: MakeSubset) -> None:
    gone = nginx.www / "train2017/a.jpg"
    data = gone.read_bytes()
    gone.unlink()
    subset = make_subset(town, source=places(town, nginx, archives=False))
    failed = subset.build(code=1)["failed"]
    assert list(failed) == ["images/train/a.jpg"]
    assert "/train2017/a.jpg: the server says 404" in failed["images/train/a.jpg"]
    gone.write_bytes(data)
    nginx.log()
    subset.build()
    assert [path for _, _, path, _ in nginx.log()] == ["/train2017/a.jpg"]


def test_an_archive_that_changes_is_read_anew(town: Path, nginx: Nginx, make_subset: MakeSubset) -> None:
    source = places(town, nginx, archives=True)
    source["splits"] = {"val": source["splits"]["val"]}
    subset = make_subset(town, source=source)
    subset.build()
    archive = nginx.www / "val2017.zip"
    before = archive.read_bytes()
    with zipfile.ZipFile(archive, "w") as changed:
        changed.writestr("val2017/v.jpg", b"another")
        changed.writestr("val2017/x.tiff", b"the last")
    subset.build()
    assert (subset.target / "images/val/v.jpg").read_bytes() == b"another"
    archive.write_bytes(before)


def test_images_that_are_looked_at_are_fetched_first(remote: Subset, nginx: Nginx) -> None:
    nginx.log()
    how = ("--set", "select.check_images=header", "--json")
    planned = remote.command("plan", *how).json
    assert planned["problems"] == {}
    assert images_asked(nginx) <= 2
    assert "is no image" in remote.command("build", *how, code=1).err
    skipped = remote.command("build", *how, "--set", "on_error=skip", code=1).json  # nothing is left
    assert f"none can be used: {planned['fetch']['images']} files that are not images" in skipped["error"]


def test_coco_json_and_images_by_url(tmp_path: Path, nginx: Nginx, run: Run) -> None:
    sizes = {"1.jpg": (40, 30), "deep/2.jpg": (64, 48), "3.jpg": (50, 50)}
    for name, size in sizes.items():
        (nginx.www / "coco" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(nginx.www / "coco" / name)
    write_file(
        tmp_path / "train.json",
        json.dumps(
            {
                "images": [
                    {"id": i, "file_name": name, "width": size[0], "height": size[1]}
                    for i, (name, size) in enumerate(sizes.items())
                ],
                "annotations": [
                    {"id": i, "image_id": i, "category_id": 3, "bbox": [1, 2, 20, 10], "iscrowd": 0, "area": 200}
                    for i in (0, 1)
                ],
                "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}],
            }
        ),
    )
    images = {"url": f"{nginx.url}/coco", "suffix": ".jpg"}
    config = {
        "source": {
            "format": "coco",
            "splits": {"train": {"annotations": str(tmp_path / "train.json"), "images": images}},
        },
        "classes": ["car"],
        "target": {"root": str(tmp_path / "yolo")},
        "workdir": str(tmp_path / "w"),
    }
    path = write_file(tmp_path / "c.yaml", yaml.safe_dump(config))
    nginx.log()
    total = sum((nginx.www / "coco" / name).stat().st_size for name in ("1.jpg", "deep/2.jpg"))
    assert run("plan", path, "--json").json["fetch"] == {"images": 2, "requests": 2, "bytes": total, "about": True}
    assert {line[3] for line in nginx.log()} == {"bytes=0-0"}
    run("build", path)
    assert [line[2] for line in sorted(nginx.log(), key=str)] == ["/coco/1.jpg", "/coco/deep/2.jpg"]
    assert (tmp_path / "yolo/images/train/deep/2.jpg").read_bytes() == (nginx.www / "coco/deep/2.jpg").read_bytes()
    # And back: how large images are is only known once they are here.
    config["source"] = {
        "names": str(tmp_path / "yolo/data.yaml"),
        "splits": {"train": {"labels": str(tmp_path / "yolo/labels/train"), "images": images}},
    }
    config |= {"target": {"root": str(tmp_path / "coco"), "format": "coco"}, "workdir": str(tmp_path / "w2")}
    write_file(path, yaml.safe_dump(config))
    run("plan", path)
    run("build", path)
    made = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert {i["file_name"]: (i["width"], i["height"]) for i in made["images"]} == {
        name: size for name, size in sizes.items() if name != "3.jpg"
    }
    assert [a["bbox"] for a in made["annotations"]] == [[1, 2, 20, 10]] * 2


def test_a_disk_too_small_is_told_before_the_first_image(
    town: Path, nginx: Nginx, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = make_subset(town, source=places(town, nginx, archives=True))
    facts = list(os.statvfs(town))
    facts[4] = 0
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(facts))
    nginx.log()
    assert "has 0 B free; make room" in subset.command("build", code=1).err
    assert images_asked(nginx) <= 2


def test_labels_are_not_read_over_the_network(town: Path, nginx: Nginx, make_subset: MakeSubset) -> None:
    pack(town / "labels", nginx.www / "labels.zip", "labels")
    source = {
        "names": str(town / "coco.yaml"),
        "splits": {"train": {"labels": f"zip://labels/train2017::{nginx.url}/labels.zip"}},
    }
    assert "fetch the archive" in make_subset(town, source=source).command("index", code=2).err


def test_a_server_without_ranges_is_told(nginx: Nginx, tmp_path: Path) -> None:
    place = storage.locate(f"zip://train2017::{nginx.url}/whole/many.zip", str(tmp_path))
    with pytest.raises(StorageError, match="no Range"):
        place.listing(frozenset({".jpg"}), with_stats=False)


@pytest.mark.parametrize("url", ["http://me:pw@h/x", "http://h/x?key=1", "zip://a::https://me:pw@h/x.zip"])
def test_places_with_secrets_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storage.locate(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("share", [0.03, 0.5, 1.0])
def test_bytes_and_requests_are_bounded(nginx: Nginx, tmp_path: Path, share: float) -> None:
    place = storage.locate(f"zip://train2017::{nginx.url}/many.zip", str(tmp_path))
    nginx.log()
    place.listing(frozenset({".jpg"}), with_stats=False)
    directory = sum(moved for _, moved, _, _ in nginx.log())
    names = sorted(place.names())
    some = sorted(RNG.sample(names, int(len(names) * share)))
    wanted = sum(s or 0 for s in place.sizes(some))
    asked = place.ask(some)
    assert place.gather(some, Limits(), lambda _: None) == {}
    log = nginx.log()
    assert sum(moved for _, moved, _, _ in log) == asked.bytes
    assert len(log) == asked.requests <= len(some)
    assert (asked.bytes or 0) <= 1.05 * wanted + directory
    if share == 1.0:
        assert asked.requests <= 3
    with zipfile.ZipFile(nginx.www / "many.zip") as archive:
        for found in place.fetch_many(some[:50]):
            assert found.data == archive.read(f"train2017/{some[found.index]}")


BODY = b"whole image " * 4
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class _Cut(socketserver.StreamRequestHandler):
    """Answers ``/N.jpg`` with the first N bytes of `ANSWER`, and when it is asked again with all of it."""

    asked: set[bytes]

    def handle(self) -> None:
        path = self.rfile.readline().split()[1]
        while self.rfile.readline().strip():
            pass
        at = len(ANSWER) if path in self.asked else int(path.strip(b"/").removesuffix(b".jpg"))
        self.asked.add(path)
        self.wfile.write(ANSWER[:at])


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_an_answer_that_ends_anywhere_is_asked_for_again(tmp_path: Path) -> None:
    """Amid its headers too: libcurl takes such an answer for a whole one without a body."""
    handler = type("_Fresh", (_Cut,), {"asked": set()})
    names = [f"{at}.jpg" for at in range(len(ANSWER))]
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = storage.locate(f"http://127.0.0.1:{server.server_address[1]}", str(tmp_path))
        assert place.gather(names, Limits(), lambda _: None) == {}
        server.shutdown()
    kept = [path.read_bytes() for path in tmp_path.rglob("*.jpg.*")]
    assert kept == [BODY] * len(names)


def test_a_lost_connection_costs_one_image(nginx: Nginx, tmp_path: Path) -> None:
    """At image 2,000 of 3,000, through something that cuts one connection in the middle of an answer."""
    (nginx.www / "i").mkdir()
    names = [f"{i:04d}.jpg" for i in range(3000)]
    for name in names:
        (nginx.www / "i" / name).write_bytes(name.encode() * 300)
    nginx.log()
    done, cut = 0, threading.Event()

    def add(_: int) -> None:
        nonlocal done
        done += 1
        if done == 2000:
            cut.set()

    with between(nginx.port, cut=cut) as port:
        place = storage.locate(f"http://127.0.0.1:{port}/i", str(tmp_path))
        assert place.gather(names, Limits(), add) == {}
    assert not cut.is_set()
    assert done == 3000
    asked = [path for _, _, path, _ in nginx.log(3001)]
    assert len(asked) == 3001
    assert len(set(asked)) == 3000
    assert sum(place.at_hand(names)) == 3000


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_killed_among_its_images_goes_on(
    nginx: Nginx, tmp_path: Path, make_subset: MakeSubset, how: signal.Signals
) -> None:
    town = make_tree(tmp_path / "town", {"train2017": {f"{i:03d}": "1 0.5 0.5 0.1 0.1" for i in range(150)}}, {})
    for i in range(150):
        write_file(nginx.www / f"k/{i:03d}.jpg", b"image %d" % i)
    images = {"url": f"{nginx.url}/k", "suffix": ".jpg"}
    subset = make_subset(
        town,
        fetch={"requests_per_second": 150},
        source={
            "names": str(town / "coco.yaml"),
            "splits": {"train": {"labels": str(town / "labels/train2017"), "images": images}},
        },
    )
    nginx.log()
    command = [sys.executable, "-m", "pipeline", "build", "-q", str(subset.config), "--scheduler", "sync"]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stderr=subprocess.DEVNULL)
    log = nginx.folder / "access.log"
    while log.read_text().count("\n") < 60:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(how)
    assert child.wait() == (143 if how == signal.SIGTERM else -how)
    told = subset.build("--set", "fetch.requests_per_second=null")["fetch"]
    assert told["images"] == 150
    assert told["requests"] < 150 - 60 + 3 * 4
    assert 150 <= len(nginx.log(150)) < 150 + 3 * 4  # what was under way, or had come and was not yet written
    assert len(list((subset.target / "images/train").iterdir())) == 150


def test_a_busy_server_is_asked_less_often(nginx: Nginx, tmp_path: Path) -> None:
    """nginx takes 400 requests a second, and answers the others with 429 and no word of how long to wait."""
    place = storage.locate(f"zip://train2017::{nginx.url}/slow/many.zip", str(tmp_path))
    place.listing(frozenset({".jpg"}), with_stats=False)
    some = sorted(place.names())[::5]
    wanted = sum(s or 0 for s in place.sizes(some))
    nginx.log()
    assert place.gather(some, Limits(connections=16), lambda _: None) == {}
    log = nginx.log(400)
    refused = sum(status == 429 for status, *_ in log)
    assert refused > 0
    assert len(some) == 400
    assert 390 <= len(log) - refused <= 400
    assert refused < 100
    assert sum(moved for status, moved, *_ in log if status == 206) <= 1.05 * wanted


@pytest.mark.slow
def test_images_that_came_are_not_asked_for_again(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(120)]
    faults = Faults({f"/i/{name}": name.encode() * 100 for name in names})
    done = 0

    def add(_: int) -> None:
        nonlocal done
        done += 1
        if done == 50:
            raise Interrupted("stopped")

    with faulty(faults) as url:
        with pytest.raises(Interrupted):
            storage.locate(f"{url}/i", str(tmp_path)).gather(names, Limits(), add)
        place = storage.locate(f"{url}/i", str(tmp_path))
        held = {name for name, there in zip(names, place.at_hand(names), strict=True) if there}
        assert len(held) == 50
        assert place.gather(names, Limits(), lambda _: None) == {}
        # Of the others some were under way when it was stopped, and may be asked for twice.
        assert sorted(path for path, _ in faults.asked if path[3:] in held) == sorted(f"/i/{name}" for name in held)
        assert {f.index: f.data for f in place.fetch_many(names)} == {
            i: name.encode() * 100 for i, name in enumerate(names)
        }


def test_a_wrong_place_is_given_up_early(tmp_path: Path) -> None:
    faults = Faults()
    with faulty(faults) as url, pytest.raises(StorageError, match="the server says 404"):
        storage.locate(f"{url}/i", str(tmp_path)).gather([f"{i}.jpg" for i in range(3000)], Limits(), lambda _: None)
    assert len(faults.asked) < 100


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for between two tries."""
    monkeypatch.setattr(retry, "TRANSFER", replace(retry.TRANSFER, first_s=0.001))
    monkeypatch.setattr(pace, "_LONGEST_GAP_S", 0.001)


@pytest.mark.usefixtures("at_once")
def test_an_image_that_the_server_cannot_give_fails_alone(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    faults = Faults({f"/i/{name}": b"an image" for name in names}, broken={"/i/7.jpg": 500})
    with faulty(faults) as url:
        failed = storage.locate(f"{url}/i", str(tmp_path)).gather(names, Limits(), lambda _: None)
    assert list(failed) == ["7.jpg"]
    assert "the server says 500, 8 times in a row" in failed["7.jpg"]
    assert len(faults.asked) == 39 + 8


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("status", "most"), [(403, 100), (503, 130)])
def test_a_server_that_refuses_from_now_on_is_left_alone(tmp_path: Path, status: int, most: int) -> None:
    names = [f"{i:04d}.jpg" for i in range(1000)]
    faults = Faults({f"/i/{name}": b"an image" for name in names}, broken={f"/i/{n}": status for n in names[30:]})
    with faulty(faults) as url:
        place = storage.locate(f"{url}/i", str(tmp_path))
        with pytest.raises(StorageError, match=f"the server says {status}"):
            place.gather(names, Limits(), lambda _: None)
        assert sum(place.at_hand(names)) >= 30 - Limits().connections  # some may have been under way
    assert len(faults.asked) <= most  # of a thousand; how many are under way at the end is a matter of luck


@pytest.mark.usefixtures("at_once")
def test_an_image_that_never_comes_whole_is_given_up(tmp_path: Path) -> None:
    faults = Faults({"/i/1.jpg": b"x" * 50_000}, cut=0, times=10**6)

    def further(_: str) -> bytes:
        faults.cut = (faults.cut or 0) + 100  # a little more each time, and always from the start
        return b"x" * 50_000

    class Images(dict[str, bytes]):
        def get(self, key: str, default: Any = None) -> Any:
            return further(key)

    faults.files = Images()
    with faulty(faults) as url, pytest.raises(StorageError, match=r"/i/1.jpg: .* 8 times in a row"):
        storage.locate(f"{url}/i", str(tmp_path)).gather(["1.jpg"], Limits(), lambda _: None)
    assert len(faults.asked) == 8


def test_a_page_is_no_image(tmp_path: Path) -> None:
    faults = Faults({"/i/1.jpg": b"<html>Sorry", "/i/2.jpg": b"an image"}, pages={"/i/1.jpg"})
    with faulty(faults) as url:
        failed = storage.locate(f"{url}/i", str(tmp_path)).gather(["1.jpg", "2.jpg"], Limits(), lambda _: None)
    assert list(failed) == ["1.jpg"]
    assert "a web page instead of an image" in failed["1.jpg"]


def test_an_image_that_comes_compressed_is_no_image(tmp_path: Path) -> None:
    """As stores send what was uploaded so, asked for or not; a false header beside an image does no harm."""
    files = {"/i/1.jpg": gzip.compress(b"an image"), "/i/2.jpg": b"an image"}
    with faulty(Faults(files, packed=dict.fromkeys(files, "gzip"))) as url:
        failed = storage.locate(f"{url}/i", str(tmp_path)).gather(["1.jpg", "2.jpg"], Limits(), lambda _: None)
    assert list(failed) == ["1.jpg"]
    assert "came compressed (Content-Encoding: gzip)" in failed["1.jpg"]


@pytest.mark.slow
def test_a_server_that_falls_silent_is_asked_again(tmp_path: Path) -> None:
    faults = Faults({"/i/1.jpg": b"an image" * 1000}, silent=1)
    with faulty(faults) as url:
        place = storage.locate(f"{url}/i", str(tmp_path))
        assert place.gather(["1.jpg"], Limits(timeout=1), lambda _: None) == {}
    assert len(faults.asked) == 2


def test_connections_are_limited(tmp_path: Path) -> None:
    faults = Faults({f"/i/{i}.jpg": b"x" for i in range(60)})
    with faulty(faults) as url:
        place = storage.locate(f"{url}/i", str(tmp_path))
        place.gather([f"{i}.jpg" for i in range(60)], Limits(connections=3), lambda _: None)
    assert 1 < faults.connections <= 3


def test_bytes_a_second_are_limited_for_small_images(nginx: Nginx, tmp_path: Path) -> None:
    """By all connections together, though each image comes at once."""
    for i in range(40):
        write_file(nginx.www / f"l/{i}.jpg", b"x" * 50_000)
    place = storage.locate(f"{nginx.url}/l", str(tmp_path))
    began = time.monotonic()
    limits = Limits(connections=8, bytes_per_second=4_000_000)
    assert place.gather([f"{i}.jpg" for i in range(40)], limits, lambda _: None) == {}
    assert time.monotonic() - began > 0.3


def test_requests_a_second_are_limited(tmp_path: Path) -> None:
    faults = Faults({f"/i/{i}.jpg": b"x" for i in range(20)})
    with faulty(faults) as url:
        limits = Limits(requests_per_second=20)
        storage.locate(f"{url}/i", str(tmp_path)).gather([f"{i}.jpg" for i in range(20)], limits, lambda _: None)
    assert faults.at[-1] - faults.at[0] >= 0.85


@given(
    size=st.integers(98, 1 << 62),
    length=st.integers(0, 1 << 63),
    entries=st.integers(0, 1 << 63),
    offset=st.integers(0, 1 << 63),
    wide=st.booleans(),
)
@example(size=10**13, length=5 * 10**12, entries=10**9, offset=5 * 10**12 - 98, wide=True)
@example(size=10**13, length=0xFFFFFFFF, entries=0xFFFF, offset=98, wide=False)
def test_no_directory_is_asked_for_that_memory_does_not_hold(
    size: int, length: int, entries: int, offset: int, wide: bool
) -> None:
    """Whatever the end of an archive says: a directory of some MiB inside of it, or a sentence."""
    end = size - 98
    if wide:
        tail = (
            struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, length, offset)
            + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
            + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        )
    else:
        tail = bytes(76) + struct.pack(
            "<4sHHHHLLH",
            b"PK\5\6",
            0,
            0,
            entries & 0xFFFF,
            entries & 0xFFFF,
            length & 0xFFFFFFFF,
            offset & 0xFFFFFFFF,
            0,
        )

    def read(at: int, count: int) -> bytes:
        assert 0 <= at <= at + count <= size
        assert count <= 1 << 20
        return (bytes(max(0, min(count, end - at))) + tail[max(0, at - end) :])[:count]

    try:
        found = find_directory(size, read, "x.zip")
    except StorageError:
        return
    assert found.size <= 256 << 20
    assert 0 <= found.offset <= found.offset + found.size <= size


def _said_to_have(size: int, length: int) -> Callable[[int, int], bytes]:
    """What a server answers whose archive is said to have `size` bytes, `length` of them its directory."""
    end = size - 98
    tail = (
        struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, length, end - length)
        + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
        + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    )
    return lambda at, count: (bytes(max(0, min(count, end - at))) + tail[max(0, at - end) :])[:count]


@pytest.mark.parametrize(("length", "told"), [(5 * 10**12, "at most 256 MiB"), (10**8, "more than was asked for")])
def test_an_archive_without_end_on_a_server(tmp_path: Path, length: int, told: str) -> None:
    size = 10**13
    answer = _said_to_have(size, length)
    sent = 0

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal sent
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            at = int(first) if first else size - int(last)
            stop = int(last) + 1 if first else size
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {at}-{stop - 1}/{size}")
            self.end_headers()
            with contextlib.suppress(OSError):
                if not first:
                    self.wfile.write(answer(at, stop - at))
                while first:  # no length was told, and there is no end
                    self.wfile.write(bytes(1 << 20))
                    sent += 1 << 20

    with serving(Handler) as port:
        place = storage.locate(f"zip://x::http://127.0.0.1:{port}/e.zip", str(tmp_path))
        with pytest.raises(StorageError, match=told):
            place.names()
    assert sent < 2 * 10**8
