"""Images that label files hold in themselves, as labelme saves them: base64 in ``imageData``.

An image of a folder may be called ``a.json/a.jpg``: where ``a.json`` is a file, that is what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pipeline.base.base64_text import from_base64
from pipeline.storage.location import Fetched, Fingerprint, Location

_WITHIN = ".json/"

_NONE = "holds no image any more; run again"


def embedded_name(label: str, stem: str, suffix: str) -> str:
    """What the image that the file `label` holds is called: as a file of the image's `stem` and `suffix` in it."""
    return f"{label}/{stem.rpartition('/')[2]}{suffix}"


def is_embedded(name: str) -> bool:
    """Whether `name` is that of an image that a label file holds."""
    return _WITHIN in name.lower()


def _file_of(name: str) -> str:
    return name.rpartition("/")[0]


class EmbeddedImages(Location):
    """The images in the label files at `location`. Their state is that of the file; one is in memory at a time."""

    def __init__(self, location: Location) -> None:
        super().__init__(location.url)
        self._files = location

    @property
    def key_path(self) -> str:
        """See `Location.key_path`."""
        return self._files.key_path

    def join(self, path: str) -> str:
        """See `Location.join`."""
        return self._files.join(path)

    def name_of(self, joined: str) -> str:
        """See `Location.name_of`."""
        return self._files.name_of(joined)

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; the sizes of the images are not known."""
        found = self._files.fingerprints([_file_of(path) for path in paths])
        return [one and Fingerprint(None, b"embedded" + one.mark, one.settled) for one in found]

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        data = self._files.read(_file_of(path))
        return None if data is None else _image_in(data)

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`."""
        for fetched in self._files.fetch_many([_file_of(path) for path in paths]):
            image = _image_in(fetched.data) if fetched.reason is None else None
            yield (
                fetched
                if fetched.reason is not None
                else (Fetched(fetched.index, reason=_NONE) if image is None else Fetched(fetched.index, image))
            )


def _image_in(data: bytes) -> bytes | None:
    try:
        found = json.loads(data.decode("utf-8-sig"))
        return from_base64(found["imageData"].encode("ascii"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def image_locations(location: Location, names: Sequence[str]) -> Iterator[tuple[Location, list[int]]]:
    """Where the images `names` of `location` are read from, itself and its label files, with their indices."""
    within = [i for i, name in enumerate(names) if is_embedded(name)]
    if not within:
        yield location, list(range(len(names)))
        return
    plain = sorted(set(range(len(names))) - set(within))
    if plain:
        yield location, plain
    yield EmbeddedImages(location), within
