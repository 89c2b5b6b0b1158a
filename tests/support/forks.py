"""The command as a fork of one process that has imported all that it needs: a command as tests run it works for a tenth
of the time that Python needs to import pandas and Dask.

What depends on a start of Python (what is imported, the environment's encoding, a signal amid an import) runs Python
itself, see `tests.support.helpers.run_process`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

_PROJECT = Path(__file__).parents[2]

#: What the package imports where it is used; forks of a process with threads are none of a sound process.
_USED = (
    "dask.dataframe", "dask.delayed", "dask.local", "dask.threaded", "msgspec", "numpy", "pandas", "PIL.ImageDraw",
    "PIL.ImageOps", "platformdirs", "pyarrow.acero", "pyarrow.compute", "pyarrow.parquet", "tqdm", "xxhash", "yaml",
)  # fmt: skip
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

#: What stands for the command: it hands its arguments, folder, environment, streams and signals over, and ends as it.
_CLIENT = """
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode() + b"\\n"
    socket.send_fds(server, [request[:1]], [0, 1, 2])
    server.sendall(request[1:])
    answer = server.makefile()
    command = int(answer.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(command, number))
    sys.exit(int(answer.readline()))
"""


class Forks:
    """A process that runs commands, each in a fork of itself, until it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = f"{self._folder.name}/socket"
        words = [sys.executable, "-m", "tests.support.forks", self.address]
        env = {**os.environ, **_ONE_THREAD, "PYTHONPATH": str(_PROJECT)}
        self._process = subprocess.Popen(words, cwd=_PROJECT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End it, once the commands under way have ended."""
        with self._process:
            pass
        self._folder.cleanup()


@functools.cache
def forks() -> Forks:
    """That of these tests, started when first used; `end_forks` ends it."""
    return Forks()


def end_forks() -> None:
    if forks.cache_info().currsize:
        forks().close()
        forks.cache_clear()


def command_words(*args: str | Path) -> list[str]:
    """The words of a process that behaves as ``python -m pipeline ARGS…``."""
    return [sys.executable, "-ISc", _CLIENT, forks().address, *map(str, args)]


def write_command(path: Path) -> Path:
    """Write an executable that behaves as ``coco-diy``."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command_words())} "$@"\n')
    path.chmod(0o755)
    return path


def _answer(connection: socket.socket) -> None:
    """In a fork: run one command in a fork of this one; say its number, and then its exit code."""
    data, streams, _flags, _address = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as rest:
        args, folder, env = json.loads(data + rest.readline())
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        connection.sendall(b"%d\n" % child)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    _become(args, folder, env)


def _become(args: list[str], folder: str, env: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["coco-diy", *args]
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


def _serve(address: str) -> None:
    for name in _USED:
        importlib.import_module(name)
    import pipeline

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__") and ".cluster" not in module.name:
            importlib.import_module(module.name)
    gc.freeze()  # what is there is not gone through, and so not copied, in each fork
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _answer(connection)
                os._exit(0)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _serve(sys.argv[1])
