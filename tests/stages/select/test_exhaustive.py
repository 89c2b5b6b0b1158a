"""Which images may hold unlabelled objects of wanted classes."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.classes import ClassMap
from pipeline.stages.select.exhaustive import joined, unlabelled
from tests.support.tables import images

NAMES = ("cat", "dog", "cow", "owl")
SOME = st.sets(st.sampled_from(NAMES))


@st.composite
def class_maps(draw: st.DrawFn) -> ClassMap:
    """Some of the names, in any order, mapped to up to three classes, of which the source may lack some."""
    source = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
    return ClassMap(source, ("a", "b", "c"), tuple(draw(st.sampled_from([-1, 0, 1, 2])) for _ in source))


def made_of(classes: ClassMap, number: int) -> set[str]:
    return {name for name, new in zip(classes.source, classes.lut, strict=True) if new == number}


@given(class_maps(), st.none() | SOME, st.lists(st.none() | SOME, max_size=5), st.sampled_from([1, 6, 1 << 18]))
def test_a_class_is_labelled_where_all_that_it_is_made_of_is(
    classes: ClassMap, exhaustive: set[str] | None, said: list[set[str] | None], at_once: int
) -> None:
    table = images(
        *(
            {
                "key": f"s/a/{i}",
                "image_path": f"{i}.jpg",
                "exhaustive": None if some is None else "\n".join(sorted(some)),
            }
            for i, some in enumerate(said)
        )
    )
    everywhere = {*classes.source} if exhaustive is None else exhaustive
    expected = set()
    for number, name in enumerate(classes.names):
        parts = made_of(classes, number)
        lacking = not parts or not parts <= everywhere
        expected |= {
            (f"s/a/{i}", name) for i, some in enumerate(said) if lacking or (some is not None and not parts <= some)
        }
    found = unlabelled(table, classes, classes.not_everywhere(exhaustive), at_once)
    if found is None:
        assert not expected
        return
    keys = found.keys.to_pylist()
    pairs = {(keys[i], classes.names[c]) for i, c in zip(*found.may_hold.nonzero(), strict=True)}
    assert pairs == expected
    assert found.images().to_pylist() == sorted({key for key, _ in expected})
    chosen = keys[::2]
    counts = {name: sum((key, name) in expected for key in chosen) for name in classes.names}
    assert found.counts(classes.names, pa.array(chosen, pa.string())) == {n: c for n, c in counts.items() if c}
    both = joined([None, found, found])
    assert both is not None
    assert both.keys.to_pylist() == keys * 2
    assert both.counts(classes.names, pa.array(keys, pa.string())) == {
        n: 2 * c for n, c in found.counts(classes.names, pa.array(keys, pa.string())).items()
    }


def test_a_source_that_labels_all_has_none() -> None:
    classes = ClassMap(("cat", "dog"), ("dog",), (-1, 0))
    table = images({"key": "s/a/1"})
    assert unlabelled(table, classes, classes.not_everywhere(None)) is None
    assert classes.not_everywhere({"cat"}) == (0,)
    assert classes.not_everywhere({"dog"}) == ()
