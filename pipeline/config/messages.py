"""What is wrong with a config, in a sentence that names the line."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pydantic

from pipeline.base.errors import ConfigError, nearest
from pipeline.base.terms import SPLITS
from pipeline.config.values import in_words, shown


def no_key_twice(node: object, where: str) -> None:
    """YAML lets the last of two equal keys win without a word: here that is an error."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            no_key_twice(item, where)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise ConfigError(
                    f"{where}:{key.start_mark.line + 1}: the key {str(key.value)!r} is a duplicate; remove one"
                )
            seen.add(str(key.value))
            no_key_twice(value, where)


def sentence(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str, node: object, overrides: Iterable[str]
) -> str:
    """The first and deepest thing that is wrong with a config, which is a `model`: where, what, and what would do.

    `where` is how the user calls the file, `node` its YAML tree, `overrides` (``key.path=value``) were set since.
    """
    # A union reports each of its branches: the unknown key first, then whatever is deepest, is what the user meant.
    errors = sorted(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    first = errors[0]
    steps, models = _walk(first["loc"], model)
    steps = steps or list(first["loc"])  # a key that looks like one of pydantic's own steps
    key = ".".join(str(s) for s in steps)
    line = _line(node, steps)
    at = _override(key, overrides, within=first["type"] == "extra_forbidden") or (f"{where}:{line}" if line else where)
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys(key for model in models for key in _keys(model)))
        near = nearest(str(steps[-1]), known, limit=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else (f"known keys here: {', '.join(known)}" if known else "nothing can be set here yet")
        )
        return f"{at}: unknown key {key!r}; {hint}"
    if first["type"] == "missing":
        return f"{at}: the key {key!r} is missing"
    given = first["input"]
    # Every branch of a union says what it would take: all of it helps.
    here = [e for e in errors if _walk(e["loc"], model)[0] == steps]
    other = ("model_type", "dict_type") if any(e["type"] == "string_type" for e in here) else ("dict_type",)
    plain = [e for e in here if e["type"] not in other]
    keys = {below.__name__: f" ({', '.join(_keys(below))})" for below in _below(model)}
    messages = dict.fromkeys(
        in_words(e) + (keys[e["ctx"]["class_name"]] if e["type"] == "model_type" else "")
        for e in (here if isinstance(given, dict | list) else plain or here)
    )
    return f"{at}: {key}: {'; or '.join(messages)}{shown(given)}"


def _keys(model: type[pydantic.BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _walk(
    loc: Iterable[int | str], model: type[pydantic.BaseModel]
) -> tuple[list[int | str], list[type[pydantic.BaseModel]]]:
    """The part of a pydantic location that the user wrote, and the models that its last step could be a key of."""
    steps: list[int | str] = []
    here: list[type[pydantic.BaseModel]] = [model]
    names = {found.__name__ for found in _below(model)}
    parents = here
    splits = {*SPLITS}
    for step in loc:
        parents = here
        by_alias = {(f.alias or name): f for model in here for name, f in model.model_fields.items()}
        if step in by_alias:
            here = _models(by_alias[str(step)].annotation) or here
            steps.append(step)
        elif isinstance(step, int) or step in splits or not _is_branch(step, names):
            steps.append(step)
    return steps, parents


def _is_branch(step: int | str, names: set[str]) -> bool:
    """Whether a step is pydantic's own: the branch of a union, which may be called by the name of a model."""
    return isinstance(step, str) and (
        step in names
        or step in ("str", "int", "[key]", "one", "several")
        or "[" in step
        or step.startswith("constrained-")
    )


def _below(model: type[pydantic.BaseModel]) -> set[type[pydantic.BaseModel]]:
    """The models that `model` is made of."""
    found = {inner for field in model.model_fields.values() for inner in _models(field.annotation)}
    return found.union(*map(_below, found))


def _override(key: str, overrides: Iterable[str], *, within: bool) -> str | None:
    """The last of `overrides` that set `key`, or what holds it, as the user wrote it; or something `within` it."""
    for override in reversed(list(overrides)):
        path = override.partition("=")[0]
        if f"{key}.".startswith(f"{path}.") or (within and path.startswith(f"{key}.")):
            return f"--set {override}"
    return None


def _models(annotation: object) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for arg in typing.get_args(annotation) for model in _models(arg)]


@dataclass(frozen=True)
class Written:
    """Where the keys of a config were written: in the file that the user calls `where`, or in `overrides`.

    `node` is the file's YAML tree. Of a command that has no config `options` are what it takes instead, by key, each
    with an example: ``--split 0.8``. It does not count in comparisons: all are equal.
    """

    where: str = field(compare=False)
    node: object = field(compare=False)
    overrides: tuple[str, ...] = field(compare=False)
    options: Mapping[str, str] | None = field(default=None, compare=False)

    def name_of(self, key: str) -> str:
        """What the user calls a key: itself, or the argument or option that a command has for it."""
        if self.options is None:
            return key if "." in key else f"`{key}`"
        known = next(
            (name for name in (key, key.rpartition(".")[0], key.partition(".")[0]) if name in self.options), None
        )
        return self.options[known].split()[0] if known is not None else f"--set {key}"

    def known(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that the user has written, or could, as `name_of` calls them."""
        return [self.name_of(key) for key in keys if self.options is None or key in self.options]

    def setting(self, key: str, value: str) -> str:
        """How the user says that `key` is `value`: in the config or, to a command that has none, by an option."""
        if self.options is None:
            return f"`{key}: {value}`"
        return self.options.get(key) or f"--set '{key}={value}'"

    def position(self, key: str) -> str | None:
        """File and line, or the `--set`, that has `key` (``target.root``); None if missing."""
        line = _line(self.node, list(key.split(".")))
        return _override(key, self.overrides, within=False) or (f"{self.where}:{line}" if line else None)


def _line(node: object, steps: list[int | str]) -> int | None:
    """Line (from 1) of the deepest step that the YAML tree holds."""
    import yaml

    found: int | None = None
    for step in steps:
        following = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if str(key.value) == str(step):
                    found, following = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            following = node.value[step]
            found = following.start_mark.line + 1
        if following is None:
            break
        node = following
    return found
