"""The ready configs that come with the package, for `coco-diy init`."""

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
    return sorted(p.stem for p in folder().glob("*.yaml") if "source:" in p.read_text(encoding="utf-8"))


def described() -> dict[str, str]:
    """What each ready config is for, by its name: the first sentence in it."""
    found = {}
    for name in available():
        lines = (folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        comment = " ".join(itertools.takewhile(bool, (line.lstrip("#").strip() for line in lines)))
        found[name] = re.split(r"\.(?:\s|$)", comment)[0] + "."
    return found


def fetching_coco(root: str, task: str, *, whole: bool) -> str:
    """The commands that get COCO 2017 below the folder `root`: labels of `task` or, `whole`, its JSON files."""
    names = "annotations_trainval2017.zip train2017.zip val2017.zip " if whole else ""
    labels = "" if task == "detect" or whole else f" --set source.task={task}"
    return (
        f"`coco-diy init coco2017`, then `coco-diy fetch conf/coco2017.yaml {names}--into {shlex.quote(root)}{labels}`"
    )


def copy_ready(name: str, *, force: bool = False, into: Path | None = None) -> list[tuple[Path, bool]]:
    """Copy the config `name` and the names YAML it points at to ``conf/`` below `into`.

    Returns the files, and whether each was written: one with the same content is left.

    Raises `UnknownNameError` for a name that is not there, `ConfigError` where a different file exists already.
    """
    known = available()
    if name not in known:
        raise UnknownNameError(unknown("ready config", name, known))
    config = folder() / f"{name}.yaml"
    needed = re.findall(r"^\s*names:\s*conf/(\S+)", config.read_text(encoding="utf-8"), re.MULTILINE)
    target = (into or Path()) / "conf"
    written = []
    for source in [config, *(folder() / n for n in needed)]:
        path = target / source.name
        content = source.read_bytes()
        if path.exists() and path.read_bytes() == content:
            written.append((path, False))
            continue
        if path.exists() and not force:
            raise ConfigError(f"{path}: is there already and differs; use --force to replace it")
        target.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append((path, True))
    return written
