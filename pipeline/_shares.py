"""The config's key ``split``. Part of `config`."""

from __future__ import annotations

import re

import pydantic
from pydantic import ConfigDict, Field


class SplitShares(pydantic.BaseModel):
    """Deal the images out anew, whatever split they are of in the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: float | None = Field(None, gt=0, le=1, description="share of the images, 0 to 1")
    val: float | None = Field(None, gt=0, le=1, description="share of the images")
    test: float | None = Field(None, gt=0, le=1, description="share of the images")
    by: str = Field(
        "image",
        min_length=1,
        description="what stays on one side: image, folder, or a regular expression whose first parentheses match the "
        "name of the group in the image's path, as in '^(cam[0-9]+)_'",
    )
    stratify: bool = Field(False, description="each class gets its share too; what was decided is kept in `table`")
    seed: int = Field(0, description="another number, another way of dealing")
    table: str | None = Field(
        None, description="CSV file of group and split that is obeyed; stratify: made, by default in the workdir"
    )

    @property
    def shares(self) -> dict[str, float]:
        """Shares by split, in the order train, val, test."""
        return {name: share for name in ("train", "val", "test")
                if (share := getattr(self, name)) is not None}

    @pydantic.model_validator(mode="after")
    def _whole(self) -> SplitShares:
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares add up to {sum(self.shares.values()):g}, not to 1; as in "
                             "`split: {train: 0.8, val: 0.2}`")
        return self

    @pydantic.field_validator("by")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is neither image nor folder nor a regular expression ({error})") from None
        return value
