"""Requests and credentials go to the endpoint that was named with them, and to no other: watched at the other end."""

from __future__ import annotations

import contextlib
import http.server
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import ConfigError, StorageError
from pipeline.storage.stores import connect
from pipeline.storage.stores.options import options_beside
from tests.conftest import MakeSubset, Run, Subset
from tests.support import stores
from tests.support.helpers import contents, write_file
from tests.support.proxy import Proxy
from tests.support.web import Silent, serving

OURS = {
    "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
    "AWS_SECRET_ACCESS_KEY": "secret-of-environment",
    "AWS_SESSION_TOKEN": "TOKENOFENVIRONMENT",
    "AZURE_STORAGE_SAS_KEY": "sv=2024&sig=SASOFENVIRONMENT",
    "AZURE_STORAGE_TOKEN": "BEAREROFENVIRONMENT",
    "AZURE_STORAGE_ACCOUNT_NAME": "mine",
}
MARKS = ("AKIAENVIRONMENT", "TOKENOFENVIRONMENT", "SASOFENVIRONMENT", "BEAREROFENVIRONMENT")
URLS = {"s3": "s3://bucket/x", "az": "az://container/x", "gs": "gs://bucket/x"}


@dataclass
class Listener:
    """A server that refuses everything, and remembers what it was asked and by whom."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    #: Where requests are sent on to, if anywhere.
    elsewhere: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def heard(self) -> list[str]:
        """The marks of the environment's credentials that came."""
        return [mark for mark in MARKS if any(mark in one for one in self.asked)]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    """A `Listener`, at work."""
    found = Listener()

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.asked.append(f"{self.command} {self.path} {dict(self.headers)}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(307 if found.elsewhere else 403)
            if found.elsewhere:
                self.send_header("Location", found.elsewhere + urlsplit(self.path).path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the base's names

    with serving(Handler) as found.port:
        yield found


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of the user in the environment, and no files of his."""
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "COCO_DIY_LOCAL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(connect, "_CLIENTS", {})  # a process has one environment for all its life, but for tests
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def local(**options: Any) -> None:
    """The options that stand in conf/local/ of the current folder."""
    write_file(Path("conf/local/it.yaml"), yaml.safe_dump(options))


def ask(url: str) -> str:
    """Ask a store for something; what went wrong, as it must."""
    with pytest.raises((ConfigError, StorageError)) as caught:
        storage.locate(url).read("x.txt")
    return str(caught.value)


def leading(listener: Listener) -> list[tuple[str, dict[str, Any]]]:
    """Options that lead requests to the listener, or somewhere else, without credentials of their own."""
    there = listener.url
    return [
        ("s3", {"endpoint_url": there}),
        ("s3", {"endpoint": there}),
        ("s3", {"aws_endpoint": there}),
        ("s3", {"endpoint_url": there, "key": "K"}),
        ("s3", {"endpoint_url": there, "profile": "work"}),
        ("s3", {"client_kwargs": {"endpoint_url": there}}),
        ("s3", {"region": f"127.0.0.1:{there}/#"}),
        ("s3", {"client_options": {"proxy_url": there, "allow_http": True}}),
        ("s3", {"endpoint_url": there, "driver": "fsspec"}),
        ("s3", {"client_kwargs": {"verify": "ca.pem"}}),
        ("s3", {"config_kwargs": {"proxies": {"https": there}}, "driver": "fsspec"}),
        ("s3", {"client_options": {"allow_invalid_certificates": True}}),
        ("az", {"endpoint": f"{there}/acct", "account_name": "acct"}),
        ("az", {"account_name": "another"}),
        ("az", {"account_host": there.removeprefix("http://")}),
        ("az", {"client_id": "x", "endpoint": there}),
        ("az", {"connection_string": f"AccountName=acct;BlobEndpoint={there}/acct"}),
        ("az", {"client_secret": "x", "endpoint": there}),
        ("gs", {"endpoint_url": there}),
        ("gs", {"base_url": there}),
        ("gs", {"token": "key.json", "endpoint_url": there}),
    ]


def test_options_of_the_current_folder_lead_no_credentials_elsewhere(listener: Listener) -> None:
    for protocol, options in leading(listener):
        local(**{protocol: options})
        told = ask(URLS[protocol])
        assert "conf/local sets " in told, options
        assert "credentials of the environment do not go there" in told
        local(**{f"{protocol}://{URLS[protocol].split('/')[2]}": options})  # those of a single bucket
        assert "conf/local sets " in ask(URLS[protocol]), options
    assert listener.asked == []


def test_the_same_options_may_be_where_the_user_says(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    local(s3={"endpoint_url": listener.url})
    monkeypatch.setenv("COCO_DIY_LOCAL", "conf/local")
    assert "no permission" in ask(URLS["s3"])
    assert "AKIAENVIRONMENT" in listener.heard()


def test_the_same_endpoint_in_both_places_is_one(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    local(s3={"endpoint_url": f"{listener.url}/", "in_flight": 4}, az={"account_name": "mine"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", listener.url)
    assert "no permission" in ask(URLS["s3"])
    assert "AKIAENVIRONMENT" in listener.heard()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("s3", {"key": "K", "secret": "S"}),
        ("s3", {"anon": True}),
        ("s3", {"client_kwargs": {"aws_access_key_id": "K", "aws_secret_access_key": "S"}}),
        ("az", {"account_name": "acct", "account_key": "a2V5"}),
        ("az", {"account_name": "acct", "sas_token": "?sig=own"}),
        ("az", {"account_name": "acct", "anon": True}),
        ("gs", {"token": "anon"}),
    ],
)
def test_credentials_of_options_are_not_completed_from_the_environment(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, protocol: str, options: dict[str, Any], named: bool
) -> None:
    local(**{protocol: {"endpoint_url": listener.url, **options}})
    if named:
        monkeypatch.setenv("COCO_DIY_LOCAL", "conf/local")
    ask(URLS[protocol])
    assert listener.asked
    assert listener.heard() == []


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_an_endpoint_of_options_is_not_replaced_by_the_environments(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    local(s3={"endpoint_url": listener.url, "key": "K", "secret": "S"})
    ask(URLS["s3"])
    assert listener.asked


def test_a_config_that_lies_elsewhere_does_not_believe_the_current_folder(
    listener: Listener, tmp_path: Path, make_subset: MakeSubset, town: Path, run: Run
) -> None:
    local(s3={"endpoint_url": listener.url, "key": "K", "secret": "S"})
    subset = make_subset(town, target={"root": URLS["s3"]})
    told = run("build", subset.config, code=2).err
    assert f"conf/local: is not read, for {subset.config} is in another folder" in told
    assert "s3.us-east-1.amazonaws.com" in told  # no name of which this machine knows
    assert listener.asked == []
    assert "COCO_DIY_LOCAL" not in os.environ
    here = write_file(Path("sub/c.yaml"), subset.config.read_bytes())
    assert "is in another folder" not in run("build", here, code=1).err
    assert listener.asked


def test_a_link_to_a_config_does_not_make_the_folder_its_own(tmp_path: Path) -> None:
    local(s3={})
    write_file(tmp_path / "c.yaml", "")
    Path("c.yaml").symlink_to(tmp_path / "c.yaml")
    with options_beside("c.yaml") as told:
        assert told
    with options_beside("conf/x.yaml") as told:
        assert told is None


def test_an_account_of_somebody_else_gets_no_credentials_of_ours() -> None:
    told = ask("abfs://container@somebody.dfs.core.windows.net/x")
    assert "is in the account somebody, and credentials of the environment are those of mine" in told


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("s3", {"key": "K", "secret": "S", "endpoint_url": "http://store.example:9000"}),
        ("s3", {"key": "K", "secret": "S", "endpoint_url": "http://10.0.0.1"}),
        ("s3", {"key": "K", "secret": "S", "endpoint_url": "http://127.0.0.1.store.example"}),
        ("s3", {"key": "K", "secret": "S", "endpoint_url": "http://store.example", "driver": "fsspec"}),
        ("s3", {"key": "K", "secret": "S", "use_ssl": False, "driver": "fsspec"}),
        ("az", {"account_name": "a", "account_key": "a2V5", "endpoint": "http://store.example/a"}),
        ("az", {"connection_string": "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://store.example/a"}),
        ("gs", {"token": {"client_email": "x"}, "endpoint_url": "http://store.example"}),
    ],
)
def test_credentials_do_not_go_unencrypted_over_a_network(protocol: str, options: dict[str, Any]) -> None:
    local(**{protocol: options})
    assert "by http://, readable on the way; use https://" in ask(URLS[protocol])


def test_an_endpoint_of_the_environment_is_not_asked_unencrypted_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example:9000")
    assert "by http://, readable on the way" in ask(URLS["s3"])
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert "the name of the server, store.example, cannot be found" in ask(URLS["s3"])


@pytest.mark.parametrize(
    ("protocol", "host"), [("s3", "s3.eu-central-1.amazonaws.com"), ("az", "mine.blob.core.windows.net")]
)
def test_a_name_that_is_not_known_is_told(protocol: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert f"the name of the server, {host}, cannot be found" in ask(URLS[protocol])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("more", [{}, {"sse_customer_key_base64": "S0VZT0ZFTkNSWVBUSU9O"}])
def test_a_redirect_takes_no_credentials_elsewhere(listener: Listener, more: dict[str, Any], host: str) -> None:
    """Neither a session token, which is no Authorization to an HTTP client, nor what encrypts; to no other port too."""
    given = {"key": "K", "secret": "S", "token": "TOKENOFENVIRONMENT", "endpoint_url": listener.url}
    local(s3=given | {"retry_config": {"max_retries": 0}, **more})
    with listening() as other:
        listener.elsewhere = f"http://{host}:{other.port}"
        told = ask("s3://bucket/x")
        assert "TOKENOFENVIRONMENT" in str(listener.asked)
        assert other.asked == []
    assert "the server redirects elsewhere, and credentials do not go there; correct the endpoint" in told


def test_a_redirect_of_a_store_without_credentials_is_followed(listener: Listener) -> None:
    local(s3={"anon": True, "endpoint_url": listener.url})
    with listening() as other:
        listener.elsewhere = f"http://localhost:{other.port}"
        ask("s3://bucket/x")
        assert other.asked


def test_what_the_environment_says_wrongly_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": "PRIVATEKEYOFENVIRONMENT"}')
    told = ask(URLS["gs"])
    assert "what the environment says of gs is not understood; correct or unset GOOGLE_SERVICE_ACCOUNT_KEY" in told
    assert "PRIVATEKEYOFENVIRONMENT" not in told
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    assert "names no account; set account_name for az in conf/local/, or AZURE_STORAGE_ACCOUNT_NAME" in ask(URLS["az"])


# --- one endpoint for all clients -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Server]:
    with stores.running(stores.s3(tmp_path_factory.mktemp("s3"), "bucket", "other")) as found:
        yield found


def named(how: str, url: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Name the endpoint in one of the ways that AWS's own tools know, and none other."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET)
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    if how.startswith("AWS_"):
        monkeypatch.setenv(how, url)
        if how == "AWS_ENDPOINT_URL_S3":  # the general one is for other services then
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        return
    monkeypatch.setenv("AWS_PROFILE", "work")
    lines = {"profile": f"endpoint_url = {url}", "services": "services = mine"}[how]
    write_file(home / ".aws/config", f"[profile work]\n{lines}\n[services mine]\ns3 =\n  endpoint_url = {url}\n")


@pytest.mark.parametrize("how", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "profile", "services"])
def test_every_request_goes_to_the_endpoint_that_is_named(
    how: str, server: stores.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, town: Path, subset: Subset
) -> None:
    proxy = Proxy(server.port)
    try:
        named(how, f"http://127.0.0.1:{proxy.port}", monkeypatch, tmp_path / "home")
        for bucket in ("bucket", "other"):
            stores.empty(server, bucket)
        source = storage.locate_writable("s3://other/town")
        files = {str(p.relative_to(town)): p.read_bytes() for p in town.rglob("*") if p.is_file()}
        source.write_many(list(files), list(files.values())).must(source)
        subset.build()
        proxy.reset()
        subset.build("--set", "source.root=s3://other/town", "--set", "target.root=s3://bucket/subset")
        images = len(contents(subset.target / "images"))
        copies = [r for r in proxy.requests if r.method == "PUT" and r.path.startswith("/bucket/subset/images/")]
        assert sum(r.sent for r in copies) == 0  # copied by the store, between its buckets
        assert [r.status for r in copies].count(200) == images  # rclone says 500 now and then, and is asked again
    finally:
        proxy.close()
    built = {k: v for k, v in contents(server.folder / "data/bucket/subset").items() if k != "DATASET.md"}
    assert built == contents(subset.target)
