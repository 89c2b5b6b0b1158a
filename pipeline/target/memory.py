"""What this machine remembers of a target at a store, so that a check need not ask for it again.

A run that asked for the manifest and the intent, and found or left nothing to do, keeps the manifest in the workdir,
with the mark (of size and etag) of each file below the target's ``.coco-diy/`` up to the run records. As long as a
listing shows just these files, the manifest is the one that is kept, and no run has left an intent or a lock. A build
that takes the target's lock forgets it first: after one that is killed all is asked for, however late the listing is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.base.digest import seal, unseal
from pipeline.base.errors import CocoDiyError
from pipeline.target.records import COPIES, INTENT, MANIFEST

if TYPE_CHECKING:
    from pipeline.storage import WritableLocation
    from pipeline.storage.location import Fingerprint

#: Names from here on are run records, which come and go, and what is listed after them.
_END = "runs/"

#: With one of these a run is under way, or was killed.
_OF_A_RUN = (INTENT, f"{COPIES}/{INTENT}", "lock")


class Memory:
    """The manifest of one target, in the file `path` of the workdir `work`."""

    def __init__(self, work: WritableLocation, path: str) -> None:
        self.work, self.path = work, path

    def recall(self, seen: Mapping[str, Fingerprint] | None) -> dict[str, Any] | None:
        """The content of the manifest where `seen`, the files below ``.coco-diy/``, are those of then; None else."""
        if (marks := _marks(seen)) is None:
            return None
        try:
            kept = unseal(self.work.read(self.path))
        except (CocoDiyError, OSError):
            return None
        if kept is None or kept.get("marks") != marks or not isinstance(kept.get("manifest"), dict):
            return None
        manifest: dict[str, Any] = kept["manifest"]
        return manifest

    def keep(self, seen: Mapping[str, Fingerprint] | None, manifest: object, *, locked: bool = False) -> None:
        """Remember `manifest`, which was read after `seen` was listed; nothing where that shows a run's files.

        `locked`: the lock among them is this run's own.
        """
        if locked and seen is not None:
            seen = {name: file for name, file in seen.items() if name != "lock"}
        if (marks := _marks(seen)) is not None:
            with contextlib.suppress(CocoDiyError, OSError):  # the next run asks again
                self.work.write(self.path, seal({"marks": marks, "manifest": manifest}))

    def forget(self) -> None:
        """A run begins: what is remembered is void. Raises `StorageError` where it stays."""
        self.work.delete_many([self.path]).must(self.work, "deleted")


def _marks(seen: Mapping[str, Fingerprint] | None) -> dict[str, str] | None:
    """The mark of each file; None where they prove nothing.

    That takes the manifest with an etag, and names in order: else the page ends somewhere, and lacks an intent that is
    listed on the next.
    """
    if not seen or MANIFEST not in seen or list(seen) != sorted(seen) or any(name in seen for name in _OF_A_RUN):
        return None
    files = {name: file for name, file in seen.items() if name < _END}
    return None if any(file.vague for file in files.values()) else {n: f.mark.hex() for n, f in files.items()}
