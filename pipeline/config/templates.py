"""The ready files that come with the package, for `coco-diy init`: configs, and what runs one, a timer or a cluster."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

from pipeline.base.errors import ConfigError, UnknownNameError, unknown

#: Folders of files that run a config.
_FOLDERS = ("cluster", "schedule")


def folder() -> Path:
    """Where the ready files are: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return next(p for p in (here / "conf", here.parent / "conf") if p.is_dir())


def available() -> list[str]:
    """Names of the ready configs; names YAMLs come along with those that need them."""
    return [name for name, path in _ready().items() if path.parent == folder()]


def _ready() -> dict[str, Path]:
    """The ready files by name: the configs, then those of `_FOLDERS`, such as ``schedule/crontab``."""
    configs = [
        p for p in sorted(folder().glob("*.yaml"), key=lambda p: p.stem) if "source:" in p.read_text(encoding="utf-8")
    ]
    others = [p for name in _FOLDERS for p in sorted((folder() / name).glob("[!_]*")) if p.suffix != ".md"]
    return {p.relative_to(folder()).with_suffix("").as_posix(): p for p in configs + others}


def _files(ready: Path) -> list[Path]:
    """The files that the ready file `ready` consists of: those in it where it is a folder."""
    return sorted(ready.iterdir()) if ready.is_dir() else [ready]


def described() -> dict[str, str]:
    """What each ready file is for, by its name: the first sentence in it."""
    found = {}
    for name, path in _ready().items():
        text = _files(path)[0].read_text(encoding="utf-8")
        lines = [line.strip('#" ') for line in text.splitlines() if line[:2] != "#!"]
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
    files = _files(known[name])
    needed = re.findall(r"^\s*names:\s*conf/(\S+)", files[0].read_text(encoding="utf-8"), re.MULTILINE)
    written = []
    for source in [*files, *(folder() / n for n in needed)]:
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
