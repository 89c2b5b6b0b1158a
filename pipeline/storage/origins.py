"""Where images come from: the one answer to which folder, archive or store the image of a key is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline import storage


@dataclass(frozen=True)
class Origin:
    """What holds the images of one split of a source.

    `prefix` is what the keys of its images begin with; `url` is a path or URL, None where labels have no images;
    `workdir` is where copies of remote images are, see `storage.locate`.
    """

    prefix: str
    url: str | None
    workdir: str

    @property
    def location(self) -> storage.Location:
        """The location at `url`."""
        assert self.url is not None, self.prefix
        return storage.locate(self.url, self.workdir)


@dataclass(frozen=True)
class Origins:
    """The URL of each `Origin` by its prefix, in the order of the sources and their splits.

    A key belongs to one origin: prefixes end with ``/``, and no folder of a split is in another's.
    """

    urls: Mapping[str, str | None]
    workdir: str

    def __iter__(self) -> Iterator[Origin]:
        return (Origin(prefix, url, self.workdir) for prefix, url in self.urls.items())

    def of(self, key: str) -> Origin:
        """The origin that `key` belongs to."""
        return next(origin for origin in self if key.startswith(origin.prefix))

    def beside(self, *prefixes: str) -> Origins:
        """Those whose prefix begins with none of `prefixes`."""
        return self._only(prefix for prefix in self.urls if not prefix.startswith(prefixes))

    def remote(self) -> Origins:
        """Those whose images are fetched before they are used, see `Location.gather`."""
        return self._only(origin.prefix for origin in self if origin.url is not None and origin.location.remote)

    def _only(self, prefixes: Iterator[str]) -> Origins:
        return Origins({prefix: self.urls[prefix] for prefix in prefixes}, self.workdir)

    def by_origin(self, keys: Sequence[str]) -> Iterator[tuple[Origin, list[int]]]:
        """Each origin that has any of `keys`, with the indices of those."""
        for origin in self:
            if here := [i for i, key in enumerate(keys) if key.startswith(origin.prefix)]:
                yield origin, here

    def locations(self, keys: Sequence[str], names: Sequence[str]) -> Iterator[tuple[storage.Location, list[int]]]:
        """Where the images `names` of `keys` are read from, with the indices of those.

        That is the location of their origin or, of images that label files hold, these files.
        """
        for origin, here in self.by_origin(keys):
            for location, some in storage.image_locations(origin.location, [names[i] for i in here]):
                yield location, [here[i] for i in some]

    def names(self, keys: Sequence[str], paths: Sequence[str]) -> list[str]:
        """Names, relative to their origins, of the images of `keys` that a plan calls `paths` (`Location.join`)."""
        found = list(paths)
        for origin, here in self.by_origin(keys):
            name_of = origin.location.name_of
            for i in here:
                found[i] = name_of(paths[i])
        return found
