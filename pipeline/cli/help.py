"""The page that `coco-diy --help` prints."""

from __future__ import annotations

EXIT_CODES = """\b
Exit codes:
  0    done, or nothing to do
  1    failed: bad data, files that failed, an internal error
  2    usage or config
  3    done, but rows or files were skipped (on_error: skip)
  4    stopped by the brake: much of the target would be lost
  5    the target or an index is in use by another run
  75   try again later: network, a busy server, no workers
  130  stopped by Ctrl-C (143: by SIGTERM); run again to go on"""
