"""What ``source.options`` may say of Pascal VOC."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ConfigDict, Field


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    first_pixel: Literal["auto", 0, 1] = Field(
        "auto",
        description="1: xmin - 1 to xmax, as VOC counts pixels; 0: xmin to xmax, as CVAT writes edges; "
        "auto: xmin - 1 to xmax - 1 in files that say that Roboflow wrote them, else 1",
    )
    difficult: Literal["drop", "keep"] = Field("drop", description="whether objects marked as difficult are objects")
    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    sizes: Literal["check", "trust"] = Field(
        "check", description="check: compare width and height with the image; trust: believe them"
    )
