"""Which manifests and intents this machine wrote.

A folder that came with a download brings its own manifest, whose config and links are somebody else's. So the digests
of what a build here wrote are in the user's state folder, or in that which the environment variable COCO_DIY_STATE
names. They are SHA-256: nobody can make another manifest of the same digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time

from pipeline import storage
from pipeline.base.errors import StorageError

#: So many digests stay, the newest: some hundred subsets.
_MOST = 2000


def digest(content: bytes) -> str:
    """What `content` is known by."""
    return hashlib.sha256(content).hexdigest()


def remember(content: bytes) -> None:
    """Note that this machine wrote `content`.

    Where the user has no state folder, or it cannot be written to, nothing is noted: a repair then asks for a config.
    """
    wanted = digest(content)
    with contextlib.suppress(StorageError):
        folder = _folder()
        names = folder.flat_names("")
        folder.write_many([f"{time.time_ns():020d}-{wanted}"], [b""])
        same = [name for name in names if name.endswith(wanted)]
        folder.delete_many([*same, *names[: -_MOST or None]])


def is_ours(wanted: str) -> bool:
    """Whether this machine wrote what has the digest `wanted`."""
    with contextlib.suppress(StorageError):
        return any(name.endswith(f"-{wanted}") for name in _folder().flat_names(""))
    return False


def _folder() -> storage.WritableLocation:
    return storage.locate_writable(os.environ.get("COCO_DIY_STATE") or storage.user_folder("state")).own("manifests")
