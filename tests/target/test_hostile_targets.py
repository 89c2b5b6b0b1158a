"""A target that came with a download: links, pipes, second names and lies in it change nothing outside of it.

Hostile targets are generated; what lies outside is compared before and after each command, to the inode.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.base.digest import digest_of, seal, unseal
from pipeline.base.errors import StorageError, TargetError
from pipeline.tables.parquet import to_parquet
from pipeline.target import provenance
from pipeline.target.claims import check_rows, is_path
from pipeline.target.manifest import TargetState
from pipeline.target.records import COPIES
from tests.conftest import Run, Subset
from tests.support.fuzzing import altered, bad_words
from tests.support.helpers import contents, make_town, repeated, run_process, settle, snapshot, write_file

pytestmark = pytest.mark.xdist_group("hostile targets")  # one process makes their world, not each

#: Where our own folders and files are, or may come to be, in a target.
FOLDERS = [
    ".coco-diy",
    ".coco-diy/manifest",
    ".coco-diy/intent",
    ".coco-diy/tmp",
    ".coco-diy/new",
    ".coco-diy/runs",
    "images/train/sub",
    "labels/train/sub",
    "images/train/sub/deep",
    "images",
    "labels",
    "images/train",
    "labels/val",
]
FILES = [
    ".coco-diy/lock",
    ".coco-diy/lock.lease",
    ".coco-diy/manifest.json",
    ".coco-diy/intent.json",
    ".coco-diy/problems.parquet",
    ".coco-diy/splits.csv",
    "data.yaml",
    "DATASET.md",
    "labels/train/a.txt",
    "images/train/a.jpg",
    "labels/train.cache",
    "images/train/sub/e.jpeg",
]
KINDS = ["link to a folder", "link to a file", "dangling link", "second name", "pipe", "folder", "file"]
EVIL = [
    "../home/thesis.txt",
    "images/../../home/thesis.txt",
    "images/train/../../../home/thesis.txt",
    "/HOME/thesis.txt",
    "images",
    "",
    ".",
    "..",
    "images//a.jpg",
    "images/train/",
    ".coco-diy/lock",
    "elsewhere/a.txt",
    "images/a\0b",
    "./images/train/a.jpg",
    "images/./train/a.jpg",
]
COMMANDS: list[tuple[str, ...]] = [
    ("build", "CONFIG"),
    ("build", "CONFIG", "--set", "classes=[bus]"),
    ("build", "CONFIG", "--set", "target.archive=zip"),
    ("build", "CONFIG", "--set", "target.images=symlink"),
    ("plan", "CONFIG"),
    ("verify", "TARGET"),
    ("status", "TARGET"),
    ("verify", "TARGET", "--deep", "--repair"),
    ("verify", "CONFIG", "--repair"),
    ("stats", "TARGET"),
]


@dataclass
class World:
    """A source, a built and a half-built target of it, and what is to be left alone."""

    root: Path
    config: Path

    def open(self, name: str, folder: Path) -> Path:
        """A copy of the target `name` in `folder`, beside a home that has something to lose; returns the target."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / name, folder / "got", symlinks=True)
        for path in ("thesis.txt", "sub/photo.jpg", "tmp/x.txt", "a.txt", "deep/f.bmp", "train/a.txt"):
            write_file(folder / "home" / path, f"precious {path}")
        return folder / "got"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    source = make_town(root / "town")
    settle()
    config = write_file(
        root / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "names": str(source / "coco.yaml"),
                    "root": str(source),
                    "splits": {"train": "train2017", "val": "val2017"},
                },
                "classes": ["bicycle", "car"],
                "target": {"root": str(root / "built")},
                "workdir": str(root / "work"),
            }
        ),
    )
    assert run_process("build", config).code == 0
    shutil.copytree(root / "built", root / "half")
    write_file(root / "half/images/train/sub/deep", "in the way")
    stopped = run_process("build", config, "--set", f"target.root={root}/half", "--set", "classes=[bus, truck, car]")
    assert stopped.code != 0
    assert (root / "half/.coco-diy/intent.json").exists(), stopped.err
    return World(root, config)


def plant(target: Path, home: Path, place: str, kind: str) -> None:
    """Put a thing of a `kind` at `place` in the target."""
    path = target / place
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):  # something was planted there already
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    lead = {"link to a folder": home, "link to a file": home / "thesis.txt", "dangling link": home / "new"}
    if kind in lead:
        os.symlink(lead[kind], path)
    elif kind == "second name":
        os.link(home / "thesis.txt", path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        write_file(path / "x.txt", "x")
    else:
        write_file(path, "{}")


def lie(target: Path, path: str) -> None:
    """Make the manifest list `path`, with everything that vouches for it made anew."""
    folder = target / ".coco-diy"

    def edit(told: dict[str, Any]) -> None:
        number = next(i for i, part in enumerate(told["parts"]) if part)
        table = pq.read_table(folder / f"manifest/{told['parts'][number]}.parquet")
        row = dict(table.slice(0, 1).to_pylist()[0], path=path, key="source/train2017/zz")
        data = to_parquet(pa.concat_tables([table, pa.Table.from_pylist([row], table.schema)]))
        told["parts"][number] = digest_of(data).hex()
        for place in (folder, folder / COPIES):
            write_file(place / f"manifest/{told['parts'][number]}.parquet", data)

    change(folder / "manifest.json", edit)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a record and its copy, and seal both: whoever writes a lie can vouch for it."""
    content = unseal(path.read_bytes())
    assert content is not None
    edit(content)
    for place in (path, path.parent / COPIES / path.name):
        place.write_bytes(seal(content))


@pytest.fixture
def in_time() -> Iterator[None]:
    """A command that waits for a pipe would wait for ever."""

    def late(*_: object) -> None:
        raise TimeoutError("the command does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


places = st.tuples(st.sampled_from(FOLDERS + FILES), st.sampled_from(KINDS))


@pytest.mark.slow
@settings(max_examples=repeated(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["built", "half"]),
    things=st.lists(places, max_size=3),
    lies=st.lists(st.sampled_from(EVIL), max_size=1),
    command=st.sampled_from(COMMANDS),
)
@pytest.mark.usefixtures("in_time")
def test_nothing_outside_of_a_hostile_target_changes(
    world: World,
    tmp_path: Path,
    run: Run,
    name: str,
    things: list[tuple[str, str]],
    lies: list[str],
    command: tuple[str, ...],
) -> None:
    target = world.open(name, tmp_path / "here")
    home = target.parent / "home"
    for path in lies:
        lie(target, path.replace("HOME", str(home)))
    for place, kind in things:
        plant(target, home, place, kind)
    words = [{"CONFIG": str(world.config), "TARGET": str(target)}.get(word, word) for word in command]
    if "CONFIG" in command:
        words += ["--set", f"target.root={target}"]
    # Where a second name is ours to delete, what it was a name of changes its ctime, and nothing else.
    before = snapshot(home, links=True), snapshot(world.root / "town"), snapshot(world.root / "built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_DIY_STATE", str(tmp_path / "state of another machine"))
        told = run(*words, code=None)
    assert (snapshot(home, links=True), snapshot(world.root / "town"), snapshot(world.root / "built")) == before
    assert "internal error" not in told.err.lower()
    assert told.code in (0, 1) or told.err


@pytest.mark.parametrize("path", EVIL)
def test_a_path_that_a_manifest_must_not_list(world: World, tmp_path: Path, run: Run, path: str) -> None:
    target = world.open("built", tmp_path)
    lie(target, path)
    told = run("verify", target, code=1).err
    assert "no file of a subset" in told
    assert "build into a new folder" in told


@pytest.mark.parametrize("place", [f for f in FOLDERS if f.startswith(".coco-diy") or f.count("/") > 1])
def test_a_link_where_a_folder_of_ours_must_be_is_refused(world: World, tmp_path: Path, run: Run, place: str) -> None:
    target = world.open("half" if "intent" in place else "built", tmp_path)
    if place == ".coco-diy/tmp":
        shutil.copytree(world.root / "half/.coco-diy", target / ".coco-diy", dirs_exist_ok=True)
    plant(target, tmp_path / "home", place, "link to a folder")
    before = snapshot(tmp_path / "home")
    told = run("build", world.config, "--set", f"target.root={target}", "--set", "classes=[bus, truck]", code=None)
    assert snapshot(tmp_path / "home") == before
    if told.code:
        assert f"{target}/{place}" in told.err


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.update(folder="../../home"),
        lambda m: m.update(touched={"99": "0" * 32}),
        lambda m: m.update(touched={"0": "../x"}),
        lambda m: m.update(meta=["../home/thesis.txt"]),
        lambda m: m["base"].update(parts=["../../../home/thesis"]),
        lambda m: m.update(buckets=10**9),
        lambda m: m["base"].update(buckets=0),
        lambda m: m.pop("base"),
        lambda m: m.update(touched=[99]),
        lambda m: m.update(touched={"9" * 5000: "0" * 32}),
        lambda m: m.update(serial="x"),
        lambda m: m.update(serial=None),
        lambda m: m.update(prefixes=3),
        lambda m: m.update(folder="intent/" + "0" * 31 + "/"),
    ],
)
def test_an_intent_that_no_build_wrote(world: World, tmp_path: Path, run: Run, edit: Callable[[Any], object]) -> None:
    target = world.open("half", tmp_path)
    change(target / ".coco-diy/intent.json", edit)
    before = snapshot(tmp_path / "home")
    told = run("build", world.config, "--set", f"target.root={target}", code=1).err
    assert "intent.json" in told
    assert snapshot(tmp_path / "home") == before


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.update(parts=["../../../home/thesis"] * len(m["parts"])),
        lambda m: m.update(buckets=7),
        lambda m: m["meta"].update({"../home/thesis.txt": {"size": 1, "digest": "0" * 32}}),
        lambda m: m["meta"].update({"x": {"size": "1", "digest": "0" * 32}}),
        lambda m: m.update(report={}),
        lambda m: m["report"].update(format="../x"),
        lambda m: m["report"].update(held=5),
        lambda m: m["report"].update(task="banana"),
        lambda m: m.update(config=[]),
        lambda m: m.update(prefixes=[1]),
        lambda m: m.update(serial="x"),
        lambda m: m.update(folders=3),
        lambda m: m.update(listed={"train": 3}),
        lambda m: m.update(numbers=[1]),
        lambda m: m["report"].update(classes=["\ud800"]),
        lambda m: m.pop("config"),
        lambda m: m.pop("recipe"),
    ],
)
def test_a_manifest_that_no_build_wrote(world: World, tmp_path: Path, run: Run, edit: Callable[[Any], object]) -> None:
    target = world.open("built", tmp_path)
    change(target / ".coco-diy/manifest.json", edit)
    for words in (("verify", target), ("stats", target), ("build", world.config, "--set", f"target.root={target}")):
        assert "manifest.json" in run(*words, code=1).err


@pytest.mark.slow
@settings(max_examples=repeated(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    record=st.sampled_from(["manifest.json", "intent.json"]),
    seed=st.integers(0, 2**32),
    ours=st.booleans(),
    command=st.sampled_from([*COMMANDS, ("diff", "TARGET", "TARGET"), ("build", "CONFIG", "--json")]),
)
def test_no_field_of_a_record_confounds_a_command(
    world: World, tmp_path: Path, run: Run, record: str, seed: int, ours: bool, command: tuple[str, ...]
) -> None:
    """At any depth another type, huge, negative, leading out, NUL, very long: also where this machine wrote it."""
    target = world.open("half" if record == "intent.json" else "built", tmp_path / "here")
    home, path = target.parent / "home", target / ".coco-diy" / record
    content = unseal(path.read_bytes())
    assert content is not None
    spoiled = altered(content, random.Random(seed), str(home))
    words = [{"CONFIG": str(world.config), "TARGET": str(target)}.get(word, word) for word in command]
    if "CONFIG" in command:
        words += ["--set", f"target.root={target}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_DIY_STATE", str(tmp_path / "state"))
        for place in (path, path.parent / COPIES / path.name):
            place.write_bytes(seal(spoiled))
        if ours:
            provenance.remember(seal(spoiled))
        before = snapshot(home), snapshot(world.root / "town"), snapshot(world.root / "built")
        told = run(*words, code=None)
    assert (snapshot(home), snapshot(world.root / "town"), snapshot(world.root / "built")) == before
    assert bad_words(told.out + told.err) is None, told
    assert told.code in (0, 1, 2, 4), told


@pytest.mark.parametrize("how", ["nullable", "empty", "another type", "twice", "without"])
def test_a_part_of_other_columns(world: World, tmp_path: Path, run: Run, how: str) -> None:
    """What a column may hold is no fact of a part; what it is, and that it is there once, is."""
    target = world.open("built", tmp_path)

    def made(table: pa.Table) -> pa.Table:
        if how == "nullable":
            return table.cast(pa.schema([field.with_nullable(True).remove_metadata() for field in table.schema]))
        if how == "empty":
            return table.slice(0, 0)
        if how == "another type":
            return table.set_column(2, "key", table["key"].cast(pa.large_string()))
        return table.append_column("key", table["key"]) if how == "twice" else table.drop_columns(["key"])

    def edit(told: dict[str, Any]) -> None:
        for number, part in enumerate(told["parts"]):
            if part:
                data = to_parquet(made(pq.read_table(target / f".coco-diy/manifest/{part}.parquet")))
                told["parts"][number] = digest_of(data).hex()
                write_file(target / f".coco-diy/manifest/{told['parts'][number]}.parquet", data)

    change(target / ".coco-diy/manifest.json", edit)
    for words in (("verify", target), ("build", world.config, "--set", f"target.root={target}")):
        told = run(*words, code=None)
        assert bad_words(told.err) is None
        if how == "twice":  # which no reader of Parquet opens by name
            assert "damaged" in told.out + told.err or words[0] == "build", told
        else:
            assert ("has other columns than a part of a manifest" in told.err) is (how not in ("nullable", "empty")), (
                told
            )


def test_records_of_runs_are_not_read_through_a_link(world: World, tmp_path: Path, run: Run) -> None:
    target = world.open("built", tmp_path)
    shutil.copytree(target / ".coco-diy/runs", tmp_path / "home/runs")
    shutil.rmtree(target / ".coco-diy/runs")
    os.symlink(tmp_path / "home/runs", target / ".coco-diy/runs")
    told = run("status", target, code=1)
    assert f"{target}/.coco-diy/runs" in told.err
    assert "link" in told.err
    assert told.out == ""


def test_the_copy_of_the_split_table_is_not_read_through_a_link(own_subset: Subset, tmp_path: Path) -> None:
    stratified = ("--set", "split={train: 0.5, val: 0.5, stratify: true}")
    own_subset.build(*stratified)
    copy = own_subset.target / ".coco-diy/splits.csv"
    copy.rename(tmp_path / "splits.csv")
    os.symlink(tmp_path / "splits.csv", copy)
    before = (tmp_path / "splits.csv").read_bytes()
    told = own_subset.command("build", *stratified, "--set", "classes=[bus]", code=1).err
    assert f"{copy}: is a link" in told
    assert (tmp_path / "splits.csv").read_bytes() == before


def test_a_marker_that_names_a_file_elsewhere(world: World, tmp_path: Path, run: Run) -> None:
    """Only what a build marks counts: the number of a bucket, and the digest of its part."""
    target = world.open("half", tmp_path)
    folder = target / unseal((target / ".coco-diy/intent.json").read_bytes())["folder"]  # type: ignore[index]
    for name in ("done-0-..", "done-0-" + "g" * 32, "done-999999999999-none", "done-../x"):
        write_file(folder / name.replace("/", "%2f"), "")
    state = TargetState(storage.locate_writable(str(target)))
    assert state._done == {}


def test_a_part_of_other_content_is_not_believed(world: World, tmp_path: Path, run: Run) -> None:
    target = world.open("built", tmp_path)
    told = unseal((target / ".coco-diy/manifest.json").read_bytes())
    assert told is not None
    name = f"manifest/{next(filter(None, told['parts']))}.parquet"
    table = pq.read_table(target / ".coco-diy" / name)
    for place in (target / ".coco-diy", target / ".coco-diy" / COPIES):
        pq.write_table(table.slice(1), place / name)
    assert f".coco-diy/{name}" in run("verify", target, code=1).out


@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["..", ".", "", "a", ".b", "...", "..c", "\0"]), max_size=5).map("/".join)
)
def test_paths_stay_below_the_layout(path: str) -> None:
    """What is taken leads nowhere else, by the system's own understanding of paths; what a build makes is taken."""
    steps = path.split("/")
    honest = "\0" not in path and not {"", ".", ".."} & set(steps)
    table = pa.table({"path": pa.array([f"images/{path}"])})
    try:
        check_rows(table, "x")
    except TargetError:
        assert not honest
    else:
        assert honest
        assert os.path.normpath(f"images/{path}") == f"images/{path}"
    assert is_path(path) == (honest and not path.casefold().startswith(".coco-diy"))


# Repairs


@pytest.mark.slow
def test_a_repair_carries_out_no_config_of_another_machine(
    own_subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_subset.build()
    (own_subset.target / "labels/train/a.txt").unlink()
    monkeypatch.setenv("COCO_DIY_STATE", str(tmp_path / "another"))
    before = contents(own_subset.target)
    told = own_subset.run("verify", own_subset.target, "--repair", code=2).err
    assert "this machine did not write its manifest" in told
    assert contents(own_subset.target) == before
    own_subset.run("verify", own_subset.config, "--repair")
    assert (own_subset.target / "labels/train/a.txt").exists()
    (own_subset.target / "labels/train/a.txt").unlink()
    assert own_subset.build()["status"] == "built"  # so that this machine has written it
    (own_subset.target / "labels/train/a.txt").unlink()
    own_subset.run("verify", own_subset.target, "--repair")


def test_a_manifest_with_another_config_is_not_ours(own_subset: Subset) -> None:
    own_subset.build()
    (own_subset.target / "labels/train/a.txt").unlink()
    change(own_subset.target / ".coco-diy/manifest.json", lambda m: m["config"].update(workdir="~/.cache/x"))
    assert "did not write" in own_subset.run("verify", own_subset.target, "--repair", code=2).err


def test_what_this_machine_wrote_is_pruned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.target import provenance
    from pipeline.target.provenance import digest, is_ours, remember

    monkeypatch.setenv("COCO_DIY_STATE", str(tmp_path))
    monkeypatch.setattr(provenance, "_MOST", 5)
    for i in range(12):
        remember(b"%d" % i)
        remember(b"always")
    assert len(list((tmp_path / "manifests").iterdir())) <= 6
    assert is_ours(digest(b"always"))
    assert not is_ours(digest(b"0"))


def test_a_state_folder_that_cannot_be_written_to_stops_no_build(
    own_subset: Subset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COCO_DIY_STATE", str(write_file(tmp_path / "state", "a file")))
    own_subset.build()
    (own_subset.target / "labels/train/a.txt").unlink()
    assert "name the config" in own_subset.run("verify", own_subset.target, "--repair", code=2).err


# Links of the user's own


def test_a_layout_on_another_disk_is_built_to_by_who_built_it(
    own_subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = write_file(tmp_path / "disk/mine.txt", "mine").parent
    (own_subset.target / "images").mkdir(parents=True)
    os.symlink(disk, own_subset.target / "images/train")
    own_subset.build()
    assert (disk / "a.jpg").exists()
    own_subset.build("--set", "classes=[bus]")
    assert not (disk / "a.jpg").exists()
    monkeypatch.setenv("COCO_DIY_STATE", str(tmp_path / "another"))
    before = snapshot(disk)
    told = own_subset.command("build", code=1).err
    assert f"{own_subset.target}/images/train: exists and was not made" in told
    assert snapshot(disk) == before


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("recipe", ["classes=[bus]", "classes=[car, bicycle]", "target.images=symlink"])
def test_a_link_below_a_split_into_the_source(own_subset: Subset, kind: str, recipe: str) -> None:
    own_subset.build()
    below = own_subset.target / kind / "train/sub"
    shutil.rmtree(below)
    os.symlink(own_subset.source / kind / "train2017/sub", below)
    before = snapshot(own_subset.source)
    told = own_subset.command("build", "--set", recipe, code=None)
    assert snapshot(own_subset.source) == before
    if told.code:
        assert f"{kind}/train/sub" in told.err


def test_a_workdir_whose_tables_lie_elsewhere(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.build()
    home = write_file(tmp_path / "home/part-0.parquet.txt", "precious").parent
    (index,) = (p for p in (own_subset.workdir / "index").iterdir() if p.is_dir())
    shutil.rmtree(index / "files")
    os.symlink(home, index / "files")
    before = snapshot(home)
    told = own_subset.command("build", "--set", "classes=[bus]", code=1).err
    assert f"{index}/files: is a link" in told
    assert snapshot(home) == before


# The way in


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
@pytest.mark.usefixtures("in_time")
def test_own_files_are_plain_files(tmp_path: Path, kind: str, flags: int) -> None:
    home = write_file(tmp_path / "home/thesis.txt", "precious").parent
    plant(tmp_path / "got", home, "x/file", kind)
    before = snapshot(home)
    path = str(tmp_path / "got/x/file")
    if kind == "file" or (kind == "second name" and flags == os.O_RDONLY):
        os.close(storage.open_own(path, flags, "read"))
    else:
        nothing = kind == "folder" and flags == os.O_RDONLY
        with pytest.raises(FileNotFoundError if nothing else StorageError, match=r"got/x/file(: is |'$)"):
            storage.open_own(path, flags, "read")
    assert snapshot(home) == before


def test_a_source_below_a_link_is_read(tmp_path: Path) -> None:
    write_file(tmp_path / "real/a/x.txt", "x")
    os.symlink(tmp_path / "real", tmp_path / "link")
    place = storage.locate(str(tmp_path / "link/a"))
    assert place.read("x.txt") == b"x"
    assert storage.locate(str(tmp_path)).below("link/a").read("x.txt") == b"x"
    with pytest.raises(StorageError, match="is a link"):
        storage.locate_writable(str(tmp_path)).own("link").read("a/x.txt")
    with pytest.raises(StorageError, match="leads out"):
        storage.locate_writable(str(tmp_path)).own("real/../..").read("x.txt")


def test_a_manifest_of_which_no_half_is_whole_is_lost(world: World, tmp_path: Path) -> None:
    target = world.open("built", tmp_path)
    for place in (target / ".coco-diy", target / ".coco-diy" / COPIES):
        write_file(place / "manifest.json", "[" * 100_000)
    state = TargetState(storage.locate_writable(str(target)))
    assert state.lost
    assert state.manifest is None
