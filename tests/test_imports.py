"""What is not used is not imported: people wait for imports more often than for work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Subset
from tests.support.helpers import run_process

HEAVY = {"dask", "distributed", "pandas", "pyarrow", "numpy", "tqdm", "fsspec", "yaml", "pydantic"}

#: What of the stages proves that there is nothing to do. No index is read for it, and nothing planned.
PROOF = {
    "apply.build", "apply.up_to_date", "index.image_lists", "index.locks", "index.nested_splits", "index.scan",
    "plan.compare", "plan.meta_files", "verify.status",
}  # fmt: skip

#: Of a source and a target on this disk, which has locks, nothing to do needs none of these either.
NOT_ASKED = (
    "click.shell_completion", "concurrent.futures.process", "html", "multiprocessing", "pipeline.look",
    "pipeline.reports.documents", "pipeline.runtime.tasks", "pipeline.storage.stores.lease",
    "pipeline.storage.web.folder",
)  # fmt: skip

#: Runs a command in a fresh interpreter and prints, last, its exit code and what it imported.
PROBE = """
import json, sys
from pipeline.cli import run_cli
code = run_cli(sys.argv[1:])
print()
print(json.dumps([code, sorted(sys.modules)]))
"""


def imported(*args: str | Path) -> tuple[int, set[str]]:
    done = run_process(*args, python=("-c", PROBE))
    assert done.out, done.err
    code, modules = json.loads(done.out.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("args", [("--help",), ("build", "--help"), ("remake", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    code, modules = imported(*args)
    assert code == 0
    assert "pipeline.cli" in modules
    assert modules & HEAVY == set()


def test_a_usage_error_does_not_wait_for_tables(tmp_path: Path) -> None:
    code, modules = imported("build", tmp_path / "none.yaml")
    assert code == 2
    assert modules & {"dask", "pandas", "pyarrow", "numpy"} == set()


def test_nothing_to_do_needs_no_frame(subset: Subset) -> None:
    code, modules = imported("build", subset.config, "--set", "index.buckets=8")
    assert code == 0
    assert {"dask.dataframe", "pandas"} <= modules  # of several buckets the first build is a frame
    code, modules = imported("build", subset.config)
    assert code == 0
    assert "pipeline.api" in modules
    assert modules & {"dask", "pandas", "distributed", "pyarrow", "numpy"} == set()
    begun = {name.removeprefix("pipeline.stages.") for name in modules if name.startswith("pipeline.stages.")}
    assert {name for name in begun if "." in name} == PROOF
    assert {name for name in modules if name.startswith(NOT_ASKED)} == set()


def test_few_buckets_need_no_frame(subset: Subset) -> None:
    code, modules = imported("build", subset.config)
    assert code == 0
    assert "pyarrow" in modules
    assert "dask.dataframe" not in modules


def test_the_library_is_lazy() -> None:
    done = run_process(python=("-c", "import sys, pipeline; print(pipeline.load_config, *sys.modules)"))
    modules = set(done.out.split())
    assert "pipeline.config.load" in modules
    assert modules & {"dask", "pandas", "pyarrow", "numpy", "click"} == set()


@pytest.mark.parametrize(
    "before",
    [
        "pass",
        "import pipeline.api",
        "import pipeline.cli",
        "import pipeline.stages.plan.compare",
        "from pipeline import build",
        "from pipeline import load_config, open_index",
    ],
)
def test_public_names_whatever_was_imported_before(before: str) -> None:
    program = f"{before}\nfrom pipeline import plan\nfrom pipeline import build, load_config, make_index, open_index\n"
    program += "print(*(f.__module__ + '.' + f.__name__ for f in (build, load_config, make_index, open_index, plan)))"
    done = run_process(python=("-c", program))
    assert done.out.split() == [
        "pipeline.api.build",
        "pipeline.config.load.load_config",
        "pipeline.api.make_index",
        "pipeline.api.open_index",
        "pipeline.api.make_plan",
    ], done.err
