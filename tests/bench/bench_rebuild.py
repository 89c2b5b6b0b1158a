"""What a rebuild costs: one label changed, added or removed, 1 % touched, classes changed, index or target lost.

Every case starts from the same finished subset of a private copy of the collection, is changed, left for 2.1 s (a
younger file counts as changed again), and built by a whole process; beside it stands a build from nothing. The counts
of files written and deleted are printed too: they are what the case says, or the figure means nothing.

What durability costs is measured apart, on a disk, within the build: two builds differ by more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.bench_main import child_environment, pick_base
from tests.bench.measure import table
from tests.bench.tree import make_tree

SETTLE_S = 2.1
#: The command line, which tells at its end how long it waited for the disk.
TIMED = """
import sys, time
from pipeline import cli
from pipeline.storage.local import folder as home
sync, waited = home.sync, []
def timed(*folders):
    began = time.perf_counter()
    sync(*folders)
    waited.append(time.perf_counter() - began)
home.sync = timed
code = cli.run_cli(sys.argv[1:])
print(sum(waited))
sys.exit(code)
"""
CLASSES = ["person", "bicycle", "car"]


class Rebuild:
    """A collection, the subset of it, and how to bring both back to the start."""

    def __init__(self, base: Path, files: int) -> None:
        self.pristine, self.source = base / "labels", base / "rebuild-source"
        self.target, self.workdir = base / "rebuild-target", base / "rebuild-work"
        make_tree(self.pristine, files=files)
        self.labels = self.source / "labels/train2017"
        self.reset_source()

    def reset_source(self) -> None:
        """A fresh private copy of the labels."""
        shutil.rmtree(self.source, ignore_errors=True)
        subprocess.run(["cp", "-r", str(self.pristine / "labels"), str(self._made(self.source))], check=True)

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget(self) -> None:
        """Neither index nor target."""
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.rmtree(self.workdir, ignore_errors=True)

    def on_disk(self, folder: Path) -> tuple[float, float]:
        """Seconds of a build of all classes to `folder`, index at hand, and those that it waited for the disk."""
        target = folder / "target"
        shutil.rmtree(target, ignore_errors=True)
        os.sync()
        command = [
            sys.executable,
            "-c",
            TIMED,
            "remake",
            str(self.pristine),
            str(target),
            "-q",
            "--src-yaml",
            str(self.pristine / "coco.yaml"),
            "--dst-yaml",
            str(self.pristine / "coco.yaml"),
            "--workdir",
            str(self.workdir),
            "--set",
            "target.images=none",
        ]
        started = time.perf_counter()
        done = subprocess.run(command, env=child_environment(), check=True, stdout=subprocess.PIPE, text=True)
        return time.perf_counter() - started, float(done.stdout)

    def build(self, classes: list[object]) -> tuple[float, dict[str, dict[str, dict[str, int]]]]:
        """Seconds of a whole build, and the plan's counts as its report has them."""
        config = self.source.parent / "rebuild.json"
        config.write_text(
            json.dumps(
                {
                    "source": {
                        "names": str(self.pristine / "coco.yaml"),
                        "root": str(self.source),
                        "splits": {"train": "train2017", "val": "val2017"},
                    },
                    "classes": classes,
                    "target": {"root": str(self.target), "images": "none"},
                    "workdir": str(self.workdir),
                }
            )
        )
        started = time.perf_counter()
        command = [sys.executable, "-m", "pipeline", "build", str(config), "--json"]
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"a build failed:\n{done.stderr}")
        return seconds, json.loads(done.stdout)["plan"]

    def some(self, every: int) -> list[Path]:
        """Every `every`-th label file of train."""
        return [self.labels / name for name in sorted(os.listdir(self.labels))[::every]]


def _append(*paths: Path) -> None:
    for path in paths:
        with path.open("a") as file:
            file.write("0 0.5 0.5 0.25 0.25\n")


def _touch(*paths: Path) -> None:
    for path in paths:
        os.utime(path)


def _empty(target: Path) -> None:
    for folder in ("labels", "images"):
        shutil.rmtree(target / folder, ignore_errors=True)


def _cases(it: Rebuild) -> dict[str, tuple[Callable[[], object], list[object]]]:
    first = it.some(10**9)[0]
    names: list[object] = list(CLASSES)
    return {
        "nothing changed": (lambda: None, names),
        "one label changed": (lambda: _append(first), names),
        "one label added": (lambda: (it.labels / "999999999999.txt").write_text("0 0.5 0.5 0.25 0.25\n"), names),
        "one label removed": (first.unlink, names),
        "1 % of the labels touched": (lambda: _touch(*it.some(100)), names),
        "1 % of the labels changed": (lambda: _append(*it.some(100)), names),
        "one class added": (lambda: None, [*CLASSES, "dog"]),
        "one class renamed": (lambda: None, ["person", {"name": "bike", "from": "bicycle"}, "car"]),
        "two classes swapped": (lambda: None, ["bicycle", "person", "car"]),
        "the index deleted": (lambda: shutil.rmtree(it.workdir), names),
        "the target emptied": (lambda: _empty(it.target), names),
    }


def main() -> int:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description="what rebuilds cost, beside a build from nothing")
    parser.add_argument("--files", type=int, default=117_266)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm/coco-diy-bench"))
    parser.add_argument("--disk", type=Path, help="a folder on a disk; without it one for temporary files")
    args = parser.parse_args()
    base = pick_base(args.base, 2 << 30)
    it = Rebuild(base, args.files)
    rows: dict[str, list[float]] = {}
    counts: dict[str, str] = {}
    for _ in range(args.rounds):
        it.forget()
        time.sleep(SETTLE_S)
        rows.setdefault("from nothing", []).append(it.build(list(CLASSES))[0])
        for name, (change, classes) in _cases(it).items():
            it.reset_source()
            it.forget()
            time.sleep(SETTLE_S)
            it.build(list(CLASSES))
            change()
            time.sleep(SETTLE_S)
            seconds, plan = it.build(classes)
            rows.setdefault(name, []).append(seconds)
            counts[name] = f"{plan['write']['label']['files']:,} / {plan['delete']['label']['files']:,}"
    whole = statistics.median(rows["from nothing"])
    print(f"\n### Rebuilds of {', '.join(CLASSES)}: {args.files:,} files, {args.rounds} rounds\n")
    print(
        table(
            ["what", "median s", "of a build from nothing", "labels written / deleted"],
            [
                [name, f"{statistics.median(s):.2f}", f"{statistics.median(s) / whole:.2f}", counts.get(name, "")]
                for name, s in rows.items()
            ],
        )
    )
    _sync_cost(it, args.disk, args.rounds)
    return 0


def _sync_cost(it: Rebuild, disk: Path | None, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coco-diy-bench-", dir=disk) as folder:
        it.on_disk(Path(folder))  # makes the index
        found = [it.on_disk(Path(folder)) for _ in range(rounds)]
        files = sum(len(names) for _, _, names in os.walk(Path(folder) / "target/labels"))
    print(f"\n### What syncing costs: {files:,} label files to a disk, index at hand\n")
    print(table(["build, s", "of which syncing, s"], [[f"{whole:.2f}", f"{waited:.2f}"] for whole, waited in found]))


if __name__ == "__main__":
    sys.exit(main())
