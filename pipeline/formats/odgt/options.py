"""What ``source.options`` may say of .odgt files."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ConfigDict, Field


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    box: Literal["full", "visible", "head"] = Field("full", description="which box of each person: fbox, vbox or hbox")
    crowd: Literal["drop", "keep"] = Field(
        "drop", description="whether people that are to be ignored are in no row, or are objects like others"
    )
