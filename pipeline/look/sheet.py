"""`coco-diy show`: a contact sheet of a view."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pipeline.base.errors import UnknownNameError, UsageError, unknown
from pipeline.base.humanize import plural
from pipeline.look.contact_sheet import TILE, Tile, contact_sheet, cropped
from pipeline.look.fonts import Lettering
from pipeline.look.sample import IMAGE_SORTS, OBJECT_SORTS, Shown, Wish, choose, in_order, pictures
from pipeline.look.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from pipeline.look.view import View


def draw_sheet(
    view: View,
    *,
    count: int = 16,
    classes: Sequence[str] = (),
    split: str | None = None,
    seed: int = 0,
    objects: bool = False,
    sort: str | None = None,
    letters: Lettering | None = None,
) -> Image.Image:
    """A contact sheet of at most `count` images or, with `objects`, objects with some of what is around them.

    `classes` and `split` limit what is shown. `sort` is one of `IMAGE_SORTS` or `OBJECT_SORTS`; None is the first.
    `letters` write names, and know afterwards which they could not.

    Raises `UnknownNameError` for an unknown class, `UsageError` where nothing is to be shown.
    """
    known = OBJECT_SORTS if objects else IMAGE_SORTS
    if sort is not None and sort not in known:
        raise UsageError(
            f"--sort {sort}: sorts no {'objects' if objects else 'images'}; name one of {', '.join(known)}"
        )
    for name in classes:
        if name not in view.classes:
            raise UnknownNameError(unknown("class", name, list(view.classes)))
    if split is not None and split not in view.splits:
        raise UsageError(f"--split {split}: {view.what} has the splits {', '.join(view.splits)}")
    numbers = tuple(view.classes.index(name) for name in classes) or None
    wish = Wish(count, seed, numbers, split, objects, sort or known[0])
    samples = choose(view, wish)
    if not samples:
        what = "nothing of that" if classes or split or objects else "no image file"
        raise UsageError(f"{view.what}: has {what} to show")
    shown = in_order((i, _reduced(one)) for i, one in pictures(view, samples, 2 * TILE))
    tiles = [_tile(one) for one in shown]
    what = plural(len(tiles), "object" if objects else "image")
    title = [
        what,
        *([", ".join(classes)] if classes else []),
        *([split] if split else []),
        f"{wish.sort} (seed {seed})" if wish.sort == "random" else wish.sort,
    ]
    return contact_sheet(tiles, view.classes, view.what, " · ".join(title), letters)


def _reduced(shown: Shown) -> Shown:
    """`shown` with no more pixels than a tile takes: of an object those around it."""
    if shown.opened is None:
        return shown
    image, shapes = shown.opened.image, shown.shapes
    if shown.sample.single:
        image, one = cropped(image, shapes[0])
        shapes = (one,)
    image.thumbnail((2 * TILE, 2 * TILE))
    return dataclasses.replace(shown, opened=dataclasses.replace(shown.opened, image=image), shapes=shapes)


def _tile(shown: Shown) -> Tile:
    sample = shown.sample
    facts = [sample.split]
    if shown.opened is None:
        facts.append(shown.reason)
    elif sample.single:
        facts.append("{:.0f} x {:.0f} px".format(*_sides(sample.shapes[0], *(sample.said or shown.opened.size))))
    elif sample.others:
        facts.append(plural(sample.others, "more object"))
    name = (sample.path or sample.key).rpartition("/")[2]
    return Tile(shown.opened.image if shown.opened is not None else None, shown.shapes, name, " · ".join(["", *facts]))


def _sides(shape: Shape, width: int, height: int) -> tuple[float, float]:
    """Width and height of an object's box in pixels of the image that labels describe."""
    left, top, right, bottom = shape.box
    return (right - left) * width, (bottom - top) * height
