"""What ``source.options`` may say of COCO JSON."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ConfigDict, Field

#: Images of a larger split are asked as they are copied: to open a hundred thousand takes longer than to read labels.
MAX_ASKED = 10_000


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    crowd: Literal["drop", "keep"] = Field(
        "drop",
        description="whether objects with iscrowd are in no row, or are "
        "objects like others (CVAT calls every brush mask a crowd)",
    )
    sizes: Literal["auto", "image", "file"] = Field(
        "auto",
        description="whether width and height of the file are compared with the images, and objects put right where "
        f"those were turned or scaled since; auto: of splits of up to {MAX_ASKED:,} images",
    )

    def asks(self, images: int) -> bool:
        """Whether each image of a split of so many is asked how large it is."""
        return self.sizes == "image" or (self.sizes == "auto" and images <= MAX_ASKED)
