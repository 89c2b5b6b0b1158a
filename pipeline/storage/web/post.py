"""One request that sends a little text to a web server, by libcurl: proxies and certificates as in `client`."""

from __future__ import annotations

import os
import urllib.parse

from pipeline.runtime.counters import REQUESTS, count
from pipeline.storage.certificates import certificates


def is_web_url(url: str) -> bool:
    """Whether `url` is a URL of a web server."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    printable = url.isascii() and url.isprintable() and " " not in url
    return parts.scheme in ("http", "https") and bool(parts.hostname) and printable


def post(url: str, body: bytes, seconds: float) -> str | None:
    """Send `body` (JSON) to `url`, in so many `seconds` at most; why that failed in a few words, None where it did not.

    The words name neither the URL nor its host: either may be a secret.
    """
    import pycurl

    curl = pycurl.Curl()
    bundle = certificates().path
    try:
        for option, value in (
            (pycurl.URL, url),
            (pycurl.POSTFIELDS, body),
            (pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"]),
            (pycurl.USERAGENT, "coco-diy"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.NOSIGNAL, True),
            (pycurl.TIMEOUT_MS, round(seconds * 1000)),
            (pycurl.WRITEFUNCTION, len),
            (pycurl.CAPATH if os.path.isdir(bundle) else pycurl.CAINFO, bundle),
        ):
            curl.setopt(option, value)
        count(REQUESTS)
        curl.perform()
        status = curl.getinfo(pycurl.RESPONSE_CODE)
    except pycurl.error as error:
        code = error.args[0]
        return {
            pycurl.E_COULDNT_RESOLVE_HOST: "the name of its server is not known",
            pycurl.E_COULDNT_CONNECT: "no server answers there",
            pycurl.E_OPERATION_TIMEDOUT: "no answer came in time",
            pycurl.E_PEER_FAILED_VERIFICATION: "the certificate of its server is not trusted",
        }.get(code, f"the connection broke (libcurl {code})")
    finally:
        curl.close()
    return None if 200 <= status < 300 else f"its server says {status}"
