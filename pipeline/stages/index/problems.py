"""What is wrong with a source, counted and named."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline import formats, storage
from pipeline.base.errors import ConfigError, DataError, nearest
from pipeline.base.humanize import noun, plural
from pipeline.base.terms import NO_CLASS
from pipeline.job import named_splits
from pipeline.job.job import Job, SourceJob
from pipeline.job.spec import LEFT_OUT_FILES, LEFT_OUT_FOLDERS
from pipeline.reports.report import Report
from pipeline.stages.index.parts import damaged, index_part, index_table
from pipeline.stages.index.reader import IndexInfo
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.reports.documents import Sources


def source_report(job: Job, infos: Sequence[IndexInfo]) -> Report:
    """Counts of the sources; bad rows are an error or, under `on_error: skip`, exit code 3."""
    report = Report(
        {
            "index": [s.index_dir for s in job.sources] if job.several else job.sources[0].index_dir,
            "buckets": max(info.buckets for info in infos),
            "task": str(job.task),
            "classes": list(job.names),
            "fingerprint": "+".join(str(info.content) for info in infos),
            "source": _totals(job, infos),
        }
    )
    fail = job.config.on_error == "fail"
    for source, info in zip(job.sources, infos, strict=True):
        if not source.named and (beyond := count_beyond(source, info)):
            if fail:
                raise DataError(_first_beyond(source, info, beyond))
            report.ok, report.incomplete = False, True
            report.warn_gravely([f"{plural(beyond, 'row')} left out, of a class that is not in {source.source.names}"])
        elif source.named:
            if source.file_names is not None:
                report.warn_gravely(_unlisted(source, info))
            else:
                report.warn_gravely(_never_drawn(source, info))
            report.warnings += _numbered(info)
        report.warnings += [_left_out(name, count) for name, count in sorted(info.left_out.items())]
        report.warnings += _links_out(source, info)
        bad = _count_bad(info)
        folder = os.path.join(source.index_dir, "problems")
        if bad and fail:
            raise DataError(_first_problem(source, info, bad, folder))
        if bad:
            report.ok, report.incomplete = False, True
            listed = f"{plural(bad, 'bad row or file', 'bad rows or files')} left out, listed in {folder}"
            whole = info.odd or any(counts["labels"].get(LabelState.CORRUPT) for counts in info.totals.values())
            (report.warn_gravely if whole else report.warnings.extend)([listed])
    gone = _gone(job)
    report.warn_gravely(
        [
            f"class {name!r} has no object in the source any more; it keeps its number "
            f"{job.classes.index(name)}, and a build into a new folder drops it"
            for name in gone
        ]
    )
    report.warn_gravely([*shared_splits(job).values()])
    report.warnings += _alike(job, gone) + _supercategories(job)
    report.warnings += [note for info in infos for note in info.document.get("notes", ())]
    report.warn_gravely([note for info in infos for note in info.document.get("grave", ())])
    for source, classes in zip(job.sources, job.maps, strict=False):
        dropped = job.config.select.on_unlabelled == "drop"
        for name in (name for name in classes.lacking if name not in gone and not dropped):
            report.warn_gravely(
                [
                    f"source {source.spec.name} has no class for {name!r}: such objects in its images are "
                    "not labelled, and a trainer takes them for background"
                ]
            )
    return report


def without_image(infos: Sequence[IndexInfo]) -> list[str]:
    """The sentence for labels that have no image, where they are counted with the images."""
    lacking = sum(counts["no_image"] for info in infos for counts in info.totals.values())
    if not lacking:
        return []
    return [f"{plural(lacking, 'label')} without an image, counted as {noun(lacking, 'an image', 'images')} here"]


def _gone(job: Job) -> list[str]:
    """Classes of the subset that no source has any more."""
    names = enumerate(job.classes if job.maps else ())
    return [name for number, name in names if not any(number in classes.lut for classes in job.maps)]


def shared_splits(job: Job) -> dict[str, str]:
    """By split the sentence for one that the YAML of a source calls another: it is no split, or lacks those images."""
    written = job.config.written
    if job.config.split is not None:
        return {}
    assign = written.setting("split", "{train: 0.8, val: 0.2}")
    return {
        split: f"{said}; name others there, or assign images by {assign}"
        for source in job.sources
        for split, said in named_splits.shared_splits(source.source.root, source.source.names).items()
        if split not in job.splits or written.options is not None
    }


def _totals(job: Job, infos: Sequence[IndexInfo]) -> Sources:
    if not job.several:
        return infos[0].totals
    return {s.spec.name: info.totals for s, info in zip(job.sources, infos, strict=True)}


def _unlisted(source: SourceJob, info: IndexInfo) -> list[str]:
    """Classes of a source that its names file leaves out: their objects are other classes."""
    assert source.file_names is not None
    known = _counted(info, "objects")
    counts = {name: count for name, count in known.items() if name not in source.file_names.names}
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(counts.items()))
    if counts and not known.keys() & set(source.file_names.names):
        raise ConfigError(
            f"{source.source.names}: none of its names is a class of the source {source.spec.name}: "
            f"{_some(source.file_names.names)} against {_some(sorted(counts))}; correct the list"
        )
    return [f"{source.source.names} leaves out classes of the source {source.spec.name}: {listed}"] if counts else []


def _counted(info: IndexInfo, what: Literal["objects", "drawn", "numbered"]) -> Counter[str]:
    """What the index counts by class, such as objects, of all splits."""
    counts: Counter[str] = Counter()
    for totals in info.totals.values():
        counts.update(totals.get(what, {}))
    return counts


def _count_bad(info: IndexInfo) -> int:
    return sum(sum(t["problems"].values()) for t in info.totals.values()) + len(info.odd)


def _first_problem(source: SourceJob, info: IndexInfo, bad: int, folder: str) -> str:
    """The sentence for the first bad row in order of keys, with the number of all."""
    if info.odd:
        path, reason = info.odd[0]
        first = f"{path}: {storage.UNUSABLE[reason]}"
    else:
        row = _first(index_table(source.index_dir, "problems", info.buckets), source, info)
        first = f"{row['path']}{':' + str(row['line']) if row['line'] else ''}: {row['detail']}"
    more = (
        f" ({plural(bad - 1, 'more bad row or file', 'more bad rows or files')}, all listed in {folder})"
        if bad > 1
        else ""
    )
    return f"{first}{more}; correct it, or leave such rows out and count them with --set on_error=skip"


def _first(table: pa.Table, source: SourceJob, info: IndexInfo) -> dict[str, Any]:
    """The first row in order of keys and lines; raises `DataError` where the index counts some, and has none."""
    rows: list[dict[str, Any]] = table.sort_by([("key", "ascending"), ("line", "ascending")]).slice(0, 1).to_pylist()
    if not rows:
        raise damaged(source.index_dir, "", "counts rows that it does not have", range(info.buckets))
    return rows[0]


def count_beyond(source: SourceJob, info: IndexInfo) -> int:
    """Rows of a class that the names YAML does not have; none where rows carry the names of their classes."""
    if source.named:
        return 0
    assert source.names is not None
    limit = len(source.names.names)
    return int(sum(n for t in info.totals.values() for i, n in t["objects"].items() if int(i) >= limit))


def _first_beyond(source: SourceJob, info: IndexInfo, rows: int) -> str:
    assert source.names is not None
    first = _first(rows_beyond(source, info), source, info)
    return (
        f"{first['path']}:{first['line']}: class {first['class_id']} is not in {source.source.names}, which has "
        f"the classes 0 to {len(source.names.names) - 1} ({plural(rows, 'such row')}); is it the YAML of this "
        "collection? Correct it, or leave such rows out and count them with --set on_error=skip"
    )


def rows_beyond(source: SourceJob, info: IndexInfo) -> pa.Table:
    """Rows of a class that the names YAML does not have: key, path, line and class_id, in order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    assert source.names is not None
    columns, known = ["key", "line", "class_id"], len(source.names.names)
    parts = (index_part(source.index_dir, "annotations", bucket, columns) for bucket in range(info.buckets))
    beyond = pa.concat_tables([part.filter(pc.greater_equal(part["class_id"], known)) for part in parts])
    table = beyond.sort_by([("key", "ascending"), ("line", "ascending")])
    paths = [_label_of(source, key) for key in table["key"].to_pylist()]
    return table.append_column("path", pa.array(paths, pa.string()))


def _label_of(source: SourceJob, key: str) -> str:
    """The label file of an image's key, as the user knows it."""
    path = key.split("/", 1)[1]
    for split in source.spec.splits:
        if path.startswith(split.folder + "/"):
            suffix = formats.load(source.spec.format).SUFFIX
            return storage.locate(split.labels).join(path[len(split.folder) + 1 :] + suffix)
    return path


def links_out(source: SourceJob, info: IndexInfo) -> list[tuple[int, str]]:
    """Links that lead out of a source, as (number, one of them): files, subfolders, and folders of its splits."""
    root = source.source.root
    real = {folder: f"{os.path.realpath(storage.local_path(root or folder))}/" for folder, *_ in info.links}
    found = [
        (count, os.path.join(folder, name))
        for folder, home, count, name in info.links
        if not f"{home}/".startswith(real[folder])
    ]
    if root is None or (top := storage.locate(root).local) is None:
        return found
    folders = [storage.locate(f).local for split in source.spec.splits for f in (split.labels, split.images) if f]
    below = {folder for folder in folders if folder is not None and folder.startswith(f"{top}/")}
    return found + [(1, folder) for folder in sorted(below) if not storage.within(folder, root)]


def _links_out(source: SourceJob, info: IndexInfo) -> list[str]:
    """What is to be said of links that lead out of a source; raises `DataError` where they are to be refused."""
    found = links_out(source, info)
    if not found:
        return []
    path, more = found[0][1], sum(count for count, _ in found) - 1
    others = f" (and {more:,} more)" if more else ""
    if source.source.links == "refuse":
        raise DataError(
            f"{path}: is a link that leads out of the source{others}; remove it, or --set source.links=follow"
        )
    return [
        f"{path}: is a link that leads out of the source{others}: what is there is taken, of files only labels and "
        "images; --set source.links=refuse stops instead"
    ]


def _left_out(name: str, count: int) -> str:
    """What is reported of files that no data set has."""
    if name in LEFT_OUT_FILES:
        return f"{plural(count, 'file')} called {name} left out: {LEFT_OUT_FILES[name]}"
    return f"{plural(count, 'file')} in folders called {name} left out: {LEFT_OUT_FOLDERS[name]}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")


def _never_drawn(source: SourceJob, info: IndexInfo) -> list[str]:
    """Names that are no classes, because nothing with an area has them: lines and points, or all outside."""
    if formats.load(source.spec.format).WHOLE:
        return []
    drawn = {name for totals in info.totals.values() for name in totals.get("drawn", ())}
    rest = {
        name: count for name, count in _counted(info, "objects").items() if name not in drawn and name not in NO_CLASS
    }
    if not rest:
        return []
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(rest.items()))
    points = json.loads(source.spec.options).get("keypoints") or []
    near = {n: found[0] for n in sorted({*rest} - {*points}) if (found := nearest(n, points, limit=1, likeness=0.8))}
    hint = "".join(f"; is {name!r} the keypoint {point!r} of source.options?" for name, point in near.items())
    return [f"labels of lines, points or objects outside of their image alone are no classes: {listed}{hint}"]


def _numbered(info: IndexInfo) -> list[str]:
    """Names taken for numbered instances: only the user knows which names just end in a number."""
    counts = _counted(info, "numbered")
    like = ", ".join(f"'{name}-1'" for name in sorted(counts))
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(counts.items()))
    return (
        [
            f"labels like {like} are read as instances of {listed}, as labelme before 4.0 wrote them; where the number "
            "belongs to the name, --set source.options.instances=keep"
        ]
        if counts
        else []
    )


def _supercategories(job: Job) -> list[str]:
    """Merged classes called as a supercategory that another class of the subset is of, in label files themselves.

    Readers of those mix the two up, see open-mmlab/mmdetection#11391; what a names YAML says of supercategories, nobody
    else reads.
    """
    made: dict[int, set[str]] = {}
    above: dict[str, dict[str, int]] = {}
    for source, classes in zip(job.sources, job.maps, strict=False):
        groups = source.names.supercategories if source.named and source.names is not None else {}
        for name, new in zip(classes.source, classes.lut, strict=True):
            if new >= 0:
                made.setdefault(new, set()).add(name)
            if new >= 0 and name in groups:
                above.setdefault(groups[name], {})[name] = new
    return [
        f"class {name!r} is called as the supercategory of {others[0]!r}, which is no part of it: who reads classes by "
        "name takes one for the other; give it another name, or make both one class"
        for number, name in enumerate(job.classes if job.maps else ())
        if made.get(number, {name}) != {name}
        and (others := [other for other, new in above.get(name, {}).items() if new != number])
    ]


def _alike(job: Job, gone: Sequence[str]) -> list[str]:
    """Names, also of several sources or of classes `gone`, that are nearly one: likely the same, which the user knows.

    Nothing is said of those that the config makes one class, and of those that it leaves out.
    """
    taken = {name: new for classes in job.maps for name, new in zip(classes.source, classes.lut, strict=True)}
    groups: dict[str, list[str]] = {}
    for name in (*job.names, *gone):
        groups.setdefault(re.sub(r"[\s_-]", "", name.casefold()) or name, []).append(name)
    return [
        f"classes {' and '.join(map(repr, names))} differ in {_in_what(names)} alone; make one of them with "
        + job.config.written.setting("classes", f"[{{name: {names[-1]}, from: [{', '.join(names)}]}}]")
        for names in groups.values()
        if len(names) > 1 and len({taken.get(name, -1) for name in names}) > 1
    ]


def _in_what(names: Sequence[str]) -> str:
    return "case" if len({name.casefold() for name in names}) == 1 else "case, blanks, dashes or underscores"
