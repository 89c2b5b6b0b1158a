"""YAML: read within limits, whoever wrote it, and written so that every reader reads the same.

libyaml recurses for every level of nesting, and an alias is a copy of what it names: a file of a few hundred bytes
could end the process, or take all its memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base.errors import ConfigError
from pipeline.base.text import printable

if TYPE_CHECKING:
    import yaml

T = TypeVar("T")

#: Names YAMLs are a few levels deep, and of some thousand values.
_DEPTH = 64

_VALUES = 200_000

#: What libyaml's words mean for who wrote the file, the narrower first.
_REASONS = {
    "could not determine a constructor": "holds a tag that is not plain YAML; remove it",
    "tab character": "holds a tab; indent with blanks",
    "cannot start any token": "begins a value with a character that means something in YAML, or with a tab; put the "
    "value in quotes, and indent with blanks",
    "mapping values are not allowed": "is indented deeper than its neighbours, or has a second colon; line it up with "
    "the keys beside it, or put the value in quotes",
    "block sequence entries are not allowed": "begins a list on the line of its key; put it on the next line",
    "could not find expected ':'": "lacks a colon after a key, here or right above; write `key: value`",
    "did not find expected ',' or ']'": "leaves a [ open, here or above; close it with ]",
    "did not find expected ',' or '}'": "leaves a { open, here or above; close it with }",
    "expected node content": "leaves a value out, or a bracket open, here or above; write it, or close it",
    "end of stream": "leaves a quote open, here or above; close it",
    "did not find expected '-' indicator": "is indented otherwise than the list above; line it up with the - there",
    "did not find expected key": "is indented otherwise than the keys above, or follows a quote or bracket that was "
    "closed too early; line it up with them",
    "undefined alias": "holds a * that YAML takes for an alias; put the value in quotes",
    "expected alphabetic or numeric": "holds a * or & that YAML takes for an alias; put the value in quotes",
    "unknown escape character": "has a backslash in double quotes; use single quotes",
    "did not find expected <document start>": "holds text after the end of the document; indent it, or remove it",
    "control characters": "holds control characters: no text file, or a damaged one; name another, or get it again",
    "incompatible YAML document": "begins with a %YAML line of a version that nobody reads; remove it",
    "found another document": "holds a second document after ---; remove it",
}

#: What other readers than PyYAML do not take for text: numbers and booleans of YAML 1.2, ``y`` and ``n`` of 1.1.
_NOT_TEXT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+|0x[0-9a-fA-F]+|[yYnN]|[-+]?\.(inf|Inf|INF)")


def parse_yaml(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """The tree (None: there is nothing) and the data of a YAML document that the user calls `where`.

    Raises `ConfigError`, a sentence with the line, for what is no YAML, is nested too deeply, or is too large with its
    aliases copied.
    """
    import yaml

    root = _guarded(lambda: _compose(text, where), where)
    if root is None:
        return None, None
    _limit(root, where)
    loader: Any = yaml.SafeLoader("")
    return root, _guarded(lambda: loader.construct_document(root), where)


def compose_yaml(text: str, where: str) -> yaml.Node | None:
    """The tree of `parse_yaml` alone: values are as they were written."""
    root = _guarded(lambda: _compose(text, where), where)
    if root is not None:
        _limit(root, where)
    return root


def construct_yaml(node: yaml.Node, where: str) -> Any:
    """The data of a tree, or of a part of it."""
    import yaml

    loader: Any = yaml.SafeLoader("")
    return _guarded(lambda: loader.construct_document(node), where)


def _compose(text: str, where: str) -> yaml.Node | None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=loader):  # which does not recurse
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and "\0" in event.value:
            raise ConfigError(f"{where}:{line}: holds a NUL, which no path and no name has; remove it")
        if depth > _DEPTH:
            raise ConfigError(
                f"{where}:{line}: is nested more than {_DEPTH} levels deep; no config and no names YAML is"
            )
    found: yaml.Node | None = yaml.compose(text, Loader=loader)
    return found


def _guarded(work: Callable[[], T], where: str) -> T:
    import yaml

    try:
        return work()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
        reason = next(
            (reason for words, reason in _REASONS.items() if words in said),
            "is not valid YAML here; correct the line, or put the value in quotes",
        )
        raise ConfigError(f"{where}{line}: {reason}") from None
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError):
        # PyYAML takes 2001-13-45 for a date and 0b_ for a number, and asks Python for them.
        raise ConfigError(
            f"{where}: has a value that YAML takes for a date or a number, which it is not; put it in quotes"
        ) from None


def _limit(root: yaml.Node, where: str) -> None:
    """Refuse a tree that is too large once every alias is a copy, or that holds itself."""
    import yaml

    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise ConfigError(f"{where}:{node.start_mark.line + 1}: holds itself by an alias")
            return known
        sizes[id(node)] = None
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        total = 1 + sum(map(size, inner))
        if total > _VALUES:
            raise ConfigError(
                f"{where}: has more than {_VALUES:,} values, its aliases counted; no config and no names YAML has"
            )
        sizes[id(node)] = total
        return total

    size(root)


def dump_yaml(data: Any, *, flow: bool | None = False) -> str:
    """`data` as YAML on lines of any length; `flow` None puts lists on one line. Keys keep their order.

    Text that some reader would take for something else is quoted; where a text holds what is not printable, all of the
    document is ASCII.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """With quotes where any reader needs them."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    Dumper.add_representer(str, _text)
    return str(
        yaml.dump(
            data,
            Dumper=Dumper,
            sort_keys=False,
            width=2**31,
            default_flow_style=flow,
            allow_unicode=all(printable(text) == text for text in _texts(data)),
        )
    )


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if printable(text) != text else "'" if _NOT_TEXT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _texts(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [text for pair in data.items() for part in pair for text in _texts(part)]
    if isinstance(data, list | tuple):
        return [text for part in data for text in _texts(part)]
    return [data] if isinstance(data, str) else []
