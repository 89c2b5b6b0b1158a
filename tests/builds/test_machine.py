"""What machines do to a run: full and read-only disks, permissions, limits, things that vanish or change under it.

Each ends in one sentence and exit code 1, leaves nothing that passes for done, and the next run heals it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import StorageError
from pipeline.base.version import VERSION
from tests.builds.test_build import BUILT
from tests.conftest import CROWD_CONFIG, MakeSubset, Subset
from tests.support.helpers import PROJECT, contents, make_tree, picture, settle, snapshot, write_file

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
LARGE = 64 << 10


def process(subset: Subset, *words: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start a build as a process of its own; `before` is called in it first."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pipeline", "build", str(subset.config), "--scheduler", "sync", *words]
    return subprocess.Popen(
        command,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=before,  # noqa: PLW1509 - a child without threads
    )


def fails(subset: Subset, *words: str, before: Callable[[], None] | None = None, code: int = 1) -> str:
    """The one sentence that a build ends in, with the exit code `code`."""
    with process(subset, *words, before=before) as running:
        out, err = running.communicate(timeout=100)
    assert running.returncode == code, (out, err)
    assert out == ""
    return one_sentence(err)


def one_sentence(err: str) -> str:
    assert err.startswith("coco-diy: "), err
    assert err.count("\n") == 1, err
    assert "internal error" not in err
    return err


def paused(subset: Subset, there: Callable[[], bool], meanwhile: Callable[[], object], *words: str) -> tuple[int, str]:
    """Run a build, halt it once it is `there`, do something `meanwhile`, let it go on: exit code and stderr."""
    with process(subset, *words) as running:
        while running.poll() is None and not there():
            time.sleep(0.0002)
        running.send_signal(signal.SIGSTOP)
        assert running.poll() is None, "the run ended before it could be halted"
        meanwhile()
        running.send_signal(signal.SIGCONT)
        _, err = running.communicate(timeout=100)
    return running.returncode, err


@pytest.fixture
def own_crowd(crowd: Path, tmp_path: Path) -> Path:
    """A crowd that the test may change."""
    shutil.copytree(crowd, tmp_path / "crowd")
    return tmp_path / "crowd"


@pytest.fixture
def many(own_crowd: Path, make_subset: MakeSubset) -> Subset:
    """A subset of many files, so that a run can be halted amid them."""
    return make_subset(own_crowd, index={"buckets": 16}, **CROWD_CONFIG)


def begun(subset: Subset) -> Callable[[], bool]:
    """Whether the run has said what it will touch."""
    return (subset.target / ".coco-diy/intent.json").exists


def fresh_bytes(subset: Subset, make_subset: MakeSubset) -> dict[str, bytes]:
    """What an undisturbed build makes of the source as it is now."""
    fresh = make_subset(subset.source, "fresh", **CROWD_CONFIG)
    fresh.build()
    return contents(fresh.target, record=True)


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        if os.environ.get("COCO_DIY_REQUIRE_SERVERS"):
            pytest.fail(f"no file system can be mounted here: {done.stderr}")
        pytest.skip(f"no right to mount a file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


@pytest.fixture
def heavy(tmp_path: Path, make_subset: MakeSubset) -> Subset:
    """A source of large images, two megabytes in all."""
    labels = {f"{i:02d}": "1 0.5 0.5 0.1 0.1\n" for i in range(32)}
    source = make_tree(tmp_path / "heavy", {"train2017": labels, "val2017": {}}, {"train2017": (), "val2017": ()})
    for stem in labels:
        write_file(source / f"images/train2017/{stem}.jpg", picture(stem) + bytes(LARGE))
    return make_subset(source, index={"buckets": 4})


@pytest.mark.slow
def test_a_full_disk_under_the_target(heavy: Subset, small_disk: Path) -> None:
    words = ("--set", f"target.root={small_disk}/subset")
    assert "the disk is full; free some space and run again: it goes on where it was" in fails(heavy, *words)
    assert not (small_disk / "subset/.coco-diy/manifest.json").exists()
    assert "the disk is full" in fails(heavy, *words)
    remount(small_disk, "size=8m")
    heavy.build(*words)
    heavy.build()
    assert contents(small_disk / "subset", record=True) == contents(heavy.target, record=True)
    assert heavy.run("verify", f"{small_disk}/subset", "--deep").code == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_under_a_rebuild(heavy: Subset, small_disk: Path) -> None:
    words = ("--set", f"target.root={small_disk}/subset")
    remount(small_disk, "size=8m")
    heavy.build(*words)
    filler = write_file(small_disk / "filler", bytes((os.statvfs(small_disk).f_bavail - 1) * 4096))
    before = contents(small_disk / "subset")
    swapped = (*words, "--set", "classes=[car, bicycle]")
    assert "the disk is full" in fails(heavy, *swapped)
    # Nobody trains on what is half done: nothing has begun, or the YAML is away.
    assert contents(small_disk / "subset") == before or not (small_disk / "subset/data.yaml").exists()
    filler.unlink()
    heavy.build(*swapped)
    assert heavy.run("verify", f"{small_disk}/subset", "--deep").code == 0


@pytest.mark.slow
def test_a_full_disk_under_the_index(heavy: Subset, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 8192))
    assert "the disk is full" in fails(heavy, "--set", f"workdir={small_disk}/work")
    (small_disk / "filler").unlink()
    heavy.build("--set", f"workdir={small_disk}/work")


@pytest.mark.slow
@pytest.mark.parametrize("built", [False, True])
def test_a_read_only_target(heavy: Subset, small_disk: Path, built: bool) -> None:
    words = ("--set", f"target.root={small_disk}/subset")
    remount(small_disk, "size=8m")
    if built:
        heavy.build(*words)
    remount(small_disk, "ro")
    told = fails(heavy, *words, "--set", "classes=[car, bicycle]")
    assert "the file system is read-only; choose another folder" in told
    remount(small_disk, "rw")
    heavy.build(*words, "--set", "classes=[car, bicycle]")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    path = write_file(tmp_path / "file", "in the way") / "folder/part"
    with pytest.raises(StorageError, match="cannot be written"):
        storage.replace_with(str(path), lambda _: None)


@pytest.mark.slow
def test_files_beyond_a_limit(heavy: Subset) -> None:
    """`ulimit -f`: a file that cannot be written whole is not there at all, and is told."""
    with process(heavy, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE, LARGE))) as running:
        out, err = running.communicate(timeout=100)
    assert (running.returncode, err) == (
        1,
        "warning: the subset has no val images, and trainers need them; split val "
        "of the source has no label file and no image\n",
    )
    assert "32 files failed; run the same command again to do just these." in out
    assert not list(heavy.target.rglob("*.jpg"))
    assert heavy.build()["plan"]["copy"]["image"]["files"] == 32


# --- permissions and limits -------------------------------------------------------------------------------------------


def powerless() -> None:
    """Take from this process the right to read and write whatever it likes, where it is root."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["target above", "target", "labels", "workdir"])
def test_no_permission_to_write(own_subset: Subset, where: str) -> None:
    swapped = ("--set", "classes=[car, bicycle]")
    if where != "target above":
        own_subset.build()
    folder = {
        "target above": own_subset.target.parent,
        "target": own_subset.target / ".coco-diy",
        "labels": own_subset.target / "labels/train",
        "workdir": own_subset.workdir / "plans",
    }[where]
    own_subset.workdir.mkdir(exist_ok=True)
    with mode(folder, 0o555):
        told = fails(own_subset, *swapped, before=powerless)
    assert "no permission; allow it or choose another folder" in told
    assert str(folder) in told
    own_subset.build(*swapped)
    assert own_subset.run("verify", str(own_subset.target), "--deep").code == 0


@pytest.mark.parametrize("what", ["labels/train2017", "images/train2017"])
def test_no_permission_to_read_a_folder_of_the_source(own_subset: Subset, what: str) -> None:
    with mode(own_subset.source / what, 0o000):
        told = fails(own_subset, before=powerless)
    assert f"{own_subset.source}/{what}: cannot be" in told
    own_subset.build()
    assert contents(own_subset.target) == BUILT


@pytest.mark.slow
def test_no_permission_to_read_a_label(own_subset: Subset) -> None:
    label = own_subset.source / "labels/train2017/a.txt"
    with mode(label, 0o000):
        assert f"{label}: cannot be read; allow it with chmod" in fails(own_subset, before=powerless)
    own_subset.build()
    assert contents(own_subset.target) == BUILT


@pytest.mark.slow
def test_no_permission_to_read_an_image(own_subset: Subset) -> None:
    """It fails alone; the next run does just that."""
    image = own_subset.source / "images/train2017/a.jpg"
    with mode(image, 0o000), process(own_subset, before=powerless) as running:
        out, err = running.communicate(timeout=100)
    assert (running.returncode, err) == (1, "")
    assert f"failed: images/train/a.jpg: {image}: Permission denied" in out
    assert "1 file failed" in out
    assert own_subset.build()["plan"]["copy"]["image"]["files"] == 1
    assert contents(own_subset.target) == BUILT


@pytest.mark.slow
@pytest.mark.parametrize("limit", [64, 16, 9, 6])
def test_few_open_files(many: Subset, make_subset: MakeSubset, limit: int) -> None:
    """64 are enough; with fewer it says so, or Python does not even start."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    with process(many, before=limited) as running:
        _, err = running.communicate(timeout=100)
    if limit >= 64:
        assert (running.returncode, err) == (0, "")
    elif running.returncode != 0:
        assert running.returncode == 1
        assert "too many open files; raise the limit with `ulimit -n 1024`" in one_sentence(err)
    many.build()
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


# --- things that vanish or change under a run -------------------------------------------------------------------------


@pytest.mark.racing
def test_the_images_vanish(many: Subset, make_subset: MakeSubset) -> None:
    folder, away = many.source / "images/train2017", many.source / "away"
    code, err = paused(many, begun(many), lambda: folder.rename(away))
    assert code == 1
    assert f"{folder}" in one_sentence(err)
    assert "the folder of the source is gone" in err
    assert not (many.target / ".coco-diy/manifest.json").exists()
    away.rename(folder)
    many.build()
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


@pytest.mark.racing
def test_the_labels_vanish(many: Subset, make_subset: MakeSubset) -> None:
    folder, away = many.source / "labels/train2017", many.source / "away"

    def indexing() -> bool:
        return any((many.workdir / "index").glob("*/files/*.parquet"))

    code, err = paused(many, indexing, lambda: folder.rename(away))
    assert code == 1
    assert f"{folder}: cannot be read" in one_sentence(err)
    away.rename(folder)
    many.build()
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


@pytest.mark.racing
@pytest.mark.parametrize("how", ["cut", "grown", "replaced"])
def test_an_image_changes_before_it_is_copied(many: Subset, make_subset: MakeSubset, how: str) -> None:
    plan = pq.read_table(many.plan()["plan_files"], columns=["source", "split"]).to_pylist()
    image = Path(max(row["source"] for row in plan if row["source"] and row["split"] == "val"))
    changes: dict[str, Callable[[], object]] = {
        "cut": lambda: os.truncate(image, 3),
        "grown": lambda: image.write_bytes(image.read_bytes() + b"more"),
        "replaced": lambda: image.write_bytes(bytes(reversed(image.read_bytes()))),
    }
    code, _ = paused(many, begun(many), changes[how])
    if how != "replaced":
        assert code == 1
        assert not (many.target / "images/val" / image.name).exists()
    many.build()
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


@pytest.mark.racing
def test_a_label_changes_after_it_was_read(many: Subset, make_subset: MakeSubset) -> None:
    label = sorted((many.source / "labels/val2017").glob("*.txt"))[0]
    code, err = paused(many, begun(many), lambda: write_file(label, "5 0.5 0.5 0.125 0.125\n"))
    assert (code, err) == (0, "")  # the subset of the source as it was listed
    assert many.build()["status"] == "built"
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


@pytest.mark.racing
@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("files", [0, 40])
def test_the_target_is_removed(many: Subset, make_subset: MakeSubset, built: bool, files: int) -> None:
    """Nothing that was put there before may count as there."""
    swapped = ("--set", "classes=[person, truck]")
    if built:
        many.build()

    def some() -> bool:
        tmp = many.target / ".coco-diy"
        return begun(many)() and sum(len(n) for _, _, n in os.walk(tmp / "new")) >= (0 if built else files)

    code, err = paused(many, some, lambda: shutil.rmtree(many.target), *swapped)
    assert code == 1
    assert str(many.target) in one_sentence(err)
    many.build(*swapped)
    fresh = make_subset(many.source, "fresh", **{**CROWD_CONFIG, "classes": ["person", "truck"]})
    fresh.build()
    assert contents(many.target, record=True) == contents(fresh.target, record=True)
    assert many.run("verify", str(many.target), "--deep").code == 0


def unmounted_amid(subset: Subset, there: Callable[[], bool], disk: Path, *words: str) -> str:
    """What a build says whose `disk` goes away once it is `there`; nothing is made below, and then the disk is back."""
    held = os.open(disk, os.O_RDONLY)
    code, err = paused(subset, there, lambda: subprocess.run(["umount", "-l", str(disk)], check=True), *words)
    try:
        assert code == 1
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)
        subprocess.run(["cp", "-a", f"/proc/self/fd/{held}/.", str(disk)], check=True, pass_fds=(held,))
        os.close(held)
    return one_sentence(err)


@pytest.mark.racing
@pytest.mark.parametrize("at", ["intent", "files", "mounted there"])
def test_the_disk_of_the_target_is_unmounted(many: Subset, make_subset: MakeSubset, small_disk: Path, at: str) -> None:
    """Nothing is made below its mount point: that is another disk, and too small for it."""
    remount(small_disk, "size=50m")
    target = small_disk if at == "mounted there" else small_disk / "deep/subset"
    words = ("--set", f"target.root={target}")

    def some() -> bool:
        tmp = target / ".coco-diy"
        return (tmp / "intent.json").exists() and (at == "intent" or any((tmp / "new").rglob("*.txt")))

    err = unmounted_amid(many, some, small_disk, *words)
    assert "was removed, or its disk was unmounted, while this run was at work; run again" in err
    many.build(*words)
    assert contents(target, record=True) == fresh_bytes(many, make_subset)


@pytest.mark.racing
@pytest.mark.parametrize("at", ["index", "plan", "files"])
def test_the_disk_of_the_workdir_is_unmounted(many: Subset, make_subset: MakeSubset, small_disk: Path, at: str) -> None:
    """Nothing is made below its mount point, and nothing false stays at the target."""
    remount(small_disk, "size=50m")
    words = ("--set", f"workdir={small_disk}")
    there = {
        "index": lambda: any(small_disk.glob("index/*/annotations/*")),
        "plan": lambda: any(small_disk.glob("plans/*/*.parquet")),
        "files": lambda: any(n for _, _, n in os.walk(many.target / ".coco-diy/new")),
    }
    err = unmounted_amid(many, there[at], small_disk, *words)
    assert f"{small_disk}: was removed, or its disk was unmounted, while this run" in err
    many.build(*words)
    assert contents(many.target, record=True) == fresh_bytes(many, make_subset)


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_times_in_the_future(own_subset: Subset) -> None:
    """Files from before the clock was set back: they count as they should, and a change is seen all the same."""
    future = time.time() + 1e6
    for path in own_subset.source.rglob("*.*"):
        os.utime(path, (future, future))
    settle()
    own_subset.build()
    assert contents(own_subset.target) == BUILT
    assert own_subset.build()["status"] == "nothing to do"
    label = own_subset.source / "labels/train2017/sub/e.txt"
    label.write_text(label.read_text().replace("0.25 0.25", "0.75 0.75"))
    os.utime(label, (future, future))  # the same size, the same time
    assert own_subset.build()["plan"]["write"]["label"]["files"] == 1


def test_a_clock_set_back(own_subset: Subset, monkeypatch: pytest.MonkeyPatch) -> None:
    """All looks younger than now: then all counts as changed, and the files are right."""
    now = time.time_ns
    own_subset.build()
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    assert own_subset.build("--set", "classes=[car, bicycle]")["plan"]["write"]["label"]["files"] == 7
    own_subset.build()
    monkeypatch.undo()
    own_subset.build()
    assert contents(own_subset.target) == BUILT
    assert own_subset.build()["status"] == "nothing to do"


# --- two runs, and who looks on ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_build_at_one_target(many: Subset) -> None:
    import socket

    told: list[str] = []
    with process(many) as first:
        while first.poll() is None and not begun(many)():
            time.sleep(0.0002)
        first.send_signal(signal.SIGSTOP)
        told.append(fails(many, "--set", f"workdir={many.workdir}-2", "--set", "classes=[car]", code=5))
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=100)
    assert first.returncode == 0
    assert re.search(
        rf"the target {many.target} is in use by process {first.pid} on {re.escape(socket.gethostname())} "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait for it, or stop it",
        told[0],
    )
    assert many.run("verify", str(many.target), "--deep").code == 0


class Onlooker:
    """Somebody who reads the target all the time; `wrong` is what must never be seen."""

    def __init__(self, target: Path, orders: list[list[str]], labels: dict[str, set[bytes]]) -> None:
        self.target, self.orders, self.labels = target, orders, labels
        self.wrong: list[str] = []
        self.looks = self.between = 0

    def read(self, path: str) -> bytes | None:
        with contextlib.suppress(OSError):
            return (self.target / path).read_bytes()
        return None

    def order(self) -> list[str] | None:
        data = self.read("data.yaml")
        return None if data is None else list(yaml.safe_load(data)["names"].values())

    def look(self) -> None:
        self.looks += 1
        first = self.order()
        self.between += first is None
        seen: dict[str, bytes] = {}
        for path, allowed in self.labels.items():
            data = self.read(path)
            if data is not None and data not in allowed:
                self.wrong.append(f"{path}: {data!r}")
            elif data is not None:
                seen[path] = data
        # The same YAML before and after: all labels in between are of its classes.
        if first is not None and self.order() == first:
            self.wrong += [f"{p} under {first}" for p, d in seen.items() if d not in self.by_order(first, p)]
        images = {p.relative_to(self.target / "images") for p in (self.target / "images").rglob("*.*")}
        for image in images:
            if (
                self.read(f"labels/{image.with_suffix('.txt')}") is None
                and (self.target / "images" / image).exists()
                and self.read(f"labels/{image.with_suffix('.txt')}") is None
            ):
                self.wrong.append(f"{image} without a label")

    def by_order(self, order: list[str], path: str) -> set[bytes]:
        return self.allowed[str(order), path]

    allowed: dict[tuple[str, str], set[bytes]]


@pytest.mark.slow
def test_a_reader_sees_whole_files_of_one_set_of_classes(many: Subset, make_subset: MakeSubset) -> None:
    orders = [["truck", "person", "bus"], ["bus", "truck", "person"], ["person"]]
    allowed: dict[tuple[str, str], set[bytes]] = {}
    labels: dict[str, set[bytes]] = {}
    for number, order in enumerate(orders):
        fresh = make_subset(many.source, f"order-{number}", **{**CROWD_CONFIG, "classes": order})
        fresh.build()
        for path, data in contents(fresh.target).items():
            if path.startswith("labels/"):
                labels.setdefault(path, set()).add(data)
                allowed[str(order), path] = {data}
    onlooker = Onlooker(many.target, orders, labels)
    for order in orders:
        for path in labels:
            allowed.setdefault((str(order), path), set())
    onlooker.allowed = allowed
    for order in (*orders, orders[0]):
        with process(many, "--set", f"classes=[{', '.join(order)}]") as running:
            while running.poll() is None:
                onlooker.look()
            assert running.returncode == 0
            told = running.communicate()[1].splitlines()
            assert [line for line in told if not line.startswith("warning: class numbers change")] == []
        onlooker.look()
        assert onlooker.order() == order
    assert onlooker.wrong == []
    assert onlooker.looks > 20


@pytest.mark.racing
def test_the_manifest_comes_last(many: Subset) -> None:
    """Whenever it is new, all that it vouches for is there, and the YAML too."""
    many.build()
    before = (many.target / ".coco-diy/manifest.json").read_bytes()
    manifest = many.target / ".coco-diy/manifest.json"
    state: dict[str, object] = {}
    code, _ = paused(
        many,
        lambda: manifest.read_bytes() != before,
        lambda: state.update(snapshot(many.target)),
        "--set",
        "classes=[person, truck]",
    )
    assert code == 0
    after = snapshot(many.target)
    changed = {p for p, facts in after.items() if state.get(p) != facts and not p.startswith(".coco-diy") and p != "."}
    assert changed == set()
    assert f'"version": {VERSION}' in manifest.read_text()
