"""Files that options of a command name to be written: none of them is anybody's but ours."""

from __future__ import annotations

import os
import re

from pipeline.base.errors import UsageError
from pipeline.base.unexpanded import unexpanded

#: So many bytes at the begin and the end of a file say whose it is.
_ENDS = 4096


def output_path(option: str, path: str, ours: bytes) -> str:
    """The absolute path of the file `path`, which `option` names to be written.

    Raises `UsageError` where that is there, not empty, and has no match of `ours`, which all have that coco-diy wrote:
    it may be an image or a label of any dataset. What is no file is not checked. So is a path that is not as a shell
    would have made it.
    """
    if (why := unexpanded(path)) is not None:
        raise UsageError(f"{option} {path}: {why}")
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(path):
        return path
    try:
        with open(path, "rb") as file:
            ends = file.read(_ENDS)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(ends), size - _ENDS))
            ends += file.read()
    except OSError:
        return path  # whoever writes it says why that fails
    if ends and not re.search(ours, ends, re.MULTILINE):
        raise UsageError(f"{option} {path}: is there and was not written by coco-diy; name another file")
    return path
