"""What a listing takes of what a folder holds."""

from __future__ import annotations

import itertools

import pytest

from pipeline.storage import Listing


@pytest.mark.parametrize("order", list(itertools.permutations(["a.txt", "b.TXT", "b.Txt", "c.TXT", "c.txt"])))
def test_one_file_of_each_stem_whatever_the_order(order: tuple[str, ...]) -> None:
    listing = Listing("folder")
    listing.take(list(order), [], with_stats=False)
    listing.one_of_each_stem(".txt")
    assert set(listing.names()) == {"a.txt", "b.TXT", "c.txt"}
    assert set(listing.unusable) == {("b.Txt", "suffix"), ("c.TXT", "suffix")}
    assert listing.count == 3
