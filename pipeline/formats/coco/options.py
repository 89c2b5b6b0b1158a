"""What ``source.options`` may say of COCO JSON."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ConfigDict, Field


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    crowd: Literal["drop", "keep"] = Field(
        "drop",
        description="whether objects with iscrowd are in no row, or are "
        "objects like others (CVAT calls every brush mask a crowd)",
    )
    sizes: Literal["file", "image"] = Field(
        "file",
        description="whose width and height count: image asks each one, "
        "and scales the objects of one that was scaled after it was labelled",
    )
