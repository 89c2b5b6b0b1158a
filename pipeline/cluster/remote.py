"""Which workers a run has, by its config."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from pipeline import storage
from pipeline.base.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.cluster.driver import Driver
    from pipeline.cluster.run_folder import Place
    from pipeline.runtime.tasks import Executor


class Options(Protocol):
    """What ``engine`` of a config says of workers."""

    @property
    def scheduler(self) -> str:
        """Who has them."""

    @property
    def elsewhere(self) -> bool:
        """Whether that is an address, a scheduler file or the folder of a queue."""

    @property
    def wait_workers(self) -> float:
        """Seconds that there may be none."""

    @property
    def performance_report(self) -> str | None:
        """HTML file for what a Dask scheduler saw of the run."""


def remote_of(
    options: Options,
    workdir: str,
    urls: Iterable[str] = (),
    *,
    links: frozenset[str] = frozenset(),
    client: Any = None,
) -> Driver | None:
    """The workers of ``engine.scheduler``, or those of a Dask `client`; None where a run does its work itself.

    They exchange files with the run below `workdir`, through whose folders `links` may be written where they are links,
    and must see all `urls`, folders or files.
    """
    queue = client is None and options.scheduler.startswith("file://")
    elsewhere = client is not None or options.elsewhere
    if options.performance_report is not None and (queue or not elsewhere):
        raise ConfigError("--performance-report: is made by a Dask scheduler; name one with --scheduler")
    if not elsewhere:
        return None
    from pipeline.cluster.driver import Driver
    from pipeline.cluster.run_folder import RunFolder

    executor: Callable[[], Executor]
    if queue:
        from pipeline.cluster.queue import QueueExecutor

        executor = functools.partial(QueueExecutor, options.scheduler)
    else:
        from pipeline.cluster.dask_executor import DaskExecutor

        executor = functools.partial(DaskExecutor, options.scheduler, client, options.performance_report)
    return Driver(executor, RunFolder(workdir, links), options.wait_workers, tuple(_places(urls)))


def _places(urls: Iterable[str]) -> Iterator[Place]:
    from pipeline.cluster.run_folder import Place

    for url in dict.fromkeys(urls):
        path = storage.archive_of(url) or url
        if os.path.isfile(path):
            yield Place(*os.path.split(path))
        elif os.path.isdir(path):
            yield Place(path, storage.any_name(path))
        elif not path.startswith(storage.WEB_SCHEMES) and "::" not in path:
            yield Place(path)
