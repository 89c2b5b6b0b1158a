"""The config file as pydantic models; an unknown key is an error that names the line and the nearest key.

`load_config` reads a YAML file, applies `--set` overrides and validates. Paths are relative to the working directory.
`pipeline schema` prints the JSON Schema of `Config` for editors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from pipeline.config.class_map import ClassMap, ClassSpec, align
from pipeline.config.class_names import Names, read_names
from pipeline.config.messages import no_key_twice, sentence
from pipeline.config.model import Config
from pipeline.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from pipeline.config.model import Source


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read and validate the config at `path`, then apply `overrides` (each ``key.path=value``, a YAML value).

    Raises `ConfigError` with file, line and the nearest key.
    """
    import yaml

    where = os.fspath(path)
    text = read_text(where, "config")
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        node = yaml.compose(text, Loader=loader)
        data = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    no_key_twice(node, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: holds no config; start from `coco-diy init`")
    overrides = list(overrides)
    return validate(apply_overrides(data, overrides), where, node, overrides)


def validate(data: Mapping[str, Any], where: str, node: object = None, overrides: Iterable[str] = ()) -> Config:
    """Make a `Config` of plain `data`; `where` is how the user calls it, `node` its YAML tree for line numbers.

    `overrides` were applied to it: an error in one of those is called by it.
    """
    try:
        return Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise ConfigError(sentence(error, Config, where, node, overrides)) from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `data` with every ``key.path=value`` set; raises `ConfigError` for one that is not of that form."""
    import copy

    import yaml

    result = copy.deepcopy(dict(data))
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip("."):
            raise ConfigError(f"--set {override}: must be key.path=value, as in --set target.images=symlink")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {override}: the value is not valid YAML; put it in quotes") from None
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            if inner is None:
                inner = place[parent] = {}
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {override}: {parent!r} holds a value, not keys")
            place = inner
        place[last] = value
    return result


def read_text(path: str, what: str) -> str:
    """The text of a small UTF-8 file of the user's; `what` names it in the error."""
    try:
        return Path(path).expanduser().read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what} file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the {what} file is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: the {what} file cannot be read ({error.strerror})") from None


def load_names(source: Source) -> Names | None:
    """The class names of a source, None where it has no file of them."""
    return read_names(read_text(source.names, "class names"), source.names) if source.names is not None else None


def load_specs(config: Config) -> list[ClassSpec] | None:
    """The classes of a config, None for all; raises before anything else is read."""
    if config.classes is None:
        return None
    if isinstance(config.classes, str):
        if not os.path.exists(os.path.expanduser(config.classes)):
            raise ConfigError(
                f"classes: {config.classes!r} is no file; a text here is the path of a names YAML, and a "
                f"class is written in brackets: [{config.classes}]"
            )
        wanted = read_names(read_text(config.classes, "classes"), config.classes).names
        return [ClassSpec(n, (n,)) for n in wanted]
    specs = []
    for entry in config.classes:
        if isinstance(entry, str):
            specs.append(ClassSpec(entry, (entry,)))
        else:
            sources = [entry.from_] if isinstance(entry.from_, str) else entry.from_
            specs.append(ClassSpec(entry.name, tuple(sources)))
    return specs


def map_classes(config: Config, specs: list[ClassSpec] | None, names: Sequence[Sequence[str]]) -> tuple[ClassMap, ...]:
    """The class map of each source, whose `names` are by the order of `Config.sources`."""
    try:
        return align(names, specs)
    except UnknownNameError as error:
        where = f"{config.classes}: " if isinstance(config.classes, str) else ""
        raise UnknownNameError(f"{where}{error}") from None
