"""`python -m pipeline` and the command `coco-diy`."""

from __future__ import annotations

import gc
import os
import signal
import sys

from pipeline.runtime.interrupt import STOPPED, stop_bounded


def _stop_early(_number: int, _frame: object) -> None:
    # Nothing was begun: whoever imports modules now is not to be told of it by a traceback.
    _stop_now()


def _stop_now() -> None:
    sys.stderr.write(f"coco-diy: {STOPPED}\n")
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Run the command line and exit with its code."""
    # A short-lived process: collecting garbage amid imports and listings costs more than it frees.
    gc.set_threshold(100_000, 50, 50)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_early)
    from pipeline.cli import run_cli

    with stop_bounded(_stop_now):
        code = run_cli()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 1
    # All files are closed and helpers have ended; taking the interpreter apart would cost another 0.1 s.
    os._exit(code)


if __name__ == "__main__":
    main()
