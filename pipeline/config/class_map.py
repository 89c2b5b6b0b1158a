"""Class ids of a source mapped, by name, to the ids of a subset."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.base.classes import ClassMap, Names
from pipeline.base.errors import ConfigError, UnknownNameError, unknown


@dataclass(frozen=True)
class ClassSpec:
    """One class of the subset, or several: which of the source's classes become it.

    Taken are the classes `sources` and those of the `supercategories`, but for `exclude`. Each of these texts is a name
    or a wildcard, see `fitting`; where they are `literal`, a name. All that is taken becomes the class `name`; without
    it each class stays by itself, under its own name.
    """

    name: str | None
    sources: tuple[str, ...] = ()
    supercategories: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    literal: bool = False

    @property
    def called(self) -> str:
        """What a sentence calls it: its name, or what it takes."""
        if self.name is not None:
            return repr(self.name)
        return ", ".join([*map(repr, self.sources), *(f"supercategory {text!r}" for text in self.supercategories)])


def class_map(source: Sequence[str], specs: Iterable[ClassSpec] | None) -> ClassMap:
    """`align` for one source, whose classes are called `source`."""
    return align([Names(tuple(source))], specs)[0]


def align(sources: Sequence[Names], specs: Iterable[ClassSpec] | None) -> tuple[ClassMap, ...]:
    """Map the classes of each source to those in `specs`: each has its own lookup, the subset's names are the same.

    The order of `specs` gives the ids; None takes all classes, in the order in which the sources name them first. A
    source need not have every class. Raises `UnknownNameError` for a name that no source has, `ConfigError` for a name
    given twice.
    """
    known = dict.fromkeys(name for source in sources for name in source.names)
    if specs is None:
        specs = [ClassSpec(name, (name,), literal=True) for name in known]
    above: dict[str, list[str]] = {}
    for source in sources:
        for name, supercategory in source.supercategories.items():
            above.setdefault(supercategory, []).append(name)
        for name, ancestors in source.ancestors.items():
            for ancestor in ancestors:
                above.setdefault(ancestor, []).append(name)
    of_name, names = _targets(known, above, specs)
    return tuple(ClassMap(s.names, names, tuple(of_name.get(name, -1) for name in s.names)) for s in sources)


def fitting(text: str, known: Collection[str], what: str = "class", *, literal: bool = False) -> list[str]:
    """Those of `known` that `text` names: the one so called or, in their order, all that fit it as a wildcard.

    In a wildcard ``*`` is any text and ``?`` any one character; case counts, how letters are composed does not. Raises
    `UnknownNameError`, with the nearest `what`, where there is none.
    """
    if text in known:
        return [text]
    composed = unicodedata.normalize("NFC", text)
    by_composed = [(unicodedata.normalize("NFC", name), name) for name in known]
    if exact := [name for one, name in by_composed if one == composed]:
        return exact[:1]
    pattern = composed.replace("[", "[[]")  # brackets are letters of a name
    found = [name for one, name in by_composed if not literal and fnmatch.fnmatchcase(one, pattern)]
    if not found:
        raise UnknownNameError(unknown(what, text, known))
    return found


def _targets(
    known: Collection[str], above: Mapping[str, Sequence[str]], specs: Iterable[ClassSpec]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The subset's id of each class that is taken, by its name in the sources; and the subset's names."""
    ids: dict[str, int] = {}
    names: list[str] = []
    taken_by: dict[str, ClassSpec] = {}
    for spec in specs:
        if spec.name is not None:
            _check_name(spec.name, names)
        taken = _taken(spec, known, above)
        for name in taken:
            if name in taken_by:
                raise ConfigError(
                    f"classes: the source's {name!r} is taken by both {taken_by[name].called} and {spec.called}; "
                    "name it once, or `exclude` it from one of them"
                )
            taken_by[name] = spec
        if spec.name is not None:
            ids |= dict.fromkeys(taken, len(names))
            names.append(spec.name)
            continue
        for name in taken:
            _check_name(name, names)
            ids[name] = len(names)
            names.append(name)
    if not names:
        raise ConfigError("classes: the list is empty; name at least one class, or leave `classes` out to take all")
    return ids, tuple(names)


def _check_name(name: str, names: Sequence[str]) -> None:
    """Refuse a name that the subset, which has `names`, cannot give a class."""
    if name in names:
        raise ConfigError(f"classes: {name!r} is a duplicate; give each class of the subset its own name")
    if any(ord(c) < 32 for c in name):
        raise ConfigError(f"classes: the name {name!r} holds a control character or a line break")


def _taken(spec: ClassSpec, known: Collection[str], above: Mapping[str, Sequence[str]]) -> list[str]:
    """The sources' classes that `spec` takes, in the order in which it names them, then in that of `known`."""
    if again := next((text for text in spec.sources if spec.sources.count(text) > 1), None):
        raise ConfigError(f"classes: {again!r} is a duplicate in `from` of {spec.called}; name it once")
    try:
        taken = [name for text in spec.sources for name in fitting(text, known, literal=spec.literal)]
        for text in spec.supercategories:
            if not above:
                raise UnknownNameError(
                    f"no source says a supercategory, such as {text!r}; name the classes after `from:`, or add "
                    "`supercategories: {car: vehicle}` to the names YAML"
                )
            groups = {name for group in fitting(text, sorted(above), "supercategory") for name in above[group]}
            taken += [name for name in known if name in groups]
        taken = list(dict.fromkeys(taken))
        dropped = {name for text in spec.exclude for name in fitting(text, taken, "class in `exclude`")}
    except UnknownNameError as error:
        raise UnknownNameError(f"classes: {error}") from None
    left = [name for name in taken if name not in dropped]
    if not left:
        cure = "`exclude` less" if taken else "name at least one after `from:`"
        raise ConfigError(f"classes: {spec.called} is made of no class; {cure}")
    return left
