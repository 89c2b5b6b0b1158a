"""Which classes a subset takes of its sources: by name, by wildcard, by supercategory, and all but some."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.classes import ClassMap, Names
from pipeline.base.errors import UsageError
from pipeline.config.class_map import fitting
from pipeline.config.class_names import read_names
from pipeline.config.load import load_specs, map_classes, validate

COCO = read_names((Path(__file__).parents[2] / "conf/coco.yaml").read_text(encoding="utf-8"), "conf/coco.yaml")

ONE: dict[str, Any] = {"root": "r", "names": "n.yaml", "splits": {"train": "t"}}


def maps(classes: Any, *names: Names, order: list[int] | None = None) -> dict[str, ClassMap]:
    """The class map of each source, by its name; sources s0, s1, … are listed in `order`."""
    sources = [ONE | {"name": f"s{i}"} for i in order or range(len(names))]
    config = validate({"source": sources, "classes": classes, "target": {"root": "out"}}, "config")
    by_name = {f"s{i}": some for i, some in enumerate(names)}
    ordered = [by_name[source.name] for source in config.sources]
    found = map_classes(config, load_specs(config), ordered)
    return {source.name: one for source, one in zip(config.sources, found, strict=True)}


def chosen(classes: Any, *names: Names) -> dict[str, list[str]]:
    """By class of the subset the sources' classes that become it."""
    found: dict[str, list[str]] = {}
    for one in maps(classes, *names).values():
        for name in one.names:
            found.setdefault(name, [])
        for old, new in zip(one.source, one.lut, strict=True):
            if new >= 0 and old not in found[one.names[new]]:
                found[one.names[new]].append(old)
    return found


KINDS = Names(
    ("Vehicle", "Land vehicle", "Car", "Boat", "Tree"),
    supercategories={"Car": "Land vehicle", "Land vehicle": "Vehicle", "Boat": "Vehicle"},
    ancestors={"Car": ("Land vehicle", "Vehicle"), "Land vehicle": ("Vehicle",), "Boat": ("Vehicle",)},
)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([{"name": "v", "supercategory": "Vehicle"}], {"v": ["Land vehicle", "Car", "Boat"]}),
        (
            [{"name": "v", "from": "Vehicle", "supercategory": "Vehicle"}],
            {"v": ["Vehicle", "Land vehicle", "Car", "Boat"]},
        ),
        ([{"supercategory": "Land*"}, "Vehicle"], {"Car": ["Car"], "Vehicle": ["Vehicle"]}),
    ],
)
def test_a_supercategory_of_a_hierarchy_has_all_kinds_of_it(classes: Any, expected: dict[str, list[str]]) -> None:
    assert chosen(classes, KINDS) == {name: sorted(some, key=KINDS.names.index) for name, some in expected.items()}


VEHICLES = ["bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"]
SPORTS_BALLS = ["baseball bat", "baseball glove"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["baseball *"], {name: [name] for name in SPORTS_BALLS}),
        (["dog", "c?t", "baseball *"], {name: [name] for name in ["dog", "cat", *SPORTS_BALLS]}),
        ([{"name": "gear", "from": ["baseball *", "skis"]}], {"gear": ["skis", *SPORTS_BALLS]}),
        ([{"name": "vehicle", "supercategory": "vehicle"}], {"vehicle": VEHICLES}),
        (
            [{"supercategory": "vehicle", "exclude": ["b*", "train"]}],
            {n: [n] for n in VEHICLES if n[0] not in "bt"} | {"truck": ["truck"]},
        ),
        (
            [{"name": "v", "supercategory": "vehicle", "exclude": "*a*"}],
            {"v": ["bicycle", "motorcycle", "bus", "truck"]},
        ),
        ([{"name": "v", "supercategory": "appliance", "from": "tv"}], {"v": [*COCO.names[62:63], *COCO.names[68:73]]}),
        ([{"from": ["truck", "car"]}], {"truck": ["truck"], "car": ["car"]}),
        (["*"], {name: [name] for name in COCO.names}),
        (["person", {"exclude": "person"}], {name: [name] for name in COCO.names}),
        ([{"name": "object", "exclude": "person"}], {"object": list(COCO.names[1:])}),
        (
            [{"supercategory": ["food", "animal"], "exclude": ["b*", "*e*", "c*", "do*", "s*"]}],
            {"hot dog": ["hot dog"], "pizza": ["pizza"]},
        ),
    ],
)
def test_what_is_taken(classes: Any, expected: dict[str, list[str]]) -> None:
    found = chosen(classes, COCO)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("classes", "clause"),
    [
        (["trafic *"], "unknown class 'trafic *'; did you mean 'traffic light'"),
        (["Baseball *"], "unknown class 'Baseball *'; did you mean 'baseball bat'"),
        ([{"name": "v", "supercategory": "vehicel"}], "unknown supercategory 'vehicel'; did you mean 'vehicle'?"),
        ([{"supercategory": "car"}], "unknown supercategory 'car'"),
        (["car", "c*"], "the source's 'car' is taken by both 'car' and 'c*'; name it once, or `exclude` it"),
        (["bus", {"supercategory": "vehicle"}], "'bus' is taken by both 'bus' and supercategory 'vehicle'"),
        ([{"name": "a", "from": "car"}, {"name": "b", "from": "c*"}], "'car' is taken by both 'a' and 'b'"),
        ([{"name": "a", "from": ["car", "car"]}], "'car' is a duplicate in `from` of 'a'"),
        ([{"name": "car", "from": "truck"}, "ca?"], "'car' is a duplicate"),
        (
            [{"name": "v", "supercategory": "vehicle", "exclude": ["dog"]}],
            "unknown class in `exclude` 'dog'; available: bic",
        ),
        ([{"name": "v", "supercategory": "vehicle", "exclude": ["*"]}], "'v' is made of no class; `exclude` less"),
        ([{"name": "v", "from": []}], "'v' is made of no class; name at least one after `from:`"),
        ([{"exclude": ["?[!b]*"]}], "unknown class in `exclude` '?[!b]*'"),
        ([{"name": "v"}], "name the classes of the source that become it, as in `from: [car, bus]`"),
        ([{"name": "v", "super": "vehicle"}], "did you mean 'supercategory'?"),
    ],
)
def test_what_cannot_be_meant(classes: Any, clause: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(classes, COCO)
    assert clause in str(caught.value)


def test_a_name_with_stars_is_that_name_first() -> None:
    names = Names(("what?", "whats", "a[b]", "ab", "c*"))
    assert chosen(["what?", "a[b]"], names) == {"what?": ["what?"], "a[b]": ["a[b]"]}
    assert chosen(["c*"], names) == {"c*": ["c*"]}
    assert chosen(["*[b]"], names) == {"a[b]": ["a[b]"]}


def test_names_of_a_file_are_no_wildcards(tmp_path: Path) -> None:
    (tmp_path / "wanted.txt").write_text("*\n")
    with pytest.raises(UsageError, match=r"unknown class '\*'"):
        chosen(str(tmp_path / "wanted.txt"), COCO)


def test_letters_composed_in_two_ways_fit_one_wildcard() -> None:
    decomposed = unicodedata.normalize("NFD", "véhicule")
    assert chosen([unicodedata.normalize("NFC", "vé*")], Names((decomposed, "velo"))) == {decomposed: [decomposed]}


def test_a_supercategory_is_that_of_any_source() -> None:
    here = Names(("car", "tram"), supercategories={"car": "vehicle"})
    there = Names(("tram", "ship"), supercategories={"tram": "vehicle", "ship": "boat"})
    assert chosen([{"name": "v", "supercategory": "vehicle"}], here, there) == {"v": ["car", "tram"]}


def test_a_source_without_supercategories_is_said() -> None:
    with pytest.raises(UsageError, match="no source says a supercategory, such as 'vehicle'; name the classes"):
        chosen([{"supercategory": "vehicle"}], Names(("car",)))


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("{cat: animal}", None),
        ("{cta: animal}", "n.yaml: supercategories: unknown class 'cta'; did you mean 'cat'?"),
        ("[animal]", "supercategories must have a name for each class"),
        ("{cat: [animal]}", "supercategories must have a name for each class"),
        ("{cat: ''}", "supercategories must have a name for each class"),
        ("null", None),
    ],
)
def test_supercategories_of_a_names_file(text: str, clause: str | None) -> None:
    yaml = f"names: [cat, dog]\nsupercategories: {text}\n"
    if clause is None:
        assert read_names(yaml, "n.yaml").supercategories == ({} if text == "null" else {"cat": "animal"})
        return
    with pytest.raises(UsageError) as caught:
        read_names(yaml, "n.yaml")
    assert clause in str(caught.value)


def fits(pattern: str, name: str) -> bool:
    """What a wildcard means, letter by letter."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return fits(pattern[1:], name) or (bool(name) and fits(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and fits(pattern[1:], name[1:])


LETTERS = st.text("ab[]!-*?.\\", min_size=1, max_size=5)


@given(st.lists(LETTERS, min_size=1, max_size=8, unique=True), LETTERS)
def test_a_wildcard_is_what_it_is_letter_by_letter(known: list[str], text: str) -> None:
    expected = [text] if text in known else [name for name in known if fits(text, name)]
    try:
        assert fitting(text, known) == expected
    except UsageError:
        assert not expected


SOURCES = st.lists(
    st.dictionaries(
        st.sampled_from(["car", "cat", "bus", "cart", "cab", "dog"]), st.sampled_from(["", "x", "y"]), min_size=1
    ),
    min_size=1,
    max_size=4,
)
ENTRY = st.sampled_from(["car", "c*", "*", "?a?", "dog"])
ENTRIES = st.lists(
    st.one_of(
        ENTRY,
        st.fixed_dictionaries(
            {},
            optional={
                "name": ENTRY,
                "from": ENTRY,
                "supercategory": st.sampled_from(["x", "y", "?"]),
                "exclude": ENTRY,
            },
        ).filter(lambda entry: {*entry} - {"name"}),
    ),
    min_size=1,
    max_size=3,
)


def maps_or_error(*args: Any, **keys: Any) -> dict[str, ClassMap] | str:
    try:
        return maps(*args, **keys)
    except UsageError as error:
        return str(error)


@given(SOURCES, ENTRIES, st.data())
def test_the_order_in_which_sources_are_listed_does_not_count(
    sources: list[dict[str, str]], classes: Any, data: st.DataObject
) -> None:
    names = [Names(tuple(one), supercategories={n: s for n, s in one.items() if s}) for one in sources]
    order = data.draw(st.permutations(range(len(names))))
    found, again = (maps_or_error(classes, *names, order=some) for some in (None, list(order)))
    assert found == again
    if not isinstance(found, str):  # then every class of the subset is made of some
        ids = {new for one in found.values() for new in one.lut if new >= 0}
        assert ids == set(range(len(found["s0"].names)))


@given(st.lists(LETTERS.filter(lambda name: not {*"*?"} & {*name}), min_size=2, max_size=8, unique=True), st.data())
def test_some_and_all_others_are_all(known: list[str], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=len(known) - 1, unique=True))
    found = maps([*some, {"exclude": some}], Names(tuple(known)))["s0"]
    assert sorted(found.lut) == list(range(len(known)))
    assert found.names == (*some, *(name for name in known if name not in some))
