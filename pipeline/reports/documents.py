"""What commands find and do, field by field, as ``--json`` prints it; ``conf/run.schema.json`` has the same for others.

Keys that a report only sometimes has are `NotRequired`. Counts by class have the class name for their key, those of a
source the class id, as text, where label files carry numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class FileTotals(TypedDict):
    """Files and their bytes."""

    files: int
    bytes: int


#: Files by action (write, copy, keep, delete) and kind (label, image, meta).
Actions = dict[str, dict[str, FileTotals]]


class SplitTotals(TypedDict):
    """One split of a subset; `labels` are label files, `images_by_class` images with an object of the class."""

    images: int
    backgrounds: int
    objects: dict[str, int]
    images_by_class: dict[str, int]
    labels: NotRequired[int]


class SourceTotals(TypedDict):
    """One split of a source: images, label files by state, rows, and what is wrong with them by reason.

    `class_images` are images with an object of the class, `content` changes with what is in the label files.
    """

    images: int
    labels: dict[str, int]
    rows: int
    bad_rows: int
    objects: dict[str, int]
    class_images: dict[str, int]
    no_image: int
    many_images: int
    duplicate_rows: int
    zero_size: int
    label_bytes: int
    problems: dict[str, int]
    content: NotRequired[int]
    loss: NotRequired[dict[str, int]]
    drawn: NotRequired[dict[str, int]]
    numbered: NotRequired[dict[str, int]]


#: By split; of several sources by source and split.
Sources = Mapping[str, SourceTotals | dict[str, SourceTotals]]


class Finding(TypedDict):
    """A file, its line where it has one, the counted reason, and a clause that says what is wrong with it."""

    path: str
    reason: str
    detail: str
    line: NotRequired[int | None]


class LeftOut(TypedDict):
    """What was left out: counts by reason, all of it, and the Parquet file that has it."""

    counts: dict[str, int]
    table: str
    listed: list[Finding]


class FetchCost(TypedDict):
    """What fetching images takes; bytes are None where they are not known, ``about`` right where some were asked."""

    images: int
    requests: int
    bytes: int | None
    about: bool


class ListReport(TypedDict):
    """A list of images of the config: its entries, and those of them that name no image."""

    entries: int
    unmatched: list[str]


#: ``in`` and ``out``, which is no name in Python.
Flow = TypedDict("Flow", {"in": int, "out": int})

StepFlow = TypedDict("StepFlow", {"in": int, "out": int, "left_out": dict[str, int]})


class StepReport(TypedDict):
    """A step of the selection: images and objects that go in and come out, by reason those left out, and by class."""

    images: StepFlow
    objects: StepFlow
    classes: dict[str, Flow]


class LossTotals(TypedDict):
    """What a plan takes from the `total` files of a target, and the names of some."""

    files: int
    images: int
    replaced: int
    total: int
    names: list[str]


class SplitReport(TypedDict):
    """How images were assigned to splits; shares of images and, by class, deviations of objects are fractions."""

    by: str
    stratify: bool
    seed: int
    shares: dict[str, float]
    images: dict[str, float]
    deviation: dict[str, dict[str, float]]
    table: NotRequired[str | None]
    kept: NotRequired[int]
    assigned: NotRequired[int]


class BrakeReport(TypedDict):
    """Why a build would stop, as `errors.BrakeError.facts` has it; `share` is a fraction of `total`."""

    error: str
    reason: str
    file: str | None
    line: int | None
    hint: str | None
    exit_code: int
    cause: str
    count: int
    total: int
    share: float | None
    names: list[str]


class BrakedReport(TypedDict):
    """Of `coco-diy plan` where the brake stops a build before it can be planned."""

    command: str
    target: str
    brake: BrakeReport


class IndexReport(TypedDict):
    """Of `coco-diy index`; `source` is by split, of several sources by source and split."""

    command: str
    index: str | list[str]
    buckets: int
    task: str
    fingerprint: str
    classes: list[str]
    source: Sources
    left_out: NotRequired[LeftOut]


class PlanReport(TypedDict):
    """Of `coco-diy plan` and `build`; `rows` and `images` say by word what became of those of the source.

    `unlabelled` counts the images of the subset that may hold unlabelled objects, by class.
    A build with nothing to do has what the last one found, without what was about its way there.
    """

    command: str
    target: str
    digest: str
    format: str
    classes: list[str]
    plan: Actions
    subset: dict[str, SplitTotals]
    rows: dict[str, int]
    images: dict[str, int]
    loss: dict[str, int]
    unlabelled: NotRequired[dict[str, int]]
    problems: dict[str, int]
    changes: int
    foreign: NotRequired[list[str]]
    fetch: NotRequired[FetchCost]
    lost: NotRequired[LossTotals]
    brake: NotRequired[BrakeReport | None]
    split: NotRequired[SplitReport]
    steps: NotRequired[dict[str, StepReport]]
    lists: NotRequired[dict[str, ListReport]]
    left_out: NotRequired[LeftOut]


class BuildReport(PlanReport):
    """Of `coco-diy build`, `convert` and `remake`; `failed` are reasons by path."""

    status: str
    archive: NotRequired[str | None]
    training: NotRequired[str]
    failed: NotRequired[dict[str, str]]


class Failures(TypedDict, total=False):
    """What any report says of what failed, differs or was left out."""

    failed: dict[str, str]
    differences: dict[str, int]
    listed: list[Finding]
    left_out: LeftOut
    leaks: LeaksReport


class FetchedFile(TypedDict):
    """One archive, and the bytes that came for it."""

    name: str
    path: str
    url: str
    moved: int
    status: str


class FetchReport(TypedDict, total=False):
    """Of `coco-diy fetch`, or of ``--clean``."""

    command: str
    files: list[FetchedFile]
    moved: int
    extracted: str | None
    removed: bool
    cleaned: FileTotals


class ImagesAlike(TypedDict):
    """Two images in two splits or sources: `distance` is how many of the 64 bits of their hashes differ."""

    first: str
    second: str
    splits: list[str]
    sources: list[str]
    distance: int
    equal: bool


class AlikeTotals(TypedDict):
    """How many pairs of images of two splits of two sources are equal in content, and how many near."""

    splits: list[str]
    sources: list[str]
    equal: int
    near: int


class LeaksReport(TypedDict):
    """Images in more than one split or source, of a config, a target or a folder (`of`): pairs, the first `listed`.

    `images` were compared, by content alone those that are `damaged`; `unread` ones could not be read.
    """

    of: str
    bits: int
    images: int
    damaged: int
    unread: int
    equal: int
    near: int
    between: list[AlikeTotals]
    listed: list[ImagesAlike]


class VerifyReport(TypedDict):
    """Of `coco-diy verify`; `differences` are counts by reason of what is `listed`."""

    command: str
    target: str
    deep: bool
    files: int
    differences: dict[str, int]
    listed: list[Finding]
    repaired: NotRequired[int]
    of: NotRequired[str]
    leaks: NotRequired[LeaksReport]


class ClassChanges(TypedDict):
    """Names of classes that came, went or have another id."""

    gained: list[str]
    lost: list[str]
    renumbered: list[str]


#: ``from`` is no name in Python.
DiffReport = TypedDict(
    "DiffReport",
    {
        "command": str,
        "from": str,
        "to": str,
        "classes": ClassChanges,
        "images": dict[str, int],
        "by_class": dict[str, dict[str, dict[str, int]]],
        "files": dict[str, int] | None,
        "listed": dict[str, list[str]] | None,
        "held": NotRequired[dict[str, FileTotals]],
    },
)


class RunLine(TypedDict):
    """What a run came to; what is not known of it, or is not of its kind, is None. `seconds` is how long it took."""

    time: str | None
    run: str | None
    host: str | None
    tool: str | None
    seconds: float | None
    exit_code: int
    status: str | None
    changes: int | None
    digest: str | None
    error: str | None
    stage: str | None


class SuccessLine(RunLine):
    """The last success, so many seconds ago."""

    age: float


class KilledLine(TypedDict):
    """A run that was killed: who it was, and whether that was in apply or before."""

    run: str
    start: str
    by: str
    where: str


class StatusReport(TypedDict):
    """Of `coco-diy status`; `last` is the whole record of the last run, `max_age` is in seconds."""

    command: str
    target: str
    runs: int
    last: dict[str, object]
    recent: list[RunLine]
    running: str | None
    stopped: bool
    killed: list[KilledLine]
    last_success: SuccessLine | None
    max_age: float | None
    late: bool


class CopiedFile(TypedDict):
    """A file that `coco-diy init` copied, unless it was there."""

    path: str
    written: bool


class InitReport(TypedDict, total=False):
    """Of `coco-diy init`: what each ready config is for, or the files that were copied."""

    command: str
    ready: dict[str, str]
    files: list[CopiedFile]
