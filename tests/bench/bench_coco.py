"""A COCO JSON as large as ``instances_train2017.json`` becomes an index; beside it, `json.load` of the same file.

    python -m tests.bench.bench_coco [--images N] [--rounds 3] [--base DIR] [--keep]
    python -m tests.bench.bench_coco --lvis | --objects365

The file has as many images and annotations as COCO's (118,287 and 860,001; about 450 MB), see `coco_files`. Whole
processes run in turn. Memory is anonymous memory: pages of files are the system's to drop. With ``--lvis`` it is a file
of 1.3 million polygons of 1,203 classes (about 1.1 GB), with ``--objects365`` one of ten million boxes of 365 classes
in 600,000 images (2.1 GB), which become an index and two subsets: minutes each.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path

import yaml

from tests.bench import coco_files, measure
from tests.bench.bench_main import arguments_of, child_environment, pick_base
from tests.bench.measure import Comparison

#: Promised: the time of `json.load`, and anonymous memory in MB.
RATIOS, PEAK = {"detect": 0.5, "segment": 0.45}, 450.0
#: The same of the larger files, of all memory.
LARGE_PEAK = 600.0
#: By the name of a switch what makes the file, its task, its classes.
LARGE = {
    "lvis": (coco_files.make_lvis, "segment", coco_files.LVIS_CLASSES),
    "objects365": (coco_files.make_objects365, "detect", coco_files.OBJECTS365_CLASSES),
}


def bench_large(kind: str, base: Path, images: int, *, keep: bool) -> None:
    """Print what the index, and builds of three classes and of all, of a file like that of `kind` take."""
    folder = base / kind
    folder.mkdir(exist_ok=True)
    file, config = folder / "instances.json", folder / "config.yaml"
    make, task, count = LARGE[kind]
    try:
        rows = make(file, images)
        print(f"{file}: {images:,} images, {rows:,} annotations, {file.stat().st_size / 1e6:.0f} MB", flush=True)
        name = "thing_{}" if kind == "lvis" else "Thing {}"
        source = {"format": "coco", "task": task, "splits": {"train": {"annotations": str(file)}}}
        target = {"root": str(folder / "out"), "images": "none"}
        config.write_text(yaml.safe_dump({"source": source, "target": target, "workdir": str(folder / "work")}))
        some = [name.format(i) for i in (0, 50, 200)]
        peaks = []
        for what, arguments in (
            ("index", ["index"]),
            ("three classes", ["build", "--set", f"classes={json.dumps(some)}"]),
            (f"all {count:,} classes", ["build"]),
        ):
            shutil.rmtree(folder / "out", ignore_errors=True)
            verb, *more = arguments
            command = [sys.executable, "-m", "pipeline", verb, str(config), "-q", *more]
            peaks.append((measure.peak_memory(what, command, child_environment()), LARGE_PEAK))
        measure.print_memory(f"Memory of {kind}: PSS of all processes", peaks)
    finally:
        if not keep:
            shutil.rmtree(folder)


def main() -> int:
    """Print the tables; the exit code is 0 whether or not the promises were kept."""
    large = {"lvis": coco_files.LVIS_IMAGES, "objects365": coco_files.OBJECTS365_IMAGES}
    asked = [name for name in large if f"--{name}" in sys.argv]
    sys.argv = [argument for argument in sys.argv if argument.removeprefix("--") not in large]
    args = arguments_of("COCO JSON to index, and json.load, as tables", coco_files.COCO_IMAGES)
    if asked:
        for name in asked:
            bench_large(name, pick_base(args.base, 4_000_000_000), large[name], keep=args.keep)
        return 0
    base = pick_base(args.base, 12_000 * args.images)
    folder = base / "coco-json"
    file = folder / "instances.json"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        count = coco_files.make_coco(file, args.images)
        print(f"{file}: {args.images:,} images, {count:,} annotations, {file.stat().st_size / 1e6:.0f} MB", flush=True)
    load = [sys.executable, "-c", f"import json; json.load(open({str(file)!r}))"]
    commands = {"json.load": load}
    for task in ("detect", "segment"):
        config = folder / f"{task}.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "source": {"format": "coco", "task": task, "splits": {"train": {"annotations": str(file)}}},
                    "target": {"root": str(folder / "out"), "images": "none"},
                    "workdir": str(folder / "work"),
                }
            )
        )
        commands[f"index for {task}"] = [sys.executable, "-m", "pipeline", "index", str(config), "-q"]

    def forget(_name: str) -> None:
        shutil.rmtree(folder / "work", ignore_errors=True)

    env = child_environment()
    try:
        timed = measure.alternate(commands, args.rounds, forget, env)
        compared = [
            Comparison(name, timed[name], timed["json.load"], RATIOS[name.rpartition(" ")[2]])
            for name in itertools.islice(commands, 1, None)
        ]
        measure.print_comparisons("COCO JSON", compared)
        peaks = []
        for name, command in commands.items():
            forget(name)
            peak = measure.peak_memory(name, command, env, anonymous=True)
            peaks.append((peak, None if name == "json.load" else PEAK))
        measure.print_memory("Memory: anonymous, of all processes", peaks)
    except measure.CommandError as error:
        print(f"a measured command failed: {error}", file=sys.stderr)
        return 2
    finally:
        forget("")
        if not args.keep:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
