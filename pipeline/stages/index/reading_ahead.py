"""A large file that this process reads through is read ahead by its helpers, which have nothing else to do until then.

Each reads a stretch of it, where the format has a function `stretch`; see `formats._stretches`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pipeline import formats
from pipeline.job.spec import IndexSpec
from pipeline.runtime.engine import Engine
from pipeline.stages.index.annotations_file import AnnotationsFile

if TYPE_CHECKING:
    from pipeline.formats import AmidFormat
    from pipeline.formats._stretches import Read, Stretch

#: Bytes of a file that is read through before a helper has started and read a part of it.
_LEAST = 128 << 20

#: Bytes of a file of which what helpers find on their way here fits beside what is found here.
_MOST = 1 << 30


def stretches(spec: IndexSpec, path: str, mark: bytes, engine: Engine) -> list[Read]:
    """The stretches of the file at `path` in the state `mark` that helpers read: where each begins, and who to ask."""
    file = AnnotationsFile(path, mark)
    if not engine.helpers or not file.is_local or not hasattr(formats.load(spec.format), "stretch"):
        return []
    size = file.size()
    if not _LEAST <= size <= _MOST:
        return []
    step = size // (engine.helpers + 1)
    begins = [size - step * number for number in range(engine.helpers, 0, -1)]
    return [(begin, engine.background(_stretch, spec, path, mark, begin, begin + step)) for begin in begins]


def _stretch(spec: IndexSpec, path: str, mark: bytes, begin: int, stop: int) -> Stretch | None:
    format_ = cast("AmidFormat", formats.load(spec.format))
    return format_.stretch(AnnotationsFile(path, mark).pieces(begin, stop), begin, spec.task)
