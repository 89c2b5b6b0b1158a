"""Speed and memory of the main job, as tables: what was reached, what against, and what was promised.

    python -m tests.bench.bench_main [--files N] [--rounds 5] [--base DIR] [--tenfold] [--keep] [--oracle SCRIPT]

A tree like COCO train2017 is made on ``/dev/shm``, where no disk takes part, and whole processes run on it in turn.
The baseline of a build is the tutorial's script, if ``--oracle`` or ``COCO_DIY_ORACLE`` says where it is, and our
writing of its algorithm (``plain_loop.py``) otherwise. The baseline of the index is ``tar`` reading the same files
into a pipe.

The exit code is 0 whether or not the promises were kept, so that a slow machine fails no build; with ``--strict`` it
is 1 then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from tests.bench import measure
from tests.bench.measure import Comparison, Memory, Summary
from tests.bench.tree import COCO_LABELLED, NAMES, describe, make_tree

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN_LOOP = Path(__file__).resolve().with_name("plain_loop.py")
DEFAULT_BASE = Path("/dev/shm/coco-diy-bench")

#: The tutorial's script has no switch for its image copy, so it is started with the copy taken out.
WITHOUT_COPY = (
    "import runpy, shutil, sys; shutil.copy = lambda *a, **k: None; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)

#: Ratios to be reached, ours to the baseline named; `README.md` says which are not.
INDEX_TO_TAR = 2.0
COLD = {"person": 0.4, "all": 0.2}
WARM = {"bicycle": 0.6, "person": 0.45}
NOTHING_TO_DO = 0.15
WITH_IMAGES = 0.6
#: Promised peaks of the summed PSS in MB: on a tree of COCO's size, and on one ten times as large.
PEAK = 500.0
PEAK_TENFOLD = 600.0

#: An index takes a file for changed if it is younger than 2 s when listed, so that a second write within the clock's
#: grain is not missed. Fresh trees and targets must get older than that, or each run would read them anew.
SETTLE = 2.5

#: Marks a folder as ours to remove things in.
OURS = ".coco-diy-bench"

SECTIONS = ("index", "cold", "warm", "nothing", "images", "memory")


def child_environment() -> dict[str, str]:
    """The environment of all measured programs.

    PYTHONDONTWRITEBYTECODE, which some containers set, makes Python compile every module anew in each run and triples
    the time of the imports; nobody who has the program installed pays that. PYTHONUNBUFFERED makes each ``print`` of
    the baseline a system call of its own, and would flatter us. PYTHONPATH makes this checkout the one that is
    measured.
    """
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    env = {key: value for key, value in os.environ.items() if key not in unwanted}
    env["PYTHONPATH"] = str(REPOSITORY)
    return env


@dataclass
class Bench:
    """The folders and the command lines of one tree."""

    base: Path
    tree: Path
    rounds: int
    oracle: Path | None
    scheduler: str | None
    env: dict[str, str] = field(default_factory=child_environment)

    @property
    def work(self) -> Path:
        """Our workdir: index, plans, runs."""
        return self.base / "work"

    @property
    def target(self) -> Path:
        """Where ours builds."""
        return self.base / "ours"

    @property
    def base_target(self) -> Path:
        """Where the baseline builds."""
        return self.base / "baseline"

    @property
    def snapshot(self) -> Path:
        """A workdir that holds the index and nothing of the subset to be measured."""
        return self.base / "work.kept"

    @property
    def baseline(self) -> str:
        """What the baseline is called in the tables."""
        return self.oracle.name if self.oracle else PLAIN_LOOP.name

    def remake(self, subset: str, images: bool = False) -> list[str]:
        """Our command line for a subset."""
        command = [sys.executable, "-m", "pipeline", "remake", str(self.tree), str(self.target)]
        command += ["--src-yaml", str(self.tree / "coco.yaml"), "--dst-yaml", str(self.tree / f"{subset}.yaml")]
        command += ["--workdir", str(self.work), "-q"]
        if not images:
            command += ["--set", "target.images=none"]
        return command + self._scheduler()

    def index(self) -> list[str]:
        """Our command line for the index alone; it needs a config, which is written here."""
        config = self.base / "index.yaml"
        content = {
            "source": {
                "format": "yolo",
                "task": "detect",
                "names": str(self.tree / "coco.yaml"),
                "root": str(self.tree),
                "splits": {"train": "train2017", "val": "val2017"},
            },
            "classes": list(NAMES),
            "target": {"root": str(self.target), "images": "none"},
            "workdir": str(self.work),
        }
        config.write_text(yaml.safe_dump(content, sort_keys=False))
        return [sys.executable, "-m", "pipeline", "index", str(config), "-q", *self._scheduler()]

    def _scheduler(self) -> list[str]:
        return ["--scheduler", self.scheduler] if self.scheduler else []

    def loop(self, subset: str, images: bool = False) -> list[str]:
        """The baseline's command line for a subset."""
        values = [str(self.tree), str(self.base_target)]
        values += [str(self.tree / "coco.yaml"), str(self.tree / f"{subset}.yaml")]
        if self.oracle is None:
            return [sys.executable, str(PLAIN_LOOP), *values, *([] if images else ["--no-images"])]
        launcher = [] if images else ["-c", WITHOUT_COPY]
        return [sys.executable, *launcher, str(self.oracle), *values]

    def remove(self, *paths: Path) -> None:
        """Remove folders that this benchmark made, and no others."""
        for path in paths:
            if path.parent != self.base:
                raise ValueError(f"{path} is not in {self.base}")
            shutil.rmtree(path, ignore_errors=True)

    def keep_index(self) -> None:
        """Make the index afresh and keep a copy of the workdir as it is then."""
        self.remove(self.work, self.target, self.snapshot)
        measure.wall_seconds(self.index(), self.env)
        shutil.copytree(self.work, self.snapshot, symlinks=True)

    def restore_index(self) -> None:
        """Put the kept workdir back, so that no round finds what the one before learned about the same subset."""
        self.remove(self.work)
        shutil.copytree(self.snapshot, self.work, symlinks=True)

    def alternate(self, commands: dict[str, list[str]], prepare: Callable[[str], None]) -> dict[str, Summary]:
        """:func:`measure.alternate` in our environment."""
        return measure.alternate(commands, self.rounds, prepare, self.env)


def bench_index(bench: Bench) -> list[Comparison]:
    """The index alone, from nothing, against the fastest ways there are to read and to list the same files."""
    commands = {
        "index": bench.index(),
        "tar pipe": ["bash", "-c", 'set -o pipefail; tar -C "$0" -cf - labels | cat > /dev/null', str(bench.tree)],
        "find -printf": ["find", str(bench.tree / "labels"), "-printf", "%p %s %T@\\n"],
    }
    found = bench.alternate(commands, lambda _: bench.remove(bench.work, bench.target))
    measure.print_summaries("index: runs", found.values())
    return [
        Comparison("index alone", found["index"], found["tar pipe"], INDEX_TO_TAR),
        Comparison("index alone", found["index"], found["find -printf"]),
    ]


def _against_loop(
    bench: Bench, subsets: dict[str, float], what: str, ready: Callable[[], None], images: bool = False
) -> list[Comparison]:
    """Builds of some subsets against the baseline's; ``ready`` puts the workdir right before each run of ours."""
    commands: dict[str, list[str]] = {}
    for subset in subsets:
        commands[f"ours {subset}"] = bench.remake(subset, images)
        commands[f"{bench.baseline} {subset}"] = bench.loop(subset, images)

    def prepare(name: str) -> None:
        bench.remove(bench.target, bench.base_target)
        if name.startswith("ours "):
            ready()

    found = bench.alternate(commands, prepare)
    measure.print_summaries(f"{what}: runs", found.values())
    return [
        Comparison(f"{what}: {subset}", found[f"ours {subset}"], found[f"{bench.baseline} {subset}"], limit)
        for subset, limit in subsets.items()
    ]


def bench_cold(bench: Bench) -> list[Comparison]:
    """Labels only, no index yet."""
    return _against_loop(bench, COLD, "cold build, labels only", lambda: bench.remove(bench.work))


def bench_warm(bench: Bench) -> list[Comparison]:
    """Labels only, with the index of the source there and nothing else known about the subset."""
    bench.keep_index()
    return _against_loop(bench, WARM, "same index, another subset", bench.restore_index)


def bench_nothing(bench: Bench) -> list[Comparison]:
    """A second run of the same build, against the baseline, which always does all of it."""
    bench.remove(bench.work, bench.target)
    measure.wall_seconds(bench.remake("bicycle"), bench.env)
    time.sleep(SETTLE)
    name = f"{bench.baseline} bicycle"
    commands = {"ours again": bench.remake("bicycle"), name: bench.loop("bicycle")}
    found = bench.alternate(commands, lambda _: bench.remove(bench.base_target))
    measure.print_summaries("nothing to do: runs", found.values())
    return [Comparison("nothing to do: bicycle", found["ours again"], found[name], NOTHING_TO_DO)]


def bench_images(bench: Bench) -> list[Comparison]:
    """Labels and images, no index yet; both programs copy every image of the subset."""
    what = "cold build, images of 1 KB"
    return _against_loop(bench, {"person": WITH_IMAGES}, what, lambda: bench.remove(bench.work), images=True)


def bench_memory(bench: Bench, limit: float) -> list[tuple[Memory, float | None]]:
    """Peaks of index, cold builds and a warm one, in runs of their own."""
    runs: list[tuple[str, list[str], Callable[[], None]]] = [
        ("index alone", bench.index(), lambda: bench.remove(bench.work)),
        ("cold build: all", bench.remake("all"), lambda: bench.remove(bench.work)),
        ("cold build: person", bench.remake("person"), lambda: bench.remove(bench.work)),
        ("same index: bicycle", bench.remake("bicycle"), lambda: None),
        ("nothing to do: bicycle", bench.remake("bicycle"), lambda: None),
    ]
    peaks: list[tuple[Memory, float | None]] = []
    for name, command, ready in runs:
        ready()
        if not name.startswith("nothing"):
            bench.remove(bench.target)
        peaks.append((measure.peak_memory(name, command, bench.env), limit))
    bench.remove(bench.target)
    return peaks


def bench_tenfold(bench: Bench) -> tuple[list[Comparison], list[tuple[Memory, float | None]]]:
    """Ten times the files, one round each: does the time grow by no more than that, and does the memory stay?"""
    commands = {
        "index": bench.index(),
        "tar pipe": ["bash", "-c", 'set -o pipefail; tar -C "$0" -cf - labels | cat > /dev/null', str(bench.tree)],
        "cold build: person": bench.remake("person"),
    }
    found = measure.alternate(commands, 1, lambda _: bench.remove(bench.work, bench.target), bench.env, warm_up=False)
    measure.print_summaries("ten times the files: runs", found.values())
    compared = [Comparison("index alone, ten times the files", found["index"], found["tar pipe"], INDEX_TO_TAR)]
    return compared, bench_memory(bench, PEAK_TENFOLD)


def arguments_of(description: str, images: int, *, processor: bool = False) -> argparse.Namespace:
    """The arguments of a benchmark over so many `images`: ``images``, ``rounds``, ``base`` and ``keep``.

    With `processor` there is a switch ``processor`` for its seconds, see `measure.processor_seconds`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE)
    parser.add_argument("--keep", action="store_true")
    if processor:
        parser.add_argument("--processor", action="store_true", help="processor seconds: other programs run beside")
    return parser.parse_args()


def pick_base(asked: Path, needed: int) -> Path:
    """Make the folder to work in: the one asked for, or a temporary one where that cannot hold ``needed`` bytes.

    Folders below it are removed without asking, so one that holds anything else than a benchmark's is refused.
    """
    if asked.is_dir() and any(asked.iterdir()) and not (asked / OURS).exists():
        raise SystemExit(f"{asked} is not empty and not a benchmark's folder: name another one")
    try:
        asked.mkdir(parents=True, exist_ok=True)
        (asked / OURS).touch()
        free = shutil.disk_usage(asked).free
        if free >= needed:
            return asked
        (asked / OURS).unlink()
        why = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} needed"
    except OSError as error:
        why = str(error)
    base = Path(tempfile.mkdtemp(prefix="coco-diy-bench-"))
    print(f"{asked} cannot be used ({why}); working in {base}: if that is a disk, ratios may differ", flush=True)
    (base / OURS).touch()
    return base


def run_in(folder: Path, work: Callable[[], None], *, keep: bool) -> int:
    """Do `work` in a new `folder`, which goes afterwards unless it is to `keep`; 2 where a measured command failed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        work()
    except measure.CommandError as error:
        print(f"a measured command failed: {error}", file=sys.stderr)
        return 2
    finally:
        if not keep:
            shutil.rmtree(folder)
    return 0


@contextmanager
def _bench_on(args: argparse.Namespace, base: Path, name: str, files: int, images: bool = False) -> Iterator[Bench]:
    """Make a tree, say what it is, let a new one get old enough; afterwards remove all that was made beside it."""
    facts = make_tree(base / name, files, max(1, round(files * 4952 / COCO_LABELLED)), images)
    print(describe(facts), flush=True)
    if facts.seconds:
        time.sleep(SETTLE)
    bench = Bench(base, facts.root, args.rounds, args.oracle, args.scheduler)
    try:
        yield bench
    finally:
        bench.remove(bench.work, bench.target, bench.base_target, bench.snapshot)
        if not args.keep:
            bench.remove(facts.root)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="speed and memory of the main job, as tables")
    parser.add_argument("--files", type=int, default=COCO_LABELLED, help="label files in train (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each command (%(default)s)")
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="folder to work in (%(default)s)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="which (all)")
    parser.add_argument("--tenfold", action="store_true", help="ten times the files too (5 GB more, minutes)")
    parser.add_argument("--keep", action="store_true", help="leave the trees for the next time")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a promise was not kept")
    parser.add_argument("--scheduler", help="handed to our command line; otherwise it picks by itself")
    oracle = os.environ.get("COCO_DIY_ORACLE")
    parser.add_argument(
        "--oracle", type=Path, default=Path(oracle) if oracle else None, help="the tutorial's script, if you have it"
    )
    args = parser.parse_args()
    if args.oracle is not None and not args.oracle.is_file():
        parser.error(f"--oracle: {args.oracle} is not a file")
    return args


def run(args: argparse.Namespace, base: Path) -> bool:
    """Run the sections that are asked for, print each as it comes and all of them at the end; True if all was kept."""
    compared: list[Comparison] = []
    peaks: list[tuple[Memory, float | None]] = []
    timed: dict[str, Callable[[Bench], list[Comparison]]] = {
        "index": bench_index,
        "cold": bench_cold,
        "warm": bench_warm,
        "nothing": bench_nothing,
    }
    if set(args.sections) - {"images"}:
        with _bench_on(args, base, "labels", args.files) as bench:
            for section, measured in timed.items():
                if section in args.sections:
                    compared += measured(bench)
            if "memory" in args.sections:
                peaks += bench_memory(bench, PEAK)
    if "images" in args.sections:
        with _bench_on(args, base, "images", args.files, images=True) as bench:
            compared += bench_images(bench)
    if args.tenfold:
        with _bench_on(args, base, "tenfold", 10 * args.files) as bench:
            more, higher = bench_tenfold(bench)
            compared += more
            peaks += [(replace(peak, name=f"ten times: {peak.name}"), limit) for peak, limit in higher]

    scheduler = f"scheduler {args.scheduler or 'auto'}"
    if compared:
        measure.print_comparisons(f"Speed: {args.files:,} files, {args.rounds} rounds, {scheduler}", compared)
    if peaks:
        measure.print_memory(f"Memory: summed PSS of all processes, {scheduler}", peaks)
    return all(item.met for item in compared) and all(limit is None or m.megabytes <= limit for m, limit in peaks)


def main() -> int:
    """Print the tables; 2 if a measured command failed."""
    args = _arguments()
    # 4 KB a file is what tmpfs and most disks take for a small one: the tree, the build, the baseline's build.
    needed = 4096 * args.files * (26 if args.tenfold else 6)
    base = pick_base(args.base, needed)
    try:
        kept = run(args, base)
    except measure.CommandError as error:
        print(f"a measured command failed: {error}", file=sys.stderr)
        return 2
    finally:
        if not args.keep:
            (base / "index.yaml").unlink(missing_ok=True)
            if [path.name for path in base.iterdir()] == [OURS]:
                shutil.rmtree(base)
    return 1 if args.strict and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
