"""One word for one thing: the field's own terms in code, messages and pages, and none that only its authors know."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

from pipeline.reports.words import DROPS, LOSSES, PARTLY, Words, words_of

ROOT = Path(__file__).resolve().parents[1]

#: What is not written, and what is written instead.
PRIVATE = {
    r"dealt|dealing out": "assigned",
    r"stands? twice|stand twice": "duplicate",
    r"in the way\b(?! that)": "conflict",
    r"in all\b(?! (?:of|the|its|that|\w+s\b))": "total",
    r"fault of (?:ours|coco-diy)": "internal error",
    r"\b(?:told|tells?)\b": "says, shows, reports",
    r"(?<!there )(?:is|are) (?-i:none)\b": "is no, is not",
    r"look(?:s|ed|ing)? for\b": "search, check",
    r"far (?:file|folder|image|store)s?\b": "remote",
    r"odd (?:file|row|image|line)s?\b": "unusual, unusable",
}

FOREIGN = {".venv", ".servers", ".interop", ".peers", "build"}
PAGES = sorted(p for p in ROOT.glob("**/README.md") if not FOREIGN & set(p.parts))
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


#: A noun of many right after a number.
COUNTED = re.compile(
    r" (?:more )?(?:annotations|boxes|buckets|bytes|characters|classes|entries|files|folders|images|labels|letters|"
    r"lines|members|names|objects|parts|points|problems|records|requests|rows|runs|shapes|splits|tasks|tokens|values|"
    r"workers)\b"
)

#: Numbers that are more than one: limits, and what is said of several alone.
MANY = re.compile(r"[A-Z_]{4,}|limit|len\(values\)|len\(found\)|most / least")


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_number_goes_with_its_noun(file: Path) -> None:
    """``1 objects`` is what nobody writes: `humanize.plural` and `noun` know one from many."""
    found = []
    for string in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for value, text in itertools.pairwise(string.values if isinstance(string, ast.JoinedStr) else ()):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            number = ast.unparse(value.value)
            is_number = value.format_spec is not None or number.startswith(("len(", "count", "total"))
            if is_number and COUNTED.match(str(text.value)) and not MANY.search(number):
                found.append(f"{file.relative_to(ROOT)}:{value.lineno}: {number}{text.value!r}")
    assert not found, "write plural(count, 'object') for:\n" + "\n".join(found)


@pytest.mark.parametrize("words", [*LOSSES.values(), *PARTLY.values(), *DROPS.values()], ids=str)
def test_the_words_of_a_report_go_with_one(words: Words) -> None:
    one = words_of(1, words)
    assert not re.match(r"(?:objects|images|files|boxes|crowds|lines|duplicates)\b", one)
    assert words_of(2, words) == (words if isinstance(words, str) else words[1])
