"""Worlds to be spoiled: a source, a workdir and a target of each kind of build, and what is done to any of their files.

A spoiled file is still a file of its kind: JSON has another value at any depth, a record vouches for itself anew, a
table has another cell or column, an archive other names. So what is tried is what comes after the first check. No test
stands here.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.base.digest import digest_of, seal, unseal
from pipeline.cli import run_cli
from pipeline.storage.archives import table as archive_tables
from pipeline.tables.parquet import to_parquet
from tests.support import kinds
from tests.support.helpers import make_town, picture, snapshot, write_file
from tests.support.kinds import Kind

DEEP = json.loads("[" * 900 + "]" * 900)

#: What may stand where another value is expected. HOME is a folder that nothing of ours may touch.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 7, 65536, 65537, 2**31, 2**63, 2**64, 10**19, 1e308, float("nan"),
    float("inf"), "", " ", ".", "..", "../HOME/thesis.txt", "images/../../HOME/thesis.txt", "HOMEABS/thesis.txt",
    "images/train/../../../HOME/thesis.txt", "images/train/a.jpg", ".coco-diy/lock", "a\0b", "x" * 5000, "a/" * 600,
    "\ud800", "\x1b[2J", "<b>", "%s{0}", "yes", "1", "-", "0" * 32, "f" * 32, "none", [], {}, [[]], [None], [1, 2],
    ["a"], {"": None}, {"a": {}}, DEEP, "train", "test", "e\u0301", "\u202e", "labels", "images/", "/", "a:b", "*",
]  # fmt: skip

WORLDS: dict[str, Callable[[Path, Path], Kind]] = {
    "folders": kinds.folders,
    "zip target": kinds.zip_target,
    "zip source": kinds.zip_source,
    "COCO JSON": kinds.coco_json,
    "labelme": kinds.labelme,
    "split": kinds.split,
}

COMMANDS = [
    "build CONFIG",
    "build CONFIG",
    "build CONFIG --set classes=[bus,person]",
    "build CONFIG --max-delete none",
    "build CONFIG --set on_error=skip --set select.check_images=header",
    "build CONFIG --set select.backgrounds=all --set select.duplicates=drop",
    "build CONFIG --set target.archive=zip",
    "build CONFIG --set split={train:0.5,val:0.5,by:image,stratify:true}",
    "plan CONFIG",
    "index CONFIG",
    "verify TARGET",
    "verify TARGET --deep",
    "verify TARGET --deep --repair",
    "verify CONFIG --repair",
    "stats TARGET",
    "stats CONFIG",
    "status TARGET",
    "status CONFIG",
    "diff TARGET AGAIN",
    "diff AGAIN TARGET",
    "fetch CONFIG --extract",
    "fetch CONFIG --clean",
    "convert SOURCE OTHER --from yolo --to coco --workdir WORK",
    "convert SOURCE OTHER --from coco --to yolo --workdir WORK",
    "convert SOURCE TARGET --from labelme --to yolo --workdir WORK",
    "remake SOURCE TARGET --src-yaml SOURCE/coco.yaml --dst-yaml SOURCE/coco.yaml --workdir WORK",
]

#: What no message may hold: Python's words, and what a terminal obeys.
_OURS_ALONE = re.compile(
    r"internal error|Traceback|\b[A-Z]\w+Error\b|object at 0x|\[Errno|memory is used up|[\x00-\x08\x1b]"
)


def other(value: Any, rng: random.Random, home: str) -> Any:
    """A value that may stand for `value`: any, or one of its kind."""
    if isinstance(value, str) and rng.random() < 0.3:
        return rng.choice(
            (value + "/..", "../" + value, value * 2, value[:-1], value.upper(), f"./{value}", value + "\0")
        )
    if isinstance(value, int) and rng.random() < 0.3:
        return rng.choice((value + 1, -value, value * 10**6, float(value), str(value)))
    found = rng.choice(VALUES)
    return found.replace("HOMEABS", home).replace("HOME", "home") if isinstance(found, str) else found


def altered(value: Any, rng: random.Random, home: str, depth: int = 0) -> Any:
    """A JSON value with something in it replaced, left out, doubled or put in."""
    if depth and (rng.random() < 0.15 or not isinstance(value, list | dict) or not value):
        return other(value, rng, home)
    value = value.copy()
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    what = rng.random()
    if what < 0.1:
        del value[key]
    elif what < 0.2 and isinstance(value, list):
        value.append(value[key])
    elif what < 0.2:
        value[str(other(key, rng, home))] = value.pop(key) if rng.random() < 0.5 else value[key]
    else:
        value[key] = altered(value[key], rng, home, depth + 1)
    return value


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with some bytes cut, doubled or changed."""
    for _ in range(rng.randint(1, 3)):
        a = rng.randrange(len(data) + 1)
        b = min(len(data), a + int(rng.expovariate(0.1)))
        data = (
            data[:a]
            + rng.choice((b"", data[a:b] * 2, bytes([rng.randrange(256)]), b"\0", b"\xff", b"9" * 40))
            + data[b:]
        )
    return data if rng.random() > 0.1 else data[: rng.randrange(len(data) + 1)]


def altered_table(table: pa.Table, rng: random.Random, home: str) -> pa.Table:
    """A table with other cells, rows or columns."""
    what = rng.random()
    name = rng.choice(table.column_names) if table.column_names else None
    if name is None or what < 0.08:
        return rng.choice((table.slice(0, 0), pa.concat_tables([table, table]), table.slice(1)))
    at = table.schema.get_field_index(name)
    if what < 0.18:
        return table.drop_columns([name])
    if what < 0.24:
        return table.rename_columns([f"{n}x" if n == name else n for n in table.column_names])
    column, number = table[name].to_pylist(), rng.randrange(max(1, table.num_rows))
    if not column:
        return table.slice(0, 0)
    for _ in range(50):
        cells = list(column)
        cells[number] = rng.choice((other(cells[number], rng, home), rng.choice(cells)))
        if what < 0.34:
            cells = [cells[number]] * len(cells)
        try:
            made = pa.array(cells, table.schema.field(name).type if what < 0.9 else None)
            return table.set_column(at, pa.field(name, made.type), made)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            continue
    return table.drop_columns([name])


def altered_zip(data: bytes, rng: random.Random, home: str) -> bytes:
    """An archive with other names or contents."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(out, "w") as made,
        warnings.catch_warnings(action="ignore", category=UserWarning),  # of a name that comes twice
    ):
        entries = source.infolist()
        spoiled = rng.sample(range(len(entries)), min(len(entries), rng.randint(1, 3)))
        for i, entry in enumerate(entries):
            content, name = source.read(entry), entry.filename
            if i in spoiled:
                how = rng.random()
                if how < 0.5:
                    name = str(other(name, rng, home)).encode(errors="replace").decode()[:60000]
                elif how < 0.6:
                    continue
                elif how < 0.7:
                    name = entries[0].filename
                elif how < 0.8:
                    entry.external_attr = 0o120777 << 16
                else:
                    content = damaged(content, rng)
            info = zipfile.ZipInfo(name or "x", entry.date_time)
            info.external_attr, info.compress_type = entry.external_attr, rng.choice((0, 8))
            made.writestr(info, content)
    return out.getvalue()


@dataclass
class World:
    """One kind of build with all its files below `folder`; `again` is a second target of it, that is not spoiled."""

    kind: Kind
    folder: Path
    config: Path

    @staticmethod
    def made(name: str, folder: Path) -> World:
        """A world of the kind `name`, built."""
        shutil.rmtree(folder, ignore_errors=True)
        here = folder / "now"
        crowd = make_town(here / "source")
        for number in range(8):
            write_file(crowd / f"images/train2017/more{number}.jpg", picture(f"more{number}"))
            write_file(crowd / f"labels/train2017/more{number}.txt", f"{number % 6} 0.5 0.5 0.2 0.{number + 1}\n")
        kind = WORLDS[name](here / "build", crowd)
        words = kind.command()
        for path in ("thesis.txt", "sub/photo.jpg"):
            write_file(here / "home" / path, f"precious {path}")
        assert run_cli([*words, "-q", "--set", f"target.root={here}/again"]) == 0
        assert run_cli([*words, "-q"]) == 0
        world = World(kind, folder, Path(words[1]))
        shutil.copytree(here, folder / "whole", symlinks=True)
        for place in ("images/train/sub/deep", "labels/train/sub/deep"):
            if not (here / "build/out" / place).exists():
                write_file(here / "build/out" / place, "foreign")
        run_cli([*words, "-q", "--set", "classes=[bus,truck,car]", "--max-delete", "none"])
        shutil.copytree(here, folder / "half", symlinks=True)
        return world

    def reset(self, state: str) -> None:
        """Everything as it was after the build (``whole``), or after one that a foreign file stopped (``half``)."""
        here = self.folder / "now"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(self.folder / state, here, symlinks=True)

    @property
    def here(self) -> Path:
        """The folder of all that there is."""
        return self.folder / "now"

    def files(self) -> list[Path]:
        """What can be spoiled."""
        kept = ("home", "again")
        return [
            p for p in sorted(self.here.rglob("*")) if p.is_file() and p.relative_to(self.here).parts[0] not in kept
        ]

    def drawn(self, rng: random.Random) -> list[str]:
        """The words of one of the commands."""
        command = rng.choice(COMMANDS)
        kept = {
            "CONFIG": str(self.config),
            "TARGET": str(self.here / "build/out"),
            "AGAIN": str(self.here / "again"),
            "OTHER": str(self.here / "other"),
            "WORK": str(self.here / "build/work"),
            "SOURCE": str(self.here / rng.choice(("source", "build-json", "build-labelme/photos", "build/out"))),
        }
        found = [kept.get(word, word) for word in command.split()]
        found = [word.replace("SOURCE", kept["SOURCE"]) for word in found]
        if found[0] in ("build", "plan", "index", "stats", "remake", "convert") and "--scheduler" not in found:
            found += ["--scheduler", "sync", "--workers", "1"]
        return [*found, "--json"] if rng.random() < 0.3 else found


def spoil(world: World, path: Path, rng: random.Random) -> str:
    """Spoil one file; returns what was done, in a few words."""
    home, data = str(world.here / "home"), path.read_bytes()
    told = str(path.relative_to(world.here))
    if rng.random() < 0.12:
        path.write_bytes(damaged(data, rng))
        return f"{told}: bytes"
    if path.suffix == ".json":
        return f"{told}: {_spoil_json(path, data, rng, home)}"
    if path.suffix in (".yaml", ".yml"):
        try:
            content = yaml.safe_load(data)
        except (yaml.YAMLError, ValueError):
            content = None
        if isinstance(content, dict | list) and content:
            path.write_text(json.dumps(altered(content, rng, home)), errors="replace")  # which is YAML, at any depth
            return f"{told}: values"
    if path.suffix == ".parquet":
        _spoil_table(path, data, rng, home)
        return f"{told}: cells"
    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        path.write_bytes(altered_zip(data, rng, home))
        return f"{told}: entries"
    if path.suffix in (".txt", ".csv") and data:
        tokens = re.split(rb"([\s,]+)", data)
        tokens[rng.randrange(len(tokens))] = str(other("1", rng, home)).encode(errors="replace")
        path.write_bytes(b"".join(tokens))
        return f"{told}: tokens"
    path.write_bytes(damaged(data, rng))
    return f"{told}: bytes"


def _spoil_json(path: Path, data: bytes, rng: random.Random, home: str) -> str:
    try:
        content = json.loads(data)
    except ValueError:
        content = {}
    if not isinstance(content, dict | list) or not content:
        path.write_bytes(damaged(data, rng))
        return "bytes"
    record = unseal(data)
    content = altered(content if record is None else record, rng, home)
    if record is None:
        path.write_text(json.dumps(content), errors="replace")
    elif isinstance(content, dict):
        try:
            made = seal(content)
        except ValueError:  # NaN is in no record
            made = damaged(data, rng)
        path.write_bytes(made)
        _vouch(path, made)
    return "sealed values" if record is not None else "values"


def _vouch(path: Path, made: bytes) -> None:
    """Spoil the copy of a record as well, and have the machine know it, as one that it wrote."""
    from pipeline.target import provenance

    if path.parent.name == ".coco-diy":
        (path.parent / "copy" / path.name).write_bytes(made)
        if len(made) % 2:
            provenance.remember(made)


def _spoil_table(path: Path, data: bytes, rng: random.Random, home: str) -> None:
    """Spoil a table, and name the new one where the old one was named."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        made = to_parquet(altered_table(table, rng, home))
    except (pa.ArrowException, OSError, ValueError):
        path.write_bytes(damaged(data, rng))
        return
    before, after = digest_of(data).hex(), digest_of(made).hex()
    if path.stem == before:
        path.unlink()
        path = path.with_name(f"{after}.parquet")
    path.write_bytes(made)
    for folder in path.parents:
        for record in [*folder.glob("*.json"), *folder.glob("states/*.json")]:
            content = unseal(record.read_bytes())
            if content is not None and before in (text := json.dumps(content)):
                sealed = seal(json.loads(text.replace(before, after)))
                record.write_bytes(sealed)
                if record.parent.name == "states":
                    _vouch_for_states(folder)
                else:
                    _vouch(record, sealed)
    if path.parent.name == "manifest":
        copy = path.parents[1] / "copy/manifest" / path.name
        if copy.parent.is_dir():
            copy.write_bytes(made)


def _vouch_for_states(index: Path) -> None:
    """Have the record of an index name its states as they are now."""
    from pipeline.stages.index.reader import IndexInfo

    info = IndexInfo.read(str(index))
    if info is not None:
        info.write(str(index))


def bad_words(text: str) -> str | None:
    """What of a message no user may see."""
    found = _OURS_ALONE.search(text)
    return found[0] if found else None


def forget() -> None:
    """Let a command see files as a new process would."""
    archive_tables._TABLES.clear()


def guarded(world: World) -> dict[str, dict[str, tuple[int, ...]]]:
    """What no command may change: a home, another target, and what is read."""
    here = world.here
    places = ["home", "again", "source", "build-json", "build-labelme", "build-zips"]
    return {place: snapshot(here / place) for place in places if os.path.isdir(here / place)}
