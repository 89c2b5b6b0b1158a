"""Source and target at a store, night after night: what a check costs, a bucket that is written to, two at once."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import storage
from pipeline.target.intent import write_intent
from pipeline.target.manifest import TargetState
from tests.conftest import Run
from tests.formats.test_labelme import jpeg
from tests.job.test_conversion import ZIPS
from tests.support import stores
from tests.support.helpers import contents, run_process, settle, without_digest, write_file
from tests.support.images import encoded, photograph
from tests.support.proxy import Proxy, lead_to

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[stores.Server]:
    with stores.running(stores.s3(tmp_path / "s3")) as running:
        yield running


@pytest.fixture
def proxy(server: stores.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the store, to which options of the test lead."""
    with contextlib.closing(Proxy(server.port)) as found:
        lead_to(found.port, tmp_path, monkeypatch)
        yield found


def fill(root: Path, count: int, *, first: int = 0) -> None:
    """`count` label files and images of one split, classes 0 to 2, straight on the store's disk."""
    for kind in ("labels", "images"):
        (root / kind / "train").mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        (root / f"labels/train/{i:05d}.txt").write_text(f"{i % 3} 0.5 0.5 0.1 0.1\n")
        (root / f"images/train/{i:05d}.jpg").write_bytes(b"image %d" % i)


def config_of(folder: Path, name: str, target: str, **keys: Any) -> Path:
    """A config over the collection in the bucket, with the common workdir."""
    write_file(folder / "names.yaml", "names: {0: a, 1: b, 2: c}\n")
    data = {
        "source": {"names": str(folder / "names.yaml"), "root": "s3://bucket/coco", "splits": {"train": "train"}},
        "classes": ["b"],
        "target": {"root": target},
        "workdir": str(folder / "work"),
        "engine": {"scheduler": "sync"},
        **keys,
    }
    return write_file(folder / f"{name}.yaml", yaml.safe_dump(data))


@pytest.mark.parametrize("count", [90, 2400])
def test_what_a_night_without_a_change_costs(proxy: Proxy, tmp_path: Path, run: Run, count: int) -> None:
    """One listing of the source a thousand objects; at the target as many requests for a large subset as a small."""
    fill(tmp_path / "s3/data/bucket/coco", count)
    config = config_of(tmp_path, "c", "s3://bucket/subset")
    told = run("build", config, "--json").json
    # rclone answers one of thousands with 500 when it is busy, and what the client repeats by itself is not counted.
    assert told["run"]["requests"] == sum(r.status < 500 for r in proxy.requests)
    assert told["run"]["bytes"]["fetched"] > 0
    for _ in range(2):
        settle()
        proxy.reset()
        told = run("build", config, "--json").json
        assert (told["status"], told["run"]["requests"]) == ("nothing to do", len(proxy.requests))
        of_source = [r for r in proxy.requests if r.path.startswith("/bucket/coco") or "prefix=coco" in r.query]
        assert all("list-type=2" in r.query for r in of_source)
        assert len(of_source) == 2 * -(-count // 1000)
        at_target = [(r.method, r.path.removeprefix("/bucket/subset")) for r in proxy.requests if r not in of_source]
        records = [path for method, path in at_target if method == "PUT"]
        assert [path.startswith("/.coco-diy/runs/") for path in records] == [True]
        assert at_target == [
            ("GET", "/bucket"),  # the first page of a listing: all below .coco-diy/, data.yaml
            ("PUT", records[0]),
        ]


def test_images_called_otherwise_than_their_label_files_are_asked_together(
    proxy: Proxy, tmp_path: Path, run: Run
) -> None:
    """Each once, for its first bytes, and no file whether it is there: the listing says that."""
    for i in range(9):
        write_file(tmp_path / f"s3/data/bucket/voc/JPEGImages/IMG_{i}.jpg", jpeg(40, 20))
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        size = "<size><width>20</width><height>10</height></size>"
        text = f"<filename>IMG_{i}.jpg</filename>{size}<object><name>b</name>{box}</object>"
        write_file(tmp_path / f"s3/data/bucket/voc/Annotations/{i}.xml", f"<annotation>{text}</annotation>")
    splits = {"train": {"labels": "Annotations", "images": "JPEGImages"}}
    source = {"format": "voc", "root": "s3://bucket/voc", "splits": splits}
    config = config_of(tmp_path, "c", str(tmp_path / "out"), source=source)
    run("index", config)
    asked = [(r.method, r.path) for r in proxy.requests if "JPEGImages/" in r.path or "Annotations/" in r.path]
    assert sorted(asked) == sorted(
        ("GET", f"/bucket/voc/{path}") for i in range(9) for path in (f"JPEGImages/IMG_{i}.jpg", f"Annotations/{i}.xml")
    )
    assert run("build", config, "--json").json["loss"] == {"resized": 9}


def test_a_record_that_the_store_does_not_take_in_time_is_in_the_workdir(
    proxy: Proxy, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else of the target is there, and the build is a success: it does not wait until the record is."""
    fill(tmp_path / "s3/data/bucket/coco", 9)
    woken = threading.Event()

    def slow(method: str, path: str, _time: int) -> None:
        if method == "PUT" and path.startswith("/bucket/subset/.coco-diy/runs/"):
            woken.wait(60)

    monkeypatch.setattr(proxy, "fault", slow)
    try:
        told = run("build", config_of(tmp_path, "c", "s3://bucket/subset"), "--json")
        assert not woken.is_set()
        assert (told.json["status"], told.json["exit_code"]) == ("built", 0)
        assert "s3://bucket/subset/.coco-diy/runs: takes no record of this run, which is " in told.err
        (file,) = (tmp_path / "work/runs").glob("*/*")
        assert file.name.endswith("-0.json")
        run("verify", "s3://bucket/subset")
    finally:
        woken.set()


@pytest.fixture
def remembered(proxy: Proxy, tmp_path: Path, run: Run) -> Path:
    """The config of a subset whose manifest this machine remembers; two requests are enough for a check."""
    fill(tmp_path / "s3/data/bucket/coco", 9)
    config = config_of(tmp_path, "c", "s3://bucket/subset")
    run("build", config)
    settle()
    proxy.reset()
    assert (run("build", config, "--json").json["status"], _asked(proxy)) == ("nothing to do", [])
    proxy.reset()
    return config


def _asked(proxy: Proxy) -> list[str]:
    """Which of the records that a check may need were asked for."""
    asked = [r.path.rpartition("/.coco-diy/")[2] for r in proxy.requests if r.method == "GET" and "/subset/" in r.path]
    return [path for path in asked if path in ("manifest.json", "intent.json")]


def test_an_intent_that_another_machine_left_is_seen(remembered: Path, proxy: Proxy, tmp_path: Path, run: Run) -> None:
    state = TargetState(storage.locate_writable("s3://bucket/subset"))
    assert state.manifest is not None
    write_intent(state, 1, {}, ["data.yaml"])
    settle()
    proxy.reset()
    assert run("build", remembered, "--json").json["run"]["requests"] > 4
    assert {"manifest.json", "intent.json"} <= set(_asked(proxy))
    assert not (tmp_path / "s3/data/bucket/subset/.coco-diy/intent.json").exists()


def test_a_manifest_that_another_machine_wrote_is_read(
    remembered: Path, proxy: Proxy, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "there").mkdir()
    other = config_of(tmp_path / "there", "o", "s3://bucket/subset", classes=["a"])
    run("build", other, "--max-delete", "none")
    settle()
    proxy.reset()
    assert run("build", remembered, "--max-delete", "none", "--json").json["status"] == "built"
    assert "manifest.json" in _asked(proxy)


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_what_is_remembered_may_be_damaged(remembered: Path, proxy: Proxy, tmp_path: Path, run: Run, how: str) -> None:
    (kept,) = (tmp_path / "work/plans").glob("*.target")
    whole = kept.read_bytes()
    at = whole.index(b"nothing") if b"nothing" in whole else len(whole) // 2
    damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] if how == "flip" else whole[:at]
    kept.unlink()
    if how != "gone":
        kept.write_bytes(damaged)
    assert run("build", remembered, "--json").json["status"] == "nothing to do"
    assert sorted(_asked(proxy)) == ["intent.json", "manifest.json"]
    assert kept.read_bytes() == whole
    proxy.reset()
    assert run("build", remembered, "--json").json["status"] == "nothing to do"
    assert _asked(proxy) == []


def test_a_build_forgets_before_it_begins(remembered: Path, proxy: Proxy, tmp_path: Path, run: Run) -> None:
    """So one that ends early is followed by a check that asks for the intent, whatever a listing shows."""
    label = tmp_path / "s3/data/bucket/coco/labels/train/00000.txt"
    whole = label.read_text()
    label.write_text("nonsense\n")
    settle()
    run("build", remembered, code=1)
    assert list((tmp_path / "work/plans").glob("*.target")) == []
    label.write_text(whole)
    settle()
    proxy.reset()
    run("build", remembered)
    assert "intent.json" in _asked(proxy)
    proxy.reset()
    run("build", remembered)
    assert _asked(proxy) == []


@pytest.mark.parametrize("buckets", [1, 8])
def test_what_a_first_build_asks_beside_its_files(proxy: Proxy, tmp_path: Path, run: Run, buckets: int) -> None:
    """Most of these requests wait for the one before, so there are as many for many buckets as for few."""
    fill(tmp_path / "s3/data/bucket/coco", 90)
    run("build", config_of(tmp_path, "c", "s3://bucket/subset", index={"buckets": buckets}))
    at_target = [
        (request.method, request.path.removeprefix("/bucket/subset/"))
        for request in proxy.requests
        if request.status < 500 and not (request.path.startswith("/bucket/coco") or "prefix=coco" in request.query)
    ]
    files = ("images/", "labels/train/", ".coco-diy/manifest/", ".coco-diy/copy/manifest/", ".coco-diy/lock")
    others = [request for request in at_target if not request[1].startswith(files) and "/done-" not in request[1]]
    assert len(others) <= 27, others  # 2 of them remember what was made; records are asked for in pairs


@pytest.mark.parametrize("path", [".coco-diy/copy/manifest.json", ".coco-diy/manifest.json", "data.yaml", "DATASET.md"])
@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_what_a_check_finds_amiss_is_put_right(
    server: stores.Server, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, path: str, gone: bool
) -> None:
    lead_to(server.port, tmp_path, monkeypatch)
    fill(tmp_path / "s3/data/bucket/coco", 9)
    config = config_of(tmp_path, "c", "s3://bucket/subset", runs={"keep": 3})
    run("build", config)
    subset = tmp_path / "s3/data/bucket/subset"
    before = {path: (subset / path).read_bytes() for path in ("data.yaml", "DATASET.md", path)}
    store = storage.locate_writable("s3://bucket/subset")
    if gone:
        store.delete_many([path]).must(store)
    else:
        store.write(path, before[path][:-9] + b"123456789")
    for _ in range(3):
        settle()
        run("build", config)
    assert run("build", config, "--json").json["status"] == "nothing to do"
    assert {path: (subset / path).read_bytes() for path in ("data.yaml", "DATASET.md")} == {
        path: before[path] for path in ("data.yaml", "DATASET.md")
    }
    state = subset / ".coco-diy"
    assert (state / "copy/manifest.json").read_bytes() == (state / "manifest.json").read_bytes()
    assert len(list((state / "runs").iterdir())) == 3


@pytest.mark.parametrize("name", [".parquet", "images/train/00004.jpg", "labels/train/00007.txt", "data.yaml"])
def test_what_a_store_did_not_take_is_written_later(
    proxy: Proxy, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever file it was when the connection broke: the run ends with 75, which a timer takes for `try again`."""
    lead_to(proxy.port, tmp_path, monkeypatch, retry_config={"max_retries": 1})
    fill(tmp_path / "s3/data/bucket/coco", 12)
    config = config_of(tmp_path, "c", "s3://bucket/subset")
    proxy.fault = lambda method, path, _time: "cut" if method == "PUT" and path.endswith(name) else None
    told = run("build", config, "--json", code=75).json
    assert told["exit_code"] == 75
    proxy.fault = lambda _method, _path, _time: None
    run("build", config)
    assert run("verify", "s3://bucket/subset", "--deep", "--json").json["differences"] == {}


@pytest.mark.parametrize(
    ("name", "target", "key"),
    [
        ("labels/train/00007.txt", "s3://bucket/subset", "select.duplicates=drop"),
        ("images/train/00004.jpg", "s3://bucket/subset", "select.check_images=header"),
        ("images/train/00004.jpg", "s3://bucket/subset", "select.check_images=full"),
        ("images/train/00004.jpg", "s3://bucket/subset", "target.format=coco"),
        ("images/train/00004.jpg", "subset", "target.images=copy"),
    ],
)
def test_what_a_store_did_not_give_is_no_bad_file(
    proxy: Proxy, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, target: str, key: str
) -> None:
    """Nor is it skipped where bad ones are: the run ends with 75, and what lacked is there with the next."""
    lead_to(proxy.port, tmp_path, monkeypatch, retry_config={"max_retries": 1})
    source, root = tmp_path / "s3/data/bucket/coco", target if "://" in target else str(tmp_path / target)
    fill(source, 12)
    for path in source.rglob("*.jpg"):
        path.write_bytes(encoded(photograph(int(path.stem), (32, 24))))
    words = [config_of(tmp_path, "c", root), "--set", key, "--set", "on_error=skip"]
    proxy.fault = lambda method, path, _time: "cut" if method == "GET" and path.endswith(f"coco/{name}") else None
    told = run("build", *words, code=75)
    assert name in told.err + told.out
    proxy.fault = lambda _method, _path, _time: None
    assert run("build", *words, "--json").json["images"]["kept"] == 4
    assert run("verify", root, "--deep", "--json").json["differences"] == {}


def test_what_a_store_does_not_give_is_not_damaged(
    proxy: Proxy, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to(proxy.port, tmp_path, monkeypatch, retry_config={"max_retries": 1})
    fill(tmp_path / "s3/data/bucket/coco", 12)
    run("build", config_of(tmp_path, "c", "s3://bucket/subset"))
    proxy.fault = lambda method, path, _time: (
        "cut" if method == "GET" and path.endswith("labels/train/00004.txt") else None
    )
    assert "labels/train/00004.txt: cannot be read" in run("verify", "s3://bucket/subset", "--deep", code=75).err


@pytest.mark.slow
@pytest.mark.parametrize(("method", "number"), [("GET", 30), ("PUT", 20)])
def test_a_store_that_is_away_for_a_minute(
    server: stores.Server, proxy: Proxy, tmp_path: Path, run: Run, method: str, number: int
) -> None:
    """While labels and images come, while files are written, or at the end: the run waits, or ends with 75."""
    fill(tmp_path / "s3/data/bucket/coco", 60)
    config = config_of(tmp_path, "c", "s3://bucket/subset")
    proxy.fault = stores.killing(server, number, 60.0, method)
    assert run_process("build", config).code in (0, 75)  # which is gone then: its lock at the store does not count
    for _ in range(900):
        if server.process is not None:
            break
        time.sleep(0.1)
    run("build", config)
    subset = tmp_path / "s3/data/bucket/subset"
    assert {path.stem for path in subset.glob("images/train/*")} == {f"{i:05d}" for i in range(1, 60, 3)}
    assert run("verify", "s3://bucket/subset", "--deep").code == 0
    assert run("build", config, "--json").json["status"] == "nothing to do"


@pytest.mark.parametrize("case", ZIPS)
def test_datasets_of_tools_are_read_at_a_store(proxy: Proxy, tmp_path: Path, run: Run, case: str) -> None:
    """As a folder, and as a zip: each is taken for what the folder of this machine is, and made into the same."""
    for root in (tmp_path / "in", tmp_path / "s3/data/bucket/in"):
        for name, content in ZIPS[case].items():
            write_file(root / name, content)
    shutil.make_archive(str(tmp_path / "s3/data/bucket/set"), "zip", tmp_path / "in")
    made = [
        run("convert", source, tmp_path / f"made{number}", "--to", "yolo", "--workdir", tmp_path / "work")
        for number, source in enumerate((tmp_path / "in", "s3://bucket/in", "s3://bucket/set.zip"))
    ]
    assert all(f"is read as format {case.partition(',')[0]};" in one.err for one in made)
    first, *others = (without_digest(contents(tmp_path / f"made{number}")) for number in range(len(made)))
    assert others == [first] * 2


def test_two_subsets_of_one_workdir_at_once(proxy: Proxy, tmp_path: Path, run: Run) -> None:
    """While one subset is carried out, the index is free for another."""
    fill(tmp_path / "s3/data/bucket/coco", 60)
    slow, quick = config_of(tmp_path, "slow", "s3://bucket/subset"), config_of(tmp_path, "quick", str(tmp_path / "t"))
    reached, free = threading.Event(), threading.Event()

    def wait(method: str, path: str, _time: int) -> None:
        if method == "PUT" and "/subset/labels/" in path:
            reached.set()
            free.wait(120)

    proxy.fault = wait
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "build", str(slow)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as under_way:
        assert reached.wait(100)
        assert run("build", quick, "--json").json["status"] == "built"
        assert "in use by" in run("plan", slow, code=5).err
        assert "in use by" in run("build", slow, code=5).err
        assert run("status", slow, "--json").json["running"] is not None
        proxy.requests.clear()
        assert "in use by" in run("build", slow, "--wait-lock", "2s", code=5).err
        listed = [r for r in proxy.requests if "list-type=2" in r.query and "prefix=coco%2F" in r.query]
        assert len(listed) == 2, "who waits for a lock asks for that, and lists the source once it is free"
        free.set()
        _, err = under_way.communicate(timeout=100)
        assert under_way.returncode == 0, err
    assert contents(tmp_path / "s3/data/bucket/subset") == contents(tmp_path / "t")
    settle()
    for config in (slow, quick):
        assert run("build", config, "--json").json["status"] == "nothing to do"


def test_a_listing_that_shows_files_again(proxy: Proxy, tmp_path: Path, run: Run) -> None:
    """A key that a listing has twice is one file: no row is doubled, now or by a later run that finds it unchanged."""
    fill(tmp_path / "s3/data/bucket/coco", 30)
    config = config_of(tmp_path, "c", str(tmp_path / "t"))
    proxy.repeated = True
    run("build", config)
    first = contents(tmp_path / "t")
    proxy.repeated = False
    settle()
    run("build", config)
    run("build", config_of(tmp_path, "fresh", str(tmp_path / "fresh"), workdir=str(tmp_path / "fresh-work")))
    assert first == contents(tmp_path / "t") == contents(tmp_path / "fresh")


class Writer(threading.Thread):
    """Somebody who writes to a collection: objects appear, vanish and change, a label never before its image."""

    def __init__(self, server: stores.Server) -> None:
        super().__init__(daemon=True)
        from obstore.store import S3Store

        self._store = S3Store(
            "bucket",
            endpoint=server.options["endpoint_url"],
            access_key_id=stores.KEY,
            secret_access_key=stores.SECRET,
            client_options={"allow_http": True},
        )
        self._chance, self._ended = random.Random(4), threading.Event()
        self._there = [f"{i:05d}" for i in range(120)]
        self._number, self.writes = 10_000, 0

    def _put(self, key: str, data: bytes) -> None:
        import obstore

        obstore.put(self._store, f"coco/{key}", data, use_multipart=False)

    def run(self) -> None:
        import obstore

        while not self._ended.wait(0.02):
            self._number += 1
            self._put(f"images/train/{self._number}.jpg", b"new %d" % self._number)
            self._put(f"labels/train/{self._number}.txt", b"1 0.5 0.5 0.2 0.2\n")
            self._there.append(str(self._number))
            if self._number % 7 == 0:
                gone = self._there.pop(self._chance.randrange(20, len(self._there)))
                obstore.delete(self._store, [f"coco/labels/train/{gone}.txt", f"coco/images/train/{gone}.jpg"])
            changed = self._chance.choice(self._there[:20])
            self._put(f"labels/train/{changed}.txt", b"1 0.5 0.5 0.3 0.%d\n" % self._number)
            self.writes += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_a_bucket_that_is_written_to_meanwhile(
    server: stores.Server, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, skip: bool
) -> None:
    """Each run gives what was listed, whole, or a sentence; the run after the last write heals."""
    lead_to(server.port, tmp_path, monkeypatch)
    fill(tmp_path / "s3/data/bucket/coco", 120)
    more = {"on_error": "skip"} if skip else {}
    config = config_of(tmp_path, "c", str(tmp_path / "t"), **more, index={"buckets": 8})
    writer = Writer(server)
    writer.start()
    codes = []
    for _ in range(3):
        told = run("build", config, "--json", "--max-delete", "none", code=None)
        codes.append(told.code)
        assert told.code in ((0, 1, 3) if skip else (0, 1)), told.err
        assert "internal error" not in told.err
        assert "Traceback" not in told.err
        if told.code == 1:
            document = told.json
            assert document.get("error") or document["failed"] or document["left_out"]
        labels = {p.stem: p.read_bytes() for p in (tmp_path / "t/labels/train").glob("*.txt")}
        assert all(data.endswith(b"\n") and data.startswith(b"0 ") for data in labels.values())  # each file whole
        images = {p.stem for p in (tmp_path / "t/images/train").glob("*.jpg")}
        assert images <= labels.keys(), "no image is without its label"
    writer.end()
    assert writer.writes > 20
    settle()
    run("build", config, "--max-delete", "none")
    fresh = config_of(tmp_path, "fresh", str(tmp_path / "fresh"), **more, workdir=str(tmp_path / "fresh-work"))
    run("build", fresh)
    assert contents(tmp_path / "t") == contents(tmp_path / "fresh")
    assert run("verify", tmp_path / "t", "--deep", "--json").json["differences"] == {}
    time.sleep(0.1)
    assert run("build", config, "--json").json["status"] == "nothing to do"
