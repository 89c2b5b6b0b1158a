"""`python -m pipeline` and the command `coco-diy`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from pipeline.cli import run_cli

    sys.exit(run_cli())


if __name__ == "__main__":
    main()
