"""The Dask dataframe from index to plan: partition i is bucket i, in every step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline import exporters
from pipeline.runtime.engine import Engine
from pipeline.stages.index.reader import index_at
from pipeline.stages.plan.context import PlanContext, PlannedSource
from pipeline.stages.select import rows as selection
from pipeline.stages.select.objects import columns_of

T = TypeVar("T")


def compute(
    context: PlanContext,
    function: Callable[..., T],
    engine: Engine,
    done: Callable[[int], None] = lambda _: None,
) -> list[T]:
    """What ``function(context, *frames, partition_info={"number": bucket})`` returns of each bucket, in order.

    `frames` are, for each source, its rows of wanted classes and its images, as pandas frames. `done` is called with
    the number of buckets that are done since it was called last.
    """
    found: list[T] = engine.compute(functools.partial(_values, context, function), context.buckets, done)
    return found


def _values(context: PlanContext, function: Callable[..., T]) -> Any:
    """The Dask frame whose partitions are what `function` returns of each bucket."""
    import dask.dataframe as dd
    import pandas as pd

    frames = [frame for source in context.sources for frame in _frames(context, source)]
    step = functools.partial(function, context)
    meta = pd.Series([], dtype=object)  # of values that are no frames nothing is known before
    return dd.map_partitions(step, *frames, meta=meta, align_dataframes=False, enforce_metadata=False)


def _frames(context: PlanContext, source: PlannedSource) -> tuple[Any, Any]:
    """The Dask frames of one source: rows of wanted classes with their new ids, and images."""
    found = index_at(source.index_dir)
    exporter = exporters.load(context.exporter)
    more = [c for c in exporter.COLUMNS if source.named or c not in ("loss", "raw")]
    if source.mixed and exporter.OF_TASK:
        more += ["loss", "n_tokens", "line"]
    more += columns_of(context.select.objects)
    columns = selection.columns(context.select.duplicates, [*more, "label"] if source.named else more)
    classes = source.classes
    wanted: Any = classes.wanted_names if source.named else classes.wanted_ids
    # Names of a file may leave some of the source's out, so it is never certain that all rows are wanted.
    everything = not source.named and len(wanted) == len(classes.lut)
    rows = found.frame("annotations", columns, None if everything else wanted, context.buckets)
    return selection.select(rows, classes), found.frame("images", None, None, context.buckets)
