"""The same job in other tools: person, bicycle and car out of a collection like COCO, as a table.

    python -m tests.bench.bench_peers [--files N] [--rounds 3] [--peers NAME,…] [--limit 600] [--base DIR] [--keep]

Each tool runs as a whole process in an environment of its own, which is made in ``.peers`` with pip from
``tests/bench/peers/NAME.txt``; the job is ``with_NAME.py`` beside it, as the tool's documentation has it. The first run
of each is sampled for its memory, and what it made is compared with an answer that is computed line by line
(`tests.bench.answer`); then all take turns with coco-diy. A tool that cannot be installed, fails, or takes longer than
``--limit`` seconds has a row that says why.

Images are one JPEG of 640 x 480 pixels and 2 KB, written anew for each; one image in a hundred has no label file. For
tools that read no YOLO rows the collection is there as COCO JSON, with one crowd in 86 objects as in COCO.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from tests.bench import measure
from tests.bench.answer import Row, Rows, Subset, Verdict, compare, read_rows, read_target, wanted_of
from tests.bench.bench_main import DEFAULT_BASE, PLAIN_LOOP, REPOSITORY, SETTLE, child_environment, pick_base, run_in
from tests.bench.measure import Memory, Summary
from tests.bench.tree import COCO_LABELLED, NAMES, make_tree

SCRIPTS = Path(__file__).resolve().with_name("peers")
ENVIRONMENTS = REPOSITORY / ".peers"

CLASSES = ("person", "bicycle", "car")
SPLITS = {"train2017": "train", "val2017": "val"}
WIDTH, HEIGHT = 640, 480
#: One annotation in so many is a crowd; COCO has 10,021 of 860,001.
CROWD_EVERY = 86


@dataclass(frozen=True)
class Tool:
    """A row of the table: what it reads, what becomes of images, and which of ours does the same."""

    name: str
    reads: str = "YOLO"
    images: str = "copied"
    ours: str = "coco-diy"

    @property
    def is_ours(self) -> bool:
        """Whether it is the program that the others are compared with."""
        return self.name.startswith("coco-diy")


LABELS, FROM_JSON = "coco-diy, labels", "coco-diy, COCO JSON"
OURS = (
    Tool("coco-diy"),
    Tool(LABELS, images="none", ours=LABELS),
    Tool(FROM_JSON, reads="COCO JSON", images="symlinks", ours=FROM_JSON),
)
PEERS = (
    Tool("plain loop"),
    Tool("datumaro"),
    Tool("supervision"),
    Tool("fiftyone"),
    Tool("sahi", reads="COCO JSON", images="symlinks", ours=FROM_JSON),
    Tool("globox", images="none", ours=LABELS),
    Tool("panlabel", images="none", ours=LABELS),
)


@dataclass
class Result:
    """What came of a tool: why it failed, or its memory and what is wrong with its subset; seconds come last."""

    failure: str = ""
    memory: Memory | None = None
    verdict: Verdict | None = None
    seconds: Summary | None = None


def picture() -> bytes:
    """The image that is written for each: tools that open images need one that is sound."""
    sink = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(sink, "JPEG", optimize=True)
    return sink.getvalue()


def _annotations(rows: list[Row], image: int, number: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Annotations of an image, with a polygon of four corners each, crowds with run lengths."""
    for name, cx, cy, w, h in rows:
        x, y, width, height = (cx - w / 2) * WIDTH, (cy - h / 2) * HEIGHT, w * WIDTH, h * HEIGHT
        crowd = (own := next(number)) % CROWD_EVERY == 0
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        runs = {"counts": [1000, 500, WIDTH * HEIGHT - 1500], "size": [HEIGHT, WIDTH]}
        yield {
            "id": own,
            "image_id": image,
            "category_id": NAMES.index(name) + 1,
            "iscrowd": int(crowd),
            "area": width * height,
            "bbox": [x, y, width, height],
            "segmentation": runs if crowd else [corners],
        }


def _write_json(root: Path, folder: str) -> Rows:
    """Write ``annotations/<split>.json`` of the label files and images in a folder; gives the rows that are crowds."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    crowds: Rows = {}
    number = itertools.count(1)
    for path in sorted((root / "images" / folder).iterdir()):
        images.append({"id": int(path.stem), "file_name": path.name, "width": WIDTH, "height": HEIGHT})
        label = root / "labels" / folder / f"{path.stem}.txt"
        rows = read_rows(label.read_text(), NAMES) if label.exists() else []
        made = list(_annotations(rows, int(path.stem), number))
        annotations += made
        if marked := [row for row, one in zip(rows, made, strict=True) if one["iscrowd"]]:
            crowds[path.stem] = marked
    categories = [{"id": i, "name": name, "supercategory": "thing"} for i, name in enumerate(NAMES, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"{SPLITS[folder]}.json").write_text(json.dumps(document))
    return crowds


@dataclass
class Bench:
    """The collection, the right answers, and where everybody builds."""

    base: Path
    #: The collection.
    tree: Path
    limit: int
    image: bytes
    wanted: Subset
    wanted_of_json: Subset
    crowds: Rows

    @property
    def target(self) -> Path:
        """Where the tool whose turn it is builds."""
        return self.base / "out"

    @property
    def env(self) -> dict[str, str]:
        """Ours, with a home where tools may leave caches."""
        return child_environment() | {"HOME": str(self.base / "home")}

    def prepare(self, _name: str = "") -> None:
        """Nothing is left of the run before, neither its target nor an index."""
        for name in ("out", "out-database", "work"):
            shutil.rmtree(self.base / name, ignore_errors=True)

    def command(self, tool: Tool) -> list[str]:
        """The command line of a tool, ended where it takes too long."""
        names = ["--src-yaml", str(self.tree / "data.yaml"), "--dst-yaml", str(self.base / "three.yaml")]
        folders = [str(self.tree), str(self.target)]
        work = ["--workdir", str(self.base / "work"), "-q"]
        program = [sys.executable, "-m", "pipeline"]
        if tool.name == FROM_JSON:
            command = [*program, "build", str(self.base / "json.yaml"), "-q"]
        elif tool.is_ours:
            without = ["--set", "target.images=none"] if tool.images == "none" else []
            command = [*program, "remake", *folders, *names, *work, *without]
        elif tool.name == "plain loop":
            command = [sys.executable, str(PLAIN_LOOP), *folders, names[1], names[3]]
        else:
            programs = ENVIRONMENTS / tool.name / "bin"
            script = SCRIPTS / f"with_{tool.name}.py"
            # -P: the folder of the scripts holds no modules that they import.
            runner = [str(programs / "python"), "-P", str(script)]
            if not script.exists():
                runner = ["bash", str(script.with_suffix(".sh"))]
            command = [*runner, *folders, str(programs)]
        return ["timeout", "--kill-after=5", str(self.limit), *command]

    def check(self, tool: Tool) -> Verdict:
        """Compare what a tool made with the right answer."""
        found = read_target(self.target, CLASSES, self.image)
        if tool.reads == "YOLO":
            return compare(self.wanted, found)
        return compare(self.wanted_of_json, found, self.crowds)


def make_source(tree: Path, files: int, image: bytes) -> Rows:
    """Write the collection as YOLO rows and as COCO JSON, unless it is there; the rows that are crowds in the JSON."""
    facts = make_tree(tree, files, max(1, round(files * 4952 / COCO_LABELLED)), images=True, image_bytes=16)
    marked = tree / "crowds.json"
    if not facts.seconds and marked.exists():
        found: Rows = {
            stem: [(row[0], *row[1:]) for row in rows] for stem, rows in json.loads(marked.read_text()).items()
        }
        return found
    for path in (tree / "images").glob("*/*.jpg"):
        path.write_bytes(image)
    (tree / "data.yaml").write_text((tree / "coco.yaml").read_text())
    (tree / "annotations").mkdir(exist_ok=True)
    crowds: Rows = {}
    for name in SPLITS:
        crowds |= _write_json(tree, name)
    marked.write_text(json.dumps(crowds))
    time.sleep(SETTLE)
    return crowds


def make_bench(folder: Path, tree: Path, files: int, limit: int) -> Bench:
    """Make the collection and configs of ours, and work out the answers."""
    image = picture()
    crowds = make_source(tree, files, image)
    (folder / "home").mkdir()
    (folder / "three.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(CLASSES))}))
    splits = {
        split: {"annotations": str(tree / "annotations" / f"{split}.json"), "images": str(tree / "images" / name)}
        for name, split in SPLITS.items()
    }
    source = {"format": "coco", "task": "detect", "splits": splits}
    target = {"root": str(folder / "out"), "format": "yolo", "images": "symlink"}
    config = {"source": source, "classes": list(CLASSES), "target": target, "workdir": str(folder / "work")}
    (folder / "json.yaml").write_text(yaml.safe_dump(config))
    wanted = wanted_of(tree, SPLITS, NAMES, CLASSES)
    of_json = Subset()
    for stem, rows in wanted.rows.items():
        if left := [row for row in rows if row not in crowds.get(stem, ())]:
            of_json.rows[stem], of_json.splits[stem] = left, wanted.splits[stem]
    return Bench(folder, tree, limit, image, wanted, of_json, crowds)


def last_line(text: str) -> str:
    """What a tool or pip said last, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace("|", "/")[:160] if lines else "it said nothing"


def install(tool: Tool) -> str:
    """Make a tool's environment, unless it is there with the same requirements; why that failed, or nothing."""
    requirements = SCRIPTS / f"{tool.name}.txt"
    if not requirements.exists():
        return ""
    folder = ENVIRONMENTS / tool.name
    ready = folder / ".ready"
    if ready.exists() and ready.read_text() == requirements.read_text():
        return ""
    print(f"Setting up {folder.relative_to(REPOSITORY)}, once …", file=sys.stderr, flush=True)
    venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "install", "-r", str(requirements)]
    for command in (venv, pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = last_line("\n".join(errors) or done.stderr).removeprefix("ERROR: ")
            return f"does not install: {reason}"
    ready.write_text(requirements.read_text())
    return ""


def title_of(tool: Tool) -> str:
    """The name of a tool with its version, as its requirements pin it."""
    requirements = SCRIPTS / f"{tool.name}.txt"
    if not requirements.exists():
        return tool.name
    return requirements.read_text().split("\n", 1)[0].replace("==", " ")


def first_run(bench: Bench, tool: Tool) -> Result:
    """Run a tool once, with a look at its memory and at what it made."""
    if failure := install(tool):
        return Result(failure)
    bench.prepare()
    try:
        memory = measure.peak_memory(tool.name, bench.command(tool), bench.env, bench.base)
        return Result(memory=memory, verdict=bench.check(tool))
    except measure.CommandError as error:
        slow = error.code in {124, 137}
        return Result(f"took more than {bench.limit} s" if slow else f"failed: {last_line(str(error))}")
    except (OSError, ValueError) as error:
        return Result(f"what it made cannot be read: {last_line(str(error))}")


HEADERS = (
    "tool", "reads", "images", "s", "times ours", "peak MB", "rows missing", "extra", "changed", "largest change",
    "crowds as rows", "images missing", "extra", "without rows", "wrong split", "classes",
)  # fmt: skip


def row_of(tool: Tool, results: Mapping[str, Result]) -> tuple[str, ...]:
    """The cells of a tool."""
    result = results[tool.name]
    title = title_of(tool)
    if result.failure or result.verdict is None or result.memory is None or result.seconds is None:
        return (f"{title}: {result.failure}", tool.reads, *[""] * (len(HEADERS) - 2))
    base = results[tool.ours].seconds
    found = result.verdict
    numbers = (found.missing, found.extra, found.changed)
    unseen = found.images_missing + found.images_damaged
    return (
        title,
        tool.reads,
        tool.images,
        f"{result.seconds.median:.2f}",
        "" if tool.is_ours or base is None else f"{result.seconds.median / base.median:.2f}",
        f"{result.memory.megabytes:.0f}",
        *(f"{number:,}" for number in numbers),
        f"{found.largest:.0e}" if found.changed else "",
        f"{found.crowds:,}" if tool.reads != "YOLO" else "",
        f"{unseen:,}" if tool.images != "none" else "",
        *(f"{number:,}" for number in (found.images_extra, found.backgrounds, found.wrong_split)),
        str(found.classes or "none named"),
    )


def run(bench: Bench, peers: list[Tool], rounds: int) -> None:
    """Run all tools in turn and print the table."""
    wanted = {tool.ours for tool in peers}
    tools = [tool for tool in OURS if tool.name in wanted] + peers
    results = {tool.name: first_run(bench, tool) for tool in tools}
    good = [tool for tool in tools if not results[tool.name].failure]
    commands = {tool.name: bench.command(tool) for tool in good}
    taken = measure.alternate(commands, rounds, bench.prepare, bench.env, bench.base, warm_up=False)
    for name, summary in taken.items():
        results[name].seconds = summary
    measure.print_summaries("runs", taken.values())
    rows = sum(map(len, bench.wanted.rows.values()))
    title = f"{', '.join(CLASSES)}: {rows:,} rows in {len(bench.wanted.rows):,} images, medians of {rounds} runs"
    print(f"\n### {title}\n\n{measure.table(HEADERS, [row_of(tool, results) for tool in tools])}", flush=True)


def main() -> int:
    """Print the table; the exit code is 2 where a command fails that did not in its first run."""
    known = {tool.name: tool for tool in PEERS}
    parser = argparse.ArgumentParser(description="the same job in other tools, as a table")
    parser.add_argument("--files", type=int, default=COCO_LABELLED, help="label files in train (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each tool (%(default)s)")
    parser.add_argument("--peers", default=",".join(known), help="names with commas (%(default)s)")
    parser.add_argument("--limit", type=int, default=600, help="seconds that a run may take (%(default)s)")
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="folder to work in (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the collection for the next time")
    args = parser.parse_args()
    if unknown := set(args.peers.split(",")) - known.keys():
        parser.error(f"--peers: there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    peers = [known[name] for name in args.peers.split(",")]
    base = pick_base(args.base, 30_000 * args.files)
    tree = base / "peers-tree"

    def work() -> None:
        run(make_bench(base / "peers", tree, args.files, args.limit), peers, args.rounds)

    try:
        return run_in(base / "peers", work, keep=False)
    finally:
        if not args.keep:
            shutil.rmtree(tree, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
