"""What a store says when it will not: its errors as one exception, with a reason that holds no secret, and the cure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.base.errors import StorageError, UnavailableError
from pipeline.base.humanize import plural
from pipeline.storage.certificates import HOW_TO_TRUST
from pipeline.storage.retry import PASSING
from pipeline.storage.stores.endpoints import NOWHERE
from pipeline.storage.stores.options import scrub

if TYPE_CHECKING:
    from pipeline.storage.location import Results


class Missing(Exception):  # noqa: N818 - an answer, not an error
    """There is no file of that key."""


class NoParts(Exception):  # noqa: N818 - an answer, not an error
    """The store gives whole files only, whatever part was asked for."""


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """A store did not do what it was asked for.

    `reason` is a clause with the cure. `fatal`: it would say the same of every further file. `passing`: it may say
    something else a little later. `away`: no server answered, so that the same run may do later; as where it may pass.
    """

    def __init__(self, reason: str, *, fatal: bool = False, passing: bool = False, away: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.fatal, self.passing, self.away = reason, fatal, passing, away or passing

    def error(self, url: str, doing: str) -> StorageError:
        """The sentence that names the file or location, what was being done with it, and the cure."""
        kind = UnavailableError if self.away else StorageError
        return kind(f"{url}: cannot be {doing}: {self.reason}")

    def unless_away(self, url: str) -> None:
        """Raise that `url` cannot be read where that may pass by itself: it is no fact about the file."""
        if self.away:
            raise self.error(url, "read")

    def note(self, results: Results, path: str, of: str = "") -> None:
        """Have `results` say that `path` was not done; `of` is what the reason begins with."""
        results.failed[path] = of + self.reason
        if self.away:
            results.passing.add(path)


def must_be_whole(came: int, size: int) -> None:
    """Raise `Refused` where `came` bytes are not all of an object of `size` bytes."""
    if came != size:
        raise Refused(f"{came:,} of {plural(size, 'byte')} came; run again", passing=True)


_KEYS = "check the credentials in the environment, the provider's own files or conf/local/"

_NOT_ALLOWED = "these credentials may not do that here; allow listing, reading, writing and deleting"

#: By the store's own word for the error (S3, Google, Azure); everything here would meet every further file.
_CODES = {
    "InvalidAccessKeyId": f"the store does not know this access key; {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_KEYS}",
    "AuthenticationFailed": f"the account key or token is wrong, or has expired; {_KEYS}",
    "AuthorizationFailure": f"the account key or token is wrong, or this network is not allowed in; {_KEYS}",
    "InvalidAuthenticationInfo": f"the account key or token is wrong; {_KEYS}",
    "ExpiredToken": "the session token has expired; get a new one, then run again: it goes on where it was",
    "ExpiredTokenException": "the session token has expired; get a new one, then run again: it goes on where it was",
    "TokenRefreshRequired": "the session token has expired; get a new one, then run again: it goes on where it was",
    "InvalidToken": f"the session token is wrong; {_KEYS}",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
    "AccessDenied": _NOT_ALLOWED,
    "AuthorizationPermissionMismatch": _NOT_ALLOWED,
    "AccountProblem": "the account has a problem; ask the provider",
    "NoSuchBucket": "there is no such bucket; create it, or correct the URL",
    "ContainerNotFound": "there is no such container; create it, or correct the URL",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set region in conf/local/ or AWS_REGION",
    "PermanentRedirect": "the bucket is in another region; set region in conf/local/ or AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region; set region in conf/local/ or AWS_REGION",
}

_FULL = "the store is full, or a quota is used up; make room, then run again: it goes on where it was"

_FULL_WORDS = re.compile(
    r"StorageFull|QuotaExceeded|InsufficientStorage|InsufficientCapacity|XMinioStorage|"
    r"ServiceQuota|no space left",
    re.IGNORECASE,
)

_REDIRECTS = {"301", "307", "308"}

#: Codes of S3 that say: not now. They come with other statuses as well: 200 once a copy has begun, 400 of a slow line.
_PASSING_CODES = {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"}


def of_status(status: str | None, code: str | None, message: str) -> Refused:  # noqa: PLR0911 - one return a kind
    """The refusal of an HTTP store, by status, its code and what it said (which may be nothing)."""
    text = scrub(f"{status or ''} {code or ''} {message}".strip())
    if code in _CODES:
        return Refused(f"{_CODES[code]} ({text})", fatal=True)
    if status == "507" or _FULL_WORDS.search(text):
        return Refused(f"{_FULL} ({text})", fatal=True)
    if status == "401":
        return Refused(f"the store does not accept these credentials; {_KEYS} ({text})", fatal=True)
    if status == "403":
        return Refused(
            f"no permission; {_KEYS}, and that they may list, read, write and delete here ({text})", fatal=True
        )
    if status in _REDIRECTS:
        return Refused(f"{_CODES['PermanentRedirect']} ({text})", fatal=True)
    if code in _PASSING_CODES or (status and int(status) in PASSING):
        return Refused(f"the store is busy or ill ({text}); run again: it goes on where it was", passing=True)
    return Refused(text or "the store gives no reason")


#: What clients say where no answer came, in the order in which it is searched for; the reason; whether it may pass by
#: itself. Only an address and a certificate stay what they are until somebody corrects them.
_BROKEN = (
    (
        ("dns error", "name or service not known", "name resolution", "getaddrinfo", "failed to lookup"),
        "the name of the server{host} cannot be found; correct the endpoint, or check the network",
        False,
    ),
    (
        (NOWHERE, "error following redirect"),
        "the server redirects elsewhere, and credentials do not go there; correct the endpoint",
        False,
    ),
    (("builder error",), "no request can be made to the address of the server; correct the endpoint", False),
    (("certificate",), f"the server's certificate is not trusted; {HOW_TO_TRUST}", False),
    (
        (
            "connection refused",
            "tcp connect error",
            "no route to host",
            "network is unreachable",
            "connect error",
            "client error (connect)",
        ),
        "no server answers there; check the endpoint and the network, then run again: it goes on where it was",
        False,
    ),
    (("timed out", "timeout", "deadline"), "no answer came in time; run again: it goes on where it was", True),
    (
        (
            "connection reset",
            "broken pipe",
            "connection closed",
            "incomplete",
            "hyper::error",
            "error decoding response body",
            "error sending request",
            "connection lost",
            "connectionlost",
            "not open",
            "disconnect",
            "end of file",
            "unexpected eof",
            "channelclosed",
        ),
        "the connection broke; run again: it goes on where it was",
        True,
    ),
)


#: The host in what a client says of its request.
_HOST = re.compile(r"://(?:[^/\s\"'@]*@)?([\w.-]*\w)")


def of_connection(text: str) -> Refused | None:
    """The refusal where no answer came at all, by what the client says of it; None where it is something else."""
    low = text.lower().replace("retry_timeout", "")  # a setting, which is in every error
    for words, reason, passing in _BROKEN:
        if any(word in low for word in words):
            host = _HOST.search(text)
            named = reason.replace("{host}", f", {host[1]}," if host else "")
            away = words[0] not in (NOWHERE, "builder error", "certificate")
            return Refused(named, fatal=not passing, passing=passing, away=away)
    return None


def no_credentials(text: str) -> bool:
    """Whether the client searched for credentials and found none."""
    low = text.lower()
    return any(
        word in low
        for word in (
            "169.254.169.254",
            "metadata.google.internal",
            "instance metadata",
            "could not find credentials",
            "missing credential",
            "token request",
        )
    )


NO_CREDENTIALS = Refused(f"no credentials were found; {_KEYS}", fatal=True)
