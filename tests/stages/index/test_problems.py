"""What is said of a source whose files are in order, but for what only its user can know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import pipeline
from tests.support.helpers import write_file


def hints(folder: Path, sources: Sequence[Sequence[str]], classes: Any) -> list[str]:
    """The warnings about case, of YOLO sources with those names, each with an object of its first class."""
    data = []
    for number, names in enumerate(sources):
        root = folder / f"s{number}"
        write_file(root / "labels/train/1.txt", "0 0.5 0.5 0.1 0.1\n")
        write_file(root / "names.txt", "\n".join(names))
        data.append(
            {
                "name": f"s{number}",
                "names": str(root / "names.txt"),
                "root": str(root),
                "splits": {"train": {"labels": "labels/train"}},
            }
        )
    config = {
        "source": data,
        "classes": classes,
        "target": {"root": str(folder / "out"), "images": "none"},
        "workdir": str(folder / "work"),
        "engine": {"scheduler": "sync"},
    }
    return [text for text in pipeline.make_index(config).warnings if "differ in case" in text]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["traffic light", "traffic_light"], "differ in case, blanks, dashes or underscores alone"),
        (["traffic light", "Traffic-Light"], "differ in case, blanks, dashes or underscores alone"),
        (["Traffic Light", "traffic light"], "differ in case alone"),
        (["-", "_"], None),
        (["a1", "a 2"], None),
    ],
)
def test_names_of_two_sources_that_are_nearly_one(tmp_path: Path, names: list[str], said: str | None) -> None:
    found = hints(tmp_path, [[name] for name in names], None)
    assert [said in text for text in found if said] == [True] * bool(said)
    assert bool(found) is bool(said)


@pytest.mark.parametrize("sources", [[["person", "dog", "Person"]], [["person", "dog"], ["Person"]]])
@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (None, True),
        (["dog", "person"], True),
        ([{"name": "person", "from": ["Person", "person"]}], False),
        (["dog"], False),
    ],
)
def test_names_that_differ_in_case_are_said_unless_they_are_one_class(
    tmp_path: Path, sources: list[list[str]], classes: Any, *, said: bool
) -> None:
    assert bool(hints(tmp_path, sources, classes)) is said
