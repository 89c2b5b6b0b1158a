"""No login and no signature of a URL is left in what becomes text, and nothing else is lost."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import is_signed, redact, redact_data, redact_url

SECRET = "geheim4711"
SIGNED = [
    f"https://me:{SECRET}@host/data/a.zip",
    f"https://{SECRET}@host/data/a.zip",
    f"HTTPS://me:p/{SECRET}@host:8443/data/a.zip",
    f"https://me:1@{SECRET}@host/a.zip",
    f"https://me:%40{SECRET}@[::1]:80/a.zip",
    f"https://me:{SECRET}",
    f"https://acct.blob.core.windows.net/c/a.zip?sv=2024-01-01&sr=c&sig={SECRET}%3D",
    f"https://b.s3.amazonaws.com/a.zip?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}",
    f"https://storage.googleapis.com/b/a.zip?X-Goog-Signature={SECRET}",
    f"https://app.example/ds/x?key={SECRET}",
    f"https://host/a.zip?{SECRET}",
    f"https://host?token={SECRET}",
    f"https://host/a.zip#access_token={SECRET}",
    f"https://host/a.zip;x=1?a=/b/c@d&t={SECRET}",
    f"s3://KEY:{SECRET}@bucket/folder",
    f"s3://bucket/a.zip?X-Amz-Signature={SECRET}",
    f"az://container/a?sv=1&sig={SECRET}",
    f"sftp://me:{SECRET}@host/folder",
    f"ftp://{SECRET}@host/folder",
    f"smb://domain;me:{SECRET}@host/folder",
    f"zip://train2017::https://me:{SECRET}@host/a.zip",
    f"zip://train 2017::https://host/a.zip?sig={SECRET}",
    f"https://archive.example/web/https://me:{SECRET}@host/a.zip",
    f"https://host/x?next=https://other/y&t={SECRET}",
    f"tls://me:{SECRET}@scheduler:8786",
]
PLAIN = [
    "https://host/data/a.zip",
    "http://[::1]:8080/a%20b/c@2x.png",
    "http://host:80/a:b/c",
    "s3://bucket/what?.txt",
    "s3://bucket/a #1.txt",
    "sftp://me@host/folder",
    "abfs://container@account.dfs.core.windows.net/x",
    "zip://train 2017::/data/a.zip",
    "zip://a::https://host/a.zip",
    "/data/a=b?c=d.txt",
    "C:\\data",
    "memory://x",
    "tcp://127.0.0.1:8786",
    "",
]


@pytest.mark.parametrize("url", SIGNED)
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{}: is not there",
        "'{}' (see {}); try again",
        "[{}, x]",
        "a {}, or {}.",
        "--set fetch.mirror={}",
        "--set {}={}",
        '{{"url": "{}"}}',
    ],
)
def test_what_signs_a_url_is_in_no_text(url: str, text: str) -> None:
    assert SECRET not in redact_url(url)
    assert SECRET not in redact(text.format(url, url))
    assert SECRET not in str(ConfigError(text.format(url, url)))
    assert SECRET not in str(redact_data({"fetch": {"archives": [{"url": url, "size": 1, "md5": None}]}}))


@pytest.mark.parametrize("key", ["aws_secret_access_key", "s3.secret", "az.account_key", "sas_token", "SESSION_TOKEN"])
def test_an_option_that_is_no_key_of_a_config_is_not_quoted(key: str) -> None:
    assert str(ConfigError(f"--set {key}={SECRET}: unknown key")) == f"--set {key}=*** unknown key"


@pytest.mark.parametrize("url", PLAIN)
def test_other_urls_and_paths_stay(url: str) -> None:
    assert redact_url(url) == url
    assert redact(f"{url}: is not there; run again.") == f"{url}: is not there; run again."
    assert not is_signed(url)


def test_names_of_classes_that_are_urls_stay_apart_in_messages() -> None:
    assert str(ConfigError("unknown class 'http://onto.example/x#Dog'")) == "unknown class 'http://onto.example/x#Dog'"


_PART = st.text(string.ascii_letters + string.digits + "-_.~%!$&*+,;=", min_size=1, max_size=12)


@given(
    scheme=st.sampled_from(["http", "https", "ftp", "s3", "gs", "az", "sftp", "smb", "webdav", "hdfs"]),
    user=_PART,
    password=st.text(string.printable.translate({ord(c): None for c in string.whitespace + "/?#\0"}), max_size=8),
    host=st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5})?(:[0-9]{1,5})?", fullmatch=True),
    path=_PART,
)
@example(scheme="https", user="me", password="80", host="h", path="x")
def test_no_password_passes(scheme: str, user: str, password: str, host: str, path: str) -> None:
    url = f"{scheme}://{user}:{SECRET}{password}@{host}/{path}"
    assert SECRET not in redact_url(url)
    assert SECRET not in redact(f"the mirror {url}: cannot be read")
    assert is_signed(url)
    assert host in redact_url(url)


@given(st.text(max_size=60))
def test_it_takes_any_text(text: str) -> None:
    for url in (text, f"https://{text}", f"zip://{text}::s3://{text}"):
        assert redact_url(redact_url(url)) == redact_url(url)
        redact(url)
        is_signed(url)
