"""Options by protocol: credentials and endpoints, from files that are never committed; and no secret in any text.

Below ``conf/local/`` of the working directory (or the folder that the environment variable COCO_DIY_LOCAL names) are
YAML files whose keys are protocols (``s3``) or single buckets and hosts (``s3://my-bucket``), and whose values are
fsspec's options for it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact
from pipeline.storage.address import Address, protocol_of

_SECRET_NAMES = re.compile(r"key|secret|token|passw|sas|credential|connection_string|passphrase", re.IGNORECASE)

_VARIABLE = "COCO_DIY_LOCAL"

#: Where options are searched for unless the variable names another folder.
LOCAL = os.path.join("conf", "local")

#: What is shorter is no secret, and would be found everywhere.
_SHORTEST = 6


def options_for(address: Address) -> dict[str, Any]:
    """The options for a location: those of its protocol, and over them those of its bucket or host."""
    found: dict[str, Any] = {}
    by_name = _local_options(*_state())
    for name in (address.protocol, f"{address.protocol}://{address.host}"):
        found |= by_name.get(name, {})
    return found


def scrub(text: str) -> str:
    """`text` without any secret of the options or the environment, and its URLs without theirs."""
    text = redact(text)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def is_folder_named() -> bool:
    """Whether the user named the folder of the options, and did not only happen to be where one is."""
    return bool(os.environ.get(_VARIABLE))


@contextlib.contextmanager
def options_beside(config: str) -> Iterator[str | None]:
    """While inside, ``conf/local/`` of the current folder is believed only if the file `config` is in that folder.

    Who is in a folder that he downloaded did not choose what is in it. Gives the sentence that says so, if there
    are options that are not read. It is a variable of the environment that carries this to workers.
    """
    here = os.path.realpath(os.curdir)
    if is_folder_named() or os.path.realpath(config).startswith(here.rstrip("/") + "/"):
        yield None
        return
    passed_over = bool(_state())
    os.environ[_VARIABLE] = os.devnull
    try:
        yield (
            f"{LOCAL}: is not read, for {config} is in another folder; set {_VARIABLE}={LOCAL} to use it"
            if passed_over
            else None
        )
    finally:
        del os.environ[_VARIABLE]


def _folder() -> str:
    return os.environ.get(_VARIABLE) or LOCAL


def _state() -> tuple[tuple[str, int, int], ...]:
    """The option files with time and size: equal states are equal options."""
    try:
        paths = sorted(Path(_folder()).glob("*.yaml"))
        return tuple((os.path.abspath(p), p.stat().st_mtime_ns, p.stat().st_size) for p in paths)
    except OSError:
        return ()


@functools.cache
def _local_options(*files: tuple[str, int, int]) -> dict[str, dict[str, Any]]:
    import yaml

    found: dict[str, dict[str, Any]] = {}
    for path, _, _ in files:
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError):
            # What the parser says may quote the line, and with it a secret.
            raise ConfigError(
                f"{path}: is not YAML that can be read; it holds options by protocol, as in `s3: {{endpoint_url: …}}`"
            ) from None
        if not isinstance(data, dict) or not all(isinstance(v, dict) for v in data.values()):
            raise ConfigError(f"{path}: must hold options by protocol, as in `s3: {{endpoint_url: …}}`")
        for name, options in data.items():
            protocol = protocol_of(f"{name}://") if "://" not in str(name) else protocol_of(str(name))
            full = str(protocol) if "://" not in str(name) else f"{protocol}://{str(name).partition('://')[2]}"
            found.setdefault(full, {}).update(options)
    return found


def _secrets() -> set[str]:
    found: set[str] = set()

    def collect(name: str, value: object) -> None:
        if isinstance(value, dict):
            for inner, more in value.items():
                collect(str(inner), more)
        elif isinstance(value, str) and len(value) >= _SHORTEST and _SECRET_NAMES.search(name) and value != "anon":
            found.add(value)
            found.update(part.partition("=")[2] for part in value.split(";") if "key=" in part.lower())

    with contextlib.suppress(ConfigError):
        collect("", _local_options(*_state()))
    for name, value in os.environ.items():
        if _SECRET_NAMES.search(name) and "/" not in value[:1]:
            collect(name, value)
    return {secret for secret in found if len(secret) >= _SHORTEST}
