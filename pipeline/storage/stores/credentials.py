"""How a store of obstore is opened: credentials and endpoints as fsspec's options, the environment and files have them.

The option names are those of s3fs, gcsfs and adlfs; names of obstore's own configuration pass through. Without options
obstore reads the environment (AWS_…, GOOGLE_…, AZURE_…), and Google's own file; the files of AWS are read here.

obstore completes what it is given from the environment: a key of the options with a token of the environment, and
AWS_ENDPOINT_URL_S3 wins over an endpoint. So credentials that are given go to it as a provider, and endpoints by every
name, which the environment then has no say in (measured with obstore 0.12.1, 2026-11).
"""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.storage.address import Address, bucket_of
from pipeline.storage.certificates import certificates
from pipeline.storage.stores.endpoints import (
    ENDPOINTS,
    brings_credentials,
    check_account,
    connection_string,
    endpoint_of,
    host_of,
    refuse_plain,
    refuse_redirects,
)

#: Options of ours and of fsspec that mean nothing to obstore.
_OURS = {
    "driver",
    "in_flight",
    "project",
    "use_ssl",
    "default_block_size",
    "default_fill_cache",
    "asynchronous",
    "loop",
    "consistency",
    "cache_timeout",
    "check_connection",
    "use_listings_cache",
    "skip_instance_cache",
    "cache_regions",
    "verify",
    "client_options",
    "retry_config",
}

#: How variables of each provider begin, of those that obstore reads.
_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}

_ENDPOINTS = frozenset({*ENDPOINTS, "account_host"})

_S3 = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "region_name": "region",
    "anon": "skip_signature",
    "requester_pays": "request_payer",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}

_AZ = {"anon": "skip_signature", "sas_token": "sas_key", "access_key": "account_key"}


def open_store(address: Address, options: dict[str, Any]) -> Any:
    """The obstore store of a bucket or container. Raises `ConfigError` for options that it does not know."""
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    protocol = address.protocol
    if protocol == "az":
        check_account(address, options)
    make, config = {"s3": (S3Store, _s3), "gs": (GCSStore, _gs), "az": (AzureStore, _az)}[protocol]
    client, retry = client_options(options)
    profile = aws_profile(protocol, options)
    endpoint = endpoint_of(protocol, options, profile)
    trusted = certificates(options, profile)
    if trusted.named_by:
        client.setdefault("root_certificate", trusted.pem())
    if endpoint.startswith("http://"):
        _allow_plain(address, options, endpoint, client)
    if protocol == "s3" and not (options.get("anon") or options.get("skip_signature")):
        refuse_redirects(host_of(address, options, endpoint, _region(options, profile)), endpoint, client)
    keys = config({k: v for k, v in options.items() if k not in _OURS and k not in _ENDPOINTS}, profile, endpoint)
    try:
        bucket, account = bucket_of(address)
        if account:
            keys.setdefault("account_name", account)
        return make(bucket, client_options=client, retry_config=retry, **keys)
    except (BaseError, ValueError, TypeError):
        # What obstore says may quote the options, and with them a secret.
        if protocol == "az" and host_of(address, options, endpoint, None) is None:
            raise ConfigError(
                f"{address.url}: names no account; set account_name for az in conf/local/, or "
                "AZURE_STORAGE_ACCOUNT_NAME"
            ) from None
        given = sorted(k for k in options if k not in _OURS)
        if not given:
            variables = sorted(name for name in os.environ if name.startswith(_VARIABLES[protocol]))
            raise ConfigError(
                f"{address.url}: what the environment says of {protocol} is not understood; correct or unset "
                f"{' or '.join(variables) or 'its variables'}"
            ) from None
        raise ConfigError(
            f"{address.url}: the options for {protocol} in conf/local/ are not understood; they are fsspec's, and "
            f"{', '.join(given)} were given"
        ) from None


def _allow_plain(address: Address, options: dict[str, Any], endpoint: str, client: dict[str, Any]) -> None:
    """Let a store be asked by http://: on this machine, without credentials, or where the user says so."""
    wanted = client.get("allow_http") or os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
    if not (wanted or options.get("anon") or options.get("skip_signature") or options.get("token") == "anon"):
        refuse_plain(endpoint, address.url)
    client["allow_http"] = True


def open_top(address: Address, options: dict[str, Any], store: Any) -> Any:
    """The endpoint of `store` itself as a store, a bucket or container being the first step of a key.

    Only so can a copy cross buckets.
    """
    profile = aws_profile(address.protocol, options)
    endpoint = endpoint_of(address.protocol, options, profile)
    if address.protocol == "az":
        account = bucket_of(address)[1]
        where, sep, last = endpoint.rpartition("/")
        if sep and not where.endswith("/"):  # the account is a step of the path, as emulators have it
            return open_store(Address(address.url, "az", last, ""), _with_endpoint(options, where))
        return open_store(Address(address.url, "az", f"@{account}" if account else "", ""), options)
    endpoint = endpoint or f"https://s3.{store.config.get('region') or 'us-east-1'}.amazonaws.com"
    given = {k: v for k, v in options.items() if k != "config_kwargs"}
    given = _with_endpoint(given, endpoint) | {"virtual_hosted_style_request": True}
    return open_store(Address(address.url, "s3", "", ""), given)


def _with_endpoint(options: dict[str, Any], endpoint: str) -> dict[str, Any]:
    """The same `options` for another `endpoint`."""
    return {k: v for k, v in options.items() if k not in _ENDPOINTS} | {"endpoint_url": endpoint}


def fsspec_options(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    """The `options` of an object store for its class of fsspec: with the endpoint and the certificates of `open_store`.

    Raises `ConfigError` where that class would complete credentials from the environment.
    """
    profile = aws_profile(address.protocol, options)
    endpoint, trusted = endpoint_of(address.protocol, options, profile), certificates(options, profile)
    given = {k: v for k, v in options.items() if k != "verify"}
    if endpoint.startswith("http://") or options.get("use_ssl") is False:
        _allow_plain(
            address,
            options,
            endpoint or f"http://{host_of(address, options, '', None)}",
            dict(options.get("client_options") or {}),
        )
    given.pop("client_options", None)
    if (
        address.protocol == "az"
        and (set(options) & {"account_name", *_ENDPOINTS})
        and (
            mixed := sorted(
                name for name in os.environ if name.startswith("AZURE_STORAGE_") and "ACCOUNT_NAME" not in name
            )
        )
    ):
        raise ConfigError(
            f"{address.url}: driver fsspec would send {mixed[0]} of the environment where conf/local/ "
            "says; unset it, or leave out the driver"
        )
    if address.protocol == "s3":
        inner = {k: v for k, v in (given.pop("client_kwargs", None) or {}).items() if k not in ("verify", *_ENDPOINTS)}
        given = {k: v for k, v in given.items() if k not in _ENDPOINTS}
        given |= {"endpoint_url": endpoint} if endpoint else {}
        given["client_kwargs"] = inner | ({"verify": trusted.path} if trusted.named_by else {})
    elif trusted.named_by:
        os.environ.setdefault("SSL_CERT_FILE", trusted.path)  # all that their libraries know
    return given


def client_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """HTTP options and how requests are retried: with back-off and jitter, two minutes at most."""
    from pipeline.base.version import __version__

    # A whole file may take its time on a slow line, but a store must not fall silent.
    client: dict[str, Any] = {
        "connect_timeout": "10s",
        "read_timeout": "30s",
        "timeout": "600s",
        "user_agent": f"coco-diy/{__version__}",
    }
    client |= options.get("client_options") or {}
    # Each wait is drawn between the first and `base` times the last. With 2 they hardly grow: nine tries take 2 s, and
    # three times nine 8 (medians). With 3 that is 7 and 32 s, so that a store which starts anew is waited for.
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 3}
    retry: dict[str, Any] = {"max_retries": 9, "retry_timeout": timedelta(seconds=120), "backoff": backoff}
    return client, retry | (options.get("retry_config") or {})


def endpoint_host(address: Address, options: dict[str, Any]) -> str | None:
    """The host that requests will go to, as far as it is known before the first."""
    profile = aws_profile(address.protocol, options)
    return host_of(address, options, endpoint_of(address.protocol, options, profile), _region(options, profile))


def _region(options: dict[str, Any], profile: dict[str, str]) -> str | None:
    inner = options.get("client_kwargs") or {}
    found = [
        options.get("region"),
        options.get("region_name"),
        inner.get("region_name"),
        os.environ.get("AWS_REGION"),
        os.environ.get("AWS_DEFAULT_REGION"),
        profile.get("region"),
    ]
    return next((str(region) for region in found if region), None)


def _renamed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(k, k): v for k, v in options.items() if v is not None}


def _s3(options: dict[str, Any], profile: dict[str, str], endpoint: str) -> dict[str, Any]:
    flat = {k: v for k, v in options.items() if k not in ("client_kwargs", "config_kwargs", "profile")}
    inner = {k: v for k, v in (options.get("client_kwargs") or {}).items() if k not in ("verify", *_ENDPOINTS)}
    keys = _renamed({**inner, **flat}, _S3)
    style = (options.get("config_kwargs") or {}).get("s3", {}).get("addressing_style")
    if style == "virtual":
        keys["virtual_hosted_style_request"] = True
    if region := _region(options, profile):
        keys["region"] = region
    if not endpoint and any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
        endpoint = f"https://s3.{region or 'us-east-1'}.amazonaws.com"  # those are to be ignored
    if endpoint:
        keys["endpoint"] = endpoint
        if os.environ.get("AWS_ENDPOINT_URL_S3"):
            keys["aws_endpoint_url_s3"] = endpoint
    if not {"access_key_id", "skip_signature", "credential_provider"} & keys.keys() and not (
        os.environ.get("AWS_ACCESS_KEY_ID") and not options.get("profile")
    ):
        keys |= _aws_keys(profile, options.get("profile") or os.environ.get("AWS_PROFILE"))
    if "access_key_id" in keys:
        keys["credential_provider"] = _fixed(
            access_key_id=keys.pop("access_key_id"),
            token=keys.pop("session_token", None),
            secret_access_key=keys.pop("secret_access_key", ""),
        )
    return keys


def _fixed(**credential: Any) -> Callable[[], dict[str, Any]]:
    """A provider of one credential that does not change."""
    return lambda: {**credential, "expires_at": None}


def _aws_keys(found: dict[str, str], profile: str | None) -> dict[str, Any]:
    """Credentials of a profile: its own keys, or what boto3 makes of it (single sign-on, roles, a process)."""
    if "aws_access_key_id" in found:
        return {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found.get("aws_secret_access_key", ""),
            **({"session_token": found["aws_session_token"]} if "aws_session_token" in found else {}),
        }
    if not found.keys() & {"sso_session", "sso_start_url", "role_arn", "credential_process"}:
        return {}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise ConfigError(
            f"profile {profile or 'default'} of AWS: signs on by {', '.join(sorted(found))}, which needs "
            "the package boto3; install it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    return {"credential_provider": Boto3CredentialProvider(boto3.Session(profile_name=profile))}


def aws_profile(protocol: str, options: dict[str, Any]) -> dict[str, str]:
    """What ~/.aws/credentials and ~/.aws/config (or the files that the environment names) say of a profile.

    The endpoint of S3 in its section of services, where it has one, counts as its own. Empty for other protocols.
    """
    if protocol != "s3":
        return {}
    name = options.get("profile") or os.environ.get("AWS_PROFILE") or "default"
    home = Path.home() / ".aws"
    found: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", home / "config", f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", home / "credentials", name),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.environ.get(variable) or default, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for wanted in (name if name == "default" else section, section):
            if parser.has_section(wanted):
                found |= {key: value.strip('"') for key, value in parser.items(wanted)}
        services = f"services {found.get('services')}"
        if parser.has_section(services):
            nested = re.search(r"\n\s*endpoint_url\s*=\s*(\S+)", parser.get(services, "s3", fallback=""))
            found |= {"endpoint_url": nested[1]} if nested else {}
    return found


def _gs(options: dict[str, Any], _profile: dict[str, str], endpoint: str) -> dict[str, Any]:
    token = options.get("token")
    keys = {k: v for k, v in options.items() if k != "token" and v is not None}
    if endpoint:
        keys["base_url"] = endpoint
    if token == "anon" or options.get("anon"):
        keys.pop("anon", None)
        # `skip_signature` asks Google's metadata server for a token before every upload all the same.
        keys["service_account_key"] = json.dumps(
            {
                "client_email": "",
                "private_key": "",
                "private_key_id": "",
                "disable_oauth": True,
                "gcs_base_url": keys.pop("base_url", "https://storage.googleapis.com"),
            }
        )
    elif isinstance(token, dict):
        keys["service_account_key"] = json.dumps(token)
    elif isinstance(token, str) and token not in ("google_default", "cloud", "cache", "browser"):
        keys["application_credentials"] = os.path.expanduser(token)
    return keys


def _az(options: dict[str, Any], _profile: dict[str, str], endpoint: str) -> dict[str, Any]:
    keys = _renamed({k: v for k, v in options.items() if k != "connection_string"}, _AZ)
    text = options.get("connection_string") or (
        None if brings_credentials("az", options) else os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    )
    names = {"AccountName": "account_name", "AccountKey": "account_key", "SharedAccessSignature": "sas_key"}
    if not {"account_key", "sas_key", "client_secret", "credential_provider"} & keys.keys():
        keys |= {names[k]: v for k, v in connection_string(text).items() if k in names}
    if endpoint:
        keys["endpoint"] = endpoint
    if "account_key" in keys:
        keys["credential_provider"] = _fixed(access_key=keys.pop("account_key"))
    elif "sas_key" in keys:
        keys["credential_provider"] = _fixed(sas_token=str(keys.pop("sas_key")).lstrip("?"))
    return keys
