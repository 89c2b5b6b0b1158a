"""What ``source.options`` may say of Open Images."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ConfigDict, Field


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%.7f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    crowd: Literal["drop", "keep"] = Field(
        "drop", description="whether boxes with IsGroupOf are in no row, or are objects like others"
    )
    drop: list[Literal["occluded", "truncated", "depiction", "inside"]] = Field(
        default_factory=list, description="boxes with one of these flags are in no target, as in [depiction, inside]"
    )
