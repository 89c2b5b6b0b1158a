"""What each command prints with ``--json``, field by field: others' scripts read it.

The documents are files in ``json/``, one a command, and `python -m tests.builds.test_json` writes them anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from pipeline.cli import run_cli
from pipeline.reports import documents
from tests.support.helpers import settle, write_file

PROJECT = Path(__file__).parents[2]
DOCUMENTS = Path(__file__).parent / "json"

#: What conf/ says of these documents.
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((PROJECT / "conf/run.schema.json").read_text(encoding="utf-8")),
    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
)

#: What differs from machine to machine and from run to run, by the name of its field.
_VOLATILE = {"time": "TIME", "host": "HOST", "seconds": 0, "process": 0, "tool": "TOOL", "fingerprint": "DIGEST"}
_VOLATILE |= {"run": "RUN", "age": 0}

#: What each command's document is, by type: `pipeline.reports.documents`.
TYPES: dict[str, Any] = {
    "build": documents.BuildReport,
    "plan": documents.PlanReport,
    "index": Mapping[str, Any],  # msgspec knows no union of dictionaries
    "fetch": documents.FetchReport,
    "verify": documents.VerifyReport,
    "diff": documents.DiffReport,
    "status": documents.StatusReport,
    "init": documents.InitReport,
    "stats": Mapping[str, Any],
}

_SPLITS = {"train": "train2017", "val": "val2017"}


def _masked(value: Any, folder: str) -> Any:
    """`value` without what differs: the folder of this run, and digests of paths in it."""
    if isinstance(value, dict):
        return {k: _VOLATILE.get(k, _masked(v, folder)) if v is not None else None for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(inner, folder) for inner in value]
    if isinstance(value, str):
        return re.sub(r"-[0-9a-f]{8}(?![0-9a-f])", "-DIGEST", value.replace(folder, "FOLDER"))
    return value


def _command(folder: str, *words: str) -> Any:
    """What ``coco-diy WORDS --json`` prints on stdout in the working directory."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        run_cli([*words, "--json"])
    document = json.loads(out.getvalue())
    SCHEMA.validate(document)
    return _masked(document, folder)


def _config(name: str, source: dict[str, Any], **keys: Any) -> str:
    data = {
        "source": {"names": "coco.yaml", "splits": _SPLITS, **source},
        "classes": ["bicycle", {"name": "vehicle", "from": ["car", "bus", "truck"]}],
        "target": {"root": f"build/{name}"},
        "workdir": "cache",
        "engine": {"scheduler": "sync"},
        **keys,
    }
    write_file(Path(f"{name}.yaml"), yaml.safe_dump(data, sort_keys=False))
    return f"{name}.yaml"


def all_documents(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name and document of each command, in order, run on copies of the sample in `folder`, the working directory."""
    shutil.copytree(PROJECT / "tests/sample", folder / "sample")
    shutil.copy(PROJECT / "conf/coco.yaml", folder / "coco.yaml")
    shutil.copytree(folder / "sample/detect", folder / "faulty")
    labels = folder / "faulty/labels/train2017"
    with (labels / "000000700113.txt").open("a") as file:
        file.write("1 0.5 0.5 oops 0.1\n")
    (folder / "faulty/images/train2017/000000700081.png").unlink()
    (folder / "vehicles.yaml").write_text("names: {0: vehicle}\n")
    (folder / "blob.bin").write_bytes(b"an archive")
    here = str(folder)
    settle()

    first = _config("first", {"root": "sample/detect"})
    second = _config("second", {"root": "sample/detect"}, classes=["car", "bicycle"], select={"backgrounds": "all"})
    shares = {"train": 0.7, "val": 0.3, "stratify": True}
    skip = _config("skip", {"root": "faulty"}, on_error="skip", split=shares)
    fails = _config("fails", {"root": "faulty"})
    several = _config("several", {}, classes=["car", "person"])
    data = yaml.safe_load(Path(several).read_text())
    data["source"] = [{"name": n, **data["source"], "root": f"{n}/detect"} for n in ("sample", "other")]
    shutil.copytree("sample", "other")
    write_file(Path(several), yaml.safe_dump(data))

    yield "plan", _command(here, "plan", first)
    yield "index", _command(here, "index", first)
    yield "build", _command(here, "build", first)
    yield "build-again", _command(here, "build", first)
    yield "stats-config", _command(here, "stats", first)
    yield "stats-target", _command(here, "stats", "build/first")
    yield "build-second", _command(here, "build", second)
    yield "plan-changed", _command(here, "plan", second, "--set", "classes=[bicycle, car]")
    yield (
        "plan-braked",
        _command(here, "plan", second, "--set", "source.root=other/detect", "--set", "target.max_delete=1"),
    )
    yield "diff", _command(here, "diff", "build/first", "build/second")
    min(Path("build/second/labels/train").iterdir()).unlink()
    write_file(Path("build/second/labels/val/stray.txt"), "")
    yield "verify", _command(here, "verify", "build/second", "--deep")
    yield "verify-repair", _command(here, "verify", "build/second", "--repair")
    yield "plan-skip", _command(here, "plan", skip)
    yield "index-skip", _command(here, "index", skip)
    yield "build-skip", _command(here, "build", skip)
    yield "build-skip-again", _command(here, "build", skip)
    yield "build-fails", _command(here, "build", fails)
    yield "index-several", _command(here, "index", several)
    yield "plan-several", _command(here, "plan", several)
    yield "verify-leaks", _command(here, "verify", several, "--leaks")
    yield "status", _command(here, "status", "build/first")
    labelme = ["sample/labelme", "build/coco", "--from", "labelme", "--to", "coco", "--split", "0.8"]
    yield "convert", _command(here, "convert", *labelme, "--workdir", "cache")
    names = ["--src-yaml", "coco.yaml", "--dst-yaml", "vehicles.yaml"]
    yield "remake-unknown", _command(here, "remake", "sample/detect", "build/remade", *names, "--workdir", "cache")
    (folder / "vehicles.yaml").write_text("names: {0: car, 1: bus}\n")
    yield "remake", _command(here, "remake", "sample/detect", "build/remade", *names, "--workdir", "cache")
    archives = {"copy.bin": {"url": str(folder / "blob.bin")}}
    labels_in_zip = {"splits": {"train": {"labels": f"zip://labels::{folder}/copy.bin"}}}
    fetching = _config("fetch", labels_in_zip, fetch={"archives": archives})
    yield "fetch", _command(here, "fetch", fetching)
    yield "fetch-again", _command(here, "fetch", fetching)
    yield "fetch-clean", _command(here, "fetch", first, "--clean")
    yield "init", _command(here, "init", "bicycle")


def test_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = dict(all_documents(tmp_path))
    assert found.keys() == {path.stem for path in DOCUMENTS.iterdir()}
    for name, document in found.items():
        assert document == json.loads((DOCUMENTS / f"{name}.json").read_text(encoding="utf-8")), name
        if document.get("error") is None:
            msgspec.convert(document, TYPES[document["command"]])
    msgspec.convert(found["index"]["source"], dict[str, documents.SourceTotals])
    msgspec.convert(found["index-several"]["source"], dict[str, dict[str, documents.SourceTotals]])


def _text(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write the documents anew."""
    for path in DOCUMENTS.glob("*.json"):
        path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COCO_DIY_STATE"] = f"{folder}/state"
        os.chdir(folder)
        for name, document in all_documents(Path(folder)):
            (DOCUMENTS / f"{name}.json").write_text(_text(document), encoding="utf-8")


if __name__ == "__main__":
    main()
