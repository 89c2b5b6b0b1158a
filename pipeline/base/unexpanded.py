"""What a shell replaces in a path that it is given, and nobody does in one of a config."""

from __future__ import annotations

import os
import re

_VARIABLE = re.compile(r"\$(?:\{\w+\}|[A-Za-z_]\w*)")


def unexpanded(path: str) -> str | None:
    """Why a path of this machine is not the one that is meant, in a clause with the cure; None where it may be.

    It names a variable, or the home of a user that there is not: a folder that is called so is there already.
    """
    path = path.rpartition("::")[2].removeprefix("file://")
    if "://" in path:
        return None
    home = path.partition("/")[0]
    if home.startswith("~") and os.path.expanduser(home) == home and not os.path.lexists(home):
        return f"no user of this machine is called {home[1:]!r}; write the path out (a folder of that name is ./{home})"
    for found in _VARIABLE.finditer(path):
        end = path.find("/", found.end())
        if not os.path.lexists(os.path.expanduser(path if end < 0 else path[:end])):
            return f"{found[0]} is not expanded here; write the path out, or give it on the command line, unquoted"
    return None
