"""Class ids of a source mapped, by name, to the ids of a subset."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.base.classes import ClassMap
from pipeline.base.errors import ConfigError, UnknownNameError, unknown


@dataclass(frozen=True)
class ClassSpec:
    """One class of the subset: its name and the source's classes that become it."""

    name: str
    sources: tuple[str, ...]


def class_map(source: Sequence[str], specs: Iterable[ClassSpec] | None) -> ClassMap:
    """Map `source` names to the classes in `specs` (order gives the ids); None takes all, as they are.

    Raises `UnknownNameError` for a name the source does not have, `ConfigError` for a name given twice.
    """
    return align([source], specs)[0]


def align(sources: Sequence[Sequence[str]], specs: Iterable[ClassSpec] | None) -> tuple[ClassMap, ...]:
    """`class_map` for several sources of one subset: each has its own lookup, the subset's names are the same.

    None takes all classes, in the order in which the sources name them first. A source need not have every class.
    """
    known = list(dict.fromkeys(name for source in sources for name in source))
    if specs is None:
        specs = [ClassSpec(name, (name,)) for name in known]
    of_name, names = _targets(known, specs)
    return tuple(ClassMap(tuple(source), names, tuple(of_name.get(name, -1) for name in source)) for source in sources)


def _targets(known: Sequence[str], specs: Iterable[ClassSpec]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The subset's id of each class that is taken, by its name in the sources; and the subset's names."""
    as_known = {unicodedata.normalize("NFC", name): name for name in reversed(known)}
    ids: dict[str, int] = {}
    names: list[str] = []
    for spec in specs:
        if spec.name in names:
            raise ConfigError(f"classes: {spec.name!r} is a duplicate; give each class of the subset its own name")
        if any(ord(c) < 32 for c in spec.name):
            raise ConfigError(f"classes: the name {spec.name!r} holds a control character or a line break")
        if not spec.sources:
            raise ConfigError(f"classes: {spec.name!r} is made of no class; name at least one after `from:`")
        for written in spec.sources:
            name = written if written in known else as_known.get(unicodedata.normalize("NFC", written), written)
            if name not in known:
                raise UnknownNameError(f"classes: {unknown('class', name, known)}")
            if name in ids:
                other = names[ids[name]] if ids[name] < len(names) else spec.name
                raise ConfigError(
                    f"classes: the source's {name!r} cannot become both {other!r} and {spec.name!r}; name it once"
                )
            ids[name] = len(names)
        names.append(spec.name)
    if not names:
        raise ConfigError("classes: the list is empty; name at least one class, or leave `classes` out to take all")
    return ids, tuple(names)
