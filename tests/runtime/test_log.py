"""What `-v` shows on stderr: retries of a real server, stages that are skipped; and nothing of it without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.conftest import Subset
from tests.support.helpers import run_process, write_file
from tests.support.web import Faults, faulty

BUSY = (503, {"Retry-After": "0"})


@pytest.mark.parametrize(("words", "shown"), [(("-v",), 2), ((), 0), (("-q",), 0), (("-v", "-q"), 2)])
def test_a_server_that_is_busy_twice(tmp_path: Path, words: Sequence[str], shown: int) -> None:
    with faulty(Faults({"/a.bin?token=geheim": b"content"}, answers=[BUSY, BUSY])) as url:
        secret = f"{url.replace('//', '//me:geheim@')}/a.bin?token=geheim"
        data = {
            "source": {"names": "n.yaml", "splits": {"train": {"labels": f"zip://x::{tmp_path}/a.bin"}}},
            "target": {"root": str(tmp_path / "t")},
            "workdir": str(tmp_path / "w"),
            "fetch": {"archives": {"a.bin": {"url": secret}}},
        }
        done = run_process("fetch", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)), *words)
    assert done.code == 0, done.err
    assert (tmp_path / "a.bin").read_bytes() == b"content"
    told = re.findall(r"^coco-diy: (http.*): the server says 503; try (\d) of 8 in 0\.0 s$", done.err, re.MULTILINE)
    assert [number for _, number in told] == ["2", "3"][:shown]
    assert "geheim" not in done.out + done.err


def test_stages_that_are_skipped(subset: Subset) -> None:
    assert "nothing changed" not in subset.command("build", "-v").err
    assert f"coco-diy: {subset.target}: nothing changed since the last build" in subset.command("build", "-v").err
    assert subset.command("build").err == ""
    assert "the index is up to date; no label file is read" in subset.command("plan", "-v").err
