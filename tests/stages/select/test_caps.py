"""Caps: whole images, rarest class first, by rank; against a plain loop, and what must hold of any choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.select.caps import Limits, capped

#: Of each image its rank, and how many objects of which class it has.
Images = list[tuple[int, dict[int, int]]]

_IMAGES = st.lists(
    st.tuples(st.integers(0, 99), st.dictionaries(st.integers(0, 3), st.integers(1, 4), max_size=3)),
    max_size=25,
    unique_by=lambda image: image[0],
)
_LIMITS = st.dictionaries(st.integers(0, 3), st.integers(1, 8), max_size=4)


def of(
    images: Images, most_images: dict[int, int], most_objects: dict[int, int], before: Set[int] = frozenset()
) -> list[bool]:
    triples = [(i, c, n) for i, (_, objects) in enumerate(images) for c, n in objects.items()]
    image, class_id, count = np.array(triples, np.int64).reshape(-1, 3).T
    rank = np.array([rank for rank, _ in images], np.int64)
    gone = np.array([i in before for i in range(len(images))], np.bool_)
    return [bool(b) for b in capped(Limits(most_images, most_objects), rank, image, class_id, count, gone)]


def plain(images: Images, most_images: dict[int, int], most_objects: dict[int, int]) -> list[bool]:
    """The definition, an image at a time."""
    taken: set[int] = set()
    out: set[int] = set()
    has = Counter(c for _, objects in images for c in objects)
    for c in sorted(has, key=lambda c: (has[c], c)):
        for i in sorted((i for i, (_, objects) in enumerate(images) if c in objects), key=lambda i: images[i][0]):
            if i in taken or i in out:
                continue
            mine = [images[j][1][c] for j in taken if c in images[j][1]]
            fits = len(mine) < most_images.get(c, 10**9) and sum(mine) + images[i][1][c] <= most_objects.get(c, 10**9)
            (taken if fits else out).add(i)
    return [i in out for i in range(len(images))]


@given(_IMAGES, _LIMITS, _LIMITS)
def test_it_is_the_definition(images: Images, most_images: dict[int, int], most_objects: dict[int, int]) -> None:
    assert of(images, most_images, most_objects) == plain(images, most_images, most_objects)


@given(_IMAGES, _LIMITS, _LIMITS, st.sets(st.integers(0, 24)))
def test_what_is_out_before_is_as_if_it_were_not_there(
    images: Images, most_images: dict[int, int], most_objects: dict[int, int], before: set[int]
) -> None:
    """A class of which near duplicates went is as rare as what is left of it."""
    found = of(images, most_images, most_objects, before)
    rest = [image for i, image in enumerate(images) if i not in before]
    assert [gone for i, gone in enumerate(found) if i not in before] == of(rest, most_images, most_objects)
    assert all(found[i] for i in before if i < len(images))


@given(_IMAGES, _LIMITS)
def test_a_class_is_above_its_cap_by_images_of_rarer_classes_alone(images: Images, most: dict[int, int]) -> None:
    out = of(images, most, {})
    has = Counter(c for _, objects in images for c in objects)
    order = sorted(has, key=lambda c: (has[c], c))
    for c, cap in most.items():
        left = [objects for (_, objects), gone in zip(images, out, strict=True) if c in objects and not gone]
        rarer = set(order[: order.index(c)]) if c in order else set()
        alone = [objects for objects in left if not rarer & objects.keys()]
        assert len(left) <= cap or (len(left) > cap and len(left) - len(alone) > 0 and len(alone) <= cap)


@given(_IMAGES, st.integers(1, 6), st.lists(st.integers(100, 200), max_size=5, unique=True))
def test_images_that_come_after_all_others_move_none(images: Images, cap: int, later: list[int]) -> None:
    """Of one class, so that the order of classes stays."""
    images = [(rank, {0: 1}) for rank, _ in images]
    more = images + [(rank, {0: 1}) for rank in later]
    assert of(more, {0: cap}, {})[: len(images)] == of(images, {0: cap}, {})


def test_one_percent_more_images_change_little() -> None:
    random = np.random.default_rng(7)
    ranks = random.permutation(50_000)
    images: Images = [
        (int(ranks[i]), {int(c): int(random.integers(1, 4)) for c in set(random.zipf(1.5, 3) % 20)})
        for i in range(20_200)
    ]
    caps = dict.fromkeys(range(20), 300)
    before, after = of(images[:20_000], caps, {}), of(images, caps, {})
    kept = [i for i, gone in enumerate(before) if not gone]
    assert sum(after[i] for i in kept) / len(kept) < 0.05
