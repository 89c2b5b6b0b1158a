"""`python -m pipeline` and the command `coco-diy`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # A short-lived process: collecting garbage amid imports and listings costs more than it frees.
    gc.set_threshold(100_000, 50, 50)
    from pipeline.cli import run_cli

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
