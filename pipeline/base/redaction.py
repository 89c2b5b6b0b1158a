"""URLs as text that anybody may read: without logins, signatures and tokens. Pure, and below everything else.

Part of every boundary at which a URL becomes text: errors, reports, records, the manifest. The parts of a URL are those
of RFC 3986, section 3; what signs one is named as AWS, Azure and Google document it.
"""

from __future__ import annotations

import re
from typing import Any

#: Schemes whose user name alone is as good as a password: tokens of code hosts, keys of buckets.
_USER_IS_SECRET = frozenset({"http", "https", "ftp", "ftps", "s3", "s3a", "gs", "gcs"})

_WEB = frozenset({"http", "https"})

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"

#: A URL in a text, up to a blank or to the archive that it is chained to by ``::``.
_URL = re.compile(rf"({_SCHEME})((?:(?!::{_SCHEME})\S)*)")

#: The same where the whole text is one URL, or a chain of them, and blanks are part of it.
_WHOLE = re.compile(rf"({_SCHEME})((?:(?!::{_SCHEME})[\s\S])*)")

_PASSWORD = re.compile(r"(?!\[)[^/?#@]*?:(?!:)(?!\d*(?:[/?#@]|$))")

#: Where a query or fragment begins, on the web and elsewhere: a question mark in a key of a store is part of it.
_QUERY = {True: re.compile(r"[?#]"), False: re.compile(r"[?#](?=[^/]*=)")}

_QUERY_IN_TEXT = {True: re.compile(r"\?|#(?=\S*=)"), False: _QUERY[False]}

#: What ends a sentence, a quotation or a bracket is not the URL's.
_TAIL = re.compile(r"[\])}>'\":;,.…]*$")

#: Names of what signs a request or gives access, wherever they are.
_SIGNING = re.compile(
    r"(?i)\b(sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|access_?token|"
    r"auth_?token|api_?key|apikey|account_?key|sharedaccess(?:signature|key)|\w*secret\w*|s(?:as|ession)_?token|password|"
    r"passwd)=[^&\s;,'\"]+"
)


def redact(text: str) -> str:
    """`text` with every URL in it redacted, and with what signs a request replaced by ``***`` also outside of one.

    A fragment that is a bare word stays: names of classes may be URLs of an ontology.
    """
    if "://" in text:
        text = _URL.sub(_in_text, text)
    return _SIGNING.sub(r"\1=***", text) if "=" in text else text


def redact_url(url: str) -> str:
    """`url`, a URL as a whole or a chain of them, without login, query and fragment; a local path as it is."""
    return _WHOLE.sub(lambda u: u[1] + redact_url(_before(_QUERY, u[1], _without_login(u[1], u[2]))), url)


def redact_data(data: Any) -> Any:
    """Plain data (dicts, lists, texts, numbers) with every text in it redacted as a URL."""
    if isinstance(data, dict):
        return {key: redact_data(value) for key, value in data.items()}
    if isinstance(data, list):
        return [redact_data(value) for value in data]
    return redact_url(data) if isinstance(data, str) else data


#: A web address in which nothing can hide: most are.
_PLAIN_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?/[A-Za-z0-9._/~-]*")


def public_address(url: object) -> str | None:
    """`url` where it is a web address without a login, a question mark or a signature in it; else None."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return None
    return url if _PLAIN_ADDRESS.fullmatch(url) or redact_url(url) == url else None


def is_signed(url: str) -> bool:
    """Whether there is a login in `url`, or what signs a request."""
    return bool(_SIGNING.search(url)) or _WHOLE.sub(_in_whole, url) != url


def _in_whole(found: re.Match[str]) -> str:
    return found[1] + _WHOLE.sub(_in_whole, _without_login(found[1], found[2]))


def _in_text(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    tail = _TAIL.search(rest)
    end = tail.start() if tail else len(rest)
    bare = _before(_QUERY_IN_TEXT, scheme, _without_login(scheme, rest[:end]))
    return scheme + _URL.sub(_in_text, bare) + rest[end:]  # a path may hold another URL


def _without_login(scheme: str, rest: str) -> str:
    """What follows the `scheme` of a URL, without user and password."""
    name = scheme[:-3].lower()
    if name == "zip":  # its host is a folder in the archive
        return rest
    if _PASSWORD.match(rest):  # up to the last @, for a password may hold slashes; without one it was cut off
        return _without_login(scheme, rest.rpartition("@")[2]) if "@" in rest else "***"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host and name in _USER_IS_SECRET:
        return _without_login(scheme, rest[host.rindex("@") + 1 :])
    return rest


def _before(query: dict[bool, re.Pattern[str]], scheme: str, rest: str) -> str:
    """What of `rest` comes before its query."""
    found = query[scheme[:-3].lower() in _WEB].search(rest)
    return rest[: found.start()] if found else rest
