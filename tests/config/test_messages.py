"""What is said of a value that no key can have: in the words of a config, not in those of a library."""

from __future__ import annotations

import itertools
import json
import re
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from pipeline.base.errors import ConfigError
from pipeline.config.load import validate
from pipeline.config.model import Config
from pipeline.config.values import in_words
from pipeline.formats import available, load

MINIMAL = {"source": {"root": "coco", "splits": {"train": "train2017"}}, "target": {"root": "out"}}

#: Of every kind that YAML has, and each beyond some limit.
VALUES: tuple[Any, ...] = ("", "船", "-1", 0, -1, 10**30, 1.5, float("nan"), True, [], [5], [""], {}, {"a": 1}, {1: 2})

LIBRARY = (
    r"[Ii]nput|should|valid |unable|parse|instance|validation|[Pp]ydantic|greater than|less than|type=|Value error"
)


def keys(model: type[pydantic.BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key below a model, those of mappings with a name of ours."""
    for name, field in model.model_fields.items():
        own = (*path, field.alias or name)
        yield own
        for inner, between in _models(field.annotation):
            yield from keys(inner, (*own, *between))


def _models(
    annotation: Any, between: tuple[str, ...] = ()
) -> Iterator[tuple[type[pydantic.BaseModel], tuple[str, ...]]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation, between
        return
    step = {dict: ("train",), list: ("0",)}.get(typing.get_origin(annotation), ())
    for argument in typing.get_args(annotation):
        yield from _models(argument, (*between, *step))


def placed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A config whose key `path` has `value`; steps that are numbers are those of lists."""
    data: dict[str, Any] = json.loads(json.dumps(MINIMAL))
    node: Any = data
    for step in path[:-1]:
        if step == "0":
            continue
        if not isinstance(node.get(step), dict):
            node[step] = {}
        node = node[step]
    node[path[-1]] = value
    return data


def said_of(path: tuple[str, ...]) -> list[str]:
    """What is said of each of `VALUES` that a key cannot have, without the value itself."""
    said = []
    for value in VALUES:
        try:
            validate(placed(path, value), "config")
        except ConfigError as error:
            said.append(str(error).replace(f"(it is {value!r})", ""))
    return said


@pytest.mark.parametrize("path", sorted(set(keys(Config))), ids=".".join)
def test_a_value_that_does_not_fit_is_in_the_words_of_a_config(path: tuple[str, ...]) -> None:
    said = said_of(path)
    assert said
    assert [text for text in said if re.search(LIBRARY, text) or len(text) > 300] == []


@pytest.mark.parametrize("name", available())
def test_so_is_that_of_an_option_of_a_format(name: str) -> None:
    options = load(name).Options
    assert options is not None
    said = []
    for key, value in itertools.product(options.model_fields, VALUES):
        try:
            options.model_validate({key: value})
        except pydantic.ValidationError as error:
            said += [in_words(one) for one in error.errors()]
    assert said
    assert [text for text in said if re.search(LIBRARY, text)] == []
