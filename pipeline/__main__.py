"""`python -m pipeline` and the command `coco-diy`."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys

from pipeline.runtime.interrupt import STOP, STOPPED, STOPPING, exit_code, note_signal, on_stop, stop_bounded


def _stop_early(number: int, _frame: object) -> None:
    # Nothing was begun: whoever imports modules now is not to print a traceback.
    note_signal(number)
    _stop_now()


def _stop_now() -> None:
    sys.stderr.write(f"coco-diy: {STOPPED}\n")
    sys.stderr.flush()
    os._exit(exit_code())


def _speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where the locale is another: names on the disk would not be those in files."""
    if sys.getfilesystemencoding() != "utf-8" and "PYTHONUTF8" not in os.environ:
        os.environ["PYTHONUTF8"] = "1"  # of helpers, too
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _choose_pool() -> None:
    """Let Arrow take its memory from the C library where that is glibc, here and in helpers, unless the user chose.

    mimalloc, which it takes otherwise, keeps more of what is freed: an index of 117,266 label files has its peak at
    257 MB with it and at 201 without, in as much time (medians of three, November 2026).
    """
    with contextlib.suppress(OSError, ValueError):  # there is no such name elsewhere
        if os.confstr("CS_GNU_LIBC_VERSION"):
            os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _open_streams() -> None:
    """Let each stream be there, and take all names.

    Where one of ours is closed, the first file that a run opens would get its number, and what we print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
    # A name may be Czech, and the stream Latin-1.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """Say nothing of a stop that fell into a callback of the interpreter's own: its flag is seen."""
    if not (issubclass(found.exc_type, KeyboardInterrupt) and STOP.is_set()):
        sys.__unraisablehook__(found)


def main() -> None:
    """Run the command line and exit with its code."""
    _open_streams()
    _speak_utf8()
    _choose_pool()
    # A short-lived process: collecting garbage amid imports and listings costs more than it frees.
    gc.set_threshold(100_000, 50, 50)
    sys.unraisablehook = _unraisable
    on_stop(_stop_early)
    from pipeline.cli import run_cli

    with stop_bounded(_stop_now):
        try:
            code = run_cli()
        except KeyboardInterrupt:  # a second signal, while the first was being answered
            code = exit_code()
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # it ends now anyway
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 1
    if code and "multiprocessing" in sys.modules:
        gc.collect()  # of helpers that could not start semaphores are left, which Python would report after us
    # All files are closed and helpers have ended; taking the interpreter apart would cost another 0.1 s.
    os._exit(code)


if __name__ == "__main__":
    main()
