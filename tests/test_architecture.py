"""The layout of the design: imports point down, and each kind of side effect has its home."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
MODULES = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
           for p in sorted(PACKAGE.rglob("*.py"))}

#: From the bottom up; a module may import only what stands on a lower level.
LEVELS: list[set[str]] = [
    {"errors"},
    {"schema", "geometry", "masks", "pictures", "looks", "classes", "frames", "stop", "tally", "digest"},
    {"engine", "storage", "config", "progress", "ready", "report", "spec"},
    {"formats"},
    {"exporters"},
    {"fetch", "index", "select", "split", "plan", "manifest", "apply", "verify"},  # the stages
    {"job", "convert"},
    {"run"},
    {"cli"},
    {"__main__", ""},
]
#: Stages do not import each other, but for what they hand on: the manifest is the plan's other half. And the engine
#: tells the batch verbs of storage when to stop.
ALLOWED = {("apply", "plan"), ("apply", "manifest"), ("verify", "manifest")}

DASK_AT_HOME = {"index", "select", "engine", "run"}
FILES_AT_HOME = {"storage", "fetch", "ready"}
FILE_CALLS = {"open", "mkdir", "makedirs", "remove", "unlink", "rename", "replace", "rmdir", "link", "symlink",
              "scandir", "listdir", "walk", "stat", "lstat", "read", "write", "truncate", "utime", "chmod"}
PATH_CALLS = {"read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "touch", "glob", "rglob",
              "iterdir", "rmdir", "symlink_to", "hardlink_to"}


def home(module: str) -> str:
    """``formats.yolo`` is judged as ``formats``, a file like ``_bucket`` as what it says that it is a part of."""
    name = module.removeprefix("pipeline").lstrip(".").split(".")[0]
    if not name.startswith("_") or name == "__main__":
        return name
    told = re.search(r"Part of (?:the )?`?(\w+)", ast.get_docstring(tree_of(f"pipeline.{name}")) or "")
    assert told, f"pipeline/{name}.py does not say what it is a part of"
    return told[1]


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Every module that is imported, anywhere in the file; ``from pipeline import x`` counts as ``pipeline.x``."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def level(name: str) -> int:
    for number, names in enumerate(LEVELS):
        if name in names:
            return number
    raise AssertionError(f"pipeline/{name} has no place in LEVELS of this test")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = home(module)
    for found in imports(module):
        if not found.startswith("pipeline"):
            continue
        there = home(found)
        if there in (here, "") or (here, there) in ALLOWED:
            continue
        assert level(there) < level(here), f"{module} imports {found}"


def importers(package: str) -> set[str]:
    return {home(m) for m in MODULES for found in imports(m) if found.split(".")[0] == package}


def test_dask_stays_in_the_stages_and_the_engine() -> None:
    assert "engine" in importers("dask") <= DASK_AT_HOME
    assert importers("distributed") <= {"engine"}


def test_tqdm_and_click_have_one_home() -> None:
    assert importers("tqdm") == {"progress"}
    assert importers("click") == {"cli"}


def calls(module: str) -> Iterator[tuple[str, str]]:
    """(what it is called on, name) of every call of a name or attribute."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints(module: str) -> None:
    if home(module) not in ("cli", "__main__"):
        assert ("", "print") not in set(calls(module))
        assert not [on for on, name in calls(module) if on in ("sys.stdout", "sys.stderr") and name != "flush"]


@pytest.mark.parametrize("module", MODULES)
def test_files_are_touched_in_storage(module: str) -> None:
    if home(module) in FILES_AT_HOME:
        return
    touched = {f"{on}.{name}" for on, name in calls(module)
               if (on, name) == ("", "open") or (on == "os" and name in FILE_CALLS) or (on and name in PATH_CALLS)}
    # The user's small files: a config, a names YAML.
    assert touched == ({"Path(path).expanduser().read_bytes"} if module == "pipeline.config" else set())
    assert not {"shutil", "tempfile"} & set(imports(module))


@pytest.mark.parametrize("module", [m for m in MODULES if home(m) in ("formats", "exporters")])
def test_formats_and_exporters_know_no_file_system(module: str) -> None:
    files = {"os", "pathlib", "io", "fsspec", "pipeline.storage", "pyarrow.parquet", "pyarrow.fs"}
    assert not files & set(imports(module))


@pytest.mark.parametrize("module", MODULES)
def test_file_is_short_enough_to_read(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("module", [m for m in MODULES if "._" not in m])
def test_everything_public_says_what_it_is(module: str) -> None:
    tree = tree_of(module)
    assert ast.get_docstring(tree), module
    places: list[ast.AST] = [tree]
    while places:
        for node in ast.iter_child_nodes(places.pop()):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{module}:{node.lineno} {node.name}"
                if isinstance(node, ast.ClassDef):
                    places.append(node)


def test_public_names_are_there() -> None:
    import pipeline

    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(pipeline, "".join(["no", "thing"]))
