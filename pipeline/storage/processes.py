"""Who works somewhere: what a process says of itself, and whether it is known to be gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any


def myself() -> dict[str, Any]:
    """What this process leaves where it works, so that others know it."""
    import datetime

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": now,
        "where": _where(),
        "started": _started(os.getpid()),
    }


def shown(who: Mapping[str, Any]) -> str:
    """Who left `who`, in words; "another process" where that does not say it, as of a record that is damaged."""
    if not {"process", "host"} <= who.keys():
        return "another process"
    return f"process {who['process']} on {who['host']}" + (f" since {who['since']}" if "since" in who else "")


def is_gone(who: Mapping[str, Any]) -> bool:
    """Whether the process that said `who` of itself was one of this machine, and is not there any more."""
    same = bool(who.get("where")) and who["where"] == _where()
    return same and _started(who.get("process")) != who.get("started")


def _where() -> str:
    """This boot of this machine and this space of process ids: within one, a process id says whether one is alive."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: object) -> str:
    """When the process of a number began (ticks since boot); empty where it is not there."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
