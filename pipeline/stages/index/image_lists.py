"""Splits that are lists of images: of what is in their folders, only that belongs to them.

An image that is in no list, and one that is listed and not there, are reported; one in two lists is of both splits.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline import storage
from pipeline.base.errors import DataError
from pipeline.base.humanize import noun, plural
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.base.text import composed
from pipeline.job.named_splits import MAX_LIST, image_lines, labels_of, read_list
from pipeline.job.spec import SplitSpec
from pipeline.storage import Listing

#: Pascal VOC's lists of one class say of each image whether it has the class: 1, -1, or 0 where that is hard to see.
_FLAG = re.compile(r"\s+(?:-1|0|1)$")


@dataclass
class ListedSplits:
    """What is to be said of the lists, `grave` of a split that is empty; `marks` change with their contents."""

    notes: list[str]
    grave: list[str]
    marks: bytes


def obey_lists(splits: Sequence[SplitSpec], listings: Sequence[tuple[Listing, Listing | None]]) -> ListedSplits:
    """Take what the lists of `splits` do not name out of their `listings`, of labels and images.

    Raises `DataError` for a list that cannot be read.
    """
    found = ListedSplits([], [], b"")
    if not any(split.image_lists for split in splits):
        return found
    import xxhash

    state = xxhash.xxh3_128()
    rest: dict[str, str] = {}  # by path, the folder that it is in
    everywhere: list[tuple[str, Listing]] = []
    for split, (labels, images) in zip(splits, listings, strict=True):
        pictures, folder = (images, split.images or "") if images is not None else (labels, split.labels)
        everywhere.append((folder, pictures))
        if not split.image_lists:
            continue
        wanted = _Wanted(split, pictures)
        for url in split.image_lists:
            text = _text_of(url)
            state.update(text.encode())
            wanted.add(url, image_lines(text))
        rest |= {posixpath.join(folder, name): folder for name in wanted.cut(labels, images)}
        (found.notes if pictures.count else found.grave).extend(wanted.notes(pictures, folder))
    taken = {posixpath.join(folder, name) for folder, those in everywhere for name in those.names()} if rest else set()
    unnamed = [(path, folder) for path, folder in sorted(rest.items()) if path not in taken]
    if unnamed:
        found.notes.append(
            f"{plural(len(unnamed), 'image')} of {unnamed[0][1]} left out, in no list of a split, such as "
            f"{posixpath.basename(unnamed[0][0])}"
        )
    state.update("\0".join([*found.notes, *found.grave]).encode())  # of files that are in no listing any more
    found.marks = state.digest()
    return found


class _Wanted:
    """What the lists of a split name, as paths below its folder of images, whose listing is `pictures`."""

    def __init__(self, split: SplitSpec, pictures: Listing) -> None:
        self._split = split
        self._home = split.images or split.labels
        self._pictures = pictures
        self._there = {posixpath.dirname(name) for name in pictures.names()} | {""}
        self._folders: dict[tuple[str, str], str | None] = {}
        self._paths: dict[str, str] = {}  # without letters composed in two ways: as the list has it
        self._elsewhere: list[str] = []

    def add(self, url: str, lines: Sequence[str]) -> None:
        """Add the lines of the list at `url`."""
        beside = posixpath.dirname(url)
        for line in lines:
            said, _, name = line.rpartition("/")
            name = self._without_flag(name)
            said = f"/{said}" if line.startswith("/") and not said else said
            if self._split.images is None:
                said = f"{'/' if said.startswith('/') else ''}{labels_of(said)}"
            if (said, beside) not in self._folders:
                self._folders[said, beside] = self._below(said, beside)
            folder = self._folders[said, beside]
            if folder is None:
                self._elsewhere.append(line)
            else:
                path = posixpath.join(folder, name)
                self._paths[composed(path)] = path

    def _without_flag(self, name: str) -> str:
        """A `name` of a list without `_FLAG`, unless an image is called so."""
        bare = _FLAG.sub("", name)
        return bare if bare != name and composed(name) not in self._stems else name

    @cached_property
    def _stems(self) -> frozenset[str]:
        """The stems of all images, without their folders."""
        return frozenset(composed(posixpath.basename(name).rpartition(".")[0]) for name in self._pictures.names())

    def _below(self, said: str, beside: str) -> str | None:
        """The folder that a list in `beside` calls `said`, below that of the images; None where it is elsewhere.

        As it is, or after the last step that is called as the folder of images: lists come from other machines. Else
        as a folder below it: Datumaro lists those of Pascal VOC so.
        """
        home = self._home
        if not said:
            return ""  # names alone, as Pascal VOC lists them
        path = posixpath.normpath(posixpath.join(beside, said))
        if path == home or path.startswith(f"{home}/"):
            return path[len(home) + 1 :]
        steps = [step for step in said.split("/") if step not in ("", ".", "..")]
        name = posixpath.basename(home)
        ends = ["/".join(steps[i + 1 :]) for i in range(len(steps) - 1, -1, -1) if steps[i] == name]
        if home == beside or beside.startswith(f"{home}/"):  # the folder of the data set, which each calls otherwise
            ends += ["/".join(steps[i:]) for i in range(len(steps) + 1)]
        if not ends and not said.startswith("/"):
            path = "/".join(steps)
            return path if path in self._there else None
        return next((end for end in ends if end in self._there), ends[0] if ends else None)

    def cut(self, labels: Listing, images: Listing | None) -> list[str]:
        """Take all else out of the listings; returns the paths of images (or labels, where there are none) dropped."""
        stems = {_stem(path).encode() for path in self._paths}
        bare = {path.encode() for path in self._paths if _stem(path) == path}
        dropped = labels.retain(lambda name: _composed_bytes(name).rpartition(b".")[0] in stems)
        if images is not None:
            paths = {path.encode() for path in self._paths}
            dropped = images.retain(
                lambda name: (path := _composed_bytes(name)) in paths or path.rpartition(b".")[0] in bare
            )
        return [name.decode() for name in dropped]

    def notes(self, pictures: Listing, folder: str) -> list[str]:
        """What is to be said of the images that are listed, and not there."""
        there = {composed(name).rpartition(".")[0] for name in pictures.names()}
        missing = [path for key, path in sorted(self._paths.items()) if _stem(key) not in there]
        which = " and ".join(self._split.image_lists)
        found = []
        if not self._paths and not self._elsewhere:
            found.append(f"{which}: lists no image, so the split {self._split.split} is empty")
        if missing:
            found.append(
                f"{which}: {len(missing):,} of the {plural(len(self._paths), 'image')} that it lists "
                f"{noun(len(missing), 'is', 'are')} not in {folder}, "
                f"such as {missing[0]}"
            )
        if self._elsewhere:
            found.append(
                f"{which}: {plural(len(self._elsewhere), 'line')} left out, of images that are not below {folder}, "
                f"such as {self._elsewhere[0]}"
            )
        return found


def _text_of(url: str) -> str:
    location, name = storage.locate_file(url)
    if location.local is not None:
        return read_list(url)
    (content,), _, failed = location.read_many([name], MAX_LIST)
    if failed:
        raise DataError(f"{url}: is a list of images, and {storage.UNREAD[failed[0]]}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DataError(f"{url}: is not UTF-8 text; save it as UTF-8") from None


def _stem(path: str) -> str:
    """A path of a list without the suffix of its image; Pascal VOC's lists have none."""
    stem, suffix = posixpath.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def _composed_bytes(path: bytes) -> bytes:
    return path if path.isascii() else composed(path.decode()).encode()
