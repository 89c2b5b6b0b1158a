"""Whose certificates are believed: one file of authorities for web servers and stores, wherever it is named."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import CocoDiyError, ConfigError, StorageError
from pipeline.storage import Limits, Transfer, Web
from pipeline.storage.certificates import VARIABLES, certificates
from pipeline.storage.stores import connect
from tests.support import stores
from tests.support.helpers import PROJECT, write_file
from tests.support.web import Faults, faulty, free_port

FILES = VARIABLES[:-1]


@dataclass
class Company:
    """An authority of its own, and servers with its certificates: a store, and the same files by https."""

    authority: Path
    store: str
    web: str


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("tls")
    stores.openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "3",
        "-subj",
        "/CN=Example Root",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    )
    request = ("-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=store")
    stores.openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", *request)
    write_file(folder / "ext", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth")
    stores.openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "s.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "s.pem",
        "-days",
        "3",
        "-extfile",
        "ext",
    )
    server = stores.s3(folder)
    write_file(folder / "data/bucket/x.txt", "it came")
    secure = ["--cert", str(folder / "s.pem"), "--key", str(folder / "s.key")]
    server.command[-1:-1] = secure
    port = free_port()
    web = stores.Server(
        "http",
        port,
        [
            stores.tool("rclone"),
            "--config",
            os.devnull,
            "serve",
            "http",
            "--addr",
            f"127.0.0.1:{port}",
            *secure,
            str(folder / "data"),
        ],
        folder,
    )
    with stores.running(server), stores.running(web):
        yield Company(folder / "ca.pem", f"https://127.0.0.1:{server.port}", f"https://127.0.0.1:{port}/bucket/x.txt")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name in VARIABLES or name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
    monkeypatch.setattr(connect, "_CLIENTS", {})


def set_options(company: Company, tmp_path: Path, **more: object) -> None:
    """Write the options of the store where they are read."""
    given = {"key": stores.KEY, "secret": stores.SECRET, "endpoint_url": company.store, **more}
    write_file(tmp_path / "options/it.yaml", yaml.safe_dump({"s3": given}))


def read_store(company: Company, tmp_path: Path, **more: object) -> bytes | None:
    """The file at the store."""
    set_options(company, tmp_path, **more, retry_config={"max_retries": 0})
    return storage.locate("s3://bucket").read("x.txt")


def read_by_s3fs(company: Company, tmp_path: Path, **more: object) -> bytes:
    """The file at the store, by a process that has s3fs, which needs other versions of libraries than we have."""
    if not (found := stores.TOOLS / "s3fs").is_dir():
        stores.lacking("there is no s3fs; `make servers` installs it")
    set_options(company, tmp_path, **more)
    code = (
        "import sys; from pipeline import storage; sys.stdout.buffer.write(storage.locate('s3://bucket').read('x.txt'))"
    )
    env = {**os.environ, "PYTHONPATH": f"{found}:{PROJECT}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def read_web(company: Company) -> bytes:
    """The file at the web server; raises what was the matter."""
    (done,) = Web(Limits()).run([Transfer(company.web)])
    if done.reason:
        raise StorageError(done.reason)
    return bytes(done.body)


def readers(company: Company, tmp_path: Path) -> list[Callable[[], bytes | None]]:
    """Both ways to read the file."""
    return [lambda: read_web(company), lambda: read_store(company, tmp_path)]


@pytest.mark.slow
def test_nobody_is_believed_whom_nobody_names(company: Company, tmp_path: Path) -> None:
    for read in readers(company, tmp_path):
        with pytest.raises(CocoDiyError, match=r"certificate .*is not trusted; set SSL_CERT_FILE to the file of"):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("variable", FILES)
def test_every_variable_is_obeyed_by_all_clients(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(company.authority))
    assert read_web(company) == read_store(company, tmp_path) == b"it came"


def test_a_folder_of_certificates(company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "certs/ours.pem", company.authority.read_bytes())
    stores.openssl(tmp_path, "rehash", "certs")
    for variable in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as inner:
            inner.setenv(variable, str(tmp_path / "certs"))
            assert read_web(company) == read_store(company, tmp_path) == b"it came"


@pytest.mark.parametrize("driver", ["obstore", pytest.param("fsspec", marks=pytest.mark.servers)])
@pytest.mark.parametrize("where", ["client_kwargs", "verify", "ca_bundle", "AWS_CA_BUNDLE"])
def test_what_boto3_and_s3fs_know_is_obeyed(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, driver: str
) -> None:
    verify = {"verify": str(company.authority)}
    ways: dict[str, dict[str, object]] = {"verify": {**verify}, "client_kwargs": {"client_kwargs": verify}}
    more = ways.get(where, {})
    if where == "ca_bundle":
        write_file(tmp_path / "home/.aws/config", f"[default]\nca_bundle = {company.authority}\n")
    elif where == "AWS_CA_BUNDLE":
        monkeypatch.setenv(where, str(company.authority))
    if driver == "fsspec":
        more = {**more, "driver": "fsspec", "config_kwargs": {"response_checksum_validation": "when_required"}}
        assert read_by_s3fs(company, tmp_path, **more) == b"it came"
    else:
        assert read_store(company, tmp_path, **more) == b"it came"


@pytest.mark.parametrize("variable", FILES)
def test_a_file_that_is_of_no_use_is_told_by_who_names_it(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for path, told in ((tmp_path / "none.pem", "cannot be read"), (write_file(tmp_path / "x", "no"), "no certificate")):
        monkeypatch.setenv(variable, str(path))
        for read in readers(company, tmp_path):
            with pytest.raises(ConfigError, match=rf"{path}: .*{told}.*") as caught:
                read()
            assert variable in str(caught.value)


def test_nobody_on_the_way_takes_the_s_off_https(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(company.authority.with_name("s.pem"), company.authority.with_name("s.key"))
    plain = Faults({"/x.txt": b"by http"})
    with faulty(plain) as url, faulty(Faults(answers=[(302, {"Location": f"{url}/x.txt"})]), context) as secure:
        (done,) = Web(Limits()).run([Transfer(f"{secure}/x.txt")])
    assert "from https only https is followed" in str(done.reason)
    assert plain.asked == []


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_redirect_takes_no_session_token_to_whom_nobody_vouches_for(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    """Neither by http:// nor with a certificate of one's own, on the same host, whatever the options allow."""
    monkeypatch.setenv("SSL_CERT_FILE", str(company.authority))
    words = "req -x509 -newkey rsa:2048 -nodes -keyout o.key -out o.pem -subj /CN=o -addext subjectAltName=IP:127.0.0.1"
    stores.openssl(tmp_path, *words.split())
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    contexts[0].load_cert_chain(company.authority.with_name("s.pem"), company.authority.with_name("s.key"))
    contexts[1].load_cert_chain(tmp_path / "o.pem", tmp_path / "o.key")
    other = Faults({"/bucket/x.txt": b"by another"})
    with faulty(other, contexts[1] if encrypted else None) as url:
        asked = Faults(answers=[(307, {"Location": f"{url}/bucket/x.txt"})])
        with faulty(asked, contexts[0]) as secure, pytest.raises(StorageError):
            read_store(company, tmp_path, endpoint_url=secure, token="T", client_options={"allow_http": True})
    assert "T" in asked.headers[0].values()
    assert other.asked == []


def test_certificates_are_always_checked(company: Company, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="verify: false is refused"):
        read_store(company, tmp_path, client_kwargs={"verify": False})


def test_without_a_name_the_systems_are_believed() -> None:
    found = certificates()
    assert b"-----BEGIN CERTIFICATE-----" in found.pem()
    assert found.named_by in ("", "certifi")
