"""Fuzzers: whatever is in a config, a names YAML, a label file, a split table or an archive, the end is a result or a
sentence.

The examples are the same every time; `make torture` looks for new ones for as long as COCO_DIY_EXAMPLES says.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.api import build
from pipeline.base.errors import CocoDiyError
from pipeline.base.terms import Task
from pipeline.config.class_names import read_names
from pipeline.config.load import apply_overrides, load_config, validate
from pipeline.config.model import Config
from pipeline.formats import yolo
from pipeline.job.resolve import resolve
from pipeline.stages.select.split import read_table, write_table
from pipeline.storage.registry import locate
from pipeline.tables.schema import LabelState
from tests.support.helpers import repeated, write_file

#: What PyYAML resolves to something that Python then refuses, and what its parser stumbles over.
TOKENS = [
    "0b_",
    "2001-13-45",
    "1:99",
    "!!int x",
    "!!binary '?'",
    "!!set {a}",
    "!!omap [a]",
    "!!python/name:os.system",
    "&a [*a]",
    "*b",
    "<<: 1",
    "? [a]",
    "? {}",
    "{[1]: 2}",
    "{{}: 1}",
    "~",
    ".inf",
    "-.nan",
    "1" * 5000,
    "\0",
    "\x85",
    "\ufeff",
    "\t",
    "- - -",
    "'",
    '"\\ud800"',
    '"\\x0"',
    "%YAML 9.9",
    "--- a\n--- b",
    "=",
    "|",
    ">",
    "@",
    "`",
    "[" * 300,
    "{" * 300,
    "true",
    "yes",
    "on",
    "1_0",
    "0o7",
    "a: b: c",
    "\u2028",
    "null",
    "",
    "[]",
    "{}",
]
TEXT = st.one_of(
    st.text(max_size=40), st.sampled_from(TOKENS), st.lists(st.sampled_from(TOKENS), max_size=5).map("\n".join)
)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """`text` with some of its lines or values gone, doubled, or replaced by something."""
    for _ in range(draw(st.integers(1, 3))):
        pieces = re.split(r"(\n|: |, |\[|\]|\{|\})", text)
        at = draw(st.integers(0, len(pieces) - 1))
        pieces[at : at + 1] = draw(
            st.sampled_from([[], [pieces[at]] * 2, [draw(TEXT)], [pieces[at] + draw(TEXT)], [draw(TEXT) + pieces[at]]])
        )
        text = "".join(pieces)
    return text


NAMES = "names:\n  0: person\n  1: 'dog'\nnc: 2\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\nkpt_names: {0: [left, right]}\n"
EXAMPLE = """source:
  {format: yolo, task: detect, names: n.yaml, root: src, splits: {train: train, val: {labels: a, images: b}}}
classes: [a, {name: b, from: [c, d]}]
select: {check_images: none, duplicates: keep, backgrounds: none}
split: {train: 0.8, val: 0.2, by: image, stratify: false, seed: 7}
target: {root: out, format: yolo, images: copy, yaml: portable, archive: none}
index: {buckets: 2}
engine: {scheduler: sync, workers: 1}
fetch: {folder: d, connections: 2, archives: {a.zip: {url: x, size: 3, task: detect, unpack: {a: b}}}}
on_error: skip
workdir: work
"""


def sentence(error: CocoDiyError) -> None:
    """Something is said, and nothing of Python's."""
    assert str(error)
    assert not re.search(r"Traceback|Error\b|<class|object at 0x", str(error))


def allowed(work: Callable[[], Any]) -> Any:
    """The result of `work`, or None where it ends in a sentence."""
    try:
        return work()
    except CocoDiyError as error:
        sentence(error)
        return None


def check_names(text: str) -> None:
    for where in ("x.yaml", "x.txt"):
        found = allowed(lambda where=where: read_names(text, where))  # type: ignore[misc]
        assert found is None or (found.names and all(isinstance(name, str) and name for name in found.names))


def check_config(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder) / "c.yaml", text.encode(errors="surrogatepass"))
        config = allowed(lambda: load_config(path))
        assert config is None or isinstance(config, Config)
        if config is not None:
            write_file(Path(folder) / "n.yaml", NAMES)
            before = Path.cwd()
            os.chdir(folder)
            try:
                allowed(lambda: resolve(config))
            finally:
                os.chdir(before)


KEYS = sorted(set(re.findall(r"[a-z_]+(?=:)", EXAMPLE)))
OVERRIDES = st.one_of(
    st.tuples(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join), TEXT).map("=".join), TEXT
)


def check_overrides(overrides: list[str]) -> None:
    import yaml

    data = allowed(lambda: apply_overrides(yaml.safe_load(EXAMPLE), overrides))
    if data is not None:
        allowed(lambda: validate(data, "x", None, overrides))


NUMBERS = st.sampled_from(
    [
        b"0",
        b"1",
        b"0.5",
        b"-0.001",
        b"1.01",
        b"1e-3",
        b"nan",
        b"inf",
        b"-1",
        b"1e400",
        b"0x1",
        b"1_0",
        b"+1",
        b".5",
        b"5.",
        b"",
        b"\xc2\xa0",
        b"\xff",
        b"99999999999999999999",
        b"1.0",
        b"#",
        b"a",
    ]
)
ROWS = st.lists(st.lists(NUMBERS, max_size=9).map(b" ".join), max_size=6)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\x0b", b"\x0c", b"\0"])
FILES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(ENDS, ROWS).map(lambda pair: pair[0].join(pair[1])),
        ROWS.map(lambda rows: b"\xef\xbb\xbf" + b"\n".join(rows)),
    ),
    max_size=4,
)


def check_labels(files: list[bytes]) -> None:
    for task, keypoints in ((Task.DETECT, None), (Task.SEGMENT, None), (Task.POSE, (2, 2))):
        found = yolo.parse(files, task, keypoints)
        assert len(found.states) == len(files)
        rows = found.rows.select(["file", "line"]).to_pylist()
        assert rows == sorted(rows, key=lambda row: (row["file"], row["line"]))
        bad = {p.file for p in found.problems}
        good = {row["file"] for row in rows}
        for i, (content, state) in enumerate(zip(files, found.states, strict=True)):
            assert (state == LabelState.FOUND) == (i in good)
            if not content.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n"):
                assert state == LabelState.EMPTY
            if state == LabelState.CORRUPT:
                assert i in bad
        alone = [yolo.parse([content], task, keypoints) for content in files]
        assert [r for one in alone for r in one.rows["tail"].to_pylist()] == found.rows["tail"].to_pylist()


def check_table(text: str) -> None:
    found = allowed(lambda: read_table(text, "x.csv"))
    if found is not None:
        assert read_table(write_table(found).decode(), "x.csv") == found


def packed() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for i in range(3):
            made.writestr(f"t/{i}.txt", f"0 0.5 0.5 0.{i + 1} 0.2\n" * 5)
        made.writestr("t/deep/é.txt", "0 0.5 0.5 0.1 0.2\n", zipfile.ZIP_STORED)
        made.comment = b"a comment"
    return out.getvalue()


ARCHIVE = packed()
#: Where bytes change, to what, and where the archive is cut.
DAMAGE = st.tuples(
    st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(len(ARCHIVE)), st.integers(0, len(ARCHIVE))),
    st.binary(max_size=30),
)


def check_archive(damage: tuple[list[tuple[int, int]], int, bytes]) -> None:
    changes, length, after = damage
    data = bytearray(ARCHIVE)
    for at, value in changes:
        data[at] = value
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "x.zip", bytes(data[:length]) + after)
        place = locate(f"zip://t::{folder}/x.zip")
        listing = allowed(lambda: place.listing(frozenset({".txt"}), with_stats=True))
        if listing is None:
            return
        names = [name for blob, _ in listing.chunks for name in blob.decode().split("\0")]
        assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
        found = allowed(lambda: place.read_many(names, 1 << 20))
        if found is not None:
            contents, _, failed = found
            assert all(len(content) < 1000 for content in contents)
            assert all(content or i in failed or not place.sizes([names[i]])[0] for i, content in enumerate(contents))


def check_build(damage: tuple[list[tuple[int, int]], int, bytes]) -> None:
    """A whole build of labels out of the damaged archive: a subset, or a sentence and no YAML at the target."""
    changes, length, after = damage
    data = bytearray(ARCHIVE)
    for at, value in changes:
        data[at] = value
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "x.zip", bytes(data[:length]) + after)
        config = {
            "source": {
                "names": str(write_file(Path(folder) / "n.yaml", "names: [a]\n")),
                "splits": {"train": {"labels": f"zip://t::{folder}/x.zip"}},
            },
            "target": {"root": f"{folder}/out", "images": "none"},
            "workdir": f"{folder}/work",
            "engine": {"scheduler": "sync"},
        }
        report = allowed(lambda: build(validate(config, "x")))
        assert (report is not None) == (Path(folder) / "out/data.yaml").exists()


FUZZERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None], int]] = {
    "names": (st.one_of(mutated(NAMES), TEXT, TEXT.map(lambda text: f"names: {text}")), check_names, 150),
    "config": (st.one_of(mutated(EXAMPLE), TEXT), check_config, 150),
    "overrides": (st.lists(OVERRIDES, min_size=1, max_size=3), check_overrides, 150),
    "labels": (FILES, check_labels, 100),
    "split table": (st.one_of(TEXT, mutated('group,split\na,train\n"b\nc",val\n')), check_table, 100),
    "archive": (DAMAGE, check_archive, 100),
    "build": (DAMAGE, check_build, 8),
}


@pytest.mark.repeated
@pytest.mark.parametrize("what", FUZZERS)
def test_a_result_or_a_sentence(what: str) -> None:
    strategy, check, examples = FUZZERS[what]
    settings(max_examples=repeated(examples))(given(strategy)(check))()


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("what", FUZZERS)
def test_a_result_or_a_sentence_for_long(what: str) -> None:
    """New examples every time: `COCO_DIY_EXAMPLES` of them."""
    strategy, check, _ = FUZZERS[what]
    count = int(os.environ.get("COCO_DIY_EXAMPLES", "500" if what != "build" else "30"))
    settings(max_examples=count, derandomize=False, suppress_health_check=list(HealthCheck))(given(strategy)(check))()
