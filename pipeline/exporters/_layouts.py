"""Where the files of a subset are at a target: names of folders and files that some trainers go by.

Exporters and plans name a label or image ``<kind>/<split>/<stem>``; a layout says which folder of the target that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.base.terms import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

#: What the layout is called that a target has unless its config names another.
DEFAULT = "default"

#: What Roboflow calls a split, where that is not its name.
ROBOFLOW_SPLITS = {"val": "valid"}


@dataclass(frozen=True)
class Layout:
    """Folders of a target by kind (labels, images), and files of a whole split by content (a task, say).

    All paths are relative to the target's root; ``{split}`` in them is the split, as `called` here. All folders have
    the same number of steps.
    """

    folders: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)

    def folder(self, kind: str, split: str) -> str:
        """The folder of the files of a `kind` of a split."""
        return self.folders[kind].format(split=self.called.get(split, split))

    def file(self, content: str, split: str) -> str:
        """The file with a `content` of a whole split: a task, or what an exporter has beside objects."""
        return self.files[content].format(split=self.called.get(split, split))

    def split_folders(self, splits: Iterable[str], kinds: Sequence[str] | None = None) -> tuple[str, ...]:
        """The folders of `splits`, kind by kind; of those of `kinds` (all) that there are."""
        return tuple(self.folder(kind, split) for kind in self._of(kinds) for split in splits)

    def steps(self, splits: Iterable[str]) -> tuple[str, ...]:
        """The folders of `splits`, and those that these are in, outer ones first."""
        found: dict[str, None] = {}
        for folder in self.split_folders(splits):
            names = folder.split("/")
            found.update(dict.fromkeys("/".join(names[:n]) for n in range(1, len(names) + 1)))
        return tuple(sorted(found, key=lambda path: path.count("/")))

    def roots(self, kinds: Sequence[str] | None = None) -> tuple[str, ...]:
        """Folders in which nothing but files of `kinds` (all) is, whatever the splits: ``labels``, ``train/labels``."""
        found: dict[str, None] = {}
        for kind in self._of(kinds):
            shared = self.folders[kind].partition("{split}")[0].rpartition("/")[0]
            found.update(dict.fromkeys([shared] if shared else self.split_folders(SPLITS, [kind])))
        return tuple(found)

    def _of(self, kinds: Sequence[str] | None) -> list[str]:
        return [kind for kind in self.folders if kinds is None or kind in kinds]

    @property
    def depth(self) -> int:
        """The number of steps of a split's folder."""
        (depth,) = {folder.count("/") + 1 for folder in self.folders.values()}
        return depth

    def placed(self, wanted: pa.Table) -> pa.Table:
        """`wanted` (`schema.wanted`), whose paths are ``<kind>/<split>/<stem>``, with the paths of this layout."""
        import pyarrow.compute as pc

        if all(folder == _folder(kind) for kind, folder in self.folders.items()) and not self.called:
            return wanted
        paths = wanted["path"]
        moved: list[tuple[pa.ChunkedArray, str, str]] = []
        for kind in self.folders:
            for split in SPLITS:
                before = f"{kind}/{split}/"
                moved.append((pc.starts_with(paths, before), before, f"{self.folder(kind, split)}/"))
        placed = paths
        for here, before, after in moved:
            renamed = pc.replace_substring_regex(paths, f"^{re.escape(before)}", after)
            placed = pc.if_else(here, renamed, placed)
        return wanted.set_column(wanted.schema.get_field_index("path"), wanted.schema.field("path"), placed)


def _folder(kind: str) -> str:
    return f"{kind}/{{split}}"


def usual(kinds: Sequence[str], files: Mapping[str, str] | None = None) -> Layout:
    """The layout of a target whose config names none: a folder a kind, in it one a split."""
    return Layout({kind: _folder(kind) for kind in kinds}, files or {})


def flat_stems(stems: pa.Array) -> pa.Array:
    """`stems` as the names of files of one folder: ``a/b/c`` is ``a__b__c``."""
    import pyarrow.compute as pc

    return pc.replace_substring(stems, "/", "__")
