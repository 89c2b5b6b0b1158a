"""From what the user calls a location to the location."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage import archive_of, locate_below


@pytest.mark.parametrize(
    ("root", "path", "url"),
    [
        ("data", "images/train", "{}/data/images/train"),
        ("data", "zip://train::a.zip", "zip://train::{}/data/a.zip"),
        ("data", "zip://::down/a.zip", "zip://::{}/data/down/a.zip"),
        ("file://{}/data", "zip://train::a.zip", "zip://train::{}/data/a.zip"),
        ("data", "zip://train::{}/a.zip", "zip://train::{}/a.zip"),
        ("data", "zip://train::https://host/a.zip", "zip://train::https://host/a.zip"),
        ("https://host/data", "zip://train::a.zip", "zip://train::{}/a.zip"),
        (None, "zip://train::a.zip", "zip://train::{}/a.zip"),
        (None, "images/train", "{}/images/train"),
    ],
)
def test_a_relative_path_is_below_the_root_also_that_of_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | None, path: str, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    root = root.format(tmp_path) if root is not None else None
    path, url = path.format(tmp_path), url.format(tmp_path)
    assert locate_below(root, path).url == url
    archive = url.partition("::")[2]
    assert archive_of(path, root) == (archive if archive.startswith("/") else None)
