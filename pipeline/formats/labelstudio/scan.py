"""One pass over an export: where its tasks are, which image each is of, what classes there are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pipeline.base.humanize import noun, plural
from pipeline.formats import FileOutline, Malformed
from pipeline.formats._flaws import known_flaw
from pipeline.formats._heads import is_task
from pipeline.formats._image_names import ImageNames
from pipeline.formats._large_json import LargeObject
from pipeline.formats._records import ImageRecord, outline_of
from pipeline.formats._values import plain
from pipeline.formats.labelstudio.tasks import LabelledTask, labels_of, where_of

_BOM = b"\xef\xbb\xbf"

#: Makes an object of a list, or of one task, so that its elements are read a piece at a time.
_LIST, _ONE = (b'{"tasks":', b"}"), (b'{"tasks":[', b"]}")

#: Bytes in which one task says that it is one.
_HEAD = 1 << 16

_BLANKS = b" \t\r\n"


def decoded(text: bytes) -> Any:
    """A task as JSON has it, NaN too; None for what is no JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return plain(text)


class _Pass:
    """The tasks that are of an image and labelled; what else there is, counted."""

    def __init__(self) -> None:
        self.labels: set[str] = set()
        self.points: set[str] = set()
        self.unlabelled = self.several = self.predicted = self.many = 0
        self.others: Counter[str] = Counter()
        self.bad: list[tuple[str, str, str, int]] = []

    def records(self, pieces: Iterable[bytes]) -> Iterator[tuple[ImageRecord, bytes]]:
        """The tasks that count, each with its text."""
        number = 0
        of_list, (before, after) = _tasks(pieces)
        file = LargeObject(itertools.chain([before], of_list, [after]), {"tasks"}, added=len(before))
        for chunk in file.chunks():
            for i, (begin, stop) in enumerate((chunk.spans - len(before)).tolist()):
                number += 1
                text = chunk.element(i)
                data = decoded(text)
                where = where_of(data, number)
                if not isinstance(data, dict):
                    self.bad.append(("", "bad_task", f"{where} {chunk.no_object(i)}; correct it", 0))
                elif (record := self._record(data, where, begin, stop)) is not None:
                    yield record, text

    def _record(self, data: dict[str, Any], where: str, begin: int, stop: int) -> ImageRecord | None:
        task = LabelledTask(data)
        self.predicted += task.predicted
        self.others += task.others()
        if task.results is None:
            self.unlabelled += 1
            return None
        self.several += task.annotators > 1
        for region in task.regions():
            self.many += labels_of(region.value) > 1
            if region.label is not None:
                (self.points if region.kind == "keypoint" else self.labels).add(region.label)
        said, upload = task.images
        return ImageRecord(begin, stop, where, said or upload, upload if said else "")

    def notes(self) -> Iterator[str]:
        """What was left out, or chosen, in sentences."""
        if self.unlabelled:
            yield (
                f"{plural(self.unlabelled, 'task')} without an annotation, or cancelled, "
                f"{noun(self.unlabelled, 'is', 'are')} left out: nobody labelled the image"
            )
        if self.several:
            yield (
                f"{plural(self.several, 'task has', 'tasks have')} several annotations: the first that is ground truth "
                "is taken, else the first"
            )
        if self.predicted:
            yield f"{plural(self.predicted, 'task has', 'tasks have')} predictions, which are left out"
        if self.many:
            yield f"{plural(self.many, 'object has', 'objects have')} several labels: the first is taken"
        if points := sorted(self.points - self.labels):
            yield f"labels of keypoints alone are no classes: {', '.join(map(repr, points))}"
        if self.others:
            listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.others.items()))
            count = self.others.total()
            yield f"{plural(count, 'result is', 'results are')} no objects, and left out ({listed})"


def outline(pieces: Iterable[bytes], names: ImageNames | None) -> FileOutline:
    """See `pipeline.formats.labelstudio.outline`."""
    done = _Pass()
    found = outline_of(done.records(pieces), names, count_objects)
    found.problems = done.bad + found.problems
    found.notes = [*done.notes(), *found.notes]
    found.names = {"names": sorted(done.labels)}
    return found


def count_objects(text: bytes) -> int:
    """How many shapes a task has."""
    data = decoded(text)
    return sum(1 for _ in LabelledTask(data).regions()) if isinstance(data, dict) else 0


def _tasks(pieces: Iterable[bytes]) -> tuple[Iterator[bytes], tuple[bytes, bytes]]:
    """The text, and what makes it a member of an object. Raises `Malformed` for what is no list and no task."""
    rest = iter(pieces)
    first = b""
    for piece in rest:
        first += piece
        begin = first.removeprefix(_BOM).lstrip(_BLANKS)[:1]
        if len(first) >= len(_BOM) and begin and (begin != b"{" or is_task(first) or len(first) > _HEAD):
            break
    if first.startswith(_BOM):
        first = b" " * len(_BOM) + first[len(_BOM) :]
    begin = first.lstrip(_BLANKS)[:1]
    if begin != b"[" and not is_task(first):
        flaw = known_flaw(first)
        raise Malformed(
            flaw.detail
            if flaw is not None
            else "is JSON, but no export of Label Studio: that is a list of tasks; export the project as JSON"
            if begin == b"{"
            else "is not JSON; get it again"
        )
    return itertools.chain([first], rest), _LIST if begin == b"[" else _ONE
