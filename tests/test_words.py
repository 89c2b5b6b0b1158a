"""One word for one thing: the field's own terms in code, messages and pages, and none that only its authors know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: What is not written, and what is written instead.
PRIVATE = {
    r"dealt|dealing out": "assigned",
    r"stands? twice|stand twice": "duplicate",
    r"in the way\b(?! that)": "conflict",
    r"in all\b(?! (?:of|the|its|that|\w+s\b))": "total",
    r"fault of (?:ours|coco-diy)": "internal error",
    r"\btells?\b": "says, shows",
    r"look(?:s|ed|ing)? for\b": "search, check",
    r"far (?:file|folder|image|store)s?\b": "remote",
    r"odd (?:file|row|image|line)s?\b": "unusual, unusable",
}

PAGES = sorted(p for p in ROOT.glob("**/README.md") if not {".venv", ".servers", ".interop", "build"} & set(p.parts))
CODE = sorted((ROOT / "pipeline").rglob("*.py"))


@pytest.mark.parametrize("words", PRIVATE)
def test_terms_are_those_of_the_field(words: str) -> None:
    private = re.compile(rf"\b(?:{words})", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in (*CODE, *PAGES)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if private.search(line)
    ]
    assert not found, f"say {PRIVATE[words]!r} instead:\n" + "\n".join(found)
