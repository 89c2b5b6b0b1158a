"""The pages under test: their commands run, their configs load, and what they name is there.

Blocks that are tested have a comment right above them: ``<!-- test: KIND -->``, with a file's name for ``file``.

========= ============================================================================================
demo      how `make demo` begins (see `test_demo`)
file      is written to the folder in which the page's sessions run
session   commands after ``$`` and what they print, in the folder that the blocks before have left
keys      keys of a config, put into the config of `conf/README.md`
options   options of stores, as a file of conf/local holds them
========= ============================================================================================

``<!-- test: with PAGE NAME -->`` takes a file of another page along.

``python -m tests.test_docs`` writes the outputs in all pages anew.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pydantic
import pytest
import yaml

from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.base.version import __version__
from pipeline.cli import cli
from pipeline.config.load import load_config, validate
from pipeline.config.model import Config, Target
from pipeline.runtime.engine import FILES_WORTH_HELPERS
from tests.support.forks import write_command
from tests.support.helpers import PROJECT, settle

#: The pages: the README for the first minutes, and of each folder what it is about.
PAGES = (
    "README.md",
    "conf/README.md",
    "conf/cluster/README.md",
    "conf/schedule/README.md",
    "pipeline/README.md",
    "pipeline/formats/README.md",
    "pipeline/storage/README.md",
    "tests/README.md",
    "tests/bench/README.md",
)
CONFIG_PAGE = "conf/README.md"
CONFIG = "bikes.yaml"
#: The last line that the README shows of what `make demo` prints.
DEMO_SHOWN_TO = "A build would change"

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<kind>\w+)(?: (?P<name>\S+))? -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
#: A file that another page shows.
_WITH = re.compile(r"^<!-- test: with (\S+) (\S+) -->$", re.MULTILINE)
#: Where options of a job stand in its script.
_SBATCH = re.compile(r"^#.+$", re.MULTILINE)
#: Names of indexes end in a digest of the source's place.
_DIGEST = re.compile(r"(source-(?:detect|segment|pose)-)[0-9a-f]{8}")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `kind` is empty where it is not under test."""

    kind: str
    name: str
    language: str
    text: str
    start: int
    end: int


def text_of(page: str) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def everything() -> str:
    return "\n".join(text_of(page) for page in PAGES)


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [
        Block(m["kind"] or "", m["name"] or "", m["language"], m["text"], *m.span("text"))
        for m in _BLOCK.finditer(text_of(page))
    ]


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def file_block(page: str, name: str) -> Block:
    return next(b for b in blocks(page) if b.name == name)


def commands_of(session: str) -> list[str]:
    """The commands of a session, without what they print."""
    return [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]


class Folder:
    """The folder in which the sessions run: the README's commands find there what a checkout has."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        tools = self.root / "bin"
        tools.mkdir(parents=True)
        for name in ("conf", "tests/sample"):
            # Copies: what a session does to them must not reach the checkout.
            shutil.copytree(PROJECT / name, self.root / name)
        settle()
        write_command(tools / "coco-diy")
        python = tools / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        self.env = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "HOME": str(self.root / "home"),
            "XDG_CACHE_HOME": str(self.root / "home" / ".cache"),
        }

    def run(self, session: str) -> str:
        """The session with what its commands print here; paths are relative to the folder."""
        steps = [f"printf '$ %s\\n' {shlex.quote(c)}\n(exit $code)\n{c}\ncode=$?" for c in commands_of(session)]
        script = "\n".join(["code=0", *steps])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.root,
            env=self.env,
            text=True,
            check=False,
            timeout=200,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return _DIGEST.sub(r"\g<1>0123abcd", done.stdout.replace(f"{self.root}/", ""))

    def replay(self, page: str) -> Iterator[tuple[Block, str]]:
        """Run all sessions of a page in order; each with what it prints now."""
        for other, name in _WITH.findall(text_of(page)):
            (self.root / name).write_text(file_block(other, name).text, encoding="utf-8")
        for block in blocks(page):
            if block.kind == "file":
                (self.root / block.name).write_text(block.text, encoding="utf-8")
            elif block.kind == "session":
                yield block, self.run(block.text)


WITH_SESSIONS = [page for page in PAGES if any(b.kind == "session" for b in blocks(page))]


@pytest.mark.parametrize(
    "page", [page if page == "README.md" else pytest.param(page, marks=pytest.mark.slow) for page in WITH_SESSIONS]
)
def test_sessions_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    for block, printed in Folder(tmp_path / "folder").replay(page):
        assert printed == block.text, "`python -m tests.test_docs` writes the outputs of all pages anew"


def test_no_block_of_a_tested_language_is_left_out() -> None:
    kinds = {"demo", "file", "session", "keys", "options"}
    found = all_blocks()
    assert {b.kind for b in found} - {""} == kinds
    assert [b.text for b in found if b.language in ("console", "python", "yaml") and not b.kind] == []
    text = everything()
    assert text.count("<!-- test: ") == sum(bool(b.kind) for b in found) + len(_WITH.findall(text))


def test_the_readme_is_for_five_minutes() -> None:
    assert len(text_of("README.md").splitlines()) <= 250


# --- the config -------------------------------------------------------------------------------------------------------


def config_block() -> Block:
    return file_block(CONFIG_PAGE, CONFIG)


def test_the_config_loads_and_its_defaults_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / CONFIG
    path.write_text(config_block().text)
    config = load_config(path)
    for part in ("select", "index", "engine", "on_error", "workdir"):
        assert getattr(config, part) == Config.model_fields[part].get_default(call_default_factory=True), part
    assert config.target == Target.model_validate({"root": config.target.root})


def _choices(model: type[pydantic.BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Keys of a model that take one of several words, and these words."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) > 1:
            yield prefix + name, get_args(field.annotation)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            yield from _choices(field.annotation, f"{prefix}{name}.")


@pytest.mark.parametrize(("key", "words"), [pytest.param(*c, id=c[0]) for c in _choices(Config)])
def test_the_config_names_every_choice(key: str, words: tuple[str, ...]) -> None:
    first, last = key.partition(".")[0], key.rpartition(".")[2]
    sections = re.split(r"^(?=\w)", config_block().text, flags=re.MULTILINE)
    section = next(section for section in sections if section.startswith(f"{first}:"))
    line = next(line for line in section.splitlines() if re.search(rf"\b{last}:", line))
    assert " | ".join(words) in line, key


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.kind == "keys"], ids=lambda b: f"at {b.start}")
def test_keys_fit_into_the_config(block: Block) -> None:
    def merge(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        both = {
            k: merge(into[k], v) if isinstance(v, dict) and isinstance(into.get(k), dict) else v
            for k, v in more.items()
        }
        return into | both

    data = merge(yaml.safe_load(config_block().text), yaml.safe_load(block.text))
    told = data["source"]
    roots = {source.get("root") for source in (told if isinstance(told, list) else [told])}
    assert {source.root for source in validate(data, "README.md").sources} == roots


def test_options_of_stores_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage.address import parse
    from pipeline.storage.stores.credentials import open_store
    from pipeline.storage.stores.options import options_for

    text = next(b for b in all_blocks() if b.kind == "options").text
    (tmp_path / "stores.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path))
    for url in ("s3://my-subsets/bikes", "s3://my-collections/coco", "az://mine/bikes"):
        options = options_for(parse(url))
        assert options
        assert open_store(parse(url), options | {"account_key": "a2V5"} if url.startswith("az") else options)
    assert options_for(parse("s3://my-collections/coco"))["anon"] is True
    assert set(options_for(parse("sftp://host/x"))) == {"username", "client_keys"}


# --- what the README names --------------------------------------------------------------------------------------------


def make_targets() -> dict[str, str]:
    """Targets of the Makefile with their help."""
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE))


def named(pattern: str) -> set[str]:
    """What stands after a command's name in code, be it a block or a span."""
    code = [b.text for b in all_blocks()] + re.findall(r"`([^`\n]+)`", _BLOCK.sub("", everything()))
    return {found for part in code for found in re.findall(pattern, part, re.MULTILINE)}


def test_make_targets_are_there() -> None:
    assert named(r"(?:^|\$ )make ([a-z]\S*)") <= set(make_targets())


def test_make_help_lists_every_target() -> None:
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: ((?:.+\\\n)*.+)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].replace("\\\n", " ").split()) == set(make_targets())
    done = subprocess.run(["make", "-s", "help"], cwd=PROJECT, text=True, capture_output=True, check=True, timeout=60)
    for target, told in make_targets().items():
        assert re.search(rf"^  make {target} +{re.escape(told)}$", done.stdout, re.MULTILINE), target


def test_commands_are_there_and_none_is_left_out() -> None:
    assert named(r"(?:^|\$ )coco-diy ([a-z]+)") == set(cli.commands)


def test_options_are_there() -> None:
    options = {o for command in cli.commands.values() for p in command.params for o in [*p.opts, *p.secondary_opts]}
    bench = (PROJECT / "tests" / "bench" / "bench_main.py").read_text(encoding="utf-8")
    options |= {"--help", *re.findall(r'"(--[a-z-]+)"', bench)}
    for script in (PROJECT / "conf" / "cluster").glob("*.sbatch"):
        options |= set(re.findall(r"(?<=\s)(--[a-z-]+)", "\n".join(_SBATCH.findall(script.read_text("utf-8")))))
    assert named(r"(?:^|[\s=])(--[a-z][a-z-]*)") <= options


def test_ready_configs_are_there() -> None:
    from pipeline.config.templates import described

    assert named(r"coco-diy init ([a-z0-9/-]+)") <= set(described())
    for path in named(r"\b((?:conf|tests)/(?!local/)[\w./-]+)"):  # conf/local is the user's own
        assert (PROJECT / path).exists(), path


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as hosts of Markdown make them."""
    heads = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", _BLOCK.sub("", text_of(page))):
        if "://" in target:
            continue
        there = (PROJECT / page).parent / target if target else PROJECT / page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_order_of_suffixes_is_the_one_in_use() -> None:
    assert ", ".join(s.removeprefix(".") for s in IMAGE_SUFFIXES) in everything()


def test_the_number_of_files_worth_helpers_is_the_engines() -> None:
    assert f"below {FILES_WORTH_HELPERS:,} files" in everything()


# --- the files beside it ----------------------------------------------------------------------------------------------


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_changelog_begins_with_this_version() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert first is not None
    assert first[1] == __version__ == project()["version"]


def test_constraints_pin_all_that_is_installed() -> None:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [p for p in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", p)] == []
    wanted = project()["dependencies"] + [r for extra in project()["optional-dependencies"].values() for r in extra]
    names = {re.split(r"[\[<>=]", r)[0].lower() for r in wanted}
    assert names <= {p.split("==")[0] for p in pins}


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "Makefile", "constraints.txt", ".ci/run", "pyproject.toml"]
)
def test_no_path_of_one_machine(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.*])/(?:home|root|tmp|Users|opt|mnt|private)\b\S*", text) == []


def test_continuous_integration_can_start() -> None:
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False, timeout=60).returncode == 0
    lines = re.findall(r"^(?:make|lane) ([a-z -]+)", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(" ".join(lines).split()) == {
        "venv",
        "servers",
        "lint",
        "test",
        "test-servers",
        "test-ceph",
        "test-cluster",
        "test-browser",
        "test-slow",
        "test-interop",
        "demo",
    }


def demo_shown(printed: str) -> str:
    """What the README shows of the demo's output: to the end of the first plan."""
    lines = printed.splitlines()
    last = next(i for i, line in enumerate(lines) if line.startswith(DEMO_SHOWN_TO))
    return "\n".join(lines[: last + 1]) + "\n"


def main() -> None:
    """Write the outputs in all pages anew."""
    from tests.builds.test_demo import make_demo

    for page in PAGES:
        new: dict[int, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            for block in blocks(page):
                if block.kind == "demo":
                    new[block.start] = demo_shown(make_demo(Path(folder) / "demo").out)
            new |= {block.start: printed for block, printed in Folder(Path(folder) / "sessions").replay(page)}
        text = text_of(page)
        for block in reversed(blocks(page)):
            if block.start in new:
                text = text[: block.start] + new[block.start] + text[block.end :]
        (PROJECT / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
