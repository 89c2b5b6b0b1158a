"""What befalls a worker of the tests, at the very call that COCO_DIY_TEST_HOOK names: ``EVENT TEXT ACTION N``.

The event is one of Python's audit events; the N-th (and, for `fail` and `slow`, each later) of which an argument has
the text meets the action: `die` (as by SIGKILL), `stop` (SIGSTOP), `fail` (an input/output error), `slow` (0.1 s).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from typing import Any


def _install(event: str, text: str, action: str, after: int) -> None:
    met = [0]

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name != event or not any(text in str(argument) for argument in arguments):
            return
        met[0] += 1
        if action == "slow" and met[0] >= after:
            time.sleep(0.1)
        elif action == "fail" and met[0] >= after:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif met[0] == after and action in ("die", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if action == "die" else signal.SIGSTOP)

    sys.addaudithook(hook)


if (words := os.environ.get("COCO_DIY_TEST_HOOK", "").split(" ")) and len(words) == 4:
    _install(words[0], words[1], words[2], int(words[3]))
