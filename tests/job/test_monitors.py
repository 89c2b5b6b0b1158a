"""Pings of a monitor: a real web server that notes what comes; its URL is a secret, and its faults are warnings."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSubset, Subset
from tests.job.test_run_records import stopped
from tests.support.helpers import run_process
from tests.support.web import Silent, serving

SECRET = "a3c5e5c2-geheim"


@dataclass
class Monitor:
    """What came, path and document; the answers that are still to be given (status), 200 after those."""

    url: str = ""
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.came]


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with monitored() as found:
        yield found


@contextlib.contextmanager
def monitored() -> Iterator[Monitor]:
    """A monitor that listens on this machine."""
    monitor = Monitor()

    class Handler(Silent, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            monitor.came.append((self.path.removeprefix(f"/{SECRET}/"), json.loads(body)))
            self.send_response(monitor.answers.pop(0) if monitor.answers else 200)
            self.end_headers()

    with serving(Handler) as port:
        monitor.url = f"http://127.0.0.1:{port}/{SECRET}"
        yield monitor


def test_begin_and_end_of_each_run(own_subset: Subset, monitor: Monitor) -> None:
    told = own_subset.build("--ping", monitor.url)
    (_, start), (_, record) = monitor.came
    assert start["run"]["id"] == record["run"]["id"] == told["run"]["id"]
    assert (record["report"]["status"], record["exit_code"]) == ("built", 0)
    own_subset.command("build", "--ping", f"{monitor.url}/", "--set", "classes=[cra]", code=2)
    own_subset.run("build", own_subset.config.parent / "none.yaml", "--ping", monitor.url, code=2)
    own_subset.command("build", "--ping", monitor.url, "--unchanged-exit", "9", code=9)
    (own_subset.target / "labels/train/a.txt").unlink()
    own_subset.command("verify", "--ping", f"{monitor.url}?rid=1", code=1)
    assert monitor.paths == ["start", "0", "start", "2", "start", "2", "start", "0", "start?rid=1", "1?rid=1"]
    assert monitor.came[5][1]["reason"] == "config"


@pytest.mark.slow
def test_the_url_is_nowhere(subset: Subset, monitor: Monitor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monitor.answers += [500, 404, 403] * 2
    log = tmp_path / "log"
    told = run_process("build", subset.config, "-v", "--json", "--ping", monitor.url, "--log-file", log)
    assert told.code == 0
    assert told.err.count("--ping: the monitor has no word of the begin of this run: its server says 403") == 1
    assert told.err.count("; try 3 of 3") == 2
    monkeypatch.setenv("COCO_DIY_PING", monitor.url)
    assert run_process("build", subset.config).code == 0
    assert monitor.paths[-2:] == ["start", "0"]
    left = b"".join(p.read_bytes() for root in (subset.target, subset.workdir) for p in root.rglob("*") if p.is_file())
    for text in (told.out, told.err, log.read_text(), left.decode(errors="replace")):
        assert SECRET not in text


@pytest.mark.parametrize(
    "url",
    [
        f"{start}/{SECRET}"
        for start in ("hc-ping.com", "ftp://x", "http://", "https://x y", "http://[", "https://ü.example")
    ],
)
def test_what_is_no_url_is_not_shown(subset: Subset, url: str) -> None:
    told = subset.command("build", "--ping", url, code=2)
    assert "--ping: must be a URL of a web server" in told.err
    assert "geheim" not in told.err + told.out
    assert not subset.target.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"http://127.0.0.1:9/{SECRET}", "no server answers there"),
        (f"http://no-such-host.invalid/{SECRET}", "the name of its server is not known"),
    ],
)
def test_a_monitor_that_is_away_is_a_warning(subset: Subset, url: str, why: str) -> None:
    subset.build()
    told = subset.command("build", "--ping", url)
    assert told.err.count("\n") == 2
    assert told.err.count(why) == 2
    assert "geheim" not in told.err
    assert "invalid" not in told.err


@pytest.mark.slow
def test_a_stop_is_pinged(crowd: Path, make_subset: MakeSubset, monitor: Monitor) -> None:
    subset = make_subset(crowd)
    words = ["build", str(subset.config), "--scheduler", "sync", "--set", "index.buckets=64", "--ping", monitor.url]
    code, _, _ = stopped(words, (subset.target / ".coco-diy/intent.json").exists, signal.SIGTERM)
    assert (code, monitor.paths) == (143, ["start", "143"])
    assert monitor.came[1][1]["error"]["reason"] == "stopped"
