"""Commands of the user's that a build runs when it begins and ends: `hooks` of the config.

What they do is theirs: one that fails, or takes too long, is a warning, and the build's exit code stays what it is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from pipeline.config.model import Hooks
from pipeline.job.run_records import SUCCESS
from pipeline.runtime.log import LOG
from pipeline.runtime.run import Run

#: How long a hook may take (s); then it is ended, with what it has started.
SECONDS = 60.0


class HookRunner:
    """Runs the `hooks` of a config; an `Observer` of its build."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def begins(self, run: Run) -> None:
        """Run ``hooks.start``."""
        _call("start", self._hooks.start, run)

    def ends(self, run: Run) -> None:
        """Run ``hooks.success`` or ``hooks.failure``, and ``hooks.changed`` after a success that changed the target."""
        if run.code not in SUCCESS:
            _call("failure", self._hooks.failure, run)
            return
        _call("success", self._hooks.success, run)
        if run.status == "built":
            _call("changed", self._hooks.changed, run)


def _call(name: str, command: Sequence[str] | None, run: Run) -> None:
    """Run `command`, without a shell; what it prints goes to stderr, for stdout is the result's."""
    if not command:
        return
    import subprocess

    facts = {
        "STATUS": run.status if run.code is not None else "started",
        "RUN_ID": run.id,
        "EXIT_CODE": "" if run.code is None else str(run.code),
        "CONFIG": run.config,
        "TARGET": run.target,
        "RECORD": run.record,
    }
    env = os.environ | {f"COCO_DIY_{key}": value for key, value in facts.items()}
    program = os.path.basename(command[0])  # arguments may hold a secret
    try:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
    except (OSError, ValueError) as error:
        LOG.warning("hooks.%s: %s cannot be run (%s)", name, program, getattr(error, "strerror", None) or error)
        return
    try:
        code = process.wait(SECONDS)
    except BaseException as error:  # also a stop: it is not waited for then
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        LOG.warning("hooks.%s: %s took more than %.0f s and was ended", name, program, SECONDS)
        return
    if code:
        LOG.warning("hooks.%s: %s ended with exit code %d; the run itself is not affected", name, program, code)
