"""Limits of a config on requests and bytes."""

from __future__ import annotations

from pipeline.config.model import Config
from pipeline.storage import Limits


def limits(config: Config) -> Limits:
    """What a server may be asked for at once."""
    f = config.fetch
    return Limits(f.connections, f.bytes_per_second, f.requests_per_second, f.timeout)
