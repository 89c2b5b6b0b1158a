"""Images from folder to folder: the batch verb of the apply stage, and that stage of a whole build, against `cp -r`.

    python -m tests.bench.bench_copy [--bases /dev/shm,/var/tmp] [--files 5000x150000,20000x5000] [--rounds 5]

Each base is a folder to work in, in memory or on a disk: a disk is written to, but nothing waits for it, as `cp` does
not. There each run has a new folder, and none is removed before the end: ext4 is slow to take up inodes that were just
freed. The verb runs in this process, as it does in the apply stage of few files: with a second thread for large ones.
The exit code is 0 whether or not the promises were kept; with ``--strict`` it is 1 then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline import storage
from pipeline.runtime.spare import sparing
from tests.bench import measure
from tests.bench.bench_main import child_environment
from tests.bench.measure import Command, Comparison
from tests.bench.tree import write_yamls

#: Promised: at least 0.95 of the speed of cp.
LIMIT = 1.05
#: Beside its content a file takes so many bytes of memory: its inode, its name and the rest of its last page.
BESIDE = 8192
#: The command line, with the garbage collector as `pipeline.__main__` sets it; it writes down how long its apply stage
#: took, before which memory was had as `warm` has it.
TIMED = """
import gc, sys, time
from pipeline import cli
from pipeline.stages.apply import rebuild
from tests.bench.bench_copy import warm
gc.set_threshold(100_000, 50, 50)
apply_plan = rebuild.apply_plan
def timed(*arguments):
    warm(int(sys.argv[2]))
    began = time.perf_counter()
    found = apply_plan(*arguments)
    open(sys.argv[1], "w").write(str(time.perf_counter() - began))
    return found
rebuild.apply_plan = timed
sys.exit(cli.run_cli(sys.argv[3:]))
"""


def warm(size: int) -> None:
    """Use so many bytes of memory and free them.

    A virtual machine gives what is free back to its host after two seconds, and its first use then costs more than a
    copy: of two programs in turn now one would pay for it, now the other.
    """
    mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


class Bench:
    """A collection of images and label files in `base`, and a new target for every run."""

    def __init__(self, base: Path, files: int, size: int) -> None:
        self.base, self.size, self.source = base, size, base / "source"
        self.numbers = itertools.count()
        self.in_memory = os.stat(base).st_dev == os.stat("/dev/shm").st_dev
        images, labels = self.images, self.source / "labels/train2017"
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        write_yamls(self.source)
        rng = random.Random(1)
        self.names = [f"{i * 29:012d}.jpg" for i in range(files)]
        for name in self.names:
            (images / name).write_bytes(rng.randbytes(size))
            (labels / name).with_suffix(".txt").write_text(f"{rng.randrange(80)} 0.5 0.5 0.1 0.1\n")
        self.config = base / "build.json"
        source = {
            "names": str(self.source / "coco.yaml"),
            "root": str(self.source),
            "splits": {"train": "train2017"},
        }
        self.config.write_text(json.dumps({"source": source, "workdir": str(base / "work")}))

    @property
    def bytes(self) -> int:
        """Of memory that images and label files take."""
        return len(self.names) * (self.size + 2 * BESIDE)

    @property
    def images(self) -> Path:
        """The folder of images."""
        return self.source / "images/train2017"

    @property
    def target(self) -> Path:
        """Where this run goes."""
        return self.base / f"target{self.number}"

    def prepare(self, _: str = "") -> None:
        """Nothing is at the target, the disk has nothing to do, and memory is at hand."""
        if self.in_memory:
            self.clear()
        self.number = next(self.numbers)
        os.sync()
        warm(self.bytes)

    def clear(self) -> None:
        """Remove all targets."""
        for target in self.base.glob("target*"):
            shutil.rmtree(target)

    def verb(self) -> None:
        """Copy the images as the apply stage does into a folder that nobody reads yet."""
        target, sizes = storage.locate_writable(str(self.target)), [self.size] * len(self.names)
        with sparing(len(os.sched_getaffinity(0)) - 1):
            done = target.copy_many(
                storage.Copies(self.names, storage.locate(str(self.images)), self.names, sizes), direct=True
            )
        assert done.done == len(self.names), done.failed

    def plain(self, source: Path) -> None:
        """The same by `cp`."""
        subprocess.run(["cp", "-r", str(source), str(self.target)], check=True)

    def clock(self, command: Command, env: Mapping[str, str] | None, cwd: Path | None) -> float:
        """Seconds of `cp`, or of the apply stage alone."""
        if callable(command):
            return measure.wall_seconds(command, env, cwd)
        seconds = self.base / "seconds"
        words = ["build", "-q", str(self.config), "--set", f"target.root={self.target}"]
        measure.wall_seconds([*command, "-c", TIMED, str(seconds), str(self.bytes), *words], env, cwd)
        return float(seconds.read_text())


def compare(bench: Bench, title: str, rounds: int) -> list[Comparison]:
    """The rows of one collection."""
    cp: Command = lambda: bench.plain(bench.images)  # noqa: E731 - a command is a function or a list of words
    verb = measure.alternate({"copies": bench.verb, "cp -r": cp}, rounds, bench.prepare)
    whole: Command = lambda: bench.plain(bench.source)  # noqa: E731 - as above
    stage = measure.alternate(
        {"apply stage": [sys.executable], "cp -r": whole},
        rounds,
        bench.prepare,
        child_environment(),
        clock=bench.clock,
    )
    bench.clear()
    measure.print_summaries(title, [*verb.values(), *stage.values()])
    return [
        Comparison(f"{title}: copies", verb["copies"], verb["cp -r"], LIMIT),
        Comparison(f"{title}, with labels: apply stage", stage["apply stage"], stage["cp -r"], LIMIT),
    ]


def main() -> int:
    """Measure all collections in all bases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", default="/dev/shm,/var/tmp")
    parser.add_argument("--files", default="5000x150000,20000x5000", help="numbers and bytes of images, %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a promise was not kept")
    args = parser.parse_args()
    rows: list[Comparison] = []
    for base in args.bases.split(","):
        for files, size in (map(int, each.split("x")) for each in args.files.split(",")):
            with tempfile.TemporaryDirectory(prefix="coco-diy-copy-", dir=base) as folder:
                title = f"{files:,} of {size / 1000:g} KB, {base}"
                rows += compare(Bench(Path(folder), files, size), title, args.rounds)
    measure.print_comparisons("Folder to folder", rows)
    return int(args.strict and not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
