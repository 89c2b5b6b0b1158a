"""Assigning images to splits: stable, the same everywhere, no group on two sides, every class with its share."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.stages.select.split import (
    Strata,
    assign,
    deviations,
    group_names,
    point,
    read_table,
    stratify,
    write_table,
)

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def test_the_hash_is_the_same_on_every_machine() -> None:
    assert point("000000000139", 7) == pytest.approx(0.672483536, abs=1e-9)
    assert assign([f"{i:03d}" for i in range(8)], {"train": 0.5, "val": 0.5}, 1) == [
        "train",
        "val",
        "val",
        "val",
        "val",
        "train",
        "val",
        "train",
    ]


def test_shares_are_kept_and_seeds_differ() -> None:
    groups = [f"image{i}" for i in range(20_000)]
    assigned = assign(groups, SHARES, 0)
    for split, share in SHARES.items():
        assert Counter(assigned)[split] / len(groups) == pytest.approx(share, abs=0.01)
    assert assign(groups, SHARES, 1) != assigned
    assert set(assign(groups, {"train": 1.0}, 0)) == {"train"}


@given(st.lists(st.text(max_size=6), unique=True), st.lists(st.text(max_size=6)), st.integers(-5, 5))
def test_an_image_stays_where_it_is_when_others_come(old: list[str], new: list[str], seed: int) -> None:
    before = dict(zip(old, assign(old, SHARES, seed), strict=True))
    after = dict(zip(new + old, assign(new + old, SHARES, seed), strict=True))
    assert {g: after[g] for g in old} == before


def test_growing_train_takes_from_the_others_alone() -> None:
    groups = [f"{i}" for i in range(2000)]
    before, after = assign(groups, SHARES, 3), assign(groups, {"train": 0.8, "val": 0.1, "test": 0.1}, 3)
    assert all(b == "train" for a, b in zip(before, after, strict=True) if a == "train")


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("image", ["street/cam1_07", "cam2_08", "x"]),
        ("folder", ["street", "", ""]),
        (r"cam\d+", ["cam1", "cam2", None]),
        (r"(cam)\d+", ["cam", "cam", None]),
        (r"_(\d)", ["0", "0", None]),
    ],
)
def test_groups(by: str, groups: list[str | None]) -> None:
    assert group_names(["street/cam1_07", "cam2_08", "x"], by) == groups


def _strata(objects: list[dict[int, int]], images: list[int] | None = None) -> Strata:
    triples = [(g, c, n) for g, counts in enumerate(objects) for c, n in sorted(counts.items())]
    return Strata(
        [f"g{i:05d}" for i in range(len(objects))],
        np.array(images or [1] * len(objects), np.int64),
        np.array(triples, np.int64).reshape(-1, 3),
    )


def _world(count: int, classes: int, seed: int) -> Strata:
    """Groups like COCO's images: few classes each, some of them rare, some with many objects."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(classes)]
    return _strata(
        [
            dict(Counter(rng.choices(range(classes), weights, k=rng.choice((0, 1, 1, 2, 3, 5, 12)))))
            for _ in range(count)
        ]
    )


def _shares(strata: Strata, splits: dict[str, str], class_id: int) -> dict[str, float]:
    totals: Counter[str] = Counter()
    for g, c, n in strata.objects.tolist():
        if c == class_id:
            totals[splits[strata.groups[g]]] += n
    return {s: totals[s] / totals.total() for s in SHARES}


def test_every_class_gets_its_share() -> None:
    strata = _world(3000, 30, 1)
    splits = stratify(strata, SHARES, 0)
    by_hash = dict(zip(strata.groups, assign(strata.groups, SHARES, 0), strict=True))
    assert set(splits) == set(strata.groups)

    def worst(found: dict[str, str]) -> float:
        return max(abs(_shares(strata, found, c)[s] - SHARES[s]) for c in range(30) for s in SHARES)

    assert worst(splits) < 0.03 < 0.1 < worst(by_hash)  # of a class with 38 objects, one is 0.026
    for split, share in SHARES.items():
        assert Counter(splits.values())[split] / 3000 == pytest.approx(share, abs=0.02)


def test_stratification_is_the_same_whatever_the_order() -> None:
    strata = _world(300, 8, 2)
    order = list(range(300))
    random.Random(0).shuffle(order)
    back = {old: new for new, old in enumerate(order)}
    triples = np.array(sorted((back[g], c, n) for g, c, n in strata.objects.tolist()), np.int64)
    shuffled = Strata([strata.groups[i] for i in order], strata.images[order], triples)
    assert stratify(shuffled, SHARES, 5) == stratify(strata, SHARES, 5)
    assert stratify(strata, SHARES, 6) != stratify(strata, SHARES, 5)


def test_only_new_groups_are_assigned() -> None:
    strata = _world(600, 10, 3)
    half = 400
    old = Strata(strata.groups[:half], strata.images[:half], strata.objects[strata.objects[:, 0] < half])
    before = stratify(old, SHARES, 0)
    after = stratify(strata, SHARES, 0, before | {"gone": "val"})
    assert {g: after[g] for g in old.groups} == before
    assert len(after) == 600
    assert max(abs(_shares(strata, after, c)["val"] - 0.2) for c in range(10)) < 0.05


def test_what_is_held_makes_up_for_itself() -> None:
    strata = _strata([{0: 1}] * 10)
    held = dict.fromkeys(strata.groups[:4], "val")
    after = stratify(strata, {"train": 0.5, "val": 0.5}, 0, held)
    assert Counter(after.values()) == {"train": 5, "val": 5}


def test_groups_without_objects_are_assigned_by_images() -> None:
    splits = stratify(_strata([{}] * 10, [5, 5, 1, 1, 1, 1, 1, 1, 1, 3]), {"train": 0.5, "val": 0.5}, 0)
    counts = Counter(
        {
            s: sum(
                n
                for g, n in zip([f"g{i:05d}" for i in range(10)], [5, 5, 1, 1, 1, 1, 1, 1, 1, 3], strict=True)
                if splits[g] == s
            )
            for s in ("train", "val")
        }
    )
    assert counts == {"train": 10, "val": 10}
    assert stratify(_strata([]), SHARES, 0) == {}


def test_a_split_table_comes_back() -> None:
    splits = {'b,"x': "val", "ä/1": "train", "a": "test", "": "train"}
    text = write_table(splits).decode()
    assert text.startswith("group,split\n,train\na,test\n")
    assert read_table(text, "t.csv") == splits
    assert read_table(text.replace("\n", "\r\n") + "\n\n", "t.csv") == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("a,train\n", "t.csv:1: the first line"),
        ("group,split\na\n", "t.csv:2: is not `group,split`"),
        ("group,split\na,train\nb,dev\n", "t.csv:3: is not"),
        ("group,split\na,train\na,val\n", "t.csv:3: the group 'a'"),
    ],
)
def test_a_bad_split_table_is_told(text: str, message: str) -> None:
    if not text:
        assert read_table(text, "t.csv") == {}
        return
    with pytest.raises(ConfigError) as caught:
        read_table(text, "t.csv")
    assert message in str(caught.value)


def test_a_held_split_without_a_share_is_told() -> None:
    with pytest.raises(ConfigError, match="puts 'g00000' into test"):
        stratify(_strata([{0: 1}]), {"train": 1.0}, 0, {"g00000": "test"})


def test_deviations_are_told_by_class() -> None:
    objects = {"train": {"cat": 8, "dog": 0, "owl": 0}, "val": {"cat": 2, "dog": 4, "owl": 0}}
    assert deviations(objects, {"train": 0.75, "val": 0.25}) == {
        "cat": {"train": 0.05, "val": -0.05},
        "dog": {"train": -0.75, "val": 0.75},
    }
