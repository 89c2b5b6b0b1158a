"""Reports as text for people; the same data goes out as JSON elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from pipeline.base.errors import INCOMPLETE
from pipeline.base.humanize import age, plural, size
from pipeline.base.terms import SPLITS
from pipeline.base.text import printable, terminal_columns
from pipeline.reports.counts import label_files
from pipeline.reports.steps_text import CLASSES, STEPS, class_rows, is_shaped, objects_after, step_rows
from pipeline.reports.words import balance, cell, counted, lost

if TYPE_CHECKING:
    from pipeline.reports.documents import (
        BrakedReport,
        BuildReport,
        DiffReport,
        Failures,
        FetchReport,
        Finding,
        ImagesAlike,
        IndexReport,
        InitReport,
        LeaksReport,
        PlanReport,
        RunLine,
        Sources,
        SourceTotals,
        SplitReport,
        StatusReport,
        VerifyReport,
    )

#: What is changed of an object whatever it is written as, even as COCO JSON, which takes all shapes.
CHANGED = frozenset(
    {
        "resized",
        "turned",
        "exchanged",
        "clipped",
        "instance",
        "shares",
        "pixel_zero",
        "edges_from_one",
        "parts",
        "outlines",
        "damaged_mask",
    }
)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | int]], *, total: Sequence[str | int] | None = None
) -> str:
    """A table of aligned columns: the first to the left, numbers (with thousands' commas) to the right."""
    lines = [list(header), *[[cell(c) for c in row] for row in rows]]
    if total is not None:
        lines.append([cell(c) for c in total])
    widths = [max(terminal_columns(line[i]) for line in lines) for i in range(len(header))]
    texts = []
    for line in lines:
        cells: list[str] = []
        for text, width in zip(line, widths, strict=True):
            blanks = " " * (width - terminal_columns(text))
            cells.append(blanks + text if cells else text + blanks)
        texts.append("  ".join(cells))
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    texts.insert(1, rule)
    if total is not None:
        texts.insert(len(texts) - 1, rule)
    return "\n".join(text.rstrip() for text in texts)


def subset_text(data: PlanReport) -> str:
    """Images and objects of the subset by class and split."""
    splits = [s for s in SPLITS if s in data["subset"]]
    header = ["class", *[f"{s} {what}" for s in splits for what in ("images", "objects")]]
    rows: list[list[str | int]] = []
    for number, name in enumerate(data["classes"]):
        row: list[str | int] = [f"{number} {name}"]
        for split in splits:
            row += [data["subset"][split]["images_by_class"][name], data["subset"][split]["objects"][name]]
        rows.append(row)
    total: list[str | int] = ["total"]
    for split in splits:
        total += [data["subset"][split]["images"], sum(data["subset"][split]["objects"].values())]
    return table(header, rows, total=total)


def actions_text(data: PlanReport) -> str:
    """Files and bytes of a plan by action and kind."""
    rows: list[list[str | int]] = []
    for action, kinds in data["plan"].items():
        files = sum(k["files"] for k in kinds.values())
        count = sum(k["bytes"] for k in kinds.values())
        rows.append([action, *[kinds[k]["files"] for k in ("label", "image", "meta")], files, size(count)])
    return table(["action", "labels", "images", "other", "files", "bytes"], rows)


def plan_text(found: PlanReport | BrakedReport) -> str:
    """What `coco-diy plan` prints."""
    if "plan" not in found:
        return f"A build would stop (exit code 4): {found['brake']['error']}"
    data = cast("PlanReport", found)
    verdict = (
        f"A build would change {plural(data['changes'], 'file')} at {data['target']}."
        if data["changes"]
        else f"A build would change nothing at {data['target']}."
    )
    foreign = "".join(f"\nconflict: {printable(path)}" for path in data["foreign"][:10])
    loss = data["lost"]
    lost = (
        f"\nOf {plural(loss['total'], 'file')} at the target {loss['files']:,} would go and {loss['replaced']:,} "
        f"be replaced, such as {', '.join(loss['names'])}."
        if loss["files"] + loss["replaced"]
        else ""
    )
    brake = f"\nA build would stop (exit code 4): {data['brake']['error']}" if data["brake"] else ""
    return (
        f"{subset_text(data)}\n\n{actions_text(data)}\n\n{_rows_text(data)}\n{_fetch_text(data)}{verdict}{lost}"
        f"{brake}{foreign}"
    )


def _fetch_text(data: PlanReport) -> str:
    """How much would be fetched, where images are elsewhere."""
    cost = data["fetch"]
    if not cost["images"]:
        return ""
    if not cost["requests"]:
        return f"{plural(cost['images'], 'image')} from elsewhere, all fetched already.\n"
    about = "about " if cost["about"] else ""
    much = "of unknown size" if cost["bytes"] is None else f"{about}{size(cost['bytes'])}"
    return f"{plural(cost['images'], 'image')} from elsewhere: {plural(cost['requests'], 'request')}, {much}.\n"


def fetch_text(data: FetchReport) -> str:
    """What `coco-diy fetch` prints."""
    if "cleaned" in data:
        return f"Freed {size(data['cleaned']['bytes'])}: {plural(data['cleaned']['files'], 'cached image')}."
    if not data["files"]:
        return "Nothing to fetch: this config reads no archive."
    return "\n".join(
        f"{f['path']}: {f['status']}{', ' + size(f['moved']) + ' moved' if f['moved'] else ''}" for f in data["files"]
    )


def _rows_text(data: PlanReport) -> str:
    lines = [_balance_text(data["rows"], "row"), *counted(data["loss"]), _balance_text(data["images"], "image")]
    return "\n".join(lines) + _split_text(data.get("split")) + _steps_text(data)


def _steps_text(data: PlanReport) -> str:
    """The steps of the selection and the classes before and after, where it does more than to take classes."""
    steps = data.get("steps")
    if not steps or not is_shaped(steps):
        return ""
    rows = step_rows(steps)
    body = table(STEPS[:-1], [row[:-1] for row in rows]).splitlines()
    why = [f"  {row[-1]}" if row[-1] else "" for row in rows]
    named = "\n".join([*body[:2], *(line + text for line, text in zip(body[2:], why, strict=True))])
    return f"\n\n{named}\n\n{table(CLASSES, class_rows(steps, objects_after(data)))}\n"


def _balance_text(counts: dict[str, int], what: str) -> str:
    return "; ".join([f"{balance(counts, what)} kept", *(f"{n:,} {words}" for n, words in lost(counts))]) + "."


def left_out_words(counts: dict[str, int]) -> str:
    """Counts by reason of what was left out, in words."""
    return ", ".join(f"{n:,} {words}" for n, words in lost(counts))


def _split_text(split: SplitReport | None) -> str:
    """How images were assigned to splits, where they were."""
    if split is None:
        return ""
    drawn = ", ".join(
        f"{name} {split['images'][name]:.3f} ({share:g} asked)" for name, share in split["shares"].items()
    )
    worst = max(
        ((abs(d), name, part, d) for name, parts in split["deviation"].items() for part, d in parts.items()),
        default=None,
    )
    furthest = f"; furthest from its share: {worst[1]}, {worst[3]:+.3f} in {worst[2]}" if worst else ""
    table = (
        f"\nSplit table: {split['table']}, {split['kept']:,} as before, {split['assigned']:,} new."
        if "table" in split
        else ""
    )
    return f"\nSplit assigned: {drawn}{furthest}.{table}"


def build_text(data: BuildReport) -> str:
    """What `coco-diy build` and `remake` print."""
    if data["status"] == "nothing to do":
        images = sum(s["images"] for s in data["subset"].values())
        return f"Nothing to do: {data['target']} holds {plural(images, 'image')} as the config and the source say."
    head = f"{subset_text(data)}\n\n{actions_text(data)}\n\n{_rows_text(data)}\n"
    if data["status"] == "failed":
        failed = list(data["failed"].items())
        listed = "\n".join(printable(f"failed: {path}: {reason}") for path, reason in failed[:10])
        return f"{head}{listed}\n{plural(len(failed), 'file')} failed; run the same command again to do just these."
    built = f"{data['target']}/{data['archive']}" if data.get("archive") else data["target"]
    training = f"\nTo train on it: {data['training']}" if data.get("training") else ""
    return f"{head}Built {built}.{training}"


def index_text(data: IndexReport) -> str:
    """What `coco-diy index` prints."""
    header = [
        "split",
        "images",
        "label files",
        "empty",
        "corrupt",
        "rows",
        "duplicates",
        "label, no image",
        "image, no label",
        "two images",
    ]
    rows: list[list[str | int]] = []
    for split, counts in _by_source(data["source"]):
        labels = counts["labels"]
        rows.append(
            [
                split,
                counts["images"],
                label_files(labels),
                labels.get("empty", 0),
                labels.get("corrupt", 0),
                counts["rows"],
                counts["duplicate_rows"],
                counts["no_image"],
                labels.get("missing", 0),
                counts["many_images"],
            ]
        )
    where = data["index"] if isinstance(data["index"], str) else ", ".join(data["index"])
    return f"{table(header, rows)}\n\nIndex in {where}, {plural(data['buckets'], 'bucket')}."


def _by_source(source: Sources) -> list[tuple[str, SourceTotals]]:
    """Counts by split; of several sources by source and split."""
    found: list[tuple[str, SourceTotals]] = []
    for name, inner in source.items():
        if "labels" in inner:
            found.append((name, cast("SourceTotals", inner)))
        else:
            found += [(f"{name} {split}", counts) for split, counts in inner.items()]
    return found


def verify_text(data: VerifyReport) -> str:
    """What `coco-diy verify` prints."""
    made = [_verified(data)] if data.get("of") != "config" else []
    return "\n".join([*made, *(leaks_lines(data["leaks"]) if "leaks" in data else [])])


def _verified(data: VerifyReport) -> str:
    """What differs from what was built, or is wrong with a folder."""
    lines = [printable(f"{_spot(d)}: {d['detail']}") for d in data["listed"][:20]]
    if len(data["listed"]) > 20:
        lines.append(f"… and {plural(len(data['listed']) - 20, 'more file')}; all with --json")
    if data.get("repaired"):
        lines.append(f"Repaired {plural(data['repaired'], 'file')}.")
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in data["differences"].items())
    if data.get("of") == "folder":
        how = "decoded" if data["deep"] else "checked at their beginning and end"
        verdict = f"{plural(len(data['listed']), 'problem')} ({reasons})" if data["listed"] else "No problem"
        return "\n".join([*lines, f"{verdict}: {data['target']}, labels read, {plural(data['files'], 'image')} {how}."])
    how = "contents and all" if data["deep"] else "by name and size"
    verdict = f"{plural(len(data['listed']), 'difference')} ({reasons})" if data["listed"] else "All is as it was built"
    return "\n".join([*lines, f"{verdict}: {data['target']}, {plural(data['files'], 'file')} checked {how}."])


def leaks_lines(data: LeaksReport) -> list[str]:
    """Pairs of images in two splits or sources, a line each, and how many there are."""
    several = any(pair["sources"][0] != pair["sources"][1] for pair in data["between"])
    lines = [printable(_pair_line(pair, several=several)) for pair in data["listed"][:20]]
    count = data["equal"] + data["near"]
    if count > 20:
        more = "all" if count == len(data["listed"]) else f"{len(data['listed']):,}"
        lines.append(f"… and {plural(count - 20, 'more pair')}; {more} with --json")
    compared = f"{plural(data['images'], 'image')} compared"
    if data["damaged"]:
        compared += f", {data['damaged']:,} of them, which cannot be decoded, by content alone"
    if data["unread"]:
        compared += f"; {data['unread']:,} not: not fetched yet, or not readable"
    where = "two splits or sources" if several else "two splits"
    verdict = (
        f"{plural(count, 'pair')} of images in {where} ({data['equal']:,} equal, {data['near']:,} near)"
        if count
        else "No image is in two splits or sources"
    )
    return [*lines, f"{verdict}: {compared}."]


def _pair_line(pair: ImagesAlike, *, several: bool) -> str:
    first, second = (
        f"{path} ({f'{source} {split}' if several else split})"
        for path, source, split in zip((pair["first"], pair["second"]), pair["sources"], pair["splits"], strict=True)
    )
    how = "equal, byte for byte" if pair["equal"] else f"near, {pair['distance']} of 64 bits differ"
    return f"{first} and {second}: {how}"


def _spot(found: Finding) -> str:
    """Path and, where it has one, line of what was found."""
    return f"{found['path']}:{found['line']}" if found.get("line") else str(found["path"])


def failure_text(data: Failures) -> str:
    """What failed or was left out, a line each: what is said of it where nothing else is."""
    lines = [f"failed: {path}: {reason}" for path, reason in data.get("failed", {}).items()]
    if "differences" in data:
        lines += [f"{_spot(d)}: {d['detail']}" for d in data["listed"]]
    if "leaks" in data:
        lines += leaks_lines(data["leaks"])
    if data.get("left_out"):
        lines += [f"left out: {_spot(row)}: {row['detail']}" for row in data["left_out"]["listed"]]
    more = [f"… and {len(lines) - 20:,} more; all with --json"] if len(lines) > 20 else []
    return "\n".join([*lines[:20], *more])


def diff_text(data: DiffReport) -> str:
    """What `coco-diy diff` prints."""
    splits = list(data["by_class"])
    header = ["class", *[f"{s} {what}" for s in splits for what in ("images", "objects")]]
    names = list(next(iter(data["by_class"].values()), {}))
    rows: list[list[str | int]] = []
    for name in names:
        cells = [data["by_class"][s][name][what] for s in splits for what in ("images_by_class", "objects")]
        mark = next((f" ({word})" for word in ("gained", "lost", "renumbered") if name in data["classes"][word]), "")
        rows.append([name + mark, *[f"{n:+,}" if n else "0" for n in cells]])
    total = ["images, total", *[t for s in splits for t in (f"{data['images'][s]:+,}", "")]]
    files = data["files"]
    if files is not None:
        counts = f"{files['gained']:,} gained, {files['lost']:,} lost, {files['changed']:,} changed"
    else:
        counts = ", ".join(f"{held['files']:+,} {_KINDS[kind]}" for kind, held in data["held"].items())
    return f"{table(header, rows, total=total)}\n\nFiles: {counts}, from {data['from']} to {data['to']}."


#: Files of a target by kind.
_KINDS = {"label": "labels", "image": "images", "meta": "other"}


def init_text(data: InitReport) -> str:
    """What `coco-diy init` prints: the ready configs, or the files that it copied."""
    if "ready" in data:
        width = max(map(len, data["ready"]))
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in data["ready"].items())
    return "\n".join(f"{file['path']}{'' if file['written'] else ' (is there already)'}" for file in data["files"])


def status_text(data: StatusReport) -> str:
    """What `coco-diy status` prints."""
    lines = [_run_text(run) for run in data["recent"]]
    if data["runs"] > len(lines):
        lines.append(f"… and {data['runs'] - len(lines):,} before.")
    if data["running"]:
        lines.append(f"A run is under way: {data['running']}.")
    lines += [f"{run['by']} was killed {_KILLED[run['where']]}." for run in data["killed"]]
    if data["stopped"]:
        lines.append("A later run was stopped before its end; run the same command again to go on.")
    if data["late"] and data["max_age"] is not None:
        last = data["last_success"]
        when = f"is {age(last['age'])} old" if last else "is not known"
        lines.append(f"The last success {when}, and may be {age(data['max_age'])} old at most.")
    return "\n".join(lines) or f"Nothing is known of {data['target']}."


#: Where a run was killed.
_KILLED = {"apply": "while it changed the target", "before apply": "before it changed the target"}


def _run_text(run: RunLine) -> str:
    took = f", {age(run['seconds'])}" if run["seconds"] is not None else ""
    where = f", stage {run['stage']}" if run["stage"] else ""
    head = f"{run['run'] or run['time']} on {run['host']}{took}{where}: {run['status']}"
    if run["error"]:
        return f"{head} (exit code {run['exit_code']}): {run['error']}"
    skipped = " (exit code 3: some was skipped)" if run["exit_code"] == INCOMPLETE else ""
    digest = f", digest {run['digest']}" if run["digest"] else ""
    return f"{head}, {plural(run['changes'] or 0, 'file')} changed{digest}, by {run['tool']}{skipped}."
