"""The numbers of a view: a task a bucket, in helper processes where there are many images."""

from __future__ import annotations

import functools

from pipeline.look.bucket import count_bucket
from pipeline.look.view import View
from pipeline.reports.statistics import Statistics
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress


def statistics_of(view: View, progress: Progress | None = None) -> Statistics:
    """The counts of all buckets of `view`."""
    made = Statistics.none()
    tasks = [(bucket,) for bucket in range(view.buckets)]
    with (progress or Progress()).stage("count", len(tasks), "buckets") as step, Engine() as engine:
        for part in engine.map(functools.partial(count_bucket, view), tasks, files=view.images):
            made.add(part)
            step.add(1)
    return made
