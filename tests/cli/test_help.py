"""The first page: every command in a line, in order of use; and the words that a shell completes."""

from __future__ import annotations

import re

import pytest

from pipeline import exporters, formats
from pipeline.cli import cli
from pipeline.config.templates import described
from tests.conftest import Run
from tests.support.helpers import run_process


def test_each_command_has_one_line_that_fits(run: Run) -> None:
    page = run("--help").out
    assert all(len(line) <= 80 for line in page.splitlines())
    lines = dict(re.findall(r"^  ([a-z]+) +(\S.*)$", page, re.MULTILINE))
    assert set(cli.commands) <= set(lines)
    for name in cli.commands:
        assert len(lines[name]) <= 55, name
        assert lines[name].endswith("."), name


def test_commands_are_in_the_order_of_use(run: Run) -> None:
    page = run("--help").out
    at = [page.index(f"\n  {name} ") for name in ("init", "fetch", "plan", "build", "verify", "schema")]
    assert at == sorted(at)
    assert "\nMore:" not in page, "a command is in no group of `cli.help`"
    assert "Example: " in page


@pytest.mark.parametrize(
    ("words", "typed", "expected"),
    [
        ("coco-diy", "st", ["stats", "status"]),
        ("coco-diy init", "", list(described())),
        ("coco-diy init", "schedule/cr", ["schedule/crontab"]),
        ("coco-diy init", "cluster/sl", ["cluster/slurm"]),
        ("coco-diy convert --from", "", formats.available()),
        ("coco-diy convert --to", "c", [name for name in exporters.available() if name.startswith("c")]),
    ],
)
def test_a_shell_completes_names(words: str, typed: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_COCO_DIY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"{words} {typed}".strip())
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    done = run_process()
    assert [line.partition(",")[2] for line in done.out.splitlines()] == expected, done.err


def test_init_without_a_name_lists_the_names(run: Run) -> None:
    lines = run("init").out.splitlines()
    assert [line.split()[0] for line in lines] == list(described())
    assert all(len(line) <= 80 and line.endswith(".") for line in lines)


def test_the_schema_says_what_each_key_is(run: Run) -> None:
    def without(schema: object, path: str = "") -> list[str]:
        if isinstance(schema, list):
            return [found for inner in schema for found in without(inner, path)]
        if not isinstance(schema, dict):
            return []
        told = [f"{path}.{key}" for key, value in schema.get("properties", {}).items() if "description" not in value]
        return told + [found for key, inner in schema.items() for found in without(inner, f"{path}/{key}")]

    schema = run("schema").json
    assert schema["properties"]["source"]
    assert without(schema) == []
