"""The locks of what a run has below the workdir: the indexes of its sources, and its plan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.job.job import Job


@contextmanager
def index_lock(job: Job) -> Iterator[None]:
    """Hold the indexes of all sources, and clear what killed runs had under way: of what others use what is old."""
    location = job.work
    with ExitStack() as locks:
        for source in job.sources:
            path = os.path.relpath(source.index_dir, job.workdir)
            locks.enter_context(location.lock(f"{path}.lock", f"the index {source.index_dir}"))
            location.own(path).drop_temporaries()
        for folder in ("plans", "members", "splits"):
            location.own(folder).drop_temporaries(shared=True)
        yield


@contextmanager
def plan_lock(job: Job) -> Iterator[None]:
    """Hold the plan of this job, and clear what killed runs had under way there.

    A build holds it while it carries the plan out, where the indexes are free for other subsets already.
    """
    location = job.work
    plan = os.path.relpath(job.plan_dir, job.workdir)
    with location.lock(f"{plan}.lock", f"the plan of {job.root}"):
        for end in ("", ".touched", ".archive", ".records", ".splits", ".kept"):
            location.own(f"{plan}{end}").drop_temporaries()
        yield
