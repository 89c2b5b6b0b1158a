"""The config file as pydantic models; an unknown key is an error that names the line and the nearest key.

`load_config` reads a YAML file, applies `--set` overrides and validates. Paths are relative to the working directory.
`pipeline schema` prints the JSON Schema of `Config` for editors.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from pipeline.base.classes import ClassMap, Names
from pipeline.base.errors import ConfigError, MissingSourceError, UnknownNameError, nearest
from pipeline.base.stale import with_new_handle
from pipeline.base.yaml_document import parse_yaml
from pipeline.config.class_map import ClassSpec, align
from pipeline.config.class_names import read_names
from pipeline.config.messages import Written, no_key_twice, sentence
from pipeline.config.model import Config

if TYPE_CHECKING:
    from pipeline.config.model import ClassEntry, Source

#: A larger file is not a text file of the user's; a split table of a million groups is smaller.
_MAX_TEXT = 256 << 20

#: How the files end that are a dataset, or say what one is: NDJSON, CVAT's XML, a zip. JSON may also be a config.
_DATASETS = (".ndjson", ".xml", ".zip")

#: A larger JSON file is not read to see whether it is a config.
_MAX_JSON = 1 << 20


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read and validate the config at `path`, then apply `overrides` (each ``key.path=value``, a YAML value).

    Raises `ConfigError` with file, line and the nearest key.
    """
    where, overrides = os.fspath(path), list(overrides)
    node, data = parse_yaml(read_text(where, "config"), where)
    no_key_twice(node, where)
    if not isinstance(data, dict):
        found = "is empty" if data is None else "is a list" if isinstance(data, list) else "is plain text"
        raise ConfigError(
            f"{where}: {found}, and a config has keys with values; `coco-diy init` lists some to start from"
        )
    if "names" in data and "source" not in data:
        folder = "name its folder to look at it; " if {"train", "val"} & data.keys() else ""
        raise ConfigError(
            f"{where}: is a YAML of class names, no config; {folder}a config names it with source.names, and "
            "`coco-diy init` lists some to start from"
        )
    return validate(apply_overrides(data, overrides), where, node, overrides, name=Path(where).stem)


def keys_of(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The keys of a config with `overrides`, whatever is wrong with them; of what is no YAML see `_whole_keys`."""
    with contextlib.suppress(ConfigError):
        text = read_text(os.fspath(path), "config")
        try:
            data = parse_yaml(text, os.fspath(path))[1]
        except ConfigError:
            data = _whole_keys(text)
        return apply_overrides(data, overrides) if isinstance(data, dict) else {}
    return {}


def is_config(path: str) -> bool:
    """Whether a file is a config: it is whatever it is called, unless it ends as a dataset in one file does.

    Of JSON files those are configs that have a source, and no images or annotations, as a dataset has them.
    """
    if not path.lower().endswith(".json"):
        return not path.lower().endswith(_DATASETS)
    with contextlib.suppress(ConfigError, ValueError, RecursionError):
        keys = json.loads(read_text(path, "config", _MAX_JSON))
        return isinstance(keys, dict) and "source" in keys and keys.keys().isdisjoint(("images", "annotations"))
    return False


def _whole_keys(text: str) -> dict[str, Any]:
    """The outermost keys of a text that is no YAML as a whole; the value of one that is not YAML either is None."""
    found: dict[str, Any] = {}
    for part in re.split(r"^(?=\w)", text, flags=re.MULTILINE):
        try:
            data = parse_yaml(part, "")[1]
        except ConfigError:
            data = {part.partition(":")[0]: None}
        found |= data if isinstance(data, dict) else {}
    return found


#: A config, as a library is given one: itself, the path of its file, or its keys with values.
ConfigLike = Config | Mapping[str, Any] | str | Path


def as_config(what: ConfigLike) -> Config:
    """The config that `what` is. Raises `ConfigError` as `load_config` and `validate` do."""
    if isinstance(what, Config):
        return what
    return validate(what, "config") if isinstance(what, Mapping) else load_config(what)


def validate(
    data: Mapping[str, Any],
    where: str,
    node: object = None,
    overrides: Iterable[str] = (),
    *,
    name: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Config:
    """Make a `Config` of plain `data`; `where` is how the user calls it, `node` its YAML tree for line numbers.

    `overrides` were applied to it: an error in one of those is called by it. `name` is what the recipe is called: a
    target that a recipe of another name made is not replaced unasked. `options` are as in `Written`.
    """
    try:
        config = Config.model_validate(data)
        config._name = name
        config._written = Written(where, node, tuple(overrides), options)
        return config
    except pydantic.ValidationError as error:
        raise ConfigError(sentence(error, Config, where, node, overrides)) from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `data` with every ``key.path=value`` set; raises `ConfigError` for one that is not of that form."""
    import copy

    result = copy.deepcopy(dict(data))
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip("."):
            raise ConfigError(f"--set {override}: must be key.path=value, as in --set target.images=symlink")
        try:
            value = parse_yaml(text, "--set")[1]
        except ConfigError:
            raise ConfigError(f"--set {override}: the value is not valid YAML; put it in quotes") from None
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            inner = node.get(parent)
            if inner is None:
                inner = node[parent] = {}
            if isinstance(inner, list):
                raise ConfigError(f"--set {override}: {parent!r} holds a list; set all of it, as {parent}=[…]")
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {override}: {parent!r} holds a value, not keys")
            node = inner
        node[last] = value
    return result


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, and wait for no writer of a pipe; what one writes is waited for."""
    opened = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(opened, True)
    return opened


def _bytes_of(path: str, most: int) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        return file.read(most)


def read_text(path: str, what: str, most: int = _MAX_TEXT) -> str:
    """The text of a UTF-8 file of the user's, of `most` bytes; `what` names it in the error.

    A pipe is read, as the shell's ``<(…)`` is one; a pipe that nobody writes to has nothing in it.
    """
    try:
        data = with_new_handle(lambda: _bytes_of(os.path.expanduser(path), most + 1))
        if len(data) > most:
            raise ConfigError(f"{path}: the {what} file is larger than {most >> 20} MiB; is it the right one?")
        return data.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        full = os.path.abspath(os.path.expanduser(path))
        cure = instead_of(path) or "correct its path"
        raise MissingSourceError(f"{path}: no such {what} file; {cure}", full) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the {what} file in it") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the {what} file is not UTF-8 text; name a text file, or save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: the {what} file cannot be read ({error.strerror})") from None


def instead_of(path: str) -> str | None:
    """The clause for a file that is not there: one of nearly the same name beside it or in ``conf/``, if there is."""
    folder, name = os.path.split(os.path.expanduser(path))
    known = {
        file.stem + file.suffix.lower(): os.path.join(beside, file.name)
        for beside in (folder, os.path.join(folder, "conf"))
        if os.path.isdir(beside or ".")
        for file in sorted(Path(beside or ".").iterdir())
        if file.suffix.lower() in (".yaml", ".yml", ".txt", ".names")
    }
    near = nearest(name, known, limit=1, likeness=0.7)
    return f"did you mean {known[near[0]]}?" if near else None


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
        return [ClassSpec(n, (n,), literal=True) for n in wanted]
    return [_spec(entry) for entry in config.classes]


def _spec(entry: str | ClassEntry) -> ClassSpec:
    """What one entry of `classes` takes; one that only excludes takes all others."""
    if isinstance(entry, str):
        return ClassSpec(None if {*"*?"} & {*entry} else entry, (entry,))
    from_ = "*" if entry.from_ is None and entry.supercategory is None else entry.from_
    taken, above, exclude = (
        (value,) if isinstance(value, str) else tuple(value or ())
        for value in (from_, entry.supercategory, entry.exclude)
    )
    return ClassSpec(entry.name, taken, above, exclude)


def map_classes(config: Config, specs: list[ClassSpec] | None, names: Sequence[Names]) -> tuple[ClassMap, ...]:
    """The class map of each source, whose `names` are by the order of `Config.sources`."""
    try:
        return align(names, specs)
    except UnknownNameError as error:
        where = f"{config.classes}: " if isinstance(config.classes, str) else ""
        known, wanted = (
            {name for some in names for name in some.names},
            {name for spec in specs or () for name in spec.sources},
        )
        swapped = " (are the names of source and subset swapped?)" if known < wanted else ""
        raise UnknownNameError(f"{where}{error}{swapped}") from None
