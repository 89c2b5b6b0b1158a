"""A target that is killed, out of power or damaged at any moment: the next build makes it what it must be.

COCO_DIY_STEP says how many calls lie between two that a run is killed at, and that every file is damaged in every way;
without it few are tried (`make torture` tries many).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeSubset, Run, Subset
from tests.support.faulty import Call, Faulty, faulty_in, not_durable
from tests.support.helpers import contents, slow, write_file

pytestmark = pytest.mark.xdist_group("durability")  # one process breaks calls for them, not each

STEP = int(os.environ.get("COCO_DIY_STEP", "0"))
#: What a build starts from (the words of an earlier one, None: nothing), and its own words.
CASES: dict[str, tuple[tuple[str, ...] | None, tuple[str, ...]]] = {
    "first": (None, ()),
    "other numbers": ((), ("classes=[truck, bicycle, car]",)),
    "fewer": ((), ("classes=[bicycle]",)),
    "only deletes": ((), ("target.images=none",)),
    "stratified": (None, ("split={train: 0.7, val: 0.3, stratify: true}",)),
    "other buckets": ((), ("index.buckets=8", "classes=[bicycle, car]")),
    "links": ((), ("target.images=hardlink",)),
    "zip": (None, ("target.archive=zip",)),
}


@dataclass
class Ground:
    """Configs over a town, and by case what a build starts from and must end in."""

    folder: Path
    faulty: Faulty
    config: Path

    @property
    def tried(self) -> Path:
        """The folder of the target and workdir that are tried."""
        return self.folder / "tried"

    @property
    def out(self) -> Path:
        """The target that is tried."""
        return self.tried / "out"

    def words(self, *more: str) -> list[str]:
        """Words of a build."""
        return ["build", str(self.config), *(word for one in more for word in ("--set", one))]

    def start(self, case: str) -> list[str]:
        """Lay out what the case starts from; returns its words."""
        before, words = CASES[case]
        saved = self.folder / f"start-{case}"
        if not saved.exists():
            shutil.rmtree(self.tried, ignore_errors=True)
            self.tried.mkdir()
            if before is not None:
                assert self.faulty.run(self.words(*before), self.tried)[0] == 0
            self.tried.rename(saved)
        shutil.rmtree(self.tried, ignore_errors=True)
        shutil.copytree(saved, self.tried, symlinks=True)
        return self.words(*words)

    def expected(self, case: str) -> dict[str, bytes]:
        """What an undisturbed build makes of it."""
        saved = self.folder / f"expected-{case}"
        if not saved.exists():
            assert self.faulty.run(self.start(case), self.tried)[0] == 0
            shutil.copytree(self.out, saved)
        return contents(saved)

    def check(self, case: str, words: Sequence[str], where: str) -> None:
        """Another run must end well, in the bytes of one that was not disturbed."""
        code, _ = self.faulty.run(words, self.tried)
        assert code == 0, where
        assert contents(self.out) == self.expected_of(case), where
        assert self.faulty.run(["verify", self.out, "--deep"], self.tried)[0] == 0, where
        left = {p.relative_to(self.out).parts[1] for p in (self.out / ".coco-diy").rglob("*") if p.is_file()}
        assert left <= {"manifest.json", "manifest", "copy", "runs", "lock", "splits.csv"}, where
        parts = {p.name for p in (self.out / ".coco-diy").glob("manifest/*")}
        assert parts == {p.name for p in (self.out / ".coco-diy").glob("copy/manifest/*")}, where

    def expected_of(self, case: str) -> dict[str, bytes]:
        """As `expected`, which was called before."""
        return contents(self.folder / f"expected-{case}")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, _towns: Any) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("durable")
    town = _towns.common
    config = write_file(
        folder / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "root": str(town),
                    "names": str(town / "coco.yaml"),
                    "splits": {"train": "train2017", "val": "val2017"},
                },
                "classes": ["bicycle", "car", "truck"],
                "index": {"buckets": 4},
                "target": {"root": str(folder / "tried/out"), "max_delete": None},
                "workdir": str(folder / "tried/work"),
            }
        ),
    )
    with faulty_in(folder) as faulty:
        yield Ground(folder, faulty, config)


def calls_of(ground: Ground, case: str) -> list[Call]:
    """The calls of an undisturbed build."""
    ground.expected(case)
    code, calls = ground.faulty.run(ground.start(case), ground.out)
    assert code == 0
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_vouches_comes_after_what_it_vouches_for(ground: Ground, case: str) -> None:
    """The manifest, the intent and the marks of buckets are put in place when what they name is on the disk."""
    state = f"{ground.out}/.coco-diy/"
    calls = calls_of(ground, case)
    vouchers = 0
    for number, call in enumerate(calls):
        name = call.path.removeprefix(state)
        if call.what != "R" or not re.fullmatch(r"(copy/)?(manifest|intent)\.json|intent/[0-9a-f]+/done-.*", name):
            continue
        lost = {p.removeprefix(state) for p in not_durable(calls[:number])}
        lost = {p for p in lost if p != "lock" and not p.startswith(("runs/", "tmp/"))}
        if name.startswith("intent/"):  # a mark has no content, and one that is lost costs some work
            lost = {p for p in lost if not p.startswith("intent/")}
        assert not lost, f"{name} vouches for what a power cut takes: {sorted(lost)[:5]}"
        vouchers += 1
    assert vouchers >= 2
    lost = {p for p in not_durable(calls) if not p.startswith((f"{state}lock", f"{state}runs/"))}
    assert not lost, f"exit code 0, and a power cut takes {sorted(lost)[:5]}"


def _cut_power(calls: Sequence[Call]) -> None:
    """As after a power cut: names are there, but what was not synced has no content."""
    for path in not_durable(calls):
        if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_nlink == 1:
            os.truncate(path, 0)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(
    ("case", "power"),
    [
        pytest.param(case, power, id=f"{case}, {'out of power' if power else 'killed'}")
        for number, case in enumerate(CASES)
        for power in (False, True)
        if STEP or number % 2 == power
    ],
)
def test_ended_at_any_call(ground: Ground, case: str, power: bool) -> None:
    count = len(calls_of(ground, case))
    step = STEP or count * 2 // 3
    tried = 0
    for at in range(1 + step // 2, count + 1, step):
        words = ground.start(case)
        code, calls = ground.faulty.run(words, ground.out, kill_at=at)
        if code >= 0:  # it has fewer calls than the other time
            continue
        if power and case != "links":  # what is linked is the source's
            _cut_power(calls)
        ground.check(case, words, f"{case}: ended at call {at} of {count}, {calls[-1:]}")
        tried += 1
    print(f"{case}, {'out of power' if power else 'killed'}: {tried} instants of {count} calls: survived")
    assert tried


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": _flip, "cut": _cut, "gone": Path.unlink, "folder": _folder}


def _damages(folder: Path, skip: tuple[str, ...]) -> list[tuple[str, str]]:
    """(path below the folder, damage) of what is to be tried."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    every = [(path, how) for path in files if not path.startswith(skip) for how in DAMAGES]
    return every if STEP else every[2 :: max(1, len(every) // 4)]


def _damaged(ground: Ground, path: Path, how: str) -> None:
    if how in ("gone", "folder") or path.stat().st_size:
        DAMAGES[how](path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["other numbers", "other buckets"])
def test_any_single_damage_of_a_target_is_healed(ground: Ground, case: str) -> None:
    """The manifest and its parts, before a build that believes them."""
    ground.expected(case)
    words = ground.start(case)
    for path, how in _damages(ground.out / ".coco-diy", ("lock", "runs")):
        ground.start(case)
        _damaged(ground, ground.out / ".coco-diy" / path, how)
        ground.check(case, words, f"{path}: {how}")


@pytest.mark.slow
def test_any_single_damage_of_a_target_under_way_is_healed(ground: Ground) -> None:
    """The same of a build that was killed: its intent, the intent's parts, and what it marked as done."""
    case = "other numbers"
    count = len(calls_of(ground, case))
    words = ground.start(case)
    saved = ground.folder / "killed"
    assert ground.faulty.run(words, ground.out, kill_at=count * 3 // 4)[0] < 0
    shutil.rmtree(saved, ignore_errors=True)
    ground.tried.rename(saved)
    assert (saved / "out/.coco-diy/intent.json").exists()
    for path, how in _damages(saved / "out/.coco-diy", ("lock", "runs", "tmp")):
        shutil.rmtree(ground.tried, ignore_errors=True)
        shutil.copytree(saved, ground.tried, symlinks=True)
        _damaged(ground, ground.out / ".coco-diy" / path, how)
        ground.check(case, words, f"{path}: {how}")


@pytest.mark.parametrize("how", ["flip", "gone", *slow("cut", "folder")])
def test_verify_tells_and_mends_what_is_damaged(run: Run, subset: Subset, how: str) -> None:
    subset.build()
    state = subset.target / ".coco-diy"
    damaged: list[str | Path] = [
        "manifest.json",
        "copy/manifest.json",
        next(state.glob("manifest/*")),
        next(state.glob("copy/manifest/*")),
    ]
    for path in (state / name for name in damaged):
        DAMAGES[how](path)
        told = run("verify", subset.target, "--json", code=1).json
        assert [d["path"] for d in told["listed"]] == [str(path.relative_to(subset.target))]
        run("verify", subset.config, "--repair")
        assert run("verify", subset.target, "--deep", "--json").json["differences"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_a_build_that_has_nothing_to_do_mends_what_we_keep(run: Run, subset: Subset, how: str) -> None:
    """Halves of the manifest, the files that belong to no image, the lock: nothing else would look at them for long."""
    subset.build()
    before = contents(subset.target, record=True)
    state = subset.target / ".coco-diy"
    parts = [next(state.glob("manifest/*")), next(state.glob("copy/manifest/*"))]
    for path in [*parts, state / "copy/manifest.json", state / "lock", *map(subset.target.joinpath, _NO_IMAGES)]:
        if path.stat().st_size:  # a lock is empty
            DAMAGES[how](path)
        subset.build()
        assert contents(subset.target, record=True) == before
        assert run("verify", subset.target, "--deep", "--json").json["differences"] == {}, path


_NO_IMAGES = ("data.yaml", "DATASET.md")


@pytest.mark.slow
@pytest.mark.parametrize("half", ["", "copy/"])
def test_a_manifest_of_another_build(run: Run, subset: Subset, tmp_path: Path, half: str) -> None:
    """It is whole, and so is its other half: the one whose files are there is believed."""
    subset.build()
    before = contents(subset.target)
    shutil.copytree(subset.target, tmp_path / "before")
    subset.build("--set", "classes=[bus, truck]")
    stranger = (subset.target / ".coco-diy/manifest.json").read_bytes()
    shutil.rmtree(subset.target)
    shutil.copytree(tmp_path / "before", subset.target)
    (subset.target / ".coco-diy" / half / "manifest.json").write_bytes(stranger)
    found = run("verify", subset.target, "--json", code=1).json
    assert [d["path"] for d in found["listed"]] == [f".coco-diy/{half}manifest.json"]
    subset.build()
    assert contents(subset.target) == before
    assert run("verify", subset.target, "--deep", "--json").json["differences"] == {}


@pytest.mark.slow
def test_another_record_in_place_of_the_manifest_of_a_build_that_did_not_end(ground: Ground) -> None:
    """Its own intent is as whole as a manifest, and files that this names are gone for now."""
    case = "other numbers"
    count = len(calls_of(ground, case))
    words = ground.start(case)
    assert ground.faulty.run(words, ground.out, kill_at=count * 3 // 4)[0] < 0
    state = ground.out / ".coco-diy"
    (state / "manifest.json").write_bytes((state / "intent.json").read_bytes())
    ground.check(case, words, "an intent in place of the manifest")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_a_record_of_a_run_that_is_damaged_tells_of_no_run(run: Run, subset: Subset, how: str) -> None:
    subset.build()
    whole = run("status", subset.target, "--json").json["recent"]
    DAMAGES[how](next((subset.target / ".coco-diy/runs").iterdir()))
    subset.build()
    assert run("status", subset.target, "--json").json["recent"][1:] == []
    assert len(whole) == 1


@pytest.mark.slow
def test_a_manifest_that_is_lost_with_its_copy(run: Run, subset: Subset) -> None:
    """What has the content that is wanted is ours, for all that anybody can know; the rest is told."""
    subset.build()
    before = contents(subset.target)
    state = subset.target / ".coco-diy"
    for name in ("manifest.json", "copy/manifest.json"):
        _flip(state / name)
    assert "its copy" in run("verify", subset.target, code=1).err
    label = next((subset.target / "labels/train").rglob("*.txt"))
    good = label.read_bytes()
    label.write_text("0 0.1 0.1 0.1 0.1\n")
    assert str(label.relative_to(subset.target)) in subset.command("build", code=1).err
    label.write_bytes(good)
    assert subset.build()["status"] == "built"
    assert contents(subset.target) == before
    assert run("verify", subset.target, "--deep", "--json").json["differences"] == {}


@pytest.mark.slow
def test_a_damaged_zip_is_made_anew(ground: Ground) -> None:
    expected = ground.expected("zip")
    for how, damage in DAMAGES.items():
        words = ground.start("zip")
        assert ground.faulty.run(words, ground.tried)[0] == 0
        damage(next(ground.out.glob("*.zip")))
        assert ground.faulty.run(words, ground.tried)[0] == 0
        assert contents(ground.out) == expected, how
        assert ground.faulty.run(["verify", ground.out, "--deep"], ground.tried)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EBUSY, errno.ESTALE, errno.EIO])
def test_an_intent_that_cannot_be_deleted(ground: Ground, number: int) -> None:
    for name in ("intent.json", "data.yaml"):
        ground.expected("other numbers")
        words = ground.start("other numbers")
        before = contents(ground.out)
        code, _ = ground.faulty.run(words, ground.tried, undeletable=(name, number))
        assert code == (1 if name == "data.yaml" else 0)
        if name == "data.yaml":  # an old YAML beside labels of other numbers: rather nothing is done
            assert contents(ground.out) == before
        else:
            assert ground.faulty.run(["verify", ground.out], ground.tried)[0] == 0
        ground.check("other numbers", words, f"{name}: {errno.errorcode[number]}")
        ground.faulty.run(ground.words("classes=[car]"), ground.tried, undeletable=("intent.json", number))
        assert ground.faulty.run(["verify", ground.out, "--deep"], ground.tried)[0] == 0


@pytest.mark.slow
def test_what_was_deleted_by_hand_and_is_not_wanted_any_more(run: Run, own_subset: Subset) -> None:
    own_subset.build()
    for kind in ("labels", "images"):
        next((own_subset.target / kind).rglob("a.*")).unlink()
    for kind in ("labels", "images"):
        next((own_subset.source / kind).rglob("a.*")).unlink()
    own_subset.build()
    assert run("verify", own_subset.target, "--json").json["differences"] == {}


@pytest.mark.slow
def test_a_source_that_is_a_subset_under_way(ground: Ground, make_subset: MakeSubset) -> None:
    """Its labels have two meanings until its own build has ended."""
    case = "other numbers"
    count = len(calls_of(ground, case))
    words = ground.start(case)
    assert ground.faulty.run(words, ground.out, kill_at=count * 3 // 4)[0] < 0
    names = write_file(ground.folder / "names.yaml", yaml.safe_dump({"names": ["truck", "bicycle", "car"]}))
    second = make_subset(
        ground.out, source={"root": str(ground.out), "names": str(names), "splits": {"train": "train", "val": "val"}}
    )
    for command in ("index", "plan", "build"):
        assert f"{ground.out}: is a source, and a subset whose build did not end" in second.command(command, code=1).err
    ground.check(case, words, "its own build")
    second.build()


@pytest.mark.slow
def test_a_listing_that_lacks_its_newest_files(
    run: Run, town: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores answer so for a while; a file that is asked for by its name is there."""
    from pipeline.storage.stores import survey
    from pipeline.storage.stores.filesystem import FsspecClient

    monkeypatch.setattr(survey, "LIST_FROM", 2)
    subset = make_subset(town, target={"root": f"memory://late-{time.monotonic_ns()}/t"})
    subset.build()
    whole = FsspecClient.list
    late = ("a.txt", "v.jpg")

    def lacking(client: FsspecClient, prefix: str) -> Iterator[Sequence[Any]]:
        for entries in whole(client, prefix):
            yield [entry for entry in entries if not entry.key.endswith(late)]

    monkeypatch.setattr(FsspecClient, "list", lacking)
    root = yaml.safe_load(subset.config.read_text())["target"]["root"]
    assert run("verify", root, "--json").json["differences"] == {}
    gone = subset.build("--set", "classes=[truck]")["plan"]["delete"]["label"]["files"]
    monkeypatch.setattr(FsspecClient, "list", whole)
    assert gone
    assert run("verify", root, "--json").json["differences"] == {}
