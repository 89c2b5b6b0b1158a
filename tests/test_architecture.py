"""The layout of the design: imports point down from folder to folder, and each kind of side effect has its home."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

#: One process parses the package, not each.
pytestmark = pytest.mark.xdist_group("architecture")

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
    {"geometry"},
    {"base", "stages"},
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


@functools.cache
def nodes_of(module: str) -> list[ast.AST]:
    return list(ast.walk(tree_of(module)))


@functools.cache
def imports(module: str) -> list[str]:
    """Every module that is imported, anywhere in the file; ``from pipeline import x`` counts as ``pipeline.x``."""
    found = []
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else str(node.module) for name in inner]
    return found


def floor(name: str) -> int:
    """Counted from the top."""
    for number, names in enumerate(FLOORS):
        if name in names:
            return number
    raise AssertionError(f"pipeline/{name} has no place in FLOORS of this test")


def test_imports_point_down() -> None:
    assert not [
        f"{module} imports {found}"
        for module in MODULES
        for found in imports(module)
        if found.split(".")[0] == "pipeline"
        and room(found) != room(module)
        and floor(room(found)) <= floor(room(module))
    ]


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
    for node in nodes_of(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


def test_only_the_command_line_prints() -> None:
    assert not [
        f"{module} calls {on}.{name}"
        for module in MODULES
        if room(module) not in ("cli", "__main__")
        for on, name in calls(module)
        if (on, name) == ("", "print") or (on in ("sys.stdout", "sys.stderr") and name != "flush")
    ]


def test_files_are_touched_in_storage() -> None:
    elsewhere = [m for m in MODULES if not path_of(m).startswith(FILES_AT_HOME)]
    assert not [
        f"{module} calls {on}.{name}"
        for module in elsewhere
        for on, name in calls(module)
        if (on, name) == ("", "open") or (on == "os" and name in FILE_CALLS) or (on and name in PATH_CALLS)
    ]
    assert not [module for module in elsewhere if {"shutil", "tempfile"} & set(imports(module))]


def test_formats_and_exporters_know_no_file_system() -> None:
    files = {"os", "pathlib", "io", "fsspec", "pyarrow.parquet", "pyarrow.fs"}
    assert not [
        f"{module} imports {found}"
        for module in MODULES
        if room(module) in ("formats", "exporters")
        for found in imports(module)
        if found in files or found.startswith("pipeline.storage")
    ]


def plug_in(module: str) -> str | None:
    """``formats/coco`` of a module of that plug-in; None for one of the house, or of what plug-ins share."""
    folder, _, rest = path_of(module).partition("/")
    name = rest.split("/")[0]
    return f"{folder}/{name}" if folder in ("formats", "exporters") and name and not name.startswith("_") else None


def test_nobody_names_a_plug_in() -> None:
    """A format or exporter is found by its name in the config; an exporter writes the rows of a format."""
    assert not [
        f"{module} imports {found}"
        for module in MODULES
        for found in imports(module)
        if (other := plug_in(found)) not in (None, plug_in(module))
        and not (room(module) == "exporters" and other.startswith("formats/"))
    ]


def test_generic_code_asks_properties_of_a_format_not_its_name() -> None:
    names = {plug.split("/")[1] for m in MODULES if (plug := plug_in(m)) is not None}
    assert not [
        f"{module}:{node.lineno} names {node.value}"
        for module in MODULES
        if path_of(module).startswith(("stages/", "job/", "api"))
        for node in nodes_of(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]


def test_what_must_be_read_at_once_is_short() -> None:
    lines = {m: len(path.read_text(encoding="utf-8").splitlines()) for m, path in MODULES.items()}
    assert not {module: count for module, count in lines.items() if count > MOST_LINES["file"]}
    assert not [
        f"{module}:{node.lineno} {node.name} has {count} lines"
        for module in MODULES
        for node in nodes_of(module)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := (node.end_lineno or node.lineno) - node.lineno + 1)
        > MOST_LINES["class" if isinstance(node, ast.ClassDef) else "function"]
    ]


def test_names_of_modules_are_nouns_without_an_underscore() -> None:
    # Plug-ins are found by name in `formats` and `exporters`: what two of them share begins with an underscore there.
    named = [m for m in MODULES if m.rpartition(".")[2].startswith("_") and room(m) not in ("formats", "exporters")]
    assert named == ["pipeline.__main__"]


def undescribed(module: str) -> Iterator[str]:
    """What a module shows without a docstring: itself, its classes, functions and methods."""
    nodes: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef]] = [(module, tree_of(module))]
    for name, node in nodes:
        if not ast.get_docstring(node):
            yield name
        if not isinstance(node, ast.FunctionDef):
            nodes += [
                (f"{name}.{child.name}", child)
                for child in node.body
                if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_")
            ]


def test_everything_public_says_what_it_is() -> None:
    assert not [name for module in MODULES if "._" not in module for name in undescribed(module)]


def test_public_names_are_there() -> None:
    import pipeline

    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(pipeline, "".join(["no", "thing"]))


if __name__ == "__main__":
    main()
