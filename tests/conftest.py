"""Fixtures: small source trees, runs of the command, and the shared real data where it is there."""

from __future__ import annotations

import random
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

pytest.register_assert_rewrite("tests.support.contracts", "tests.support.helpers")

from pipeline.cli import run_cli  # noqa: E402 - after the line that lets pytest explain failed asserts
from pipeline.storage.settling import VARIABLE as SETTLE  # noqa: E402
from tests.support.forks import end_forks  # noqa: E402
from tests.support.helpers import (  # noqa: E402
    NAMES,
    PROJECT,
    Result,
    contents,
    make_town,
    make_tree,
    run_process,
    settle,
    write_file,
)
from tests.support.stores import lacking  # noqa: E402

Run = Callable[..., Result]

# The same examples every time, so that red means a change: a few of them, or as many as `make test-slow` goes through;
# `--hypothesis-profile=hunt` looks for new ones.
settings.register_profile("few", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("many", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("hunt", deadline=None, max_examples=5000)
settings.load_profile("few")


#: Longer than the tick of any local clock (10 ms), which is what files need to be told apart.
_SETTLE_S = 0.02


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the tests and all processes that they start: files settle soon, see `tests.support.helpers.settle`.

    And what this machine wrote is noted, and what it indexed kept, in folders of the tests, not in those of the user.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COCO_DIY_STATE", "XDG_CACHE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp("state")))
        patch.setenv(SETTLE, str(_SETTLE_S))
        yield
        end_forks()


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as one that may change again unseen, however long the test takes."""
    monkeypatch.setenv(SETTLE, "3600")


#: Fixtures that start a program which `make servers`, or the system, installs; and kinds of locations for which the
#: first two start none.
_OF_SERVERS = {"server", "servers", "nginx", "proxy"}
_WITHOUT = {"folder", "memory"}


#: Of a test that runs a command for more cases than this, `make test` does every third; `make test-slow` the others.
_FEW_CASES = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a server, and further cases of one command: `make test` leaves them to others."""
    cases: Counter[str] = Counter()
    commands = [item for item in items if "run" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")]
    total = Counter(item.nodeid.partition("[")[0] for item in commands)
    for item in commands:
        name = item.nodeid.partition("[")[0]
        if total[name] > _FEW_CASES and cases[name] % 3:
            item.add_marker(pytest.mark.slow)
        cases[name] += 1
    for item in items:
        asked = _OF_SERVERS & set(getattr(item, "fixturenames", ()))
        params = getattr(item, "callspec", None)
        if params is not None and params.params.get("kind") in _WITHOUT:
            asked -= {"server", "servers"}
        if asked:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared real data; tests that need it are skipped where it is not."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`: in memory, on the system's disk or beside the project."""
    here = tmp_path.stat().st_dev
    for base in (Path("/dev/shm"), Path("/var/tmp"), PROJECT):
        if base.is_dir() and base.stat().st_dev != here:
            with tempfile.TemporaryDirectory(dir=base, prefix=".coco-diy-test-") as folder:
                yield Path(folder)
            return
    lacking("this machine has one file system only")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; ``code`` is the exit code it must have (None: any)."""

    def runner(*args: str | Path, code: int | None = 0) -> Result:
        words = [str(a) for a in args]
        if words[0] in ("build", "plan", "index", "stats", "remake", "convert") and "--scheduler" not in words:
            words += ["--scheduler", "sync"]
        capfd.readouterr()
        found = run_cli(words)
        out, err = capfd.readouterr()
        assert code is None or found == code, f"exit code {found}\n{out}\n{err}"
        return Result(found, out, err)

    return runner


#: Copies of the town made at once, so that one wait ages them all.
_COPIES = 32


class _Towns:
    """The town and copies of it, none with a file that is too young to be trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._spare: list[Path] = []
        self.common = self.take()

    def take(self) -> Path:
        """A copy that nobody else has."""
        if not self._spare:
            numbers = range(self._made, self._made + _COPIES)
            self._spare = [make_town(self._folder / f"{number:03d}" / "town") for number in numbers]
            self._made += _COPIES
            settle()
        return self._spare.pop()


@pytest.fixture(scope="session")
def _towns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Towns]:
    towns = _Towns(tmp_path_factory.mktemp("towns"))
    before = contents(towns.common)
    yield towns
    assert contents(towns.common) == before, "a test changed the town that all read; it is to take own_town"


@pytest.fixture
def town(_towns: _Towns) -> Path:
    """The town, for reading only: every test has the same one."""
    return _towns.common


@pytest.fixture
def own_town(_towns: _Towns) -> Path:
    """A town that the test may change."""
    return _towns.take()


@dataclass
class Subset:
    """A config over a source, with a target and a workdir of its own, and the commands on it."""

    run: Run
    source: Path
    config: Path
    target: Path
    workdir: Path

    def command(self, name: str, *args: str, code: int | None = 0) -> Result:
        """Run ``coco-diy NAME CONFIG …``."""
        return self.run(name, self.config, *args, code=code)

    def build(self, *args: str, code: int = 0) -> dict[str, Any]:
        """What ``build --json`` says."""
        return self.command("build", "--json", *args, code=code).json

    def plan(self, *args: str, code: int = 0) -> dict[str, Any]:
        """What ``plan --json`` says."""
        return self.command("plan", "--json", *args, code=code).json


MakeSubset = Callable[..., Subset]


@pytest.fixture
def make_subset(tmp_path: Path, run: Run) -> MakeSubset:
    """Make a `Subset` of a source tree; bicycles and cars by default."""

    def make(source: Path, name: str = "subset", /, **keys: Any) -> Subset:
        target, workdir = tmp_path / name, tmp_path / f"{name}-work"
        data = {
            "source": {
                "names": str(source / "coco.yaml"),
                "root": str(source),
                "splits": {s: f"{s}2017" for s in ("train", "val")},
            },
            "classes": ["bicycle", "car"],
            "target": {"root": str(target)},
            "workdir": str(workdir),
            **keys,
        }
        config = write_file(tmp_path / f"{name}.yaml", yaml.safe_dump(data, sort_keys=False))
        return Subset(run, source, config, target, workdir)

    return make


@pytest.fixture
def subset(town: Path, make_subset: MakeSubset) -> Subset:
    """A subset of the town."""
    return make_subset(town)


@pytest.fixture
def own_subset(own_town: Path, make_subset: MakeSubset) -> Subset:
    """A subset of a town that the test may change."""
    return make_subset(own_town)


def _unpack(archive: Path, into: Path, strip: int, stems: set[str] | None = None) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = Path(*Path(member.filename).parts[strip:])
            if not member.is_dir() and (stems is None or path.stem in stems):
                write_file(into / path, opened.read(member))


@pytest.fixture(scope="session")
def coco_boxes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Real box labels of COCO with their photographs, unpacked as the tutorial has them."""
    import shutil

    root = tmp_path_factory.mktemp("coco")
    for split in ("train2017", "val2017"):
        _unpack(shared / "data/coco" / f"{split}.zip", root / "images", 0)
    stems = {p.stem for p in (root / "images").rglob("*.jpg")}
    _unpack(shared / "data/coco/coco2017labels.zip", root, 1, stems)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def coco_labels(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpack ``coco2017labels-<kind>.zip``: real label rows without images."""

    def unpack(kind: str) -> Path:
        root = tmp_path_factory.mktemp(kind)
        _unpack(shared / "data/coco" / f"coco2017labels-{kind}.zip", root, 1)
        return root

    return unpack


#: The subset of the crowd that tests compare.
CROWD_CONFIG: dict[str, Any] = {
    "classes": ["truck", {"name": "small", "from": ["bicycle", "motorcycle"]}, "person"],
    "select": {"backgrounds": "unlabelled", "duplicates": "drop"},
}


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred images and more, in folders, with all that is in order: empty, unlabelled, polygons, duplicate rows."""
    rng = random.Random(5)
    labels: dict[str, dict[str, bytes | str]] = {}
    images = {}
    for folder, count in (("train2017", 120), ("val2017", 30)):
        stems = [f"{'deep/' * rng.choice((0, 0, 1))}{rng.randrange(10**9):012d}" for _ in range(count)]
        labels[folder] = {}
        for stem in stems:
            size = rng.choice((4, 4, 4, 6, 10))
            rows = [
                f"{rng.randrange(len(NAMES))} {' '.join(f'{rng.random():.4f}' for _ in range(size))}\n"
                for _ in range(rng.randint(0, 5))
            ]
            labels[folder][stem] = "".join(rows + rows[: rng.choice((0, 0, 2))])
        images[folder] = tuple(f"{s}.{rng.choice(('jpg', 'PNG', 'webp'))}" for s in [*stems, "lone", "deep/lone"])
    return make_tree(tmp_path_factory.mktemp("crowd") / "crowd", labels, images)


@pytest.fixture(scope="session")
def expected(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The subset as one thread makes it of one bucket, in a process of its own."""
    folder = tmp_path_factory.mktemp("expected")
    source = {"root": str(crowd), "names": str(crowd / "coco.yaml"), "splits": {"train": "train2017", "val": "val2017"}}
    data = CROWD_CONFIG | {
        "source": source,
        "target": {"root": str(folder / "out")},
        "workdir": str(folder / "work"),
        "index": {"buckets": 1},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(data))
    told = run_process("build", folder / "c.yaml", "--scheduler", "sync", "--workers", "1")
    assert told.code == 0, told.err
    return contents(folder / "out", record=True)


@pytest.fixture
def wanted(crowd: Path, make_subset: MakeSubset) -> Subset:
    """The subset of the crowd, not made yet."""
    return make_subset(crowd, **CROWD_CONFIG)
