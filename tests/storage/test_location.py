"""What every place that holds files must do, alike on a folder, in memory, and on real servers of every kind."""

from __future__ import annotations

import os
import time
import uuid
import zipfile
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import xxhash
import yaml

from pipeline import storage
from pipeline.base.errors import ConfigError, Interrupted, LockError, StorageError
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.storage import Copies, WritableLocation
from pipeline.storage.address import parse
from pipeline.storage.stores import lease
from pipeline.storage.stores.connect import client_for
from pipeline.storage.stores.in_flight import persist
from tests.conftest import MakeSubset, Subset
from tests.support import stores
from tests.support.ceph import ceph
from tests.support.helpers import contents, settle, write_file
from tests.support.stores import Server

pytestmark = pytest.mark.xdist_group("locations")

CEPH = pytest.param("ceph", marks=pytest.mark.ceph)
KINDS = ("folder", "memory", "s3", "gs", "az", "sftp", CEPH)
MAKERS = stores.MAKERS | {"ceph": ceph}
#: Names that some store, or some client, takes for something else.
NAMES = [
    "plain.txt",
    "two words.txt",
    "ü/ñ日本🚲.txt",
    "a#b.txt",
    "50%.txt",
    "50%25.txt",
    "a+b&c=d.txt",
    "(x)[y]'z.txt",
    "q?.txt",
    "~t*.txt",
    "a:b;c,d@e$f!.txt",
    "deep/er/and/deeper.txt",
    "UPPER.JPG",
    ".hidden.txt",
]
TXT = frozenset({".txt"})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims the same lock here."""
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Servers by protocol, each started when it is first asked for; their options are those of this module."""
    local = tmp_path_factory.mktemp("local")
    before = os.environ.get("COCO_DIY_LOCAL")
    os.environ["COCO_DIY_LOCAL"] = str(local)

    class Started(dict[str, Server]):
        def __missing__(self, kind: str) -> Server:
            server = MAKERS[kind](tmp_path_factory.mktemp(kind))
            server.start()
            self[kind] = server
            if kind == "az":
                stores.make_container(server)
            name = server.url if kind == "ceph" else server.protocol
            write_file(local / f"{kind}.yaml", yaml.safe_dump({name: server.options}))
            return server

    found = Started()
    yield found
    for server in found.values():
        server.end()
    os.environ.pop("COCO_DIY_LOCAL")
    if before is not None:
        os.environ["COCO_DIY_LOCAL"] = before


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(kind: str, servers: dict[str, Server], tmp_path: Path) -> str:
    """The URL of a place that is empty."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    if kind == "folder":
        return str(tmp_path / name)
    return f"memory://{name}/x" if kind == "memory" else f"{servers[kind].url}/{name}/x"


@pytest.fixture
def place(root: str) -> WritableLocation:
    return storage.locate_writable(root)


def put(place: WritableLocation, **files: bytes) -> None:
    place.write_many(list(files), list(files.values()))


def marks(place: WritableLocation) -> dict[str, bytes]:
    names = sorted(place.names())
    return {n: f.mark for n, f in zip(names, place.fingerprints(names), strict=True) if f is not None}


def numbers(place: WritableLocation, suffixes: frozenset[str] = TXT) -> dict[str, tuple[int, ...]]:
    """The four numbers of each listed file."""
    listing = place.listing(suffixes, with_stats=True)
    found: dict[str, tuple[int, ...]] = {}
    for blob, stats in listing.chunks:
        assert stats is not None
        for i, name in enumerate(blob.decode().split("\0")):
            found[name] = tuple(stats[4 * i : 4 * i + 4])
    assert listing.count == len(found)
    assert listing.folder == place.url
    return found


def test_what_is_written_is_there(place: WritableLocation) -> None:
    assert not place.exists()
    assert place.names() == set()
    assert place.flat_names("") == []
    assert place.read("plain.txt") is None
    assert place.exist_many(["plain.txt"]) == [False]
    assert place.sizes(["plain.txt"]) == [None]
    assert list(place.fingerprints(["plain.txt"])) == [None]
    data = [name.encode() for name in NAMES]
    results = place.write_many(NAMES, data)
    assert (results.done, results.failed) == (len(NAMES), {})
    assert place.exists()
    assert place.names() == set(NAMES)
    assert place.names("deep") == {"er/and/deeper.txt"}
    assert place.below("deep").names("er") == {"and/deeper.txt"}
    assert place.flat_names("deep/er/and") == ["deeper.txt"]
    assert [place.read(name) for name in NAMES] == data
    assert place.exist_many([*NAMES, "none.txt"]) == [True] * len(NAMES) + [False]
    assert place.sizes([*NAMES, "none.txt"]) == [*map(len, data), None]
    assert [place.name_of(place.join(name)) for name in NAMES] == NAMES
    got = sorted(place.fetch_many([*NAMES, "none.txt"]), key=lambda f: f.index)
    assert [f.data for f in got] == [*data, b""]
    assert [f.reason is None for f in got] == [True] * len(NAMES) + [False]
    assert list(place.content_digests([NAMES[2], "none.txt"])) == [xxhash.xxh3_128_digest(data[2]), None]
    gone = place.delete_many([*NAMES, "none.txt"])
    assert (gone.done, gone.failed) == (len(NAMES) + 1, {})
    assert place.names() == set()


def test_a_listing_tells_what_changed(place: WritableLocation) -> None:
    put(place, **{"a.txt": b"1", "b.TXT": b"22", "c.jpg": b"3", "sub/d.txt": b""})
    time.sleep(0.02)
    before = numbers(place)
    assert set(before) == {"a.txt", "b.TXT", "sub/d.txt"}
    assert set(numbers(place, frozenset({".jpg", ".txt"}))) == {"a.txt", "b.TXT", "c.jpg", "sub/d.txt"}
    assert [before[n][0] for n in sorted(before)] == [1, 2, 0]
    names = sorted(before)
    for folder in ("", "sub/"):
        some = [n for n in names if n.rpartition("/")[0] == folder.rstrip("/")]
        below = place.below(folder.rstrip("/")) if folder else place
        _, stats, failed = below.read_many([n.removeprefix(folder) for n in some], 100)
        assert failed == {}
        assert [tuple(stats[4 * i : 4 * i + 4]) for i in range(len(some))] == [before[n] for n in some]
    had = place.fingerprints(names)
    time.sleep(1.1 if "sftp" in place.url else 0.02)  # SFTP tells whole seconds
    put(place, **{"a.txt": b"2"})
    after = numbers(place)
    assert after["a.txt"] != before["a.txt"]
    assert {n: after[n] for n in names[1:]} == {n: before[n] for n in names[1:]}
    changed = [
        a is not None and b is not None and a.mark != b.mark
        for a, b in zip(had, place.fingerprints(names), strict=True)
    ]
    assert changed == [True, False, False]


def test_reading_many(place: WritableLocation) -> None:
    put(place, **{f"{i}.txt": b"%d" % i for i in range(40)}, **{"large.txt": b"x" * 101})
    data, stats, failed = place.read_many([f"{i}.txt" for i in range(40)] + ["none.txt", "large.txt"], 100)
    assert list(data) == [b"%d" % i for i in range(40)] + [b"", b""]
    assert failed == {40: "vanished", 41: "too_large"}
    assert stats[40 * 4 :] == array("q", [0] * 8)
    assert place.read_many([], 100)[0] in ([], ())
    assert list(place.fetch_many([])) == []


def refuses_the_large(place: storage.Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two images at `place`, of 1,000 bytes and one more, the second is no image where the limit is that."""
    for module in ("location", "archives.folder", "stores.batch"):
        monkeypatch.setattr(f"pipeline.storage.{module}.MAX_IMAGE_BYTES", 1000)
    found = sorted(place.fetch_many(["large.jpg", "small.jpg"]), key=lambda one: one.index)
    assert [one.data for one in found] == [b"", SIZED["small.jpg"]]
    assert str(found[0].reason).endswith("MiB: no image")
    assert storage.read_image(place, "large.jpg") == b""


SIZED = {"small.jpg": b"x" * 1000, "large.jpg": b"x" * 1001}


def test_what_is_too_large_for_an_image_is_not_read(place: WritableLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_many(list(SIZED), list(SIZED.values())).must(place)
    refuses_the_large(place, monkeypatch)


def test_what_is_too_large_for_an_image_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in SIZED.items():
            archive.writestr(name, data)
    refuses_the_large(storage.locate(f"zip://::{tmp_path}/x.zip"), monkeypatch)


def test_parts_of_a_file(place: WritableLocation) -> None:
    data = bytes(range(256)) * 1000
    place.write("large.bin", data)
    parts = [(i, min(i + 60_000, len(data))) for i in range(0, len(data), 60_000)]
    got = sorted(place.read_parts("large.bin", parts, 3))
    assert [i for i, _ in got] == list(range(len(parts)))
    assert b"".join(part for _, part in got) == data
    with pytest.raises(StorageError):
        list(place.read_parts("large.bin", [(len(data) - 1, len(data) + 1)], 3))
    with pytest.raises(StorageError):
        list(place.read_parts("none.bin", [(0, 1)], 3))


def test_many_are_asked_about_by_a_listing(place: WritableLocation) -> None:
    put(place, **{f"n/{i}.txt": b"%d" % i for i in range(90)})
    asked = [f"n/{i}.txt" for i in range(100)]
    assert place.exist_many(asked) == [True] * 90 + [False] * 10
    assert place.delete_many(asked[:30]).done == 30
    assert place.exist_many(asked) == [False] * 30 + [True] * 60 + [False] * 10
    assert place.names("n") == {f"{i}.txt" for i in range(30, 90)}


def test_copies_from_a_folder(place: WritableLocation, tmp_path: Path) -> None:
    folder = tmp_path / "from"
    for i in range(30):
        write_file(folder / f"{i} ü#.jpg", b"picture %d" % i)
    names = [f"{i} ü#.jpg" for i in range(30)] + ["none.jpg", "0 ü#.jpg"]
    sizes = [len(b"picture %d" % i) for i in range(30)] + [3, 1]
    paths = [f"images/{i}.jpg" for i in range(32)]
    results = place.copy_many(Copies(paths, storage.locate_writable(str(folder)), names, sizes))
    assert results.done == 30
    assert set(results.failed) == {"images/30.jpg", "images/31.jpg"}
    assert "changed" in results.failed["images/31.jpg"]
    assert str(folder) in results.failed["images/30.jpg"]
    assert results.digests == {paths[i]: xxhash.xxh3_128_digest(b"picture %d" % i) for i in range(30)}
    assert place.names() == set(paths[:30])


def test_copies_within_a_place(place: WritableLocation, kind: str) -> None:
    put(place, **{f"from/{name}": name.encode() for name in NAMES})
    origin = place.below("from")
    results = place.copy_many(Copies([f"to/{n}" for n in NAMES], origin, NAMES, [len(n.encode()) for n in NAMES]))
    assert (results.done, results.failed) == (len(NAMES), {})
    assert [place.read(f"to/{n}") for n in NAMES] == [n.encode() for n in NAMES]
    results = place.copy_many(Copies(["x.txt", "y.txt"], origin, ["plain.txt", "none.txt"], [1, 1]))
    assert (results.done, set(results.failed)) == (0, {"x.txt", "y.txt"})


def test_large_files_go_in_parts(place: WritableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage.stores import object_requests
    from pipeline.storage.stores.filesystem import FsspecClient
    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 1 << 20)
    monkeypatch.setattr(FsspecClient, "LARGE", 1 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    data = os.urandom(1 << 20) * 12 + b"end"
    write_file(tmp_path / "big.jpg", data)
    results = place.copy_many(Copies(["big.jpg"], storage.locate_writable(str(tmp_path)), ["big.jpg"], [len(data)]))
    assert (results.done, results.failed) == (1, {})
    assert results.digests["big.jpg"] == xxhash.xxh3_128_digest(data) == place.content_digests(["big.jpg"])[0]
    assert place.read("big.jpg") == data


def test_a_lock_keeps_others_out(place: WritableLocation) -> None:
    assert place.lock_holder(".coco-diy/lock") is None
    with place.lock(".coco-diy/lock", "the target"):
        holder = place.lock_holder(".coco-diy/lock")
        assert holder is not None
        assert f"process {os.getpid()} on " in holder
        with (
            pytest.raises(LockError, match=f"the target is in use by process {os.getpid()}"),
            place.lock(".coco-diy/lock", "the target"),
        ):
            raise AssertionError
    assert place.lock_holder(".coco-diy/lock") is None
    with place.lock(".coco-diy/lock", "the target"):
        pass


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
def test_a_run_that_is_stopped_gives_its_lock_back(place: WritableLocation) -> None:
    def stop_amid() -> None:
        with place.lock("lock", "the target"):
            STOP.set()
            check_stop()

    try:
        with pytest.raises(Interrupted):
            stop_amid()
    finally:
        STOP.clear()
    assert place.read("lock") is None


@pytest.mark.parametrize("kind", ["gs", "az", CEPH], indirect=True)
def test_one_of_many_at_the_same_moment_gets_the_lock(place: WritableLocation, root: str, kind: str) -> None:
    client, key = client_for(parse(root)), f"{parse(root).path}/lock"

    def race(ask: Callable[[bytes], bool]) -> None:
        with ThreadPoolExecutor(8) as pool:
            won = sum(pool.map(lambda i: persist(lambda: ask(b"%d" % i), lambda: root), range(8)))
        # Ceph may answer a race with 500, though it wrote: whoever asks again then finds the file that is its own.
        assert won == 1 or (kind == "ceph" and won == 0)

    race(lambda data: client.create(key, data))
    was = client.version(key)
    assert was is not None
    # Other contents than those that are there: an etag does not tell the same bytes, written twice, apart.
    race(lambda data: client.replace(key, b"new " + data, was))
    now = client.version(key)
    assert now is not None
    assert now.data.startswith(b"new ")


@pytest.mark.parametrize("kind", ["s3", "gs", "az", CEPH], indirect=True)
def test_content_types(place: WritableLocation, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 1000)
    wanted = {
        "a.txt": "text/plain; charset=utf-8",
        "b.JPG": "image/jpeg",
        "data.yaml": "application/yaml",
        "big.png": "image/png",
        "c.parquet": "application/vnd.apache.parquet",
        "d.zip": "application/zip",
    }
    for name in wanted:
        write_file(tmp_path / name, b"x" * (2000 if name == "big.png" else 10))
    names = list(wanted)
    assert (
        place.copy_many(Copies(names, storage.locate_writable(str(tmp_path)), names, [None] * len(names))).failed == {}
    )
    assert place.below("to").copy_many(Copies(names, place, names, [None] * len(names))).failed == {}
    store, path = vars(client_for(parse(root)))["_store"], parse(root).path
    for folder in (path, f"{path}/to"):
        assert {n: obstore.get(store, f"{folder}/{n}").attributes["Content-Type"] for n in names} == wanted


@pytest.mark.parametrize("name", ["a//b.txt", "./a.txt", "a/./b.txt", "a/../b.txt", "..", "a/.."])
def test_keys_that_stores_take_differently_are_refused(name: str, servers: dict[str, Server]) -> None:
    for url in ("s3://bucket/x", "memory://x/y"):
        if url.startswith("s3"):
            assert servers["s3"].port
        place = storage.locate_writable(url)
        with pytest.raises(StorageError, match="which stores take differently; rename it"):
            place.write_many([name], [b""])
        with pytest.raises(ConfigError, match="which stores take differently; rename it"):
            storage.locate(f"{url}/{name}/z")


# --- subsets on stores ------------------------------------------------------------------------------------------------


def files_at(root: str) -> dict[str, bytes]:
    place = storage.locate_writable(root)
    names = sorted(n for n in place.names() if not n.startswith(".coco-diy/"))
    return {names[f.index]: f.data for f in place.fetch_many(names)}


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
def test_a_subset_on_a_store(root: str, kind: str, town: Path, make_subset: MakeSubset) -> None:
    local = make_subset(town, "local")
    local.build()
    subset = make_subset(town, "far", target={"root": root}, classes=["bicycle", "car"])
    plan = subset.plan()
    assert storage.locate(root).names() == set()
    told = subset.build()
    assert told["plan"] == plan["plan"]
    assert files_at(root) == contents(local.target, record=True)
    assert storage.locate_writable(root).lock_holder(".coco-diy/lock") is None
    assert subset.build()["status"] == "nothing to do"
    assert subset.command("verify", "--json").json["differences"] == {}
    remote = storage.locate_writable(root)
    remote.delete_many(["labels/train/a.txt"])
    remote.write_many(["labels/train/b.txt", "labels/train/foreign.txt", "labels/train.cache"], [b"9 0 0 0 0\n"] * 3)
    found = subset.command("verify", "--json", "--deep", code=1).json
    assert {d["path"]: d["reason"] for d in found["listed"]} == {
        "labels/train/a.txt": "missing",
        "labels/train/b.txt": "size",
        "labels/train/foreign.txt": "foreign",
    }
    subset.command("verify", "--repair", code=1)
    remote.delete_many(["labels/train/foreign.txt"])
    assert subset.command("verify", "--json", "--deep").json["differences"] == {}
    changed = subset.build("--set", "classes=[car, bicycle]")
    assert changed["plan"]["copy"]["image"]["files"] == 0
    assert changed["plan"]["write"]["label"]["files"] > 0
    local.build("--set", "classes=[car, bicycle]")
    assert files_at(root) == contents(local.target, record=True)


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
def test_a_foreign_file_in_the_way(root: str, kind: str, town: Path, make_subset: MakeSubset) -> None:
    storage.locate_writable(root).write_many(["labels/train/a.txt"], [b"mine"])
    told = make_subset(town, "far", target={"root": root}).command("build", code=1)
    assert "labels/train/a.txt: exists and was not made by coco-diy" in told.err
    assert storage.locate(root).read("labels/train/a.txt") == b"mine"


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
def test_a_source_on_a_store(root: str, kind: str, town: Path, make_subset: MakeSubset) -> None:
    store = storage.locate_writable(root)
    for folder in ("labels", "images"):
        origin = storage.locate(str(town / folder))
        names = sorted(origin.names())
        store.copy_many(Copies([f"{folder}/{n}" for n in names], origin, names, [None] * len(names)))
    before = marks(store)
    source: dict[str, Any] = {
        "names": str(town / "coco.yaml"),
        "root": root,
        "splits": {"train": "train2017", "val": "val2017"},
    }
    remote = f"{root}-subset"
    subset = make_subset(town, "far", source=source, target={"root": remote})
    settle()  # where only times tell, young files count as changed
    subset.build()
    assert subset.build()["status"] == "nothing to do"
    local = make_subset(town, "local")
    local.build()
    made = files_at(remote)
    assert b"Made by coco-diy" in made.pop("DATASET.md")  # which says where the source is
    assert made == contents(local.target)
    assert marks(store) == before


def test_an_index_on_a_store(place: WritableLocation, root: str, subset: Subset) -> None:
    import pipeline

    subset.build()
    folder = next((subset.workdir / "index").glob("source-*/"))
    here = storage.locate_writable(str(folder))
    names = sorted(here.names())
    place.copy_many(Copies(names, here, names, [None] * len(names)))
    there, local = pipeline.open_index(root), pipeline.open_index(str(folder))
    assert there.annotations.compute().equals(local.annotations.compute())
    one = there.frame("annotations", columns=["key", "w"], classes=[2]).compute()
    assert len(one) == int((local.annotations["class_id"] == 2).sum().compute()) > 0
