"""How old a file must be: one setting, which is 2 s for users, and which tests shorten for all of their processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage import LocalFolder
from pipeline.storage.settling import VARIABLE, settle_ns
from tests.support.helpers import run_process, settle, write_file

ASK = ("-c", "from pipeline.storage.settling import settle_ns; print(settle_ns())")


def test_two_seconds_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert settle_ns() == int(run_process(python=ASK).out) == 2_000_000_000


def test_tests_shorten_it_for_their_processes_too() -> None:
    assert settle_ns() == int(run_process(python=ASK).out) < 100_000_000


def settled(folder: Path) -> tuple[bool, bool]:
    """What a listing and a fingerprint say of the files in `folder`."""
    place = LocalFolder(str(folder))
    (found,) = place.fingerprints(["a.txt"])
    assert found is not None
    return place.listing(frozenset({".txt"}), with_stats=True).settled, found.settled


def test_a_young_file_is_not_settled(tmp_path: Path, unsettled: None) -> None:
    write_file(tmp_path / "a.txt", "1")
    assert settled(tmp_path) == (False, False)


def test_a_file_settles(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", "1")
    settle()
    assert settled(tmp_path) == (True, True)
