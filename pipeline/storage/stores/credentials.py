"""How a store of obstore is opened: credentials and endpoints as fsspec's options, the environment and files have them.

The option names are those of s3fs, gcsfs and adlfs; names of obstore's own configuration pass through. Without options
obstore reads the environment (AWS_…, GOOGLE_…, AZURE_…), and Google's own file; the files of AWS are read here.
"""

from __future__ import annotations

import configparser
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.storage.address import Address

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
}

_S3 = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "anon": "skip_signature",
    "requester_pays": "request_payer",
}

_GS = {"endpoint_url": "base_url"}

_AZ = {"anon": "skip_signature", "sas_token": "sas_key"}


def open_store(address: Address, options: dict[str, Any]) -> Any:
    """The obstore store of a bucket or container. Raises `ConfigError` for options that it does not know."""
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    make, config = {"s3": (S3Store, _s3), "gs": (GCSStore, _gs), "az": (AzureStore, _az)}[address.protocol]
    client, retry = client_options(options)
    given = {k: v for k, v in options.items() if k not in _OURS}
    keys = config({k: v for k, v in given.items() if k not in ("client_options", "retry_config")})
    endpoint = str(_endpoint_given(options) or keys.get("endpoint") or _endpoint_of_environment(address.protocol))
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    try:
        bucket, account = bucket_of(address)
        if account:
            keys.setdefault("account_name", account)
        return make(bucket, client_options=client, retry_config=retry, **keys)
    except (BaseError, ValueError, TypeError) as error:
        # What obstore says may quote the options, and with them a secret.
        raise ConfigError(
            f"{address.url}: the options for {address.protocol} in conf/local/ are not understood "
            f"({type(error).__name__}); they are fsspec's: {', '.join(sorted(keys)) or 'none'} were "
            "given"
        ) from None


def bucket_of(address: Address) -> tuple[str, str]:
    """Bucket or container, and the account where it is named: ``abfs://container@account.dfs.core.windows.net``."""
    bucket, _, server = address.host.partition("@")
    return bucket, server.partition(".")[0]


def open_top(address: Address, options: dict[str, Any], store: Any) -> Any:
    """The endpoint of `store` itself as a store, a bucket or container being the first step of a key.

    Only so can a copy cross buckets.
    """
    if address.protocol == "az":
        account = bucket_of(address)[1]
        given = _az(options)
        where, sep, last = str(given.get("endpoint") or _endpoint_of_environment("az")).rstrip("/").rpartition("/")
        if sep and not where.endswith("/"):  # the account is a step of the path, as emulators have it
            return open_store(Address(address.url, "az", last, ""), given | {"endpoint": where})
        return open_store(Address(address.url, "az", f"@{account}" if account else "", ""), options)
    endpoint = store.config.get("endpoint") or f"https://s3.{store.config.get('region') or 'us-east-1'}.amazonaws.com"
    given = {k: v for k, v in options.items() if k not in ("endpoint_url", "endpoint", "config_kwargs")}
    inner = {k: v for k, v in (given.pop("client_kwargs", None) or {}).items() if k != "endpoint_url"}
    given |= {"client_kwargs": inner, "endpoint": endpoint, "virtual_hosted_style_request": True}
    return open_store(Address(address.url, "s3", "", ""), given)


def client_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """HTTP options and how requests are retried: with back-off and jitter, half a minute in all."""
    from pipeline.version import __version__

    # A whole file may take its time on a slow line, but a store must not fall silent.
    client: dict[str, Any] = {
        "connect_timeout": "10s",
        "read_timeout": "30s",
        "timeout": "600s",
        "user_agent": f"coco-diy/{__version__}",
    }
    client |= options.get("client_options") or {}
    backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2}
    retry: dict[str, Any] = {"max_retries": 9, "retry_timeout": timedelta(seconds=120), "backoff": backoff}
    return client, retry | (options.get("retry_config") or {})


def endpoint_host(protocol: str, options: dict[str, Any]) -> str | None:
    """The host that requests will go to, as far as it is known before the first."""
    given = _endpoint_given(options) or _endpoint_of_environment(protocol)
    if not given and protocol == "s3":
        given = _aws_files(options.get("profile")).get("endpoint_url")
    return str(given).partition("://")[2].partition("/")[0].rpartition("@")[2] or None if given else None


def _endpoint_given(options: dict[str, Any]) -> Any:
    inner = options.get("client_kwargs") or {}
    return (
        options.get("endpoint_url") or options.get("endpoint") or options.get("base_url") or inner.get("endpoint_url")
    )


def _endpoint_of_environment(protocol: str) -> str:
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }[protocol]
    return next((os.environ[n] for n in names if os.environ.get(n)), "")


def _renamed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(k, k): v for k, v in options.items() if v is not None}


def _s3(options: dict[str, Any]) -> dict[str, Any]:
    flat = {k: v for k, v in options.items() if k not in ("client_kwargs", "config_kwargs", "profile")}
    inner = dict(options.get("client_kwargs") or {})
    inner.pop("verify", None)
    keys = _renamed({**inner, **flat}, _S3)
    style = (options.get("config_kwargs") or {}).get("s3", {}).get("addressing_style")
    if style == "virtual":
        keys["virtual_hosted_style_request"] = True
    profile = options.get("profile") or os.environ.get("AWS_PROFILE")
    found = _aws_files(profile)
    for name in ("region", "endpoint_url"):
        variable = {
            "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
            "endpoint_url": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
        }[name]
        if name in found and not any(os.environ.get(v) for v in variable):
            keys.setdefault(_S3.get(name, name), found[name])
    if not {"access_key_id", "skip_signature", "credential_provider"} & keys.keys() and not (
        os.environ.get("AWS_ACCESS_KEY_ID") and not options.get("profile")
    ):
        keys |= _aws_keys(found, profile)
    return keys


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


def _aws_files(profile: str | None) -> dict[str, str]:
    """What ~/.aws/credentials and ~/.aws/config (or the files that the environment names) say of a profile."""
    name = profile or os.environ.get("AWS_PROFILE") or "default"
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
    return found


def _gs(options: dict[str, Any]) -> dict[str, Any]:
    token = options.get("token")
    keys = _renamed({k: v for k, v in options.items() if k != "token"}, _GS)
    if "base_url" in keys:
        keys["base_url"] = str(keys["base_url"]).rstrip("/")
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


def _az(options: dict[str, Any]) -> dict[str, Any]:
    text = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    keys = _renamed({k: v for k, v in options.items() if k not in ("connection_string", "account_host")}, _AZ)
    if options.get("account_host"):
        keys.setdefault("endpoint", f"https://{options['account_host']}")
    if text and not {"account_key", "sas_key", "client_secret", "credential_provider"} & keys.keys():
        parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
        names = {
            "AccountName": "account_name",
            "AccountKey": "account_key",
            "BlobEndpoint": "endpoint",
            "SharedAccessSignature": "sas_key",
        }
        keys |= {names[k]: v for k, v in parts.items() if k in names}
    return keys
