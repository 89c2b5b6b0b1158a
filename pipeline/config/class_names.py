"""Class names: reading them from a dataset YAML in any style, and mapping source ids to subset ids by name.

A *names YAML* is what Ultralytics, YOLOv5/v7 and Roboflow call the dataset YAML: ``names`` as a mapping ``0: person``
or as a list, with or without ``nc``. Only ``names``, ``nc``, ``kpt_shape``, ``flip_idx``, ``kpt_names`` and our own
``supercategories`` are read: paths in it belong to another machine, and ``download:`` is a program that is neither
copied nor run.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.base.classes import Names
from pipeline.base.errors import ConfigError, unknown
from pipeline.base.terms import NO_CLASS
from pipeline.base.text import plain_name, whole_number
from pipeline.base.yaml_document import compose_yaml, construct_yaml

if TYPE_CHECKING:
    import yaml


def read_names(text: str, where: str) -> Names:
    """Read a names YAML; `where` is how the user calls the file.

    A ``.txt``, a ``.names``, and whatever else is no YAML of names, is a list, one name a line: labelme's
    ``labels.txt``, darknet's ``obj.names``, mmyolo's ``class_with_id.txt``. `NO_CLASS` are left out.

    Raises `ConfigError`, a sentence with file and line, for whatever a trainer would misread.
    """
    import yaml

    text = text.removeprefix("\ufeff")
    kind = where.lower().rpartition(".")[2]
    if kind in ("txt", "names", "labels"):
        return Names(_listed(text, where))
    root = compose_yaml(text, where)
    if not isinstance(root, yaml.MappingNode):
        if kind not in ("yaml", "yml", "json") and isinstance(root, yaml.ScalarNode):
            return Names(_listed(text, where))
        raise ConfigError(f"{where}: holds no mapping; a names YAML has a line `names:` with the class names below it")
    top: dict[str, yaml.Node] = {}
    for key, value in root.value:
        if str(key.value) in top:
            raise ConfigError(f"{where}:{key.start_mark.line + 1}: the key `{key.value}` is a duplicate; remove one")
        top[str(key.value)] = value
    if "names" not in top and "source" in top:
        raise ConfigError(f"{where}: is a config, no YAML of class names; name that, such as conf/coco.yaml")
    count = _class_count(top.get("nc"))
    if "names" not in top and (meant := _meant_as_names(root, count)) is not None:
        key, line = meant
        raise ConfigError(f"{where}:{line}: has no `names:`, but `{key}:` with a list; did you mean 'names'?")
    if "names" not in top and not count:
        raise ConfigError(f"{where}: has no `names:`; add one with the class names, `0: person` or a list")
    names = _names(top["names"], where) if "names" in top else tuple(f"class_{i}" for i in range(count or 0))
    _check_nc(top.get("nc"), len(names), where)
    wanted = {"kpt_shape", "flip_idx", "kpt_names", "supercategories"} & top.keys()
    task = str(top["task"].value) if "task" in top else None
    extra = construct_yaml(_pick(root, wanted), where) if wanted else {}
    return Names(
        names,
        *_keypoints(extra, where),
        task=task if task in ("detect", "segment", "pose", "obb") else None,
        supercategories=_supercategories(extra.get("supercategories"), names, where),
    )


#: Keys of a names YAML whose lists are not of names of classes.
_OWN_KEYS = frozenset({"kpt_names", "kpt_shape", "flip_idx", "supercategories", "train", "val", "test", "minival"})

#: What other tools call the names of classes.
_CALLED = frozenset({"classes", "class_names", "classnames", "labels", "categories", "class_list"})

#: Share of letters that a mistyped `names` has of it.
_ALIKE = 0.7

#: More classes without names are a slip.
_MOST_NAMELESS = 10_000

#: A line of mmyolo's ``class_with_id.txt`` and its like: a number, then the name.
_NUMBERED = re.compile(r"(\d+)\s*[:,\t ]\s*(\S.*)")


def _listed(text: str, where: str) -> tuple[str, ...]:
    lines = {
        number: name
        for number, line in enumerate(re.split("\r\n?|\n", text), 1)
        if (name := plain_name(line)) and name not in NO_CLASS
    }
    numbered = [_NUMBERED.fullmatch(name) for name in lines.values()]
    ids = [whole_number(match[1]) for match in numbered if match is not None]
    if len(ids) == len(lines) > 0 and ids in ([*range(len(ids))], [*range(1, len(ids) + 1)]):
        stripped = [match[2] for match in numbered if match is not None]
        if len(set(stripped)) == len(stripped):  # "1 euro, 2 euro" are names of their own
            lines = dict(zip(lines, stripped, strict=True))
    names: dict[str, int] = {}
    for number, name in lines.items():
        if name in names:
            raise ConfigError(f"{where}:{number}: the name {name!r} is a duplicate of line {names[name]}; name it once")
        if any(unicodedata.category(c) == "Cc" for c in name):
            raise ConfigError(f"{where}:{number}: the name {name!r} holds a control character; write it anew")
        names[name] = number
    if not names:
        raise ConfigError(f"{where}: holds no name; write one class a line")
    return tuple(names)


def _class_count(node: yaml.Node | None) -> int | None:
    """How many classes ``nc`` says: Ultralytics (`check_det_dataset`) calls them ``class_0`` and so on."""
    count = whole_number(str(node.value)) if node is not None else None
    return count if count is not None and count <= _MOST_NAMELESS else None


def _meant_as_names(root: yaml.MappingNode, count: int | None) -> tuple[str, int] | None:
    """The key under which the names are that has another name than ``names``, and its line (from 1); else None.

    That is one called much like it, or as many other tools call it, with a list or a mapping of as many as `count`,
    where that is given.
    """
    import yaml

    for key, value in root.value:
        name = str(key.value)
        if name in _OWN_KEYS or not isinstance(value, yaml.SequenceNode | yaml.MappingNode) or not value.value:
            continue
        alike = difflib.get_close_matches(name.strip().casefold(), ["names"], cutoff=_ALIKE)
        if alike or (name.strip().casefold() in _CALLED and count in (None, len(value.value))):
            return name, key.start_mark.line + 1
    return None


def _pick(root: yaml.MappingNode, keys: set[str]) -> yaml.Node:
    import yaml

    return yaml.MappingNode(root.tag, [(k, v) for k, v in root.value if str(k.value) in keys])


def _names(node: object, where: str) -> tuple[str, ...]:
    import yaml

    line = node.start_mark.line + 1 if isinstance(node, yaml.Node) else 0
    if isinstance(node, yaml.SequenceNode):
        pairs = list(enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):
        pairs = [(_class_id(key, where), value) for key, value in node.value]
    else:
        raise ConfigError(f"{where}:{line}: `names` must be a list of names or a mapping `0: person`")
    if not pairs:
        raise ConfigError(f"{where}:{line}: `names` is empty")
    by_id: dict[int, str] = {}
    seen: dict[str, int] = {}
    for class_id, value in pairs:
        at = f"{where}:{value.start_mark.line + 1}"
        name = _name(value, at, class_id)
        if class_id in by_id:
            raise ConfigError(f"{at}: class id {class_id} is a duplicate ({by_id[class_id]!r} and {name!r})")
        if name in seen:
            raise ConfigError(
                f"{at}: the name {name!r} is given to class {seen[name]} and class {class_id}; "
                "classes are mapped by name, so names must differ"
            )
        by_id[class_id] = name
        seen[name] = class_id
    missing = next(i for i in range(len(by_id) + 1) if i not in by_id)
    if missing < len(by_id):
        line = next(v.start_mark.line + 1 for i, v in pairs if i == max(by_id))
        raise ConfigError(
            f"{where}:{line}: the ids of `names` must be 0 to {len(by_id) - 1} without a gap, "
            f"but {missing} is missing (there is {max(by_id)})"
        )
    return tuple(by_id[i] for i in range(len(by_id)))


def _class_id(key: object, where: str) -> int:
    text = value if isinstance(value := getattr(key, "value", key), str) else "[…]"
    line = getattr(getattr(key, "start_mark", None), "line", 0) + 1
    try:
        number = int(text)
    except ValueError:
        raise ConfigError(f"{where}:{line}: the key {text!r} of `names` is not a class id; write `0: {text}`") from None
    if number < 0:
        raise ConfigError(f"{where}:{line}: the class id {number} of `names` is negative; ids begin at 0")
    return number


def _name(node: object, at: str, class_id: int) -> str:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{at}: the name of class {class_id} is not a text but a list or a mapping")
    text: str = node.value
    if node.tag.endswith(":bool"):
        raise ConfigError(
            f"{at}: YAML reads the name {text} of class {class_id} as true/false; put it in quotes: '{text}'"
        )
    if node.tag.endswith(":null") or not text.strip():
        raise ConfigError(f"{at}: class {class_id} has no name (YAML reads {text!r} as nothing)")
    if any(ord(c) < 32 for c in text):
        raise ConfigError(f"{at}: the name {text!r} of class {class_id} holds a control character or a line break")
    return text


def _check_nc(node: object, count: int, where: str) -> None:
    if node is None:
        return
    text = str(getattr(node, "value", node))
    line = getattr(getattr(node, "start_mark", None), "line", 0) + 1
    if text.strip() != str(count):
        raise ConfigError(f"{where}:{line}: nc is {text}, but `names` has {count}; correct the one that is wrong")


def _keypoints(
    data: Mapping[str, object], where: str
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None, dict[int, tuple[str, ...]]]:
    shape = data.get("kpt_shape")
    if shape is None:
        return None, None, {}
    pair = _int_list(shape)
    if pair is None or len(pair) != 2 or pair[0] < 1 or pair[1] not in (2, 3):
        raise ConfigError(f"{where}: kpt_shape must be [number of keypoints, 2 or 3], not {shape!r}")
    flip = data.get("flip_idx")
    flips = None
    if flip is not None:
        flips = _int_list(flip)
        if flips is None or sorted(flips) != list(range(pair[0])):
            raise ConfigError(f"{where}: flip_idx must hold each of 0 to {pair[0] - 1} once, as kpt_shape says")
    names = data.get("kpt_names") or {}
    good = isinstance(names, Mapping) and all(isinstance(k, int) and isinstance(vs, list) for k, vs in names.items())
    if not good or not isinstance(names, Mapping):
        raise ConfigError(f"{where}: kpt_names must be a list of names below each class id, `0: [nose, …]`")
    by_class = {int(k): tuple(str(v) for v in vs) for k, vs in names.items()}
    return (pair[0], pair[1]), tuple(flips) if flips is not None else None, by_class


def _supercategories(data: object, names: Sequence[str], where: str) -> dict[str, str]:
    """The supercategory of each class that has one: a mapping ``car: vehicle``."""
    if not isinstance(data, Mapping | None) or not all(isinstance(v, str) and v for v in (data or {}).values()):
        raise ConfigError(f"{where}: supercategories must have a name for each class that has one, `car: vehicle`")
    for name in map(str, data or ()):
        if name not in names:
            raise ConfigError(f"{where}: supercategories: {unknown('class', name, names)}")
    return {str(name): supercategory for name, supercategory in (data or {}).items()}


def _int_list(value: object) -> list[int] | None:
    if isinstance(value, Sequence) and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        return list(value)
    return None
