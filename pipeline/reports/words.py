"""Sentences for what was left out, cut or joined, by reason."""

from __future__ import annotations

from pipeline.base.text import printable

#: What a target cannot hold of objects, by the word that is counted.
LOSSES = {
    "crowd": "crowds",
    "no_polygon": "no polygon",
    "no_keypoints": "no keypoints",
    "other_keypoints": "another number of keypoints",
    "no_box": "no box",
    "zero_area": "boxes without area",
    "outside": "outside of the image",
    "no_area": "lines and points, which have no area",
    "no_class": "of no class",
}

#: What is kept, but not whole.
PARTLY = {
    "holes": "objects with holes, which are filled",
    "resized": "objects of images that were resized after they were labelled, scaled with them",
    "turned": "objects drawn on the stored image, turned as it is shown",
    "exchanged": "objects of files that say width for height",
    "clipped": "objects cut off at the edge of the image",
    "joined": "objects of several parts, joined to one outline",
    "instance": "objects numbered in their label (person-1), the number taken off",
    "boxed": "objects without a box of their own: that of their polygon",
    "short_part": "objects with parts of too few points, which are left out",
    "keypoint_outside": "objects with keypoints outside of the image, which count as not labelled",
}


#: What becomes of rows and images, in the words of a report; `kept` and what is not here adds up to the source.
DROPS = {
    "other_classes": "of other classes",
    "duplicates": "duplicates dropped",
    "background": "without an object",
    "elsewhere": "labelled in another split or source, so no backgrounds",
    "unwritable": "with a wanted object that the target cannot hold, so no backgrounds",
    "unread": "with a label that was left out, so no backgrounds",
    "no_image": "without an image file",
    "vanished": "gone since they were listed",
    "without_image": "of labels without image",
    "bad_image": "of images that cannot be used",
    "image_empty": "images of 0 bytes",
    "image_cut_short": "images cut short",
    "image_unreadable": "files that are not images",
    "image_unread": "images that cannot be read",
    "image_too_small": "images too small for trainers",
    "image_too_large": "images too large to decode",
    "unknown_class": "of a class that the names do not have",
    "corrupt": "with a label file of bad rows only",
    "mixed": "with boxes and polygons in one label file",
    "lost": "that the target cannot hold",
    "bad": "bad",
}


def cell(value: str | int) -> str:
    """A value in a cell of a table: numbers with commas."""
    return f"{value:,}" if isinstance(value, int) else printable(value)


def lost(counts: dict[str, int]) -> list[tuple[int, str]]:
    """What was not kept, and why, in words; with what is kept it adds up."""
    known = [(counts[key], words) for key, words in DROPS.items() if counts.get(key)]
    other = [(n, key) for key, n in counts.items() if n and key not in ("source", "kept", *DROPS)]
    return known + other
