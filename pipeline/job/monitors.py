"""Who watches runs from outside: a monitor that is pinged, and a file of metrics. Both are observers of a run.

What goes wrong there is a warning: a build is not to fail because nobody watches it.
"""

from __future__ import annotations

import json
import os
import time

from pipeline import storage
from pipeline.base.errors import CocoDiyError, UsageError
from pipeline.job.metrics import METRIC, metrics_text
from pipeline.job.run_records import SUCCESS
from pipeline.runtime.interrupt import STOP
from pipeline.runtime.log import LOG
from pipeline.runtime.run import Run
from pipeline.storage.web.post import is_web_url, post

#: So often a ping is tried, for so long (s) each time, with such a wait between; a run that was stopped is brief.
_TRIES, _SECONDS, _WAIT, _BRIEF_SECONDS = 3, 10.0, 0.5, 2.0


class Ping:
    """Pings the monitor at `url`: ``/start``, then ``/<exit code>``, each with a POST whose body is what is known.

    Form: https://healthchecks.io/docs/http_api/. The URL is a secret: whoever has it can say that all is well.
    Raises `UsageError`, which does not name it, where it is no URL.
    """

    def __init__(self, url: str) -> None:
        if not is_web_url(url):
            raise UsageError("--ping: must be a URL of a web server, as a monitor gives it: https://…")
        self._url = url.rstrip("/")

    def begins(self, run: Run) -> None:
        """Ping ``/start``."""
        self._send("start", run)

    def ends(self, run: Run) -> None:
        """Ping the exit code; the body is the run record or, of other commands, their document."""
        self._send(str(run.code), run)

    def _send(self, what: str, run: Run) -> None:
        url, question, query = self._url.partition("?")
        body = json.dumps({"run": run.facts(), **run.outcome}).encode()
        tries, seconds = (1, _BRIEF_SECONDS) if STOP.is_set() else (_TRIES, _SECONDS)
        for number in range(tries):
            try:
                why = post(f"{url}/{what}{question}{query}", body, seconds)
            except CocoDiyError as error:  # of certificates
                why = str(error)
            if why is None:
                return
            if number + 1 < tries:
                LOG.info("--ping: %s; try %d of %d", why, number + 2, tries)
                time.sleep(_WAIT)
        event = "the begin" if what == "start" else "the end"
        LOG.warning("--ping: the monitor has no word of %s of this run: %s", event, why)


class MetricsFile:
    """Writes metrics to the file `path`, in one step, for the collector `textfile` of Prometheus' node_exporter."""

    def __init__(self, path: str) -> None:
        if not path.endswith(".prom"):
            raise UsageError(f"--metrics {path}: must end in .prom; the collector reads no other file")
        self._path = storage.output_path("--metrics", path, METRIC)

    def begins(self, run: Run) -> None:
        """Note where they will be: a run that is under way has none."""
        run.outputs["--metrics"] = self._path

    def ends(self, run: Run) -> None:
        """Write them, unless that was refused."""
        if self._path not in run.outputs.values():
            return
        folder, name = os.path.split(self._path)
        report = run.outcome.get("report", run.outcome) if run.code in SUCCESS else None
        facts = run.facts()
        try:
            location = storage.locate_writable(folder)
            before = (location.read(name) or b"").decode(errors="replace")
            ended, code = run.began + facts["seconds"], run.code or 0
            text = metrics_text(run.target, code, report, ended=ended, seconds=facts["seconds"], before=before)
            location.write(name, text.encode())
        except CocoDiyError as error:
            LOG.warning("--metrics: %s", error)
