"""Getting the data: archives read in place against unpacking them, downloads against curl, aria2c and wget2.

    python -m tests.bench.bench_fetch [--sections copy,labels,file,small,ranges] [--rounds 3] [--base DIR] [--scale 1]

Everything lies on ``/dev/shm``, servers are nginx on this machine, and whole processes run in turn; a program that is
not installed is left out. ``--scale 0.1`` takes a tenth of the files and bytes. The exit code is 0 whether or not the
promises were kept; with ``--strict`` it is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.storage.certificates import VARIABLES
from tests.bench import measure
from tests.bench.bench_main import child_environment, pick_base
from tests.bench.measure import Command, Comparison, Summary
from tests.bench.tree import make_tree
from tests.support.web import Nginx, between, nginx_binary, nginx_in

SECTIONS = ("copy", "labels", "file", "small", "ranges")
#: Ratios to be reached; `README.md` says which are not.
COPY_UNZIP, COPY_EXTRACTALL, LABELS, FILE, CONTINUED = 0.25, 0.6, 0.55, 1.05, 1.15
SMALL = {"aria2c": 0.6, "wget2": 1.0}
#: Promised bytes, of those of the wanted images and the archive's directory, and requests, of the number of images.
RANGES, REQUESTS = 1.05, 1.25
CONNECTIONS = 16
PYTHON = [sys.executable, "-c"]
EXTRACT_ALL = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])"
EXTRACT_SOME = (
    "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); z.extractall(sys.argv[2], open(sys.argv[3]).read().split())"
)
COPY = """
import sys
from pipeline import storage
archive, target, listed = sys.argv[1:]
place, names = storage.locate(f"zip://train2017::{archive}"), [n.split("/")[1] for n in open(listed).read().split()]
done = storage.locate(target).copy_many(storage.Copies(names, place, names, place.sizes(names)), direct=True)
assert done.done == len(names), done.failed
"""
GATHER = """
import sys
from pipeline import storage
url, workdir, listed, connections = sys.argv[1:]
names = open(listed).read().split()
failed = storage.locate(url, workdir).gather(names, storage.Limits(int(connections)), lambda _: None)
assert not failed, failed
"""


@dataclass
class Bench:
    """The folders, and the rows of the tables so far."""

    base: Path
    rounds: int
    scale: float
    env: dict[str, str] = field(default_factory=child_environment)
    rows: list[Comparison] = field(default_factory=list)
    told: list[tuple[str, ...]] = field(default_factory=list)

    def fresh(self, name: str) -> Path:
        """A folder that is empty."""
        path = self.base / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def count(self, number: int) -> int:
        """`number`, scaled."""
        return max(4, int(number * self.scale))

    def race(self, ours: str, commands: dict[str, Command], limits: Mapping[str, float | None]) -> None:
        """Run the commands in turn, each into folders of its own that are emptied before, and keep the ratios."""

        def prepare(name: str) -> None:
            for made in ("out", "work"):
                self.fresh(made)

        found = measure.alternate(commands, self.rounds, prepare, self.env)
        for name, limit in limits.items():
            if name in found:
                self.rows.append(Comparison(ours, found["ours"], Summary(name, found[name].seconds), limit))


def copy(bench: Bench) -> None:
    """Images out of a local archive: stored, 100 KB each; all of them, and three of a hundred."""
    count = bench.count(20_000)
    archive = bench.base / "train2017.zip"
    rng = random.Random(1)
    with zipfile.ZipFile(archive, "w") as made:
        for i in range(count):
            made.writestr(f"train2017/{i * 29:012d}.jpg", rng.randbytes(100_000))
    names = zipfile.ZipFile(archive).namelist()
    some = sorted(rng.sample(names, max(1, count * 3 // 100)))
    for what, wanted in ((f"{count:,} images of 100 KB", names), ("three of a hundred of them", some)):
        listed = bench.base / "names.txt"
        listed.write_text("\n".join(wanted))
        out = str(bench.base / "out")
        commands: dict[str, Command] = {
            "ours": [*PYTHON, COPY, str(archive), out, str(listed)],
            "extractall": [*PYTHON, EXTRACT_SOME, str(archive), out, str(listed)],
        }
        if shutil.which("unzip"):
            commands["unzip"] = ["unzip", "-q", str(archive), "-d", out, *(wanted if wanted is some else [])]
        limits: dict[str, float | None] = {"unzip": None, "extractall": None}
        if wanted is names:
            limits = {"unzip": COPY_UNZIP, "extractall": COPY_EXTRACTALL}
        bench.race(f"out of an archive: {what}", commands, limits)
    _copy_inside(bench, archive, some)
    archive.unlink()


def _copy_inside(bench: Bench, archive: Path, some: list[str]) -> None:
    """The same few images without the start of the programs, which would hide what they take."""
    names = [name.split("/")[1] for name in some]

    def ours() -> None:
        place = storage.locate(f"zip://train2017::{archive}")
        done = storage.locate_writable(str(bench.base / "out")).copy_many(
            storage.Copies(names, place, names, place.sizes(names))
        )
        assert done.done == len(names), done.failed

    def theirs() -> None:
        zipfile.ZipFile(archive).extractall(bench.base / "out", some)

    bench.race(
        "the same, without the start of Python", {"ours": ours, "extractall": theirs}, {"extractall": COPY_EXTRACTALL}
    )


def _config(bench: Bench, tree: Path, splits: dict[str, Any]) -> str:
    path = bench.base / "index.json"
    path.write_text(
        json.dumps(
            {
                "source": {"names": str(tree / "coco.yaml"), "splits": splits},
                "target": {"root": str(bench.base / "target"), "images": "none"},
                "workdir": str(bench.base / "work"),
            }
        )
    )
    return str(path)


def labels(bench: Bench) -> None:
    """An index from the archive of the labels, against unpacking it and an index of the folder."""
    tree = bench.base / "labels"
    make_tree(tree, files=bench.count(117_266), val=bench.count(4_952))
    archive, out = bench.base / "labels.zip", bench.base / "out"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted((tree / "labels").rglob("*.txt")):
            made.write(path, f"coco/labels/{path.parent.name}/{path.name}")
    packed = _config(bench, tree, {s: {"labels": f"zip://coco/labels/{s}2017::{archive}"} for s in ("train", "val")})
    shutil.copy(packed, bench.base / "packed.json")
    folder = _config(bench, tree, {s: {"labels": str(out / "coco/labels" / f"{s}2017")} for s in ("train", "val")})
    index = f"{sys.executable} -m pipeline index -q"
    unpack = f"unzip -q {archive} -d {out}"
    if not shutil.which("unzip"):
        unpack = f"{sys.executable} -m zipfile -e {archive} {out}"
    bench.race(
        "index from the archive of all labels",
        {
            "ours": ["sh", "-c", f"{index} {bench.base / 'packed.json'}"],
            "unzip, then index": ["sh", "-c", f"{unpack} && {index} {folder}"],
        },
        {"unzip, then index": LABELS},
    )
    archive.unlink()


def _fetching(bench: Bench, url: str, name: str, **archive: Any) -> str:
    """The path of a config that fetches one file to ``out``."""
    path = bench.base / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "source": {
                    "names": "none.yaml",
                    "splits": {"train": {"labels": f"zip://x::{bench.base / 'out/blob.bin'}"}},
                },
                "target": {"root": str(bench.base / "target")},
                "workdir": str(bench.base / "work"),
                "fetch": {"archives": {"blob.bin": {"url": url, **archive}}},
            }
        )
    )
    return str(path)


def _killed(command: list[str], after: float, env: dict[str, str]) -> Callable[[], None]:
    """Run a command, kill it `after` seconds, and run it again to its end."""

    def run() -> None:
        child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        child.kill()
        child.wait()
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return run


def file(bench: Bench) -> None:
    """One large file: fetched, fetched with a digest, killed at about half and fetched again."""
    if not shutil.which("curl"):
        print("curl is not installed: the section file is left out")
        return
    with _server(bench) as nginx:
        blob = nginx.www / "blob.bin"
        with blob.open("wb") as out:
            for _ in range(bench.count(2_000)):
                out.write(os.urandom(1_000_000))
        digest = subprocess.run(["sha256sum", str(blob)], capture_output=True, text=True, check=True).stdout.split()[0]
        url, out_path = f"{nginx.url}/blob.bin", str(bench.base / "out/blob.bin")
        curl = ["curl", "-s", "-S", "-f", "-C", "-", "-o", out_path, url]
        fetch = [sys.executable, "-m", "pipeline", "fetch", "-q"]
        plain, checked = _fetching(bench, url, "plain"), _fetching(bench, url, "checked", sha256=digest)
        bench.race(
            f"one file of {blob.stat().st_size / 1e9:.1f} GB", {"ours": [*fetch, plain], "curl": curl}, {"curl": FILE}
        )
        bench.race(
            "the same, sha256 checked",
            {
                "ours": [*fetch, checked],
                "curl, then sha256sum": ["sh", "-c", f"{' '.join(curl)} && sha256sum {out_path}"],
            },
            {"curl, then sha256sum": FILE},
        )
        half = bench.rows[-2].base.median / 2
        bench.race(
            "the same, killed and run again",
            {"ours": _killed([*fetch, plain], half, bench.env), "curl -C -": _killed(curl, half, bench.env)},
            {"curl -C -": CONTINUED},
        )


def small(bench: Bench) -> None:
    """Many small images, one request each; one lost connection costs one request."""
    names = [f"{i * 29:012d}.jpg" for i in range(bench.count(3_000))]
    for secure in (False, True):
        with _server(bench, secure=secure) as nginx:
            _race_for(bench, nginx, names)


def _race_for(bench: Bench, nginx: Nginx, names: list[str]) -> None:
    """Let the programs that speak what `nginx` speaks get the images called `names`."""
    (nginx.www / "i").mkdir()
    rng = random.Random(2)
    for name in names:
        (nginx.www / "i" / name).write_bytes(rng.randbytes(rng.randrange(50_000, 250_000)))
    listed, urls = bench.base / "names.txt", bench.base / "urls.txt"
    listed.write_text("\n".join(names))
    urls.write_text("\n".join(f"{nginx.url}/i/{name}" for name in names))
    out, n = str(bench.base / "out"), str(CONNECTIONS)
    trust = ["env", f"{VARIABLES[0]}={nginx.certificate}"] if nginx.secure else []
    commands: dict[str, Command] = {
        "ours": [*trust, *PYTHON, GATHER, f"{nginx.url}/i", str(bench.base / "work"), str(listed), n]
    }
    if shutil.which("aria2c") and not nginx.secure:  # it speaks HTTP/1.1 alone
        commands["aria2c"] = ["aria2c", "-q", "-i", str(urls), "-d", out, "-j", n, "-x1", "--file-allocation=none"]
    if shutil.which("wget2"):
        trusted = [f"--ca-certificate={nginx.certificate}"] if nginx.secure else []
        commands["wget2"] = ["wget2", "-q", "-i", str(urls), "-P", out, f"--max-threads={n}", *trusted]
    bench.race(f"{len(names):,} images, {'HTTP/2, TLS' if nginx.secure else f'{n} connections'}", commands, SMALL)


def ranges(bench: Bench) -> None:
    """The bicycle subset of a train-size archive on a server: bytes and requests, with and without latency, limits."""
    with _server(bench) as nginx:
        count, rng = bench.count(118_287), random.Random(3)
        archive = nginx.www / "train2017.zip"
        with zipfile.ZipFile(archive, "w") as made:
            for i in range(count):
                made.writestr(f"train2017/{i * 29:012d}.jpg", rng.randbytes(rng.randrange(8_000, 24_000)))
        sizes = {m.filename.split("/")[1]: m.file_size for m in zipfile.ZipFile(archive).infolist()}
        some = sorted(rng.sample(sorted(sizes), bench.count(3_252)))
        wanted = sum(sizes[name] for name in some)
        listed = bench.base / "names.txt"
        listed.write_text("\n".join(some))
        with between(nginx.port, 0.02) as far:
            for what, url in (
                ("", nginx.url),
                (", 40 ms away", f"http://127.0.0.1:{far}"),
                (", at most 400 requests a second", f"{nginx.url}/slow"),
            ):
                work = bench.fresh("work")
                nginx.log()
                place = f"zip://train2017::{url}/train2017.zip"
                seconds = measure.wall_seconds(
                    [*PYTHON, GATHER, place, str(work), str(listed), str(CONNECTIONS)], bench.env
                )
                log = nginx.log()
                directory = sum(moved for _, moved, _, asked in log[:2])
                moved = sum(moved for _, moved, _, _ in log)
                ratio = (moved - directory) / wanted
                busy = sum(status == 429 for status, *_ in log)
                kept = ratio <= RANGES and len(log) <= REQUESTS * len(some)
                bench.told.append(
                    (
                        f"{len(some):,} of {count:,} images{what}",
                        f"{len(log):,}",
                        f"{busy:,}",
                        f"{moved / 1e6:.1f}",
                        f"{wanted / 1e6:.1f} + {directory / 1e6:.1f}",
                        f"{ratio:.3f}",
                        f"{seconds:.2f}",
                        f"<= {RANGES}",
                        "yes" if kept else "NO",
                    )
                )
        archive.unlink()


@contextmanager
def _server(bench: Bench, *, secure: bool = False) -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory(dir=bench.base) as folder, nginx_in(Path(folder), secure=secure) as nginx:
        yield nginx


def main() -> int:
    """Run the sections and print the tables."""
    parser = argparse.ArgumentParser(description="getting the data, against the tools that are at hand")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm/coco-diy-bench"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a promise was not kept")
    args = parser.parse_args()
    bench = Bench(pick_base(args.base, int((6 << 30) * args.scale)), args.rounds, args.scale)
    sections = args.sections.split(",")
    if not nginx_binary():
        print("nginx is not installed: the sections file, small and ranges are left out")
        sections = [name for name in sections if name in ("copy", "labels")]
    for name in sections:
        {"copy": copy, "labels": labels, "file": file, "small": small, "ranges": ranges}[name](bench)
        print(f"{name}: done", file=sys.stderr)
    if bench.rows:
        measure.print_comparisons("Getting the data", bench.rows)
    if bench.told:
        headers = (
            "images by ranges",
            "requests",
            "refused",
            "MB moved",
            "MB wanted + directory",
            "ratio",
            "s",
            "limit",
            "met",
        )
        print(f"\n{measure.table(headers, bench.told)}")
    kept = all(row.met for row in bench.rows) and all(row[-1] == "yes" for row in bench.told)
    return 1 if args.strict and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
