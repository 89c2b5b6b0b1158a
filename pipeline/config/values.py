"""What a value of a config must be, in words instead of pydantic's."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, Annotated

import pydantic

from pipeline.base.unexpanded import unexpanded

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

WEB = "^https?://"

SUFFIX = r"^\.[A-Za-z0-9]+$"

SOURCE_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]*$"

SHA256, MD5 = "^[0-9a-fA-F]{64}$", "^[0-9a-fA-F]{32}$"

#: What a text must be that has to fit a pattern, in words.
PATTERNS = {
    WEB: "a URL of a web server, as in https://example.org/images",
    SUFFIX: "a dot with letters and digits after it, as in .jpg",
    SOURCE_NAME: "letters, digits, dots, dashes and underscores, beginning with a letter or digit",
    SHA256: "64 hexadecimal digits",
    MD5: "32 hexadecimal digits",
}

#: What pydantic's kinds of mistakes are called; the names in braces are its limits.
_WORDS = {
    "string_type": "must be one text",
    "model_type": "must be keys with values",
    "model_attributes_type": "must be keys with values",
    "dict_type": "must be keys with values",
    "invalid_key": "has a key that is no text; put it in quotes",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number that is not as large",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must fit the pattern {pattern}",
}


def _written_out(path: str) -> str:
    if (why := unexpanded(path)) is not None:
        raise ValueError(why)
    return path


#: A path as a user writes it, or a URL.
UserPath = Annotated[str, pydantic.AfterValidator(_written_out)]


def shown(given: object) -> str:
    """A value that is wrong, where it is short, behind what is said of it."""
    return f" (it is {given!r})" if isinstance(given, str | int | float | list) and len(repr(given)) < 60 else ""


def in_words(error: ErrorDetails) -> str:
    """What is wrong with one value, in the words of a config instead of pydantic's."""
    given, kind = error["input"], error["type"]
    if kind == "string_type" and (read := _read_as(given)) is not None:
        return f"YAML reads it as {read}; put the name in quotes"
    if kind in ("int_type", "float_type") and isinstance(given, str) and _is_number(given):
        return "YAML reads it as text; write the number without quotes, and 1e-4 as 1.0e-4"
    if kind in ("literal_error", "enum"):
        return f"must be {error['ctx']['expected']}"
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] in PATTERNS:
        return f"must be {PATTERNS[error['ctx']['pattern']]}"
    if kind in _WORDS:
        return _WORDS[kind].format(**error.get("ctx", {}))
    text = error["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _read_as(value: object) -> str | None:
    """What YAML takes for something else than text, in words; None for what nobody means as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "a number"
    return "a date" if isinstance(value, datetime.date) else None
