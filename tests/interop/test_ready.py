"""Conversions that ready configs name, done by the trainers themselves on the real samples."""

from __future__ import annotations

import pytest

from tests.config.test_ready import REAL, VISDRONE
from tests.interop.conftest import Reader

pytestmark = pytest.mark.interop


def test_visdrone_is_converted_as_the_sample_has_it(read: Reader) -> None:
    """Images are moved to images/val, rows of score 0 are left out, and VisDrone's own folders are deleted."""
    calls = [(REAL / f"visdrone/{stem}.txt", *map(str, size)) for stem, (_, size) in VISDRONE.items()]
    for stem, found in zip(VISDRONE, read("ultralytics_visdrone", *calls), strict=True):
        text = (REAL / f"visdrone/labels/{stem}.txt").read_text(encoding="utf-8")
        assert found == {"text": text, "moved": True, "deletes": True}
