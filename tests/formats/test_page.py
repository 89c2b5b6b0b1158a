"""The page that says what tools write and what is read of it names tests and files that are there."""

from __future__ import annotations

import re

import pytest

from tests.support.helpers import PROJECT

PAGE = (PROJECT / "pipeline/formats/README.md").read_text()
TESTS = {path.relative_to(PROJECT).as_posix(): path.read_text() for path in (PROJECT / "tests").rglob("*.py")}


def _shown_by() -> list[str]:
    """What the last columns of the tables of tools name."""
    found: list[str] = []
    table = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        table = line.startswith("|") and (table or cells[-1] == "shown by")
        if table:
            found += re.findall(r"`([^`]+)`", cells[-1])
    return found


@pytest.mark.parametrize("name", sorted(set(_shown_by())))
def test_what_the_page_names_is_there(name: str) -> None:
    if name.startswith("test_") and not name.endswith(".py"):
        assert any(f"def {name}(" in text for text in TESTS.values())
    elif name.endswith(".py"):
        assert any(path.endswith(f"/{name}") for path in TESTS)
    else:
        assert (PROJECT / "tests/formats/real" / name).is_file()


def test_every_real_file_is_on_the_page() -> None:
    here = {path.name for path in (PROJECT / "tests/formats/real").glob("*.[jx]*")}
    assert here <= set(_shown_by())
    assert {name for name in here if f"`{name}`" not in (PROJECT / "tests/formats/real/README.md").read_text()} == set()
