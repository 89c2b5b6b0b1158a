"""Whose word is taken for who a server is: one file of authorities for the web client and for all stores."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError

#: Variables that name a file, or a folder, of authorities, in the order in which they are believed.
VARIABLES = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")

HOW_TO_TRUST = (
    "set SSL_CERT_FILE to the file of the authority that signed it, as your company's where it opens TLS, "
    "or correct the address"
)

#: Where systems have theirs, beside what Python's own library was built for.
_SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)

_PEM = b"-----BEGIN "


@dataclass(frozen=True)
class Certificates:
    """The authorities that are believed: a PEM file, or a folder of them, and what names it ('' for the system's)."""

    path: str
    named_by: str

    def pem(self) -> bytes:
        """All of them as one PEM text. Raises `ConfigError` where none exists."""
        try:
            is_folder = os.path.isdir(self.path)
            files = [p for p in sorted(Path(self.path).iterdir()) if p.is_file()] if is_folder else [Path(self.path)]
            found = b"\n".join(data for file in files if _PEM in (data := file.read_bytes()))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: the certificates that {self.named_by} names cannot be read "
                f"({error.strerror}); correct it"
            ) from None
        if not found:
            raise ConfigError(f"{self.path}: holds no certificate (PEM), but {self.named_by} names it; correct it")
        return found


def certificates(options: Mapping[str, Any] | None = None, profile: Mapping[str, str] | None = None) -> Certificates:
    """The authorities to believe: as the `options` of a store say, the environment, AWS's `profile`, or the system.

    Options are those of s3fs and boto3: ``verify`` (also below ``client_kwargs``) is the path of a PEM file. Raises
    `ConfigError` where certificates shall not be checked at all, or where a path that is named has none.
    """
    options = options or {}
    verify = (options.get("client_kwargs") or {}).get("verify", options.get("verify"))
    if verify is False:
        raise ConfigError(
            "verify: false is refused: who does not check certificates sends credentials to anybody; "
            "name the authority's file instead, as in `verify: ca.pem`"
        )
    named = [
        ("verify", verify if isinstance(verify, str) else None),
        *((name, os.environ.get(name)) for name in VARIABLES),
        ("ca_bundle", (profile or {}).get("ca_bundle")),
    ]
    for name, path in named:
        if path:
            found = Certificates(os.path.abspath(os.path.expanduser(path)), name)
            return _checked(found, os.stat(found.path).st_mtime_ns if os.path.exists(found.path) else 0)
    return _of_system()


@functools.cache
def _checked(found: Certificates, _mtime_ns: int) -> Certificates:
    found.pem()
    return found


@functools.cache
def _of_system() -> Certificates:
    import ssl

    own = ssl.get_default_verify_paths()
    for path in filter(None, (own.cafile, *_SYSTEM)):
        if os.path.isfile(path) and os.path.getsize(path):
            return Certificates(path, "")
    import certifi

    return Certificates(certifi.where(), "certifi")
