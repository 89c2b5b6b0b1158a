"""The numbers of a view: a task a bucket, in threads where there are many images."""

from __future__ import annotations

import functools

from pipeline.api import engine_of
from pipeline.look.bucket import count_bucket
from pipeline.look.view import View
from pipeline.reports.statistics import Statistics
from pipeline.runtime.engine import FILES_WORTH_HELPERS, Engine
from pipeline.runtime.progress import Progress


def statistics_of(view: View, progress: Progress | None = None) -> Statistics:
    """The counts of all buckets of `view`."""
    made = Statistics.none()
    tasks = [(bucket,) for bucket in range(view.buckets)]
    with (progress or Progress()).stage("count", len(tasks), "buckets") as step, viewing(view, view.images) as engine:
        for part in engine.map(functools.partial(count_bucket, view), tasks, files=view.images):
            made.add(part)
            step.add(1)
    return made


def viewing(view: View, files: int) -> Engine:
    """What runs the tasks of a view that take as long as `files` small files, by `View.engine`; it is to be closed.

    Tasks wait for images; a helper process would need 170 MB for pandas and what it reads. So `auto` takes threads.
    """
    options = view.engine.model_copy(update={"performance_report": None})  # it is of what made the index
    if options.scheduler == "auto":
        own = "threads" if files >= FILES_WORTH_HELPERS else "sync"
        options = options.model_copy(update={"scheduler": own})
    return engine_of(options, view.workdir, [url for url in view.origins.urls.values() if url is not None])
