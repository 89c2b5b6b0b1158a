"""Sentences for what was left out, cut or joined, by reason."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base.humanize import noun, plural
from pipeline.base.text import printable

#: Words after a number: for any, or for 1 and for more.
Words = str | tuple[str, str]

#: What a target cannot hold of objects, by the word that is counted.
LOSSES: dict[str, Words] = {
    "crowd": ("crowd", "crowds"),
    "no_polygon": "without a polygon",
    "no_four_corners": "without an outline of four corners",
    "no_keypoints": "without keypoints",
    "other_keypoints": "of another number of keypoints",
    "no_box": "without a box",
    "zero_area": ("box without area", "boxes without area"),
    "outside": "outside of the image",
    "no_area": ("line or point, which has no area", "lines and points, which have no area"),
    "keypoint_alone": ("keypoint of no object", "keypoints of no object"),
    "no_class": "of no class",
    "difficult": "marked as difficult",
    "cuboid": ("box in space, which has no outline in the image", "boxes in space, which have no outline in the image"),
    "flagged": "with a flag of source.options.drop",
}


def _objects(words: str) -> Words:
    return f"object {words}", f"objects {words}"


#: What is kept, but not whole.
PARTLY: dict[str, Words] = {
    "holes": _objects("with holes, which are filled"),
    "resized": (
        "object of an image that was resized after it was labelled, scaled with it",
        "objects of images that were resized after they were labelled, scaled with them",
    ),
    "shares": _objects("whose numbers are shares of their image (0 to 1), made pixels"),
    "turned": _objects("drawn on the stored image, turned as it is shown"),
    "exchanged": ("object of a file that says width for height", "objects of files that say width for height"),
    "clipped": _objects("cut off at the edge of the image"),
    "joined": _objects("of several parts, joined to one outline"),
    "instance": (
        "object numbered in its label (person-1), the number taken off",
        "objects numbered in their label (person-1), the number taken off",
    ),
    "boxed": (
        "object without a box of its own: that of its polygon",
        "objects without a box of their own: that of their polygon",
    ),
    "damaged_mask": _objects("with a damaged mask, of which the box alone is taken"),
    "short_part": _objects("with parts of too few points, which are left out"),
    "pixel_zero": _objects(
        "at pixel 0 of files that are read as counting from 1; if 0 is the edge, --set source.options.first_pixel=0"
    ),
    "edges_from_one": _objects("of files by Roboflow, whose boxes are read as edges that count from 1"),
    "parts": _objects("with parts (as head and hand), which are no objects"),
    "outlines": _objects("with an outline (<polygon>), of which the box is taken"),
    "truncated": _objects("marked as truncated, which label rows do not say"),
    "oriented": (
        "oriented box, of which the upright box around it is taken; task obb keeps its angle",
        "oriented boxes, of which the upright boxes around them are taken; task obb keeps their angles",
    ),
    "occluded": _objects("marked as occluded, which label rows do not say"),
    "attributes": _objects("with further fields (as attributes, a score or a group), which label rows do not say"),
    "marked_difficult": _objects("marked as difficult, which label rows do not say"),
    "depiction": _objects("marked as depictions (a drawing, a toy), which label rows do not say"),
    "inside": _objects("marked as seen from the inside, which label rows do not say"),
    "keypoint_outside": _objects("with keypoints outside of the image, which count as not labelled"),
}


#: What becomes of rows and images, in the words of a report; `kept` and what is not here adds up to the source.
DROPS: dict[str, Words] = {
    "other_classes": "of other classes",
    "duplicates": ("duplicate dropped", "duplicates dropped"),
    "background": "without an object",
    "no_label": "without a label file",
    "elsewhere": "labelled in another split or source, so no backgrounds",
    "unwritable": "with a wanted object that the target cannot hold, so no backgrounds",
    "unread": "with a label that was left out, so no backgrounds",
    "unlabelled_class": "where a wanted class may be unlabelled",
    "no_image": "without an image file",
    "vanished": ("gone since it was listed", "gone since they were listed"),
    "without_image": "of labels without image",
    "bad_image": "of images that cannot be used",
    "image_empty": ("image of 0 bytes", "images of 0 bytes"),
    "image_cut_short": ("image cut short", "images cut short"),
    "image_unreadable": ("file that is not an image", "files that are not images"),
    "image_unread": ("image that cannot be read", "images that cannot be read"),
    "image_too_small": ("image too small for trainers", "images too small for trainers"),
    "image_too_large": ("image too large to decode", "images too large to decode"),
    "unknown_class": "of a class that the names do not have",
    "corrupt": "with a label file of bad rows only",
    "mixed": "with boxes and polygons in one label file",
    "lost": "that the target cannot hold",
    "beyond": "beyond a limit of select.objects",
    "not_taken": "of images that select leaves out",
    "not_listed": "not in the list of select.images",
    "excluded": "in the list of select.exclude_images",
    "any_beyond": "with an object beyond a limit of select.objects",
    "all_beyond": "whose wanted objects are all beyond a limit of select.objects",
    "few_objects": "with fewer objects than select.objects_per_image asks for",
    "many_objects": "with more objects than select.objects_per_image allows",
    "near_duplicate": "that look like an image of another split",
    "equal_image": "with the bytes of an image of another split",
    "capped": "above the caps of select.per_class",
    "not_drawn": "without an object, above the share of select.background",
    "bad": "bad",
}


#: Objects beyond a limit, by its key in the config.
LIMITS: dict[str, Words] = {
    "min_side": "of a shorter side below min_side",
    "max_side": "of a longer side above max_side",
    "min_area": "of an area below min_area",
    "max_area": "of an area above max_area",
    "min_area_ratio": "of a share of their image below min_area_ratio",
    "max_aspect": "longer for their width than max_aspect",
    "where": "for which the condition where does not hold",
    "duplicate": DROPS["duplicates"],
}


def words_of(count: int, words: Words) -> str:
    """What is said after the number `count`."""
    return words if isinstance(words, str) else noun(count, *words)


def counted(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each reason for which objects were changed, or left out of a target."""
    return [
        f"{count:,} {words_of(count, PARTLY[reason])}."
        if reason in PARTLY
        else f"{count:,} left out: {words_of(count, LOSSES.get(reason, reason))}."
        for reason, count in counts.items()
    ]


def balance(counts: Mapping[str, int], singular: str) -> str:
    """``3 of 4 rows``: what of a source is in the subset."""
    return f"{counts['kept']:,} of {plural(counts['source'], singular)}"


def cell(value: str | int) -> str:
    """A value in a cell of a table: numbers with commas."""
    return f"{value:,}" if isinstance(value, int) else printable(value)


def lost(counts: dict[str, int]) -> list[tuple[int, str]]:
    """What was not kept, and why, in words; with what is kept it adds up."""
    known = [(counts[key], words_of(counts[key], words)) for key, words in DROPS.items() if counts.get(key)]
    other = [(n, key) for key, n in counts.items() if n and key not in ("source", "kept", *DROPS)]
    return known + other
