"""Limits of objects: a box that is just as large as a limit is within it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.select import ObjectFilter
from pipeline.stages.select.objects import beyond

HUNDREDTHS = st.integers(100, 40_000)


@given(first=HUNDREDTHS, second=HUNDREDTHS, wide=st.integers(400, 8000), high=st.integers(400, 8000))
def test_a_box_of_the_size_of_a_limit_is_within_it(first: int, second: int, wide: int, high: int) -> None:
    """Sides in hundredths of a pixel, in a label file with six digits; the limits as a person writes them."""
    least, most = sorted((first, second))
    area = float(Fraction(first * second, 10_000))
    limits = {
        "min_side": least / 100,
        "max_side": most / 100,
        "min_area": area,
        "max_area": area,
        "max_aspect": float(Fraction(most, least)),
    }
    w, h = round(first / 100 / wide, 6), round(second / 100 / high, 6)
    limits["min_area_ratio"] = float(Fraction(str(w)) * Fraction(str(h)))
    box = {"cx": [0.5], "cy": [0.5], "w": [w], "h": [h], "class_id": pa.array([0], pa.int32())}
    sizes = np.array([wide], np.float64), np.array([high], np.float64)
    found = beyond(ObjectFilter.model_validate(limits), pa.table(box), ["car"], np.array([0]), sizes)
    assert {key: which.tolist() for key, which in found} == {key: [False] for key in limits}
