"""Options that formats of shapes share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _each_once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("must name each keypoint once")
    return value


#: Labels of the points that are keypoints, in their order.
KeypointNames = Annotated[list[str], AfterValidator(_each_once)]
