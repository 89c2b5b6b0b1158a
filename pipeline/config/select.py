"""What of a source a subset takes: the keys below ``select``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base import expression
from pipeline.base.expression import NUMBER, TEXT, Condition
from pipeline.base.terms import Split
from pipeline.config.values import UserPath

#: Columns of an object that a condition may name, with what they are: those of the index, and what follows from them.
CONDITION_COLUMNS = {
    "cx": NUMBER,
    "cy": NUMBER,
    "w": NUMBER,
    "h": NUMBER,
    "n_tokens": NUMBER,
    "line": NUMBER,
    "class_id": NUMBER,
    "name": TEXT,
    "width": NUMBER,
    "height": NUMBER,
}

#: Numbers that are written as such: true is not one, though Python counts with it.
Number = Annotated[float, pydantic.Strict()]
Whole = Annotated[int, pydantic.Strict()]

#: Columns, beside the limits, that take the size of the image in pixels.
_PIXELS = frozenset({"width", "height"})


class Section(pydantic.BaseModel):
    """Keys with values, somewhere in a config; a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class ObjectFilter(Section):
    """Limits of an object's box, of task obb the oriented one, in pixels of the image as it is shown (EXIF-turned)."""

    min_side: Number | None = Field(None, ge=0, description="pixels: the shorter side of the box is no less")
    max_side: Number | None = Field(None, gt=0, description="pixels: the longer side is no more")
    min_area: Number | None = Field(None, ge=0, description="square pixels of the box, no less")
    max_area: Number | None = Field(None, gt=0, description="square pixels of the box, no more")
    min_area_ratio: Number | None = Field(None, ge=0, le=1, description="area of the box by that of the image, no less")
    max_aspect: Number | None = Field(None, ge=1, description="longer side by shorter side, no more")
    where: str | None = Field(
        None, description=f"a condition, as in 'w * h > 0.001 and n_tokens == 5', of {', '.join(CONDITION_COLUMNS)}"
    )
    drop: Literal["object", "image"] = Field(
        "object", description="what is left out for an object beyond a limit: it alone, or its image"
    )

    @pydantic.field_validator("where")
    @classmethod
    def _parsed(cls, value: str | None) -> str | None:
        if value is not None:
            expression.parse(value, CONDITION_COLUMNS)
        return value

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ObjectFilter:
        for least, most in (("min_side", "max_side"), ("min_area", "max_area")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{least} ({low:g}) is more than {most} ({high:g}), so no object would stay")
        return self

    @property
    def condition(self) -> Condition | None:
        """The condition `where`, read."""
        return expression.parse(self.where, CONDITION_COLUMNS) if self.where is not None else None

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, and not to 0, by key, in the order in which they are checked."""
        keys = ("min_side", "max_side", "min_area", "max_area", "min_area_ratio", "max_aspect")
        return {key: value for key in keys if (value := getattr(self, key))}

    @property
    def any(self) -> bool:
        """Whether there is any limit or condition."""
        return bool(self.limits) or self.where is not None

    @property
    def in_pixels(self) -> bool:
        """Whether sizes of images are needed."""
        condition = self.condition
        return bool(self.limits.keys() - {"min_area_ratio"}) or (
            condition is not None and bool(condition.columns & _PIXELS)
        )


class ObjectsPerImage(Section):
    """How many objects of the subset an image has that is no background."""

    min: Whole = Field(1, ge=1, description="no fewer; an image without any is a background, see `background`")
    max: Whole | None = Field(None, ge=1, description="no more")

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ObjectsPerImage:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max}), so no image would stay")
        return self


class Dedup(Section):
    """Images of which another split has a near duplicate are left out."""

    across: list[Split] = Field(description="the splits that are to have no image in common")
    keep: Split = Field(description="the one of them that loses none; of the others, those named first lose most")
    bits: Whole = Field(3, ge=0, le=8, description="of the 64 bits of a difference hash, so many may differ at most")

    @pydantic.model_validator(mode="after")
    def _fit(self) -> Dedup:
        if len(self.across) < 2 or len({*self.across}) < len(self.across):
            raise ValueError("`across` must name two splits or three, each once, as in `across: [train, val]`")
        if self.keep not in self.across:
            raise ValueError(f"`keep` must be one of {', '.join(self.across)}, the splits of `across`")
        return self


#: A number for each class, or one by class.
Cap = Annotated[Whole, Field(ge=1)] | dict[str, Annotated[Whole, Field(ge=1)]]


class PerClass(Section):
    """Caps: of each class no more than so many, in whole images, those of the rarest class first."""

    max_images: Cap | None = Field(None, description="images with an object of the class: one number, or by class")
    max_objects: Cap | None = Field(None, description="objects of the class: one number, or by class")
    seed: Whole = Field(0, description="another number, other images")


class Background(Section):
    """A share of images without any object of the subset, drawn by the hash of their key."""

    ratio: Number | None = Field(
        None, ge=0, lt=1, description="backgrounds by all images of the split, never above: 0.1 is a tenth"
    )
    max: Whole | None = Field(None, ge=0, description="so many of the subset at most")
    prefer: Literal["random", "near-miss"] = Field(
        "random",
        description="near-miss: first images of classes that occur beside a wanted one, or of its supercategory",
    )
    seed: Whole = Field(0, description="another number, other images")

    @pydantic.model_validator(mode="after")
    def _has_limit(self) -> Background:
        if self.ratio is None and self.max is None:
            raise ValueError("names neither ratio nor max; as in {ratio: 0.1}")
        return self


class Select(Section):
    """Which rows and images are taken. The steps are done in the order of these keys, and counted one by one."""

    images: UserPath | None = Field(
        None, description="file of images to take, names or stems or keys: one a line, or CSV or Parquet with a column"
    )
    exclude_images: UserPath | None = Field(None, description="file of images to leave out, as `images`")
    objects: ObjectFilter = Field(
        default_factory=lambda: ObjectFilter.model_validate({}), description="limits of objects"
    )
    duplicates: Literal["keep", "drop"] = Field("keep", description="duplicate rows in one label file")
    objects_per_image: ObjectsPerImage = Field(
        default_factory=lambda: ObjectsPerImage.model_validate({}), description="how many objects an image has"
    )
    check_images: Literal["none", "header", "full"] = Field(
        "none", description="what is checked of each image: nothing; its beginning and end; all of it, decoded"
    )
    on_unlabelled: Literal["keep", "drop"] = Field(
        "keep",
        description="images with objects, where a wanted class may be unlabelled: taken, with a warning, or left out",
    )
    dedup: Dedup | None = Field(None, description="near duplicates of images in other splits; null: they are kept")
    per_class: PerClass = Field(default_factory=lambda: PerClass.model_validate({}), description="caps by class")
    background: Literal["none", "empty", "unlabelled", "all"] | Background = Field(
        "none",
        description="images without an object of the subset: none; those whose label file has no object; those without "
        "any object in the source; all; or a share of all",
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _with_one_name(cls, data: Any) -> Any:
        """`background` may be written as `backgrounds`; what is written last, as by ``--set``, counts."""
        return (
            {"background" if key == "backgrounds" else key: data[key] for key in data} if type(data) is dict else data
        )

    @property
    def backgrounds(self) -> str:
        """Which images without an object may be taken: none, empty, unlabelled or all."""
        return self.background if isinstance(self.background, str) else "all"

    @property
    def decides(self) -> bool:
        """Whether the images of all buckets must be seen before those of one are known."""
        return isinstance(self.background, Background) or self.dedup is not None or self.has_caps

    @property
    def has_caps(self) -> bool:
        """Whether any class has a cap."""
        return self.per_class.max_images is not None or self.per_class.max_objects is not None
