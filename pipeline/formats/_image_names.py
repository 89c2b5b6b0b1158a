"""Which of the listed files is the image that a label file names.

A label file calls its image by the path it had where the labels were made: below another folder, on another system,
behind a URL, under the name it had before an upload. What is tried, from exact to loose, ends with the first that fits:

1. the path as it is written, with ``/`` for ``\\``, or with its percent signs decoded; what follows ``?d=`` in the
   ``local-files`` of Label Studio; the path of a URL;
2. the same without its first folders, one after another (a drive, ``/data``, ``images``), or with more before them;
3. all of that in Unicode's composed form, for macOS decomposes names;
4. without what an upload puts before a name: ``COCO_val2014_``, the eight digits of Label Studio;
5. in any case; with any suffix.

Where two files fit equally well neither is taken.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pipeline.base.text import composed
from pipeline.formats._values import is_text

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://[^/]*")

#: An address whose path is a relative path as it is.
_PLAIN_URL = re.compile(r"https?://[^/?#]+/((?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*)")

_DRIVE = re.compile(r"^[A-Za-z]:")

_QUERY = re.compile(r"[?&]d=([^&]+)")

_UPLOADED = re.compile(r"^(?:COCO_[A-Za-z]+[0-9]{4}_|[0-9a-f]{8}-)(?=.)")

#: What was tried, for the sentence that says that nothing was found.
TRIED = (
    "tried with and without its folders, decoded, in either Unicode form, without the prefixes of uploads, in any "
    "case and with any suffix"
)


class Found(NamedTuple):
    """The listed file that a name means, or None; `exact`: by the path as it is written. `several` fit equally well."""

    path: str | None
    exact: bool = False
    several: tuple[str, ...] = ()


def clean(said: str) -> str:
    """What a label file calls its image as a relative path with ``/``; empty for what names no file."""
    if _PLAIN.fullmatch(said) and said not in (".", ".."):
        return said
    if (plain := _PLAIN_URL.fullmatch(said)) is not None:
        return plain[1]
    text = said.strip().replace("\\", "/")
    if "\0" in text or not is_text(text):
        return ""
    if "://" in text and _URL.match(text):
        text = urllib.parse.unquote(_URL.sub("", text).partition("?")[0].partition("#")[0])
    steps = posixpath.normpath(_DRIVE.sub("", text)).split("/") if text else []
    path = "/".join(step for step in steps if step not in ("", ".", ".."))
    return said if path == said else path  # of many names, half of the memory


def _texts(said: str) -> list[str]:
    """What a name may mean as a path, the likeliest first."""
    query = _QUERY.search(said)
    found = [clean(urllib.parse.unquote(query[1]))] if query else []
    found.append(clean(said))
    if "%" in said or "+" in said:
        found += [clean(urllib.parse.unquote(said)), clean(urllib.parse.unquote_plus(said))]
    return list(dict.fromkeys(filter(None, found)))


def _uploaded(path: str) -> str:
    folder, slash, name = composed(path).rpartition("/")
    return f"{folder}{slash}{_UPLOADED.sub('', name)}"


def _folded(path: str) -> str:
    return composed(composed(path).casefold())


def _stem(path: str) -> str:
    return posixpath.splitext(composed(path))[0]


def _loosest(path: str) -> str:
    return _folded(_stem(_uploaded(path)))


#: From exact to loose: two paths mean the same where these make the same text of them.
_FORMS: tuple[Callable[[str], str], ...] = (str, composed, _uploaded, _folded, _stem, _loosest)


class ImageNames:
    """The image files `listed` below one folder (paths with ``/``), to be found by what label files call them."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = frozenset(listed)
        self._by_form: dict[int, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}

    def find(self, *said: str) -> Found:
        """The file that is called by one of `said`, the first that fits; see the head of this module."""
        for name in said:
            if name in self._listed:
                return Found(name, exact=True)
        texts = list(dict.fromkeys(text for name in said for text in _texts(name)))
        for text in texts:
            if text in self._listed:
                return Found(text, exact=True)
        several: tuple[str, ...] = ()
        for form in range(len(_FORMS)):
            for text in texts:
                fitting = self._fitting(form, text)
                if len(fitting) == 1:
                    return Found(fitting[0])
                several = several or tuple(fitting)
            if several:
                break
        return Found(None, several=several)

    def _fitting(self, form: int, text: str) -> list[str]:
        whole, names = self._index(form)
        as_form = _FORMS[form]
        for tail in tails(text):
            if found := whole.get(as_form(tail)):
                return found
        name = as_form(text)
        return [path for path in names.get(name.rpartition("/")[2], ()) if f"/{as_form(path)}".endswith(f"/{name}")]

    def _index(self, form: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The listed paths by their form, and by that of their last step."""
        if form not in self._by_form:
            whole: dict[str, list[str]] = {}
            names: dict[str, list[str]] = {}
            for path in sorted(self._listed):
                as_form = _FORMS[form](path)
                whole.setdefault(as_form, []).append(path)
                names.setdefault(as_form.rpartition("/")[2], []).append(path)
            self._by_form[form] = whole, names
        return self._by_form[form]


def tails(path: str) -> Iterator[str]:
    """A path, and the same without its first folder, its first two, …"""
    steps = path.split("/")
    return ("/".join(steps[i:]) for i in range(len(steps)))
