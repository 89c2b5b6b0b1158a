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


def test_an_oriented_box_is_measured_by_its_own_sides() -> None:
    """A box of 40 by 10 pixels at 45 degrees: the box around it is a square of 35 pixels."""
    half = [(20, 5), (20, -5), (-20, -5), (-20, 5)]
    corners = [(50 + (x - y) / 2**0.5, 50 + (x + y) / 2**0.5) for x, y in half]
    tail = "".join(f" {x / 100:.6f} {y / 200:.6f}" for x, y in corners).encode()
    rows = pa.table(
        {
            "cx": [0.5, 0.5],
            "cy": [0.25, 0.25],
            "w": [0.353553, 0.353553],
            "h": [0.176777, 0.176777],
            "class_id": pa.array([0, 0], pa.int32()),
            "tail": [tail, None],
        }
    )
    sizes = np.array([100.0]), np.array([200.0])
    limits = {"min_side": 11, "max_side": 38, "min_area": 450, "max_aspect": 3.9, "min_area_ratio": 0.03}
    filters = ObjectFilter.model_validate(limits)
    found = dict(beyond(filters, rows, ["ship"], np.array([0, 0]), sizes, oriented=True))
    # The second one is no row of the task, as a target of COCO JSON may have it: there its box decides.
    assert {key: which.tolist() for key, which in found.items()} == {key: [True, False] for key in limits}
    as_box = dict(beyond(filters, rows, ["ship"], np.array([0, 0]), sizes))
    assert {key: which.tolist() for key, which in as_box.items()} == {key: [False, False] for key in limits}
