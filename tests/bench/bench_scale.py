"""Does the cost of a file, and the memory, stay the same where there are ten times as many?

    python -m tests.bench.bench_scale [--files N] [--times 10] [--rounds 2] [--base DIR]

Two collections like COCO's labels, one of them with ten times the files, both in folders of 29,000. Whole processes run
on them in turn: an index from nothing, a subset of it from nothing, nothing to do, one label changed. Of each the
processor seconds a million files are compared, which other programs that run beside hardly change, and the peak of
the summed PSS. Ten times COCO takes 10 GB of memory and 2.5 million inodes in ``/dev/shm``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.bench import measure
from tests.bench.bench_main import DEFAULT_BASE, child_environment, pick_base, run_in
from tests.bench.bench_rebuild import SETTLE_S
from tests.bench.tree import COCO_LABELLED, make_tree

#: Files in a folder, about.
_FOLDER = 29_317

#: What the cost of a file, and the memory, may be at ten times the files, against once.
MOST = 1.1


@dataclass
class Scale:
    """A collection of so many label files, and the commands on it."""

    base: Path
    files: int

    def __post_init__(self) -> None:
        self.tree, self.work, self.target = (self.base / f"{self.files}-{what}" for what in ("tree", "work", "target"))
        make_tree(self.tree, self.files, max(1, round(self.files * 4952 / COCO_LABELLED)))
        labels = self.tree / "labels/train2017"
        for i, path in enumerate(sorted(labels.glob("*.txt"))):
            folder = labels / f"{i // _FOLDER:02d}"
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
        config = {
            "source": {
                "names": str(self.tree / "coco.yaml"),
                "root": str(self.tree),
                "splits": {"train": "train2017", "val": "val2017"},
            },
            "classes": ["person"],
            "target": {"root": str(self.target), "images": "none"},
            "workdir": str(self.work),
        }
        self.config = self.base / f"{self.files}.yaml"
        self.config.write_text(yaml.safe_dump(config))

    def command(self, name: str) -> list[str]:
        """``coco-diy NAME CONFIG``."""
        return [sys.executable, "-m", "pipeline", name, str(self.config), "-q"]

    def forget(self, *folders: Path) -> None:
        """Remove folders, and let what is left get so old that it counts as unchanged."""
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(SETTLE_S)

    def change_one(self) -> None:
        """Append a row to the first label file."""
        first = min((self.tree / "labels/train2017/00").iterdir())
        with first.open("a") as file:
            file.write("0 0.5 0.5 0.25 0.25\n")
        time.sleep(SETTLE_S)


#: By name the command, and what is made ready before it.
CASES: dict[str, tuple[str, Callable[[Scale], None]]] = {
    "index from nothing": ("index", lambda one: one.forget(one.work)),
    "subset from nothing": ("build", lambda one: one.forget(one.target)),
    "nothing to do": ("build", lambda one: one.forget()),
    "a label changed": ("build", lambda one: one.change_one()),
}


def measured(scales: list[Scale], rounds: int) -> None:
    """Print the table of all cases."""
    env, rows = child_environment(), []
    for name, (command, ready) in CASES.items():
        seconds: list[list[float]] = [[] for _ in scales]
        for _ in range(rounds):
            for one, times in zip(scales, seconds, strict=True):
                ready(one)
                times.append(measure.processor_seconds(one.command(command), env))
        peaks = []
        for one in scales:
            ready(one)
            peaks.append(measure.peak_memory(name, one.command(command), env).megabytes)
        costs = [statistics.median(t) / one.files * 1e6 for t, one in zip(seconds, scales, strict=True)]
        growth, more = costs[-1] / costs[0], peaks[-1] / peaks[0]
        rows.append(
            [
                name,
                *(f"{cost:.1f}" for cost in costs),
                f"{growth:.2f}",
                *(f"{peak:.0f}" for peak in peaks),
                f"{more:.2f}",
            ]
        )
    counts = [f"{one.files:,}" for one in scales]
    head = [f"s a million, {count} files" for count in counts] + [f"<= {MOST}"]
    head += [f"MB, {count} files" for count in counts] + [f"<= {MOST}"]
    print(measure.table(["processor seconds; peak PSS", *head], rows))


def main() -> int:
    """Measure once and ten times the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=COCO_LABELLED)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    folder = pick_base(args.base, 9000 * args.files * (1 + args.times)) / "scale"

    def work() -> None:
        measured([Scale(folder, args.files), Scale(folder, args.files * args.times)], args.rounds)

    return run_in(folder, work, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
