"""The config file: what loads, what does not, and where an error says it is."""

from __future__ import annotations

import compileall
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import load_config
from pipeline.base.errors import ConfigError
from pipeline.config import templates
from pipeline.config.load import apply_overrides, load_names, load_specs, map_classes
from pipeline.config.model import Config
from tests.conftest import MakeSubset, Run
from tests.support.helpers import PROJECT, names_yaml, write_file

MINIMAL = """\
source:
  names: coco.yaml
  root: coco
  splits: {train: train2017, val: val2017}
target: {root: out}
"""

#: The example of the design, its two comments of other sources left out.
EXAMPLE = """\
source:
  format: yolo
  task: detect
  names: conf/coco.yaml
  root: datasets/coco
  splits: {train: train2017, val: val2017}
fetch: {}
classes: [bicycle, {name: vehicle, from: [car, bus, truck]}]
select: {check_images: none}
split: null
target: {root: datasets/bicycle, format: yolo, images: copy, yaml: portable, max_delete: 10%}
index: {buckets: auto}
engine: {scheduler: auto, workers: auto}
runs: {keep: 30}
hooks: {start: null, success: null, failure: null}
on_error: fail
workdir: work
"""


SELECT = {
    "images": None,
    "exclude_images": None,
    "objects": {
        **dict.fromkeys(("min_side", "max_side", "min_area", "max_area", "min_area_ratio", "max_aspect", "where")),
        "drop": "object",
    },
    "duplicates": "keep",
    "objects_per_image": {"min": 1, "max": None},
    "check_images": "none",
    "on_unlabelled": "keep",
    "dedup": None,
    "per_class": {"max_images": None, "max_objects": None, "seed": 0},
    "background": "none",
}


def load(folder: Path, text: str, *overrides: str) -> Config:
    return load_config(write_file(folder / "c.yaml", text), overrides)


@pytest.mark.parametrize(
    "key", ["target.root", "workdir", "source.root", "source.names", "fetch.folder", "split.table"]
)
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("$HOME/x", r"\$HOME is not expanded here; write the path out"),
        ("/data/${USER}/x", r"\$\{USER\} is not expanded here; write the path out"),
        ("runs-$SLURM_JOB_ID", r"\$SLURM_JOB_ID is not expanded here; write the path out"),
        ("~nobody-is-called-so/x", "no user of this machine is called 'nobody-is-called-so'; write the path out"),
    ],
)
def test_what_a_shell_would_have_replaced(tmp_path: Path, key: str, path: str, why: str) -> None:
    """No folder is made that is called so."""
    extra = ["split={train: 0.5, val: 0.5}"] if key == "split.table" else []
    with pytest.raises(ConfigError, match=f"{re.escape(f'--set {key}={path}')}: {re.escape(key)}: {why}"):
        load(tmp_path, MINIMAL, *extra, f"{key}={path}")


@pytest.mark.parametrize("path", ["~/x", "a$", "cost$5", "$a/x", "./~b/x", "~b/x", "C$/x", "s3://bucket/$a"])
def test_a_folder_that_is_called_as_a_variable_is(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("$a", "~b"):
        (tmp_path / name).mkdir()
    assert load(tmp_path, MINIMAL, f"target.root={path}").target.root == path


def test_minimal_config_has_the_defaults_of_the_design(tmp_path: Path) -> None:
    found = load(tmp_path, MINIMAL)
    told = found.model_dump()
    assert told["source"]["format"] == "yolo"
    assert told["source"]["task"] == "detect"
    assert told["classes"] is None
    assert told["select"] == SELECT
    assert told["target"] == {
        "root": "out",
        "layout": "default",
        "flat": False,
        "format": "yolo",
        "images": "copy",
        "yaml": "portable",
        "archive": "none",
        "report": False,
        "max_delete": "10%",
    }
    assert told["index"] == {"buckets": "auto"}
    assert told["engine"] == {"scheduler": "auto", "workers": "auto", "wait_workers": 300, "performance_report": None}
    assert told["runs"] == {"keep": 30}
    assert (told["on_error"], told["workdir"], told["split"]) == ("fail", "work", None)


def test_example_of_the_design_loads(tmp_path: Path) -> None:
    found = load(tmp_path, EXAMPLE)
    assert found.classes == Config.model_validate(yaml.safe_load(EXAMPLE)).classes
    assert isinstance(found.classes, list)
    assert len(found.classes) == 2


def test_what_the_example_says_is_in_the_design(shared: Path) -> None:
    """The design has keys that are to come; those that are here have its names and values."""
    told = yaml.safe_load((shared / "DESIGN.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0])
    for key, value in yaml.safe_load(EXAMPLE).items():
        if key in ("fetch", "index", "runs"):
            continue  # how the work is done, not what is made
        if isinstance(value, dict):
            assert value.items() <= told[key].items(), key
        elif key != "classes":
            assert value == told[key], key


SHIPPED = sorted(p for p in (PROJECT / "conf").glob("*.yaml") if "source:" in p.read_text(encoding="utf-8"))


def test_configs_are_shipped() -> None:
    assert {"bicycle", "demo", "labelme", "vehicles", "segment", "person-pose"} <= {p.stem for p in SHIPPED}


def _unknown_keys(data: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> list[str]:
    """Keys of `data` that the JSON Schema does not list; ours forbids none by `$ref` alone."""
    branches = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    branches = [root["$defs"][b["$ref"].rpartition("/")[2]] if "$ref" in b else b for b in branches]
    if isinstance(data, list):
        items = [b["items"] for b in branches if "items" in b]
        return [found for entry in data for found in _unknown_keys(entry, items[0], root, f"{at}[]")]
    if not isinstance(data, dict):
        return []
    deeper = [branch for b in branches for branch in b.get("anyOf", ())]
    branches += [root["$defs"][b["$ref"].rpartition("/")[2]] if "$ref" in b else b for b in deeper]
    known = {k: v for b in branches for k, v in b.get("properties", {}).items()}
    if not known:
        return []
    found = [f"{at}.{key}" for key in data if key not in known]
    for key, value in data.items():
        if key in known:
            found += _unknown_keys(value, known[key], root, f"{at}.{key}")
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_config_loads_and_has_only_known_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    found = load_config(path)
    schema = Config.model_json_schema()
    assert _unknown_keys(yaml.safe_load(path.read_text(encoding="utf-8")), schema, schema) == []
    names = [names for s in found.sources if (names := load_names(s))]
    if names:  # without, the source's label files name the classes themselves
        assert map_classes(found, load_specs(found), names)


def test_the_look_for_unknown_keys_finds_some() -> None:
    schema = Config.model_json_schema()
    data = yaml.safe_load(EXAMPLE) | {"colour": 1}
    data["target"]["shape"] = 2
    data["classes"].append({"name": "x", "of": []})
    assert _unknown_keys(data, schema, schema) == [".colour", ".classes[].of", ".target.shape"]


@pytest.mark.parametrize("name", [p.stem for p in SHIPPED])
def test_init_copies_a_config_that_loads(name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("init", name).out.split()
    assert told[0] == f"conf/{name}.yaml"
    found = load_config(f"conf/{name}.yaml")
    assert found.sources[0].names is None or Path(found.sources[0].names).is_file()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "conf").iterdir()}
    assert run("init", name).out.count("is there already") == len(before)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    write_file(tmp_path / "conf" / f"{name}.yaml", "mine")
    assert "--force" in run("init", name, code=2).err
    run("init", name, "--force")
    assert load_config(f"conf/{name}.yaml") == found


def test_init_copies_what_runs_a_config_on_a_cluster(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "cluster/slurm").out == "conf/cluster/slurm.sbatch\n"
    copied = tmp_path / "conf" / "cluster" / "slurm.sbatch"
    assert copied.read_bytes() == (PROJECT / "conf" / "cluster" / "slurm.sbatch").read_bytes()
    assert "is there already" in run("init", "cluster/slurm").out
    assert "did you mean 'cluster/slurm'" in run("init", "cluster/slurn", code=2).err
    for name in ("cluster", "cluster/README", "../conf/demo", "cluster/slurm.sbatch"):
        assert "unknown ready config" in run("init", name, code=2).err


def test_init_passes_over_what_pip_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = templates.described()
    installed = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", installed, ignore=shutil.ignore_patterns("local"))
    assert compileall.compile_dir(installed, quiet=1)
    assert list(installed.glob("cluster/__pycache__/*.pyc"))
    monkeypatch.setattr(templates, "folder", lambda: installed)
    assert templates.described() == before


def test_init_tells_what_there_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'bicycle'" in run("init", "bycicle", code=2).err
    assert list(tmp_path.iterdir()) == []


def test_schema_is_the_config_s(run: Run) -> None:
    schema = json.loads(run("schema").out)
    assert set(schema["properties"]) == set(yaml.safe_load(EXAMPLE))
    assert schema == Config.model_json_schema()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("target.images=symlink", "target.images", "symlink"),
        ("workdir=a=b", "workdir", "a=b"),
        ("index.buckets=64", "index.buckets", 64),
        ("classes=[bus, car]", "classes", ["bus", "car"]),
        ("classes=mine.yaml", "classes", "mine.yaml"),
        ("classes=null", "classes", None),
        (
            "classes=[{name: v, from: bus}]",
            "classes",
            [{"name": "v", "from_": "bus", "supercategory": None, "exclude": None}],
        ),
        ("engine.workers=3", "engine.workers", 3),
        ("source.splits={val: v}", "source.splits", {"val": "v"}),
        ("source.splits.test=test2017", "source.splits", {"train": "train2017", "val": "val2017", "test": "test2017"}),
        (
            "source.splits.val={labels: l}",
            "source.splits.val",
            {"labels": "l", "annotations": None, "captions": None, "images": None, "image_list": None},
        ),
        ("on_error=skip", "on_error", "skip"),
    ],
)
def test_set(tmp_path: Path, override: str, key: str, value: object) -> None:
    found: Any = load(tmp_path, MINIMAL, override).model_dump()
    for step in key.split("."):
        found = found[step]
    assert found == value


def test_sets_are_applied_in_order_and_leave_the_file_alone(tmp_path: Path) -> None:
    found = load(tmp_path, MINIMAL, "workdir=a", "workdir=b")
    assert found.workdir == "b"
    assert (tmp_path / "c.yaml").read_text() == MINIMAL
    data = {"target": {"root": "x"}}
    assert apply_overrides(data, ["target.root=y"]) == {"target": {"root": "y"}}
    assert data == {"target": {"root": "x"}}


@pytest.mark.parametrize(
    ("override", "clause"),
    [
        ("target.images", "must be key.path=value"),
        ("=x", "must be key.path=value"),
        ("classes=[a", "the value is not valid YAML"),
        ("workdir.deep=1", "'workdir' holds a value, not keys"),
        ("classes.0=car", "'classes' holds a list; set all of it, as classes=[…]"),
        ("target.imagse=copy", "unknown key 'target.imagse'; did you mean 'images'?"),
        ("tagret.root=x", "unknown key 'tagret'; did you mean 'target'?"),
        ("engine.workers=0", "engine.workers"),
        ("engine.wait_workers=.inf", "must be a finite number"),
        ("fetch.timeout=.nan", "must be a finite number"),
        ("engine.scheduler=thread", "did you mean 'threads'"),
        ("select.dedup={across: [train], keep: train}", "`across` must name two splits or three, each once"),
        ("select.dedup={across: [train, train], keep: train}", "`across` must name two splits or three, each once"),
        ("select.dedup={across: [train, val], keep: test}", "`keep` must be one of train, val, the splits of `across`"),
        ("select.dedup={across: [train, vall], keep: val}", "must be 'train', 'val' or 'test' (it is 'vall')"),
        ("select.dedup={across: [train, val]}", "the key 'select.dedup.keep' is missing"),
        ("select.dedup={across: [train, val], keep: val, bits: 9}", "must be at most 8 (it is 9)"),
        ("select.dedup={across: [train, val], keep: val, bits: -1}", "must be at least 0 (it is -1)"),
        ("select.dedup={acros: [train, val], keep: val}", "did you mean 'across'?"),
        ("select.dedup=drop", "select.dedup"),
    ],
)
def test_set_errors(tmp_path: Path, override: str, clause: str) -> None:
    # An inner `workdir.deep`, or one of `classes`, needs a value that stands there.
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MINIMAL + "workdir: w\nclasses: [car]\n", override)
    assert clause in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}: ")


@pytest.mark.parametrize("scheduler", ["tcp://me:SECRET@127.0.0.1:9", "tls://me:SECRET@scheduler:8786"])
def test_a_scheduler_with_a_login(tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(ConfigError, match="has no login") as caught:
        load(tmp_path, MINIMAL, f"engine.scheduler={scheduler}")
    assert "SECRET" not in str(caught.value)


ERRORS = {
    "unknown key": (MINIMAL + "clases: [car]\n", 6, "unknown key 'clases'; did you mean 'classes'?"),
    "unknown key, nested": (
        MINIMAL + "select:\n  duplicate: drop\n",
        7,
        "unknown key 'select.duplicate'; did you mean 'duplicates'?",
    ),
    "unknown key in a split": (
        MINIMAL.replace("{train: train2017, val: val2017}", "\n    train: {lables: x}"),
        5,
        "unknown key 'source.splits.train.lables'; did you mean 'labels'?",
    ),
    "unknown key in a class": (
        MINIMAL + "classes:\n- car\n- {name: v, form: bus}\n",
        8,
        "unknown key 'classes.1.form'; did you mean 'from'?",
    ),
    "nothing near": (MINIMAL + "index: {zzz: 1}\n", 6, "unknown key 'index.zzz'; known keys here: buckets"),
    "unknown split": (MINIMAL.replace("val: val2017", "vall: val2017"), 4, "source.splits.vall"),
    "missing target": (MINIMAL.replace("target: {root: out}\n", ""), None, "the key 'target' is missing"),
    "bad value": (MINIMAL + "on_error: stop\n", 6, "on_error: must be 'fail' or 'skip'"),
    "bad images": (MINIMAL.replace("{root: out}", "{root: out, images: link}"), 5, "target.images"),
    "bad task": (MINIMAL.replace("source:\n", "source:\n  task: detection\n"), 2, "source.task"),
    "bad buckets": (
        MINIMAL + "index: {buckets: 0}\n",
        6,
        "index.buckets: must be 'auto'; or must be at least 1 (it is 0)",
    ),
    "a class as a number": (
        MINIMAL + "classes: [5]\n",
        6,
        "classes.0: YAML reads it as a number; put the name in quotes",
    ),
    "no place": (MINIMAL.replace("{root: out}", "{root: ''}"), 5, "target.root"),
    "no splits": (MINIMAL.replace("{train: train2017, val: val2017}", "{}"), 1, "name at least one split"),
    "no root": (MINIMAL.replace("  root: coco\n", ""), 1, "needs `root`"),
    "a class as yes": (MINIMAL + "classes:\n- car\n- yes\n", 8, "YAML reads it as true; put the name in quotes"),
    "an archive of no kind": (MINIMAL.replace("{root: out}", "{root: out, archive: tar}"), 5, "target.archive"),
    "broken": ("source: [\n", 2, "leaves a value out, or a bracket open"),
    "a list": ("- a\n", None, "is a list, and a config has keys"),
    "empty": ("", None, "is empty, and a config has keys"),
    "a key twice": (MINIMAL + "workdir: a\nworkdir: b\n", 7, "'workdir'"),
    "a number for a key": (MINIMAL + "1: 2\n", 6, "has a key that is no text; put it in quotes"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_file_line_and_key(case: str, tmp_path: Path) -> None:
    text, line, clause = ERRORS[case]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    sentence = str(caught.value)
    assert clause in sentence
    assert sentence.startswith(f"{tmp_path}/c.yaml:{line}: " if line else f"{tmp_path}/c.yaml: ")
    assert "\n" not in sentence
    assert not re.search(r"pydantic|errors\.|type=", sentence)


def test_files_that_cannot_be_read(tmp_path: Path, run: Run) -> None:
    assert "no such config file" in run("plan", tmp_path / "none.yaml", code=2).err
    write_file(tmp_path / "latin.yaml", "workdir: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.yaml")
    text = MINIMAL.replace("coco.yaml", str(tmp_path / "gone.yaml"))
    write_file(tmp_path / "c.yaml", text)
    assert "no such class names file" in run("plan", tmp_path / "c.yaml", code=2).err


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + MINIMAL).target.root == "out"


@pytest.mark.parametrize(
    ("override", "clause"),
    [
        (
            "source.format=tfrecord",
            "unknown format 'tfrecord'; available: coco, cvat, dota, isat, labelme, labelstudio, ndjson, odgt, "
            "openimages, voc, yolo",
        ),
        ("target.format=tfrecord", "unknown target format 'tfrecord'; available: coco, ndjson, yolo"),
        ("source.task=pose", "task pose needs the line `kpt_shape: [17, 3]`"),
        ("classes=[bicycle, cra]", "unknown class 'cra'; did you mean 'car'"),
        ("source.names=null", "source.names=null: is missing"),
        ("source.root=s4://bucket/coco", "s4://bucket/coco/images/train2017: unknown protocol 's4'; did you mean 's3'"),
        ("target.root=sftp://me:secret@host/x", "sftp://host/x: a password is in the URL"),
        ("target.root=s3:///x", "names no bucket"),
        ("target.root=s3://bucket/a//b", "the name has an empty step (//), which stores take differently; rename it"),
        ("source.splits={train: nowhere}", "does not exist"),
    ],
)
def test_usage_errors_come_before_anything_is_made(
    make_subset: MakeSubset, town: Path, override: str, clause: str
) -> None:
    subset = make_subset(town)
    for command in ("build", "plan"):
        told = subset.command(command, "--set", override, code=2)
        assert clause in told.err
        assert told.out == ""
    assert not subset.target.exists()
    assert not (subset.workdir / "index").exists() or not list((subset.workdir / "index").glob("*/index.json"))


def test_no_secret_in_an_error(make_subset: MakeSubset, town: Path) -> None:
    told = make_subset(town).command("build", "--set", "source.root=https://me:hunter2@example.org/coco", code=2)
    assert "example.org" in told.err
    assert "hunter2" not in told.err


def test_classes_from_a_names_yaml(tmp_path: Path, town: Path, make_subset: MakeSubset) -> None:
    mine = write_file(tmp_path / "mine.yaml", names_yaml(("car", "bus")))
    told = make_subset(town, classes=str(mine)).plan()
    assert told["classes"] == ["car", "bus"]
    wrong = write_file(tmp_path / "wrong.yaml", names_yaml(("car", "buss")))
    error = make_subset(town, classes=str(wrong)).command("plan", code=2).err
    assert f"{wrong}: classes: unknown class 'buss'" in error


@pytest.mark.parametrize("names", [("background", "backgrounds"), ("backgrounds", "background")])
def test_either_name_of_a_key_is_overridden_by_the_other(names: tuple[str, str]) -> None:
    written = {
        "source": {"root": "x", "splits": {"train": "t"}},
        "classes": ["car"],
        "target": {"root": "y"},
        "select": {names[0]: "all"},
    }
    assert Config.model_validate(apply_overrides(written, [f"select.{names[1]}=empty"])).select.backgrounds == "empty"
