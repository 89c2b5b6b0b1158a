"""The layout of the design: imports point down from folder to folder, and each kind of side effect has its home."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
MODULES = {
    ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}

#: From the top down; a file may import only from its own room and from those on lower floors.
FLOORS: list[set[str]] = [
    {"__main__"},
    {"cli", "__init__"},
    {"look"},
    {"api"},
    {"stages/apply"},
    {"stages/plan"},
    {"stages/select"},
    {"stages/index"},
    {"stages/fetch", "stages/verify"},
    {"job"},
    {"exporters"},
    {"formats"},
    {"target", "images", "cluster"},
    {"storage", "config"},
    {"runtime", "reports", "tables"},
    {"base", "geometry", "stages"},
]

FILES_AT_HOME = ("__main__", "storage", "stages/fetch", "config/load", "config/templates")
FILE_CALLS = {
    "open", "mkdir", "makedirs", "remove", "unlink", "rename", "replace", "rmdir", "link", "symlink", "scandir",
    "listdir", "walk", "stat", "lstat", "read", "write", "truncate", "utime", "chmod",
}  # fmt: skip
PATH_CALLS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "touch", "glob", "rglob", "iterdir",
    "rmdir", "symlink_to", "hardlink_to",
}  # fmt: skip

MOST_LINES = {"file": 500, "class": 200, "function": 60}


def path_of(module: str) -> str:
    """``stages/plan/compare`` of ``pipeline.stages.plan.compare``."""
    return module.removeprefix("pipeline").lstrip(".").replace(".", "/") or "__init__"


def room(module: str) -> str:
    """The folder of a module, of a stage its own one; a file beside them is a room by itself."""
    parts = path_of(module).split("/")
    return "/".join(parts[:2]) if parts[0] == "stages" else parts[0]


@functools.cache
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


def floor(name: str) -> int:
    """Counted from the top."""
    for number, names in enumerate(FLOORS):
        if name in names:
            return number
    raise AssertionError(f"pipeline/{name} has no place in FLOORS of this test")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = room(module)
    for found in imports(module):
        if found.split(".")[0] == "pipeline" and room(found) != here:
            assert floor(room(found)) > floor(here), f"{module} imports {found}"


def test_no_circle_within_a_room() -> None:
    """Files of one folder do not import each other in a circle, also not from within functions."""
    arrows = {m: {i for i in imports(m) if i in MODULES and i != m} for m in MODULES}
    while leaves := [m for m, targets in arrows.items() if not targets]:
        for leaf in leaves:
            del arrows[leaf]
        for targets in arrows.values():
            targets.difference_update(leaves)
    assert not arrows


def main() -> None:
    """Print the house: its rooms from the top floor down, and how many arrows there are between them."""
    top = {m: path_of(m).split("/")[0] for m in MODULES}
    arrows = {(top[m], top[i]) for m in MODULES for i in imports(m) if i in MODULES and top[i] != top[m]}
    floors = {name.split("/")[0]: number for number, names in enumerate(FLOORS) for name in names if name != "stages"}
    upward = [f"{a} -> {b}" for a, b in sorted(arrows) if floors[b] <= floors[a]]
    for name in sorted(set(top.values()), key=lambda name: floors[name]):
        lines = sum(len(MODULES[m].read_text(encoding="utf-8").splitlines()) for m in MODULES if top[m] == name)
        print(f"{name:12} {lines:6,} lines -> {', '.join(sorted(b for a, b in arrows if a == name))}")
    print(f"{len(set(top.values()))} rooms, {len(arrows)} arrows, {len(upward)} upward {upward}")


def importers(package: str) -> set[str]:
    return {path_of(m) for m in MODULES for found in imports(m) if found.split(".")[0] == package}


def test_dask_stays_in_the_stages_and_the_engine() -> None:
    at_home = ("runtime/", "cluster/", "stages/index/", "stages/select/", "stages/plan/", "look/")
    assert all(path.startswith(at_home) for path in importers("dask"))
    assert importers("distributed") == {"cluster/dask_executor"}


def test_tqdm_and_click_have_one_home() -> None:
    assert importers("tqdm") == {"runtime/progress"}
    assert {path.split("/")[0] for path in importers("click")} == {"cli"}


def calls(module: str) -> Iterator[tuple[str, str]]:
    """(what it is called on, name) of every call of a name or attribute."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in ("cli", "__main__")])
def test_only_the_command_line_prints(module: str) -> None:
    assert ("", "print") not in set(calls(module))
    assert not [on for on, name in calls(module) if on in ("sys.stdout", "sys.stderr") and name != "flush"]


@pytest.mark.parametrize("module", [m for m in MODULES if not path_of(m).startswith(FILES_AT_HOME)])
def test_files_are_touched_in_storage(module: str) -> None:
    touched = {
        f"{on}.{name}"
        for on, name in calls(module)
        if (on, name) == ("", "open") or (on == "os" and name in FILE_CALLS) or (on and name in PATH_CALLS)
    }
    assert not touched
    assert not {"shutil", "tempfile"} & set(imports(module))


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in ("formats", "exporters")])
def test_formats_and_exporters_know_no_file_system(module: str) -> None:
    files = {"os", "pathlib", "io", "fsspec", "pyarrow.parquet", "pyarrow.fs"}
    assert not files & set(imports(module))
    assert not [found for found in imports(module) if found.startswith("pipeline.storage")]


def plug_in(module: str) -> str | None:
    """``formats/coco`` of a module of that plug-in; None for one of the house, or of what plug-ins share."""
    folder, _, rest = path_of(module).partition("/")
    name = rest.split("/")[0]
    return f"{folder}/{name}" if folder in ("formats", "exporters") and name and not name.startswith("_") else None


@pytest.mark.parametrize("module", MODULES)
def test_nobody_names_a_plug_in(module: str) -> None:
    """A format or exporter is found by its name in the config; an exporter writes the rows of a format."""
    own = plug_in(module)
    for found in imports(module):
        if (other := plug_in(found)) is not None and other != own:
            assert room(module) == "exporters", f"{module} imports {found}"
            assert other.startswith("formats/"), f"{module} imports {found}"


@pytest.mark.parametrize("module", [m for m in MODULES if path_of(m).startswith(("stages/", "job/", "api"))])
def test_generic_code_asks_properties_of_a_format_not_its_name(module: str) -> None:
    names = {plug.split("/")[1] for m in MODULES if (plug := plug_in(m)) is not None}
    words = {n.value for n in ast.walk(tree_of(module)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert not names & words


@pytest.mark.parametrize("module", MODULES)
def test_what_must_be_read_at_once_is_short(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES["file"]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            most = MOST_LINES["class" if isinstance(node, ast.ClassDef) else "function"]
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= most, f"{module}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_names_of_modules_are_nouns_without_an_underscore(module: str) -> None:
    *_, name = module.split(".")
    # Plug-ins are found by name in `formats` and `exporters`: what two of them share begins with an underscore there.
    assert not name.startswith("_") or name == "__main__" or room(module) in ("formats", "exporters")


@pytest.mark.parametrize("module", [m for m in MODULES if "._" not in m])
def test_everything_public_says_what_it_is(module: str) -> None:
    tree = tree_of(module)
    assert ast.get_docstring(tree), module
    nodes: list[ast.AST] = [tree]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{module}:{node.lineno} {node.name}"
                if isinstance(node, ast.ClassDef):
                    nodes.append(node)


def test_public_names_are_there() -> None:
    import pipeline

    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(pipeline, "".join(["no", "thing"]))


if __name__ == "__main__":
    main()
