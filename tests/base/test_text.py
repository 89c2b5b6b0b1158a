"""Names are data: in YAML, Python, Markdown, JSON and at a terminal, read back by what reads such files."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base.classes import ClassMap, Names
from pipeline.base.terms import Task
from pipeline.base.text import markdown, printable, printable_json, python_literal, whole_number
from pipeline.base.yaml_document import dump_yaml, parse_yaml
from pipeline.config.class_names import read_names
from pipeline.exporters import Dataset, coco
from pipeline.exporters._data_yaml import dataset_yaml
from pipeline.reports.dataset_card import dataset_record
from pipeline.reports.text import table
from tests.conftest import Run
from tests.support.helpers import write_file

#: What means something to one reader or another.
HOSTILE = [
    "yes", "y", "1e3", "0o7", "0x1f", "1_000", "~", "null", "<<", "=", "12:30:45", "2001-12-14", "---", "...", "- a",
    "a: b", "#x", " x", "x ", "'", '"', "\\", "!!python/object/apply:os.system [id]", "&a", "*a", "{a: b}", "[a]",
    "%TAG", "@x", "{{$A:.*}}", "}}',__import__('os').system('exit 7'))#", "{{ fileDirname }}", "{{ _base_.x }}",
    "$HOME", "`id`", "a|b", "<script>alert(1)</script>", "<b>", "&lt;", "**x**", "_x_", "a_b", "~~~", "```", "` ``` `",
    "[x](http://x.y)", "http://x.y", "www.x.y", "$x$", "\u2028", "\u0085", "\x9b31m", "\u202e", "\ufeff", "\xa0",
    "\u3000", "\U0001f431", "\ud800", "x" * 200 + " ``` " + "y " * 80, "",
]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.text("\x1b\x07[]{}'\"\\$:|`<>&#*_-\n\r\t \x85\u2028é1e.", max_size=12),
)
#: What a class may be called: a line of text. Half a surrogate pair is in no file of UTF-8.
CLASSES = NAMES.filter(lambda name: name.strip() and not re.search("[\0-\x1f\ud800-\udfff]", name))


def dataset(names: list[str], root: str = "/x", form: str = "portable") -> Dataset:
    classes = ClassMap(tuple(names), tuple(names), tuple(range(len(names))))
    return Dataset((classes,), (Names(tuple(names)),), Task.DETECT, (), root, form)


@given(names=st.lists(CLASSES, min_size=1, max_size=6, unique=True))
@example(names=[name for name in HOSTILE if name.strip() and name != "\ud800"])
def test_names_in_the_training_yaml(names: list[str]) -> None:
    made = dataset(names)
    text = dataset_yaml(made.maps, made.sources, header="# x\n", paths={"train": "images/train"}, task=Task.DETECT)
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(text, loader)["names"] == dict(enumerate(names))
    assert read_names(text.decode(), "x.yaml").names == tuple(names)


#: Scalars of the YAML 1.2 core schema that are no text (https://yaml.org/spec/1.2.2/#103-core-schema).
CORE = re.compile(
    r"null|Null|NULL|~|true|True|TRUE|false|False|FALSE|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|"
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN|"
)


@given(name=CLASSES)
@example(name="1e3")
@example(name="0o7")
def test_a_reader_of_yaml_1_2_takes_names_for_text(name: str) -> None:
    (token,) = [t for t in yaml.scan(dump_yaml([name])) if isinstance(t, yaml.ScalarToken)]
    assert not token.plain or not CORE.fullmatch(token.value)


@given(names=st.lists(NAMES, min_size=1, max_size=6), root=NAMES.map(lambda name: f"/{name}"))
@example(names=HOSTILE, root="/it's {{ fileDirname }} \"")
def test_names_and_paths_in_python(names: list[str], root: str) -> None:
    files = coco.assemble(dataset(names, root, "absolute"))
    for path, content in files.items():
        assert isinstance(content, bytes)
        assert b"{{" not in content
        assert b"}}" not in content
        compile(content, path, "exec")
    space: dict[str, Any] = {}
    exec(compile(files["mmdetection.py"], "mmdetection.py", "exec"), space)  # type: ignore[arg-type]
    assert space["subset_metainfo"]["classes"] == tuple(names)
    assert space["__root"] == root.rstrip("/")
    assert eval(python_literal(root)) == root


def test_the_portable_python_knows_its_folder(tmp_path: Path) -> None:
    """Read as mmengine does, by `compile` with the file's name, in folders whose names would be code."""
    made = dataset(["cat"])
    content = coco.assemble(Dataset(made.maps, made.sources, made.task, ("train",), "/x", "portable"))["mmdetection.py"]
    for name in ("it's", 'say "x"', "{{ fileBasename }}", "two\nlines"):
        path = write_file(tmp_path / name / "mmdetection.py", content if isinstance(content, bytes) else b"")
        space: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        assert space["subset_train"]["data_root"] == f"{tmp_path / name}/"


def cells(document: str) -> list[str]:
    """The text of the cells of a Markdown table's row, as a renderer shows them."""
    return [html.unescape(cell.strip(" ")) for cell in document.strip("|").split("|")]


#: What a line of Markdown may hold: nothing unescaped that begins a construct of CommonMark, or of GitHub's tables,
#: strikethrough, mathematics and links, in the middle of a cell.
INERT = re.compile(r"(?:&#\d+;|[^\\`*\[\]<>|~&$@\n\r])*")


@given(name=NAMES)
def test_names_in_markdown(name: str) -> None:
    shown = markdown(name)
    assert INERT.fullmatch(shown)
    assert not re.search(r"://|(^|\W)_|_(\W|$)", shown)
    assert html.unescape(shown) == printable(name)


@given(names=st.lists(CLASSES, min_size=1, max_size=5, unique=True))
@example(names=[name for name in HOSTILE if name.strip() and name != "\ud800"])
def test_names_in_the_record(names: list[str]) -> None:
    """Tables keep their columns, and the block of YAML ends where it shall: what it holds is the config."""
    counts = {"images_by_class": dict.fromkeys(names, 1), "objects": dict.fromkeys(names, 2), "images": 3}
    facts = {
        "tool": "t",
        "fingerprint": "f",
        "digest": "d",
        "label_files": 1,
        "subset": {"train": counts},
        "config": {"classes": names, "target": {}},
        "classes": [{"name": name, "from": [name]} for name in names],
        "rows": {"source": 1, "kept": 1},
        "images": {"source": 1, "kept": 1},
        "steps": {},
    }
    lines = dataset_record(facts).split("\n")
    begin = lines.index("| --- | --- | --- | --- | --- |") + 1
    for number, name in enumerate(names):
        assert cells(lines[begin + number]) == [str(number), printable(name), printable(name), "1", "2"]
    (start,) = [i for i, line in enumerate(lines) if line.endswith("yaml") and line.startswith("```")]
    fence = lines[start].removesuffix("yaml")
    stop = next(i for i in range(start + 1, len(lines)) if re.fullmatch(f" {{0,3}}{fence}`*[ \t]*", lines[i]))
    assert yaml.safe_load("\n".join(lines[start + 1 : stop])) == {"classes": names, "target": {}}
    assert lines[stop + 1 :] == [""]


#: What a terminal obeys (ECMA-48, and the marks of Unicode's UAX 9), or nobody sees.
OBEYED = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ud800-\udfff]")


@given(text=NAMES)
@example(text="\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\u202e\r\n\udcff")
def test_at_a_terminal(text: str) -> None:
    assert not OBEYED.search(printable(text))
    assert "\n" not in printable(text)
    assert printable(printable(text)) == printable(text)
    assert printable(f"{text}\nx", lines=True).endswith("\nx")
    assert len(table(["a", "b"], [[text, 1], ["x", 2]]).split("\n")) == 4
    document = printable_json({text: [text]})
    assert not OBEYED.search(document)
    document.encode()
    assert json.loads(document) == {text: [text]}


@given(
    data=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), CLASSES),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CLASSES, inner, max_size=3)),
        max_leaves=8,
    )
)
def test_yaml_comes_back(data: Any) -> None:
    assert parse_yaml(dump_yaml(data), "x")[1] == data


def test_hostile_names_in_every_message(tmp_path: Path, run: Run) -> None:
    """Classes and files with escape sequences: what a terminal gets holds none, in tables, warnings and errors."""
    name = "\x1b[2Jcat\u202e"
    for stem, row in (("a\x1b]0;x\x07", "0 0.5 0.5 0.2 0.2\n"), ("bad\x9b\x1b\nBuilt", "0 0.5\n"), ("none\x1bc", "")):
        write_file(tmp_path / f"src/labels/train/{stem}.txt", row)
    write_file(tmp_path / "n.yaml", yaml.safe_dump({"names": [name.replace("\x1b", "\x9b")]}))
    config = write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "names": str(tmp_path / "n.yaml"),
                    "root": str(tmp_path / "src"),
                    "splits": {"train": "train"},
                },
                "target": {"root": str(tmp_path / "out"), "images": "none"},
                "workdir": str(tmp_path / "work"),
            }
        ),
    )
    said = [
        run(command, config, *words, code=None)
        for command in ("index", "plan", "build", "stats", "verify")
        for words in ((), ("--set", "on_error=skip"), ("--set", "on_error=skip", "--json"))
    ]
    assert any("\\x9b\\x1b\\nBuilt" in told.err for told in said)
    for told in said:
        assert not OBEYED.search(told.out + told.err)


@pytest.mark.parametrize("mark", ["\x1b[31m", "\u202e", "\x9b"])
def test_progress_names_are_text(mark: str) -> None:
    """The stage that fetches names files of a config; run with a stream that is no terminal, which logs at once."""
    code = (
        "import sys, time\nfrom pipeline.runtime.progress import Progress\n"
        "with Progress(sys.stdout, quiet=False, log_every=0.05).stage(sys.argv[1], 3):\n    time.sleep(0.3)\n"
    )
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code, f"get {mark}x"], capture_output=True, check=True)
    assert b"get \\" in done.stdout
    assert mark.encode() not in done.stdout


@given(st.one_of(st.integers(-5, 10**20).map(str), st.text(max_size=4), st.just("1" * 5000), st.just("--5")))
def test_a_number_is_decimal_digits_alone_and_not_too_many(text: str) -> None:
    fits = text.isdecimal() and len(text) <= 18
    assert whole_number(text) == (int(text) if fits else None)
