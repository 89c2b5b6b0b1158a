"""Hooks: real programs that a build runs, what they are given, and that nothing they do changes the build."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.job import hooks
from tests.conftest import MakeSubset, Subset
from tests.job.test_run_records import stopped
from tests.support.helpers import run_process, write_file

KEYS = ("STATUS", "RUN_ID", "EXIT_CODE", "CONFIG", "TARGET", "RECORD")

#: Appends what it is given to a file.
NOTE = f"""import json, os, sys
given = {{key: os.environ["COCO_DIY_" + key] for key in {KEYS}}}
print("a hook prints this")
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([sys.argv[2:], given]) + "\\n")
"""


@pytest.fixture
def noted(own_town: Path, make_subset: MakeSubset, tmp_path: Path) -> Subset:
    """A subset whose hooks write what they are given to ``noted`` beside it."""
    script = write_file(tmp_path / "note.py", NOTE)
    kinds = ("start", "success", "failure", "changed")
    commands = {kind: [sys.executable, str(script), str(tmp_path / "noted"), kind, "a b; c"] for kind in kinds}
    return make_subset(own_town, hooks=commands)


def notes(subset: Subset) -> list[tuple[str, dict[str, str]]]:
    """Kind and environment of each hook that was run, in order."""
    path = subset.config.parent / "noted"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    assert all(words[1:] == ["a b; c"] for words, _ in found), "an argument is no word of a shell"
    return [(words[0], given) for words, given in found]


def test_what_hooks_are_given(noted: Subset) -> None:
    told = noted.command("build", "--json").json
    (first, given), *others = notes(noted)
    assert (first, given["STATUS"], given["EXIT_CODE"], given["RECORD"]) == ("start", "started", "", "")
    assert [kind for kind, _ in others] == ["success", "changed"]
    for _, given in others:
        record = json.loads(Path(given.pop("RECORD")).read_text())
        assert record["run"]["id"] == told["run"]["id"]
        assert given == {
            "STATUS": "built",
            "RUN_ID": told["run"]["id"],
            "EXIT_CODE": "0",
            "CONFIG": str(noted.config),
            "TARGET": str(noted.target),
        }


def test_which_hooks_are_run(noted: Subset) -> None:
    noted.build()
    noted.build()
    assert [kind for kind, _ in notes(noted)] == ["start", "success", "changed", "start", "success"]
    noted.command("build", "--set", "classes=[cra]", code=2)
    (_, _), (kind, given) = notes(noted)
    assert (kind, given["STATUS"], given["EXIT_CODE"]) == ("failure", "unknown_name", "2")
    for label in (noted.source / "labels/train2017").glob("*.txt"):
        write_file(label, "1 0.5 0.5\n")
    assert noted.command("build", "--set", "on_error=skip", code=None).code in (3, 4)
    noted.command("plan", code=None)
    noted.run("verify", noted.target, code=None)
    assert {kind for kind, _ in notes(noted)} <= {"start", "success", "failure", "changed"}


def test_no_hook_is_in_the_manifest_or_run_by_a_repair_without_a_config(noted: Subset) -> None:
    noted.build()
    notes(noted)
    assert "note.py" not in (noted.target / ".coco-diy/manifest.json").read_text()
    (noted.target / "labels/train/a.txt").unlink()
    noted.run("verify", noted.target, "--repair")
    assert notes(noted) == []
    noted.build("--set", "hooks.changed=null")
    assert noted.build("--set", "hooks.start=null")["status"] == "nothing to do"  # a hook is no part of the recipe


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "import sys; sys.exit(7)"], "ended with exit code 7"),
        (["/nowhere/secret-tool", "token=geheim"], "secret-tool cannot be run (No such file or directory)"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "ended with exit code -9"),
    ],
)
def test_a_hook_that_fails_is_a_warning(subset: Subset, command: list[str], said: str) -> None:
    told = run_process("build", subset.config, "--json", "--set", f"hooks.success={json.dumps(command)}")
    assert (told.code, told.json["status"]) == (0, "built")
    assert told.err.startswith("coco-diy: hooks.success: ")
    assert said in told.err
    assert "geheim" not in told.err


@pytest.mark.slow
def test_a_hook_that_does_not_end_is_ended_with_its_children(
    subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "SECONDS", 0.5)
    command = ["sh", "-c", f"(sleep 2; touch {tmp_path}/late) & sleep 60"]
    told = subset.command("build", "--set", f"hooks.start={json.dumps(command)}")
    assert "hooks.start: sh took more than 0 s and was ended" in told.err
    time.sleep(2.2)
    assert not (tmp_path / "late").exists()


def test_what_a_hook_prints_is_no_result(noted: Subset) -> None:
    told = run_process("build", noted.config, "--json")
    assert told.json["status"] == "built"
    assert told.err.count("a hook prints this") == 3


@pytest.mark.slow
def test_a_stop_is_a_failure_too(crowd: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    write = ["sh", "-c", f"sleep 3; echo $COCO_DIY_STATUS $COCO_DIY_EXIT_CODE > {tmp_path}/noted"]
    subset = make_subset(crowd, hooks={"failure": write})
    words = ["build", str(subset.config), "--scheduler", "sync", "--set", "index.buckets=64"]
    code, _, _ = stopped(words, (subset.target / ".coco-diy/intent.json").exists, signal.SIGTERM)
    assert code == 143
    assert (tmp_path / "noted").read_text() == "stopped 143\n"


@pytest.mark.parametrize("value", ["echo", "[]", "['']", "{}"])
def test_a_hook_is_a_list_of_words(subset: Subset, value: str) -> None:
    told: Any = subset.command("build", "--set", f"hooks.start={value}", code=2).err
    assert told.startswith(f"coco-diy: --set hooks.start={value}: hooks.start")
    assert not os.path.exists(subset.target)
