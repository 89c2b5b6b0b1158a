"""The ready files that come with the package, for `coco-diy init`: configs, and what runs one on a cluster."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

from pipeline.base.errors import ConfigError, UnknownNameError, unknown


def folder() -> Path:
    """Where the ready files are: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return next(p for p in (here / "conf", here.parent / "conf") if p.is_dir())


def available() -> list[str]:
    """Names of the ready configs; names YAMLs come along with those that need them."""
    return [name for name, path in _ready().items() if path.parent == folder()]


def _ready() -> dict[str, Path]:
    """The ready files by name: the configs, then what is for clusters, such as ``cluster/slurm``."""
    configs = [
        p for p in sorted(folder().glob("*.yaml"), key=lambda p: p.stem) if "source:" in p.read_text(encoding="utf-8")
    ]
    others = [p for p in sorted((folder() / "cluster").iterdir()) if p.is_file() and p.suffix != ".md"]
    return {p.relative_to(folder()).with_suffix("").as_posix(): p for p in configs + others}


def described() -> dict[str, str]:
    """What each ready file is for, by its name: the first sentence in it."""
    found = {}
    for name, path in _ready().items():
        lines = [line.strip('#" ') for line in path.read_text(encoding="utf-8").splitlines() if line[:2] != "#!"]
        found[name] = re.split(r"\.(?:\s|$)", " ".join(itertools.takewhile(bool, lines)))[0] + "."
    return found


def fetching_coco(root: str, task: str, *, whole: bool) -> str:
    """The commands that get COCO 2017 below the folder `root`: labels of `task` or, `whole`, its JSON files."""
    names = "annotations_trainval2017.zip train2017.zip val2017.zip " if whole else ""
    labels = "" if task == "detect" or whole else f" --set source.task={task}"
    return (
        f"`coco-diy init coco2017`, then `coco-diy fetch conf/coco2017.yaml {names}--into {shlex.quote(root)}{labels}`"
    )


def copy_ready(name: str, *, force: bool = False, into: Path | None = None) -> list[tuple[Path, bool]]:
    """Copy the ready file `name` and the names YAML it points at to ``conf/`` below `into`.

    Returns the files, and whether each was written: one with the same content is left.

    Raises `UnknownNameError` for a name that is not there, `ConfigError` where a different file exists already.
    """
    known = _ready()
    if name not in known:
        raise UnknownNameError(unknown("ready config", name, list(known)))
    config = known[name]
    needed = re.findall(r"^\s*names:\s*conf/(\S+)", config.read_text(encoding="utf-8"), re.MULTILINE)
    written = []
    for source in [config, *(folder() / n for n in needed)]:
        path = (into or Path()) / "conf" / source.relative_to(folder())
        content = source.read_bytes()
        if path.exists() and path.read_bytes() == content:
            written.append((path, False))
            continue
        if path.exists() and not force:
            raise ConfigError(f"{path}: is there already and differs; use --force to replace it")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append((path, True))
    return written
