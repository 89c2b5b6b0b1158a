"""Class names: reading every style of names YAML, mapping by name, writing the training YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.classes import ClassMap, Names
from pipeline.base.errors import ConfigError, UnknownNameError, UsageError
from pipeline.base.terms import Task
from pipeline.config.class_map import ClassSpec, class_map
from pipeline.config.class_names import read_names
from pipeline.exporters._data_yaml import dataset_yaml

ABC = ("person", "bicycle", "traffic light")

STYLES = {
    "dict": "path: ../coco\ntrain: train2017.txt\nnames:\n  0: person\n  1: bicycle\n  2: traffic light\n",
    "dict, nc": "nc: 3\nnames: {0: person, 1: bicycle, 2: traffic light}\n",
    "dict, out of order": "names: {2: traffic light, 0: person, 1: bicycle}\n",
    "dict, text keys": "names: {'0': person, \"1\": bicycle, '2': traffic light}\n",
    "list, nc, over lines": "nc: 3  # number of classes\nnames: ['person', 'bicycle',\n        'traffic light']  # x\n",
    "list": "names: [person, bicycle, traffic light]\n",
    "block list": "names:\n- person\n- bicycle\n- traffic light\n",
    "nc behind": "names: [person, bicycle, traffic light]\nnc: 3\n",
    "local, backslashes": "train: E:\\Project\\images\\train\n\n# Classes\nnames:\n  0: person\n  1: bicycle\n"
    "  2: traffic light\n",
    "cloud": "train: images/train\nval: images/val\ntest: images/test\n\nnames:\n  0: person\n  1: bicycle\n"
    "  2: traffic light\n",
    "roboflow": "train: ../train/images\nnc: 3\nnames: ['person', 'bicycle', 'traffic light']\n\nroboflow:\n"
    "  workspace: w\n  version: 1\n",
    "empty test": "test: # test images (optional)\nnames: {0: person, 1: bicycle, 2: traffic light}\n",
    "download": "names: [person, bicycle, traffic light]\ndownload: |\n  import os\n  os.abort()\n",
    "a tag that runs": "names: [person, bicycle, traffic light]\nx: !!python/object/apply:os.abort []\n",
    "anchors": "first: &n person\nnames: [*n, bicycle, traffic light]\n",
    "crlf": "names:\r\n  0: person\r\n  1: bicycle\r\n  2: traffic light\r\n",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_read(style: str) -> None:
    assert read_names(STYLES[style], "x.yaml").names == ABC


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("coco-dict", 80, "person", "toothbrush"),
        ("coco-list-2020", 80, "person", "toothbrush"),
        ("coco-list-2022", 80, "person", "toothbrush"),
        ("coco8-seg", 80, "person", "toothbrush"),
        ("coco-pose", 1, "person", "person"),
        ("petoi-local", 1, "bicycle", "bicycle"),
        ("petoi-cloud", 3, "class_one", "class_three"),
        ("roboflow", 8, "bicycle", "van"),
    ],
)
def test_real_files_are_read(shared: Path, name: str, count: int, first: str, last: str) -> None:
    names = read_names((shared / "data/yaml" / f"{name}.yaml").read_text(encoding="utf-8"), name).names
    assert (len(names), names[0], names[-1]) == (count, first, last)


def test_all_real_files_are_known(shared: Path) -> None:
    found = {p.stem for p in (shared / "data/yaml").glob("*.yaml")}
    assert found == {
        "coco-dict",
        "coco-list-2020",
        "coco-list-2022",
        "coco8-seg",
        "coco-pose",
        "petoi-local",
        "petoi-cloud",
        "roboflow",
    }


def test_real_styles_of_coco_agree(shared: Path) -> None:
    styles = ("coco-dict", "coco-list-2020", "coco-list-2022", "coco8-seg")
    read = {read_names((shared / "data/yaml" / f"{s}.yaml").read_text("utf-8"), s).names for s in styles}
    assert len(read) == 1


def test_classes_that_are_only_counted_are_called_as_trainers_call_them() -> None:
    found = read_names("nc: 2\ntrain: x\nkpt_shape: [3, 2]\n", "x.yaml")
    assert (found.names, found.kpt_shape) == (("class_0", "class_1"), (3, 2))


@pytest.mark.parametrize(
    "more",
    [
        "name: birds",
        "train: [a, b]",
        "kpt_names: {0: [tip], 1: [tip]}",
        "classes: [a, b, c]",
        "names_of: {}",
        "a: [1, 2]",
    ],
)
def test_other_keys_are_no_names(more: str) -> None:
    assert read_names(f"nc: 2\nkpt_shape: [1, 2]\n{more}\n", "x.yaml").names == ("class_0", "class_1")


def test_keypoint_facts_are_read() -> None:
    text = "kpt_shape: [3, 2]\nflip_idx: [0, 2, 1]\nnames: {0: fish}\nkpt_names: {0: [tip, left, right]}\n"
    names = read_names(text, "x.yaml")
    assert names == Names(("fish",), (3, 2), (0, 2, 1), {0: ("tip", "left", "right")})


ERRORS = {
    "a gap": ("names: {0: a, 2: c}", "x.yaml:1", "must be 0 to 1 without a gap, but 1 is missing"),
    "from one": ("names:\n  1: a\n  2: b\n", "x.yaml:3", "but 0 is missing (there is 2)"),
    "negative id": ("names: {-1: a, 0: b}", "x.yaml:1", "the class id -1 of `names` is negative"),
    "twice the id": ("names:\n  0: a\n  0: b\n", "x.yaml:3", "class id 0 is a duplicate ('a' and 'b')"),
    "twice the name": ("names:\n- a\n- b\n- a\n", "x.yaml:4", "'a' is given to class 0 and class 2"),
    "a name for a key": ("names:\n  a: 0\n", "x.yaml:2", "the key 'a' of `names` is not a class id; write `0: a`"),
    "no": ("names:\n- yes\n- maybe\n", "x.yaml:2", "YAML reads the name yes of class 0 as true/false"),
    "on": ("names: {0: a,\n  1: on}\n", "x.yaml:2", "put it in quotes: 'on'"),
    "No": ("names: [No]\n", "x.yaml:1", "as true/false"),
    "null": ("names: [a, null]\n", "x.yaml:1", "class 1 has no name"),
    "nothing": ("names:\n  0: a\n  1:\n", "x.yaml:3", "class 1 has no name"),
    "blank": ("names: ['  ']\n", "x.yaml:1", "class 0 has no name"),
    "a list for a name": ("names: [[a, b]]\n", "x.yaml:1", "not a text but a list"),
    "a line break": ('names: ["a\\nb"]\n', "x.yaml:1", "control character or a line break"),
    "nc": ("names: [a, b]\n\nnc: 3\n", "x.yaml:3", "nc is 3, but `names` has 2"),
    "names with a slip": (
        "nc: 2\nnams: [a, b]\n",
        "x.yaml:2",
        "has no `names:`, but `nams:` with a list; did you mean",
    ),
    "one name": ("nc: 2\nname: {0: a, 1: b}\n", "x.yaml:2", "but `name:` with a list; did you mean 'names'?"),
    "names in capitals": ("Names: [a, b]\n", "x.yaml:1", "but `Names:` with a list; did you mean 'names'?"),
    "another tool's names": (
        "nc: 2\nclasses: [a, b]\n",
        "x.yaml:2",
        "but `classes:` with a list; did you mean 'names'?",
    ),
    "no names": ("nc: x\ntrain: x\n", "x.yaml", "has no `names:`"),
    "empty names": ("a: 1\nnames: []\n", "x.yaml:2", "`names` is empty"),
    "text for names": ("names: person\n", "x.yaml:1", "must be a list of names or a mapping"),
    "names twice": ("names: [a]\nnc: 1\nnames: [b]\n", "x.yaml:3", "the key `names` is a duplicate"),
    "a list": ("- a\n- b\n", "x.yaml", "holds no mapping"),
    "an empty file": ("", "x.yaml", "holds no mapping"),
    "text": ("person", "x.yaml", "holds no mapping"),
    "broken": ("a: 1\nnames: [a, b\nnc: 2\n", "x.yaml:3", "leaves a [ open, here or above; close it"),
    "a tab": ("a: 1\nnames:\n\t0: a\n", "x.yaml:3", "with a tab; put the value in quotes, and indent with blanks"),
    "two documents": ("names: [a]\n---\nnames: [b]\n", "x.yaml:2", "holds a second document after ---"),
    "kpt_shape": ("names: [a]\nkpt_shape: [17]\n", "x.yaml", "kpt_shape must be [number of keypoints, 2 or 3]"),
    "kpt_shape 4": ("names: [a]\nkpt_shape: [17, 4]\n", "x.yaml", "not [17, 4]"),
    "kpt_shape text": ("names: [a]\nkpt_shape: many\n", "x.yaml", "not 'many'"),
    "flip_idx": ("names: [a]\nkpt_shape: [3, 3]\nflip_idx: [0, 1, 1]\n", "x.yaml", "each of 0 to 2 once"),
    "flip_idx short": ("names: [a]\nkpt_shape: [3, 3]\nflip_idx: [0, 1]\n", "x.yaml", "each of 0 to 2 once"),
    "kpt_names by name": ("names: [a]\nkpt_shape: [1, 3]\nkpt_names: {a: [nose]}\n", "x.yaml", "kpt_names"),
    "kpt_names no list": ("names: [a]\nkpt_shape: [1, 3]\nkpt_names: {0: nose}\n", "x.yaml", "kpt_names"),
    "a tag in what is read": (
        "names: [a]\nkpt_shape: !!python/tuple [17, 3]\n",
        "x.yaml:2",
        "holds a tag that is not plain YAML",
    ),
    "nested deeply": ("names: " + "[" * 100_000 + "]" * 100_000, "x.yaml:1", "nested more than 64 levels deep"),
    "aliases": (
        "names: [p]\nkpt_shape: [1, 3]\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 10))
        + "kpt_names: {0: [*a9]}\n",
        "x.yaml",
        "its aliases counted",
    ),
    "holds itself": ("names: &a [*a]\n", "x.yaml:1", "holds itself by an alias"),
    "no such date": (
        "names: [a]\nkpt_shape: [2001-13-45, 3]\n",
        "x.yaml",
        "takes for a date or a number, which it is not; put it in quotes",
    ),
    "no number": ("names: [a]\nkpt_shape: [0b_, 3]\n", "x.yaml", "which it is not; put it in quotes"),
    "digits": ("names: [a]\nkpt_shape: [" + "9" * 5000 + ", 3]\n", "x.yaml", "which it is not; put it in quotes"),
    "escaped NUL": ('names: [a,\n "b\\0"]\n', "x.yaml:2", "holds a NUL, which no path and no name has"),
    "control character": ("names: [\x00]\n", "x.yaml", "holds control characters: no text file"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_is_a_sentence(case: str) -> None:
    text, where, clause = ERRORS[case]
    with pytest.raises(ConfigError) as caught:
        read_names(text, "x.yaml")
    sentence = str(caught.value)
    assert sentence.startswith(f"{where}: ")
    assert clause in sentence
    assert "\n" not in sentence


def specs(*entries: str | tuple[str, ...]) -> list[ClassSpec]:
    return [ClassSpec(e, (e,)) if isinstance(e, str) else ClassSpec(e[0], e[1:]) for e in entries]


def test_order_gives_the_ids() -> None:
    found = class_map(("a", "b", "c"), specs("c", "a"))
    assert found == ClassMap(("a", "b", "c"), ("c", "a"), (1, -1, 0))
    assert found.wanted_ids == (0, 2)


def test_rename_and_merge() -> None:
    found = class_map(("car", "bus", "cat", "truck"), specs(("kitty", "cat"), ("vehicle", "car", "bus", "truck")))
    assert (found.names, found.lut) == (("kitty", "vehicle"), (1, 1, 0, 1))


def test_names_can_be_exchanged() -> None:
    assert class_map(("a", "b"), specs(("a", "b"), ("b", "a"))).lut == (1, 0)


def test_null_takes_all() -> None:
    assert class_map(("a", "b"), None) == ClassMap(("a", "b"), ("a", "b"), (0, 1))


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("bycicle", "did you mean 'bicycle'?"),
        ("Person", "did you mean 'person'?"),
        ("light", "'traffic light'"),
        ("zzz", "available: person, bicycle, traffic light"),
        (" bicycle", "did you mean 'bicycle'?"),
    ],
)
def test_unknown_name_tells_the_nearest(wanted: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        class_map(ABC, specs("person", wanted))
    assert f"unknown class {wanted!r}" in str(caught.value)
    assert near in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("entries", "clause"),
    [
        (["a", "b", "a"], "'a' is a duplicate"),
        ([("x", "a"), ("x", "b")], "'x' is a duplicate"),
        (["a", ("x", "a", "b")], "'a' is taken by both 'a' and 'x'"),
        ([("x", "b", "b")], "'b' is a duplicate in `from` of 'x'"),
        ([], "the list is empty"),
        (["a", ("x",)], "'x'"),
        ([("a\nb", "a")], "control character or a line break"),
    ],
)
def test_a_map_that_cannot_be_meant(entries: list[str | tuple[str, ...]], clause: str) -> None:
    with pytest.raises(UsageError) as caught:
        class_map(("a", "b"), specs(*entries))
    assert clause in str(caught.value)


SOURCE = Names(("person", "dog"), (3, 3), (0, 2, 1), {0: ("nose", "left", "right"), 1: ("tip", "l", "r")})


def training_yaml(classes: ClassMap, source: Names = SOURCE, *, pose: bool = False) -> bytes:
    paths = {"train": "images/train", "val": "images/val"}
    return dataset_yaml([classes], [source], header="# made\n", paths=paths, task=Task.POSE if pose else Task.DETECT)


def test_dataset_yaml() -> None:
    text = training_yaml(class_map(("a", "no"), specs("no", "a")))
    assert text.startswith(b"# made\n")
    assert yaml.safe_load(text) == {"train": "images/train", "val": "images/val", "names": {0: "no", 1: "a"}}


def test_dataset_yaml_of_pose_carries_keypoints() -> None:
    data = yaml.safe_load(training_yaml(class_map(SOURCE.names, specs("dog", "person")), pose=True))
    assert data["kpt_shape"] == [3, 3]
    assert data["flip_idx"] == [0, 2, 1]
    assert data["kpt_names"] == {0: ["tip", "l", "r"], 1: ["nose", "left", "right"]}
    assert "kpt_shape" not in yaml.safe_load(training_yaml(class_map(SOURCE.names, None), pose=False))


def test_keypoint_names_of_dropped_classes_stay_behind() -> None:
    data = yaml.safe_load(training_yaml(class_map(SOURCE.names, specs("dog")), pose=True))
    assert data["kpt_names"] == {0: ["tip", "l", "r"]}


def test_download_is_never_copied() -> None:
    names = read_names(STYLES["download"] + "path: /home/other\nnc: 3\n", "x.yaml")
    data = yaml.safe_load(training_yaml(class_map(names.names, None), names, pose=True))
    assert set(data) == {"train", "val", "names"}


_printable = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1, max_size=12)


@given(st.lists(_printable.filter(lambda s: bool(s.strip())), min_size=1, max_size=6, unique=True))
def test_any_names_survive_the_training_yaml(names: list[str]) -> None:
    text = training_yaml(class_map(names, None), Names(tuple(names))).decode()
    assert read_names(text, "x.yaml").names == tuple(names)
