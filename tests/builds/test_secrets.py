"""Nothing that a run leaves or prints holds a login or a signature: everything is searched for planted ones."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.storage import retry
from tests.base.test_redaction import SECRET, SIGNED
from tests.conftest import MakeSubset, Run, Subset
from tests.support.archives import pack
from tests.support.helpers import write_file
from tests.support.web import Faults, faulty

COMMANDS = [
    ("plan",),
    ("build", "--json"),
    ("build",),
    ("verify", "--deep"),
    ("verify", "--json"),
    ("status",),
    ("stats",),
    ("index",),
    ("build", "--set", "classes=[bus]"),
    ("verify", "--repair"),
]


def leaks(*folders: Path) -> Iterator[str]:
    """Where a secret stands below `folders`: in names, in bytes, in the cells and the schema of tables, in archives."""
    for folder in folders:
        for path in folder.rglob("*"):
            if SECRET in path.name:
                yield f"{path}: its name"
            if not path.is_file():
                continue
            data = path.read_bytes()
            if data.startswith(b"PAR1"):
                table = pq.read_table(path)
                data += str(table.to_pylist()).encode() + str(table.schema).encode()
            elif zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    data += b"".join(archive.read(name) for name in archive.namelist())
            if SECRET.encode() in data:
                yield str(path)


def said(run: Run, *args: str | Path, code: int | None = None) -> str:
    """All that a command prints."""
    done = run(*args, code=code)
    return done.out + done.err


def fetching(urls: list[str]) -> dict[str, Any]:
    return {"mirror": urls[0], "archives": {f"{i}.zip": {"url": url} for i, url in enumerate(urls)}}


def test_the_logins_of_fetch_are_left_nowhere(town: Path, make_subset: MakeSubset, tmp_path: Path, run: Run) -> None:
    subset = make_subset(town, fetch=fetching(SIGNED))
    for name, *args in COMMANDS:
        text = said(run, name, subset.config, *args)
        assert SECRET not in text, (name, text)
    for i in range(len(SIGNED)):
        assert SECRET not in said(
            run,
            "fetch",
            subset.config,
            f"{i}.zip",
            "--set",
            "fetch.mirror=null",
            "--set",
            f"fetch.archives.{i}.zip.url=x",
        )
    assert SECRET not in said(run, "verify", subset.target, "--repair")
    assert SECRET not in said(run, "status", subset.target, "--json")
    assert list(leaks(subset.target, subset.workdir)) == []


def test_a_zip_of_the_subset_holds_none(town: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(town, fetch=fetching(SIGNED))
    subset.build("--set", "target.archive=zip")
    assert list(subset.target.glob("*.zip"))
    assert list(leaks(subset.target, subset.workdir)) == []


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_a_download_by_a_signed_url_leaves_none(
    town: Path, tmp_path: Path, run: Run, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "TRANSFER", replace(retry.TRANSFER, first_s=0.01))
    pack(town / "labels", tmp_path / "www/labels.zip", "coco/labels")
    path = f"/labels.zip?sv=1&sig={SECRET}"
    faults = Faults({path: (tmp_path / "www/labels.zip").read_bytes()}, broken={} if status == 200 else {path: status})
    with faulty(faults) as url:
        config = write_file(
            tmp_path / "c/c.yaml",
            yaml.safe_dump(
                {
                    "source": {
                        "names": str(town / "coco.yaml"),
                        "root": str(tmp_path / "coco"),
                        "splits": {"train": "train2017"},
                    },
                    "target": {"root": str(tmp_path / "t"), "images": "none"},
                    "workdir": str(tmp_path / "w"),
                    "fetch": {
                        "folder": str(tmp_path / "d"),
                        "mirror": f"{url.replace('//', f'//me:{SECRET}@')}?sv=1&sig={SECRET}",
                        "archives": {"labels.zip": {"url": "x", "task": "detect", "unpack": {"coco": ""}}},
                    },
                }
            ),
        )
        expected = 0 if status == 200 else 75 if status >= 500 else 1
        for flag in ("--json", "-v", "-q"):
            text = said(run, "fetch", config, "--extract", flag, code=expected)
            assert SECRET not in text
        assert SECRET not in said(run, "build", config, code=0 if status == 200 else 2)
    assert any(SECRET in asked for asked, _ in faults.asked)
    assert list(leaks(*(tmp_path / name for name in "dwt"), tmp_path / "coco")) == []


#: Where a user may put a URL by mistake, {} being it.
ARGUMENTS = [
    *(
        ("plan", "CONFIG", "--set", f"{key}={{}}")
        for key in (
            "fetch.mirrorr",
            "fetch.connections",
            "fetch.archives",
            "target.root",
            "target.format",
            "target.images",
            "workdir",
            "source.root",
            "source.names",
            "source.format",
            "source.task",
            "source.name",
            "source.options",
            "classes",
            "select",
            "index.buckets",
            "split.train",
            "engine.workers",
            "on_error",
            "source.splits.train",
            "nothing",
            "{}",
        )
    ),
    *(
        ("plan", "CONFIG", "--set", f"source.splits.train={{{{{inside}}}}}")
        for inside in (
            "labels: '{}'",
            "labels: '{}', images: '{}'",
            "labels: /, images: {{url: '{}', suffix: .jpg}}",
            "annotations: '{}'",
            "labels: 'zip://x::{}'",
        )
    ),
    ("plan", "CONFIG", "--workers", "{}"),
    ("plan", "CONFIG", "{}"),
    ("plan", "CONFIG", "--{}"),
    ("{}",),
    ("fetch", "CONFIG", "{}"),
    ("fetch", "CONFIG", "--extract", "--set", "source.root={}"),
    *((name, "{}") for name in ("build", "plan", "verify", "status", "stats", "init", "fetch")),
    ("diff", "{}", "{}"),
    ("convert", "{}", "DST", "--from", "yolo", "--to", "coco"),
    ("convert", "SRC", "{}", "--from", "yolo", "--to", "coco"),
    ("remake", "{}", "DST", "--src-yaml", "{}", "--dst-yaml", "{}"),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_no_message_quotes_one(
    arguments: tuple[str, ...], subset: Subset, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in SIGNED:
        given = [
            str(subset.config) if a == "CONFIG" else a.replace("{{", "{").replace("}}", "}").replace("{}", url)
            for a in arguments
        ]
        for more in ((), ("-v",)):
            text = said(run, *given, *(more if len(given) > 1 else ()))
            assert SECRET not in text, given
    assert [p for p in leaks(tmp_path) if os.path.basename(p) != "c.yaml"] == []
