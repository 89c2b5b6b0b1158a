"""What the names of keypoints say of each other."""

from __future__ import annotations

from collections.abc import Sequence

#: Keypoints of the left and the right side, as COCO and its kin call them: a flip makes one of the other.
_SIDES = (("left", "right"), ("Left", "Right"), ("l_", "r_"))


def as_flips(value: object, count: int) -> list[int] | None:
    """`value`, which another file says of a flip, where it has each of `count` keypoints once; else None."""
    if isinstance(value, list) and sorted(map(str, value)) == sorted(map(str, range(count))):
        return [int(i) for i in value]
    return None


def flips(points: Sequence[str]) -> list[int] | None:
    """For each keypoint the one that it is after a flip from left to right, by name; None where names do not say."""
    result = []
    for name in points:
        mirrored = name
        for left, right in _SIDES:
            if left in name or right in name:
                mirrored = name.replace(left, "\0").replace(right, left).replace("\0", right)
                break
        if mirrored not in points:
            return None
        result.append(points.index(mirrored))
    return result if result != list(range(len(points))) else None
