"""Names of locations: local paths, what is within what, and URLs without their secrets."""

from __future__ import annotations

import os
import re

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact_url
from pipeline.storage.address import parse, protocol_of

#: A variable of a shell at the beginning of a path: who writes ``$HOME/out`` wants no folder of that name.
_VARIABLE = re.compile(r"\$(\{\w+\}|[A-Za-z_]\w*)")


def local_path(url: str) -> str:
    """The absolute path of a folder or file of this machine, given as a path or file:// URL; other URLs are refused."""
    if url.startswith("file://"):
        url = url[7:]
    if "://" in url:
        raise ConfigError(f"{redact_url(url)}: must be a folder of this machine")
    if (variable := _VARIABLE.match(url)) and not os.path.lexists(url):
        raise ConfigError(
            f"{url}: begins with {variable[0]}, which a shell would fill in; write the path, or let --set give it"
        )
    path = os.path.abspath(os.path.expanduser(url))
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: the path is not UTF-8; rename the folder, or reach it by a link") from None
    if "\0" in path:
        raise ConfigError(f"{path}: a path holds no NUL")
    return path


def is_same_location(one: str, other: str) -> bool:
    """Whether two locations, each a path or URL, are one, links followed."""
    return real_path(one) == real_path(other)


def within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or is in it, links followed; both are paths or URLs."""
    return is_in(real_path(path), real_path(folder))


def is_in(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or is in it; both are of `real_path`."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def real_path(url: str) -> str:
    """A path or URL, links followed: of what is one location it is the same."""
    if protocol_of(url) is None:
        return os.path.realpath(local_path(url))
    if "::" in url:  # a location in an archive holds nothing but itself
        return url
    address = parse(url)
    return f"{address.protocol}://{address.host}/{address.path}"
