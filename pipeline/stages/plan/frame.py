"""From index to plan, bucket by bucket: a Dask dataframe whose partition i is bucket i, in every step.

Of few buckets, the same functions take the tables as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline import exporters
from pipeline.runtime.engine import Engine
from pipeline.stages.index.reader import index_at, read_table
from pipeline.stages.plan.context import PlanContext, PlannedSource
from pipeline.stages.select import rows as selection
from pipeline.stages.select.objects import columns_of

T = TypeVar("T")

#: Of no more buckets the tables are read as they are: importing the Dask frame takes longer (1 s) than their plan.
FEW_BUCKETS = 4

#: So it is where a subset is brought up to date: nothing takes so long that the frame could be imported beside it.
FEW_BUCKETS_AGAIN = 64


def takes_tables(buckets: int, *, again: bool) -> bool:
    """Whether the tables of so many buckets are read as they are; `again`: there is a subset already."""
    return buckets <= (FEW_BUCKETS_AGAIN if again else FEW_BUCKETS)


def compute(
    context: PlanContext,
    function: Callable[..., T],
    engine: Engine,
    done: Callable[[int], None] = lambda _: None,
    only: Sequence[int] | None = None,
) -> list[T]:
    """What ``function(context, *parts, partition_info={"number": bucket})`` returns of each bucket, in order.

    `parts` are, for each source, its rows of wanted classes and its images: pandas frames, the partitions of a Dask
    frame, or, of few buckets, tables. `done` is called with the number of buckets that are done since it was called
    last. With `only` it is asked for these buckets alone.
    """
    buckets = range(context.buckets) if only is None else only
    if not buckets:
        return []
    if engine.in_process and takes_tables(len(buckets), again=context.state.manifest is not None):
        found: dict[int, T] = {}
        reads = [(*_read(context, source), cut_of(context, source)) for source in context.sources]
        tasks = [(context, function, reads, bucket) for bucket in buckets]
        for bucket, value in engine.map(_value, tasks, files=None):
            found[bucket] = value
            done(1)
        return [found[bucket] for bucket in buckets]
    values: list[T] = engine.compute(functools.partial(_values, context, function), buckets, done)
    return values


def _value(
    context: PlanContext,
    function: Callable[..., T],
    reads: Sequence[tuple[Sequence[str], Sequence[int | str] | None, tuple[int, int] | None]],
    bucket: int,
) -> tuple[int, T]:
    """The bucket, and what `function` returns of it, without a Dask frame; `reads` says what is read of each source."""
    parts = []
    for source, (columns, wanted, cut) in zip(context.sources, reads, strict=True):
        rows = read_table(source.index_dir, "annotations", bucket, columns, wanted, cut)
        parts += [selection.remap_table(rows, source.classes), read_table(source.index_dir, "images", bucket, cut=cut)]
    return bucket, function(context, *parts, partition_info={"number": bucket})


def cut_of(context: PlanContext, source: PlannedSource) -> tuple[int, int] | None:
    """How the buckets of a source are cut, see `reader.read_table`."""
    own = index_at(source.index_dir).info.buckets
    return None if own == context.buckets else (own, context.buckets)


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
    found, (columns, wanted) = index_at(source.index_dir), _read(context, source)
    rows = found.frame("annotations", columns, wanted, context.buckets)
    return selection.select(rows, source.classes), found.frame("images", None, None, context.buckets)


def _read(context: PlanContext, source: PlannedSource) -> tuple[list[str], Sequence[int | str] | None]:
    """Which columns of a source's annotations are read, and of which classes; None: all rows."""
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
    return columns, None if everything else wanted
