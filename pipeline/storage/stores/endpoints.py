"""Where the requests of a store go, found out once for all its clients; and whether credentials may go there.

Credentials go to the endpoint that was named together with them, and to no other: what is in ``conf/local/`` of a
folder, which may have been downloaded, does not lead those of the environment or of the provider's own files elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError
from pipeline.storage.address import Address, bucket_of

#: Variables with the endpoint, in the order in which AWS's own tools believe them; and those with the account.
_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_ACCOUNTS = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")

#: Variables that name a proxy.
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")

#: Where no proxy is.
NOWHERE = "127.255.255.254:9"

#: Who gives credentials, beside the store itself: AWS's services and those of its machines, and what is named in their
#: stead.
_AWS = ("amazonaws.com", "amazonaws.com.cn", "api.aws", "169.254.0.0/16", "fd00:ec2::/32")
_OF_CREDENTIALS = ("AWS_ENDPOINT_URL_STS", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_METADATA_ENDPOINT")

#: Options by any name that name the endpoint: those of s3fs, gcsfs and adlfs, and obstore's own.
ENDPOINTS = (
    "endpoint_url",
    "endpoint",
    "base_url",
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_endpoint_url_s3",
    "google_base_url",
    "azure_endpoint",
    "azure_storage_endpoint",
)

#: Options that lead nowhere, and may be combined with credentials from elsewhere.
_HARMLESS = frozenset(
    {
        "driver",
        "in_flight",
        "retry_config",
        "profile",
        "token",
        "project",
        "anon",
        "skip_signature",
        "requester_pays",
        "request_payer",
        "region",
        "region_name",
        "default_block_size",
        "default_fill_cache",
        "use_listings_cache",
        "skip_instance_cache",
        "asynchronous",
        "loop",
        "version_aware",
        "consistency",
        "cache_timeout",
        "cache_regions",
        "check_connection",
        "max_concurrency",
    }
)

_REGION = re.compile(r"[A-Za-z0-9-]+")

_OWN = {
    "s3": (("key", "secret"), ("access_key_id", "secret_access_key"), ("aws_access_key_id", "aws_secret_access_key")),
    "gs": (("service_account_key",),),
    "az": (("account_key",), ("access_key",), ("sas_token",), ("sas_key",), ("connection_string",)),
}


def given_endpoint(options: Mapping[str, Any]) -> str:
    """The endpoint that the `options` name; empty where they name none."""
    inner = options.get("client_kwargs") or {}
    text = connection_string(options.get("connection_string")).get("BlobEndpoint")
    host = f"https://{options['account_host']}" if options.get("account_host") else ""
    token = options.get("token")
    account = token.get("gcs_base_url") if isinstance(token, dict) else None
    found = [*(options.get(name) for name in ENDPOINTS), inner.get("endpoint_url"), text, host, account]
    return str(next(filter(None, found), "")).rstrip("/")


def endpoint_of(protocol: str, options: Mapping[str, Any], profile: Mapping[str, str]) -> str:
    """The endpoint of a store: that of its `options`, of the environment, or of AWS's `profile`; empty: the provider's.

    Every client of a store is opened with it, for each library finds out something else by itself.
    """
    configured = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true"
    found = given_endpoint(options) or (_of_environment(protocol) if configured or protocol != "s3" else "")
    if not found and protocol == "s3" and configured:
        found = profile.get("endpoint_url", "")
    return found.rstrip("/")


def host_of(address: Address, options: Mapping[str, Any], endpoint: str, region: str | None) -> str | None:
    """The host that requests will go to, as far as it is known before the first."""
    if not endpoint and address.protocol == "az":
        account = (
            bucket_of(address)[1]
            or options.get("account_name")
            or next(filter(None, map(os.environ.get, _ACCOUNTS)), None)
        )
        return f"{account}.blob.core.windows.net" if account else None
    if not endpoint and address.protocol == "s3":
        endpoint = f"https://s3.{region or 'us-east-1'}.amazonaws.com"
    return urlsplit(endpoint).hostname  # a file of Google's credentials may name another one than Google's


def refuse_redirects(host: str | None, endpoint: str, client: dict[str, Any]) -> None:
    """Have the HTTP `client` options of a store at `host` send no request anywhere else.

    obstore follows redirects and, but for Authorization, sends all headers along, with AWS's session token or the key
    that encrypts. It can be given no server but by way of a proxy (measured with obstore 0.12.1, 2026-11). An
    `endpoint` by http:// is its own proxy (RFC 9112 section 3.2.2 has every server take such requests): wherever a
    redirect leads, it is the one that is asked. By https:// every other host is asked for at a proxy that is not there,
    and another port of the same host has to show a certificate for it. Where a real proxy is named, that is left alone.
    """
    client["allow_http"] = plain = endpoint.startswith("http://")
    if host is None or "proxy_url" in client or any(map(os.environ.get, PROXIES)):
        return
    asked = [urlsplit(os.environ.get(name, "")).hostname for name in _OF_CREDENTIALS]
    client["proxy_url"] = f"http://{urlsplit(endpoint).netloc if plain else NOWHERE}"
    client["proxy_excludes"] = ",".join([*([] if plain else [host]), *_AWS, *filter(None, asked)])


def refuse_plain(url: str, shown: str) -> None:
    """Raise `ConfigError` where credentials would go to `url` unencrypted; `shown` is what the user calls it."""
    parts = urlsplit(url)
    if parts.scheme.lower() == "http" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"{shown}: credentials would go to {parts.hostname} by http://, readable on the way; use "
            "https://, or for a store set client_options: {allow_http: true}"
        )


def keep_credentials_apart(address: Address, options: Mapping[str, Any], files: str) -> None:
    """Raise `ConfigError` where `options` of the current folder would lead credentials of the environment elsewhere.

    `files` is what the user calls the options.
    """
    protocol = address.protocol
    if brings_credentials(protocol, options):
        return
    leading = sorted(name for name, value in options.items() if not _is_harmless(protocol, name, value))
    if leading:
        kind = {"s3": "key and secret", "gs": "token", "az": "account_key or sas_token"}[protocol]
        raise ConfigError(
            f"{address.url}: {files} sets {leading[0]} for {protocol}, and credentials of the "
            f"environment do not go there; set {kind} beside it, or COCO_DIY_LOCAL to that folder"
        )


def check_account(address: Address, options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where an account in the URL would be sent the environment's credentials for another one."""
    named, own = bucket_of(address)[1], next(filter(None, map(os.environ.get, _ACCOUNTS)), None)
    if named and own and named != own and not (options.get("account_name") or brings_credentials("az", options)):
        raise ConfigError(
            f"{address.url}: is in the account {named}, and credentials of the environment are those of "
            f"{own}; set account_key or sas_token for it in conf/local/"
        )


def brings_credentials(protocol: str, options: Mapping[str, Any]) -> bool:
    """Whether the `options` hold credentials themselves, or say that there shall be none."""
    inner = options.get("client_kwargs") or {}
    have = {name for given in (inner, options) for name, value in given.items() if value}
    if not connection_string(options.get("connection_string")).keys() & {"AccountKey", "SharedAccessSignature"}:
        have.discard("connection_string")
    token = options.get("token")
    return (
        bool(options.get("anon") or options.get("skip_signature"))
        or (protocol == "gs" and (token == "anon" or isinstance(token, dict)))
        or any(have.issuperset(names) for names in _OWN[protocol])
    )


def connection_string(text: str | None) -> dict[str, str]:
    """The parts of one of Azure's connection strings."""
    return dict(part.split("=", 1) for part in (text or "").split(";") if "=" in part)


def _of_environment(protocol: str) -> str:
    found = next((os.environ[name] for name in _VARIABLES[protocol] if os.environ.get(name)), "")
    if not found and protocol == "az":
        found = connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING")).get("BlobEndpoint", "")
    return found.rstrip("/")


def _is_harmless(protocol: str, name: str, value: Any) -> bool:
    """Whether an option leaves requests where the environment sends them."""
    if name in ("region", "region_name"):
        return bool(_REGION.fullmatch(str(value)))
    if name == "account_name":
        return value in map(os.environ.get, _ACCOUNTS)
    if name in ENDPOINTS or name == "client_kwargs":
        inner = set(value) - {"endpoint_url"} if isinstance(value, dict) else set()
        return not inner and given_endpoint({name: value}) == _of_environment(protocol)
    return name in _HARMLESS


def _is_loopback(host: str) -> bool:
    import ipaddress

    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
