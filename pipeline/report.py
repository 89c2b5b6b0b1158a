"""Reports as text for people; the same data goes out as JSON elsewhere. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import INCOMPLETE, plural
from pipeline.text import markdown, printable
from pipeline.yaml_document import dump_yaml

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "val", "test")


@dataclass
class Report:
    """What a command found or did; `data` is what `--json` prints.

    `ok` is False where something failed or, with `incomplete`, where all was done but for what was skipped. `once` are
    those of the `warnings` that tell what this very run takes away or moves, `grave` those that tell of a whole class
    or split that is lacking: quiet or not, they are said. `problems` is the table (`schema.problems`) of what was left
    out, where anything was.
    """

    data: dict[str, Any]
    ok: bool = True
    warnings: list[str] = field(default_factory=list)
    problems: pa.Table | None = None
    incomplete: bool = False
    once: list[str] = field(default_factory=list)
    grave: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """What a process ends with, see `errors`."""
        return 0 if self.ok else INCOMPLETE if self.incomplete else 1

    def warn_once(self, warnings: Sequence[str]) -> None:
        """Add `warnings` of this very run."""
        self.warnings += warnings
        self.once += warnings

    def warn_gravely(self, warnings: Sequence[str]) -> None:
        """Add `warnings` of a class or split that is lacking."""
        self.warnings += warnings
        self.grave += warnings


#: What a target cannot hold of objects, by the word that is counted.
LOSSES = {
    "crowd": "crowds",
    "no_polygon": "no polygon",
    "no_keypoints": "no keypoints",
    "other_keypoints": "another number of keypoints",
    "no_box": "no box",
    "zero_area": "boxes without area",
    "outside": "outside of the image",
    "no_area": "lines and points, which have no area",
    "no_class": "of no class",
}
#: What is kept, but not whole.
PARTLY = {
    "holes": "objects with holes, which are filled",
    "resized": "objects of images that were resized after they were labelled, scaled with them",
    "turned": "objects drawn on the stored image, turned as it is shown",
    "exchanged": "objects of files that say width for height",
    "clipped": "objects cut off at the edge of the image",
    "joined": "objects of several parts, joined to one outline",
    "instance": "objects numbered in their label (person-1), the number taken off",
    "short_part": "objects with parts of too few points, which are left out",
    "keypoint_outside": "objects with keypoints outside of the image, which count as not labelled",
}


#: What is changed of an object whatever it is written as, even as COCO JSON, which takes all shapes.
CHANGED = frozenset({"resized", "turned", "exchanged", "clipped", "instance"})


#: What becomes of rows and images, in the words of a report; `kept` and what is not here adds up to the source.
DROPS = {
    "other_classes": "of other classes",
    "duplicates": "duplicates dropped",
    "background": "without an object",
    "elsewhere": "labelled in another split or source, so no backgrounds",
    "unwritable": "with a wanted object that the target cannot hold, so no backgrounds",
    "unread": "with a label that was left out, so no backgrounds",
    "no_image": "without an image file",
    "vanished": "gone since they were listed",
    "without_image": "of labels without image",
    "bad_image": "of images that cannot be used",
    "image_empty": "images of 0 bytes",
    "image_cut_short": "images cut short",
    "image_unreadable": "images that are none",
    "image_unread": "images that cannot be read",
    "image_too_small": "images too small for trainers",
    "image_too_large": "images too large to decode",
    "unknown_class": "of a class that the names do not have",
    "corrupt": "with a label file of bad rows only",
    "mixed": "with boxes and polygons in one label file",
    "lost": "that the target cannot hold",
    "bad": "bad",
}


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | int]], *, total: Sequence[str | int] | None = None
) -> str:
    """A table of aligned columns: the first to the left, numbers (with thousands' commas) to the right."""
    lines = [list(header), *[[_cell(c) for c in row] for row in rows]]
    if total is not None:
        lines.append([_cell(c) for c in total])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    texts = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
             for line in lines]
    rule = "-" * len(texts[0])
    texts.insert(1, rule)
    if total is not None:
        texts.insert(len(texts) - 1, rule)
    return "\n".join(text.rstrip() for text in texts)


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else printable(value)


def size(count: int) -> str:
    """A number of bytes for people: ``18.9 MB`` (powers of ten)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def subset_text(data: dict[str, Any]) -> str:
    """Images and objects of the subset by class and split."""
    splits = [s for s in SPLITS if s in data["subset"]]
    header = ["class", *[f"{s} {what}" for s in splits for what in ("images", "objects")]]
    rows: list[list[str | int]] = []
    for number, name in enumerate(data["classes"]):
        row: list[str | int] = [f"{number} {name}"]
        for split in splits:
            row += [data["subset"][split]["images_by_class"][name], data["subset"][split]["objects"][name]]
        rows.append(row)
    total: list[str | int] = ["in all"]
    for split in splits:
        total += [data["subset"][split]["images"], sum(data["subset"][split]["objects"].values())]
    return table(header, rows, total=total)


def actions_text(data: dict[str, Any]) -> str:
    """Files and bytes of a plan by action and kind."""
    rows: list[list[str | int]] = []
    for action, kinds in data["plan"].items():
        files = sum(k["files"] for k in kinds.values())
        count = sum(k["bytes"] for k in kinds.values())
        rows.append([action, *[kinds[k]["files"] for k in ("label", "image", "meta")], files, size(count)])
    return table(["action", "labels", "images", "other", "files", "bytes"], rows)


def plan_text(data: dict[str, Any]) -> str:
    """What `coco-diy plan` prints."""
    if "plan" not in data:
        return f"A build would stop (exit code 4): {data['brake']['error']}"
    verdict = (f"A build would change {data['changes']:,} files at {data['target']}." if data["changes"]
               else f"A build would change nothing at {data['target']}.")
    foreign = "".join(f"\nin the way: {printable(path)}" for path in data["foreign"][:10])
    loss = data["lost"]
    lost = (f"\nOf {plural(loss['total'], 'file')} at the target {loss['files']:,} would go and {loss['replaced']:,} "
            f"be replaced, such as {', '.join(loss['names'])}." if loss["files"] + loss["replaced"] else "")
    brake = f"\nA build would stop (exit code 4): {data['brake']['error']}" if data["brake"] else ""
    return (f"{subset_text(data)}\n\n{actions_text(data)}\n\n{_rows_text(data)}\n{_fetch_text(data)}{verdict}{lost}"
            f"{brake}{foreign}")


def _fetch_text(data: dict[str, Any]) -> str:
    """How much would be fetched, where images lie elsewhere."""
    told = data["fetch"]
    if not told["images"]:
        return ""
    if not told["requests"]:
        return f"{plural(told['images'], 'image')} from elsewhere, all fetched already.\n"
    much = "of unknown size" if told["bytes"] is None else size(told["bytes"])
    return f"{plural(told['images'], 'image')} from elsewhere: {plural(told['requests'], 'request')}, {much}.\n"


def fetch_text(data: dict[str, Any]) -> str:
    """What `coco-diy fetch` prints."""
    if "cleaned" in data:
        return f"Freed {size(data['cleaned']['bytes'])}: {plural(data['cleaned']['files'], 'kept image')}."
    if not data["files"]:
        return "Nothing to fetch: this config reads no archive."
    return "\n".join(f"{f['path']}: {f['status']}{', ' + size(f['moved']) + ' moved' if f['moved'] else ''}"
                     for f in data["files"])


def _rows_text(data: dict[str, Any]) -> str:
    told = [_balance_text(data["rows"], "rows")]
    told += [f"{count:,} {PARTLY[reason]}." if reason in PARTLY else
             f"{count:,} left out: {LOSSES.get(reason, reason)}." for reason, count in data["loss"].items()]
    return "\n".join([*told, _balance_text(data["images"], "images")]) + _split_text(data.get("split"))


def _balance_text(counts: dict[str, int], what: str) -> str:
    told = [f"{counts['kept']:,} of {counts['source']:,} {what} kept"]
    return "; ".join([*told, *(f"{n:,} {words}" for n, words in _lost(counts))]) + "."


def _lost(counts: dict[str, int]) -> list[tuple[int, str]]:
    """What was not kept, and why, in words; with what is kept it adds up."""
    known = [(counts[key], words) for key, words in DROPS.items() if counts.get(key)]
    other = [(n, key) for key, n in counts.items() if n and key not in ("source", "kept", *DROPS)]
    return known + other


def left_out_words(counts: dict[str, int]) -> str:
    """Counts by reason of what was left out, in words."""
    return ", ".join(f"{n:,} {words}" for n, words in _lost(counts))


def dataset_record(facts: dict[str, Any]) -> str:
    """The record of a subset in Markdown: what made it and what is in it; the same facts make the same text."""
    splits = list(facts["subset"])
    header = ["id", "class", "made of", *[f"{s} {what}" for s in splits for what in ("images", "objects")]]
    rows: list[list[str | int]] = []
    for number, entry in enumerate(facts["classes"]):
        name = entry["name"]
        counts = [facts["subset"][s][what][name] for s in splits for what in ("images_by_class", "objects")]
        rows.append([number, name, ", ".join(entry["from"]), *counts])
    total = [n for s in splits for n in (facts["subset"][s]["images"], sum(facts["subset"][s]["objects"].values()))]
    rows.append(["", "in all", "", *total])
    balance: list[list[str | int]] = []
    for what in ("rows", "images"):
        counts_of = facts[what]
        balance += [[what, "in the source", counts_of["source"]], ["", "kept", counts_of["kept"]],
                    *(_loss_row(n, words) for n, words in _lost(counts_of))]
    config = dump_yaml(facts["config"])
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", config)), default=0))
    return ("# What this dataset is made of\n\n"
            f"Made by {facts['tool']} from {plural(facts['label_files'], 'label file')}; "
            "a build writes this file anew.\n"
            f"Digest of the names and contents of these label files: `{facts['fingerprint']}`\n\n"
            f"{_markdown(header, rows)}\n\n{_markdown(['', 'what became of it', 'count'], balance)}\n\n"
            f"The config, without what does not decide about the files:\n\n{fence}yaml\n{config}{fence}\n")


def _loss_row(count: int, words: str) -> list[str | int]:
    return ["", words, count]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    cells = [[f"{c:,}" if isinstance(c, int) else markdown(c) for c in row] for row in rows]
    lines = [list(header), ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _split_text(split: dict[str, Any] | None) -> str:
    """How images were dealt out, where they were."""
    if split is None:
        return ""
    told = ", ".join(f"{name} {split['images'][name]:.3f} ({share:g} asked)" for name, share in split["shares"].items())
    worst = max(((abs(d), name, part, d) for name, parts in split["deviation"].items() for part, d in parts.items()),
                default=None)
    furthest = f"; furthest from its share: {worst[1]}, {worst[3]:+.3f} in {worst[2]}" if worst else ""
    table = f"\nSplit table: {split['table']}, {split['kept']:,} as before, {split['dealt']:,} new." \
        if "table" in split else ""
    return f"\nImages dealt out: {told}{furthest}.{table}"


def build_text(data: dict[str, Any]) -> str:
    """What `coco-diy build` and `remake` print."""
    if data["status"] == "nothing to do":
        images = sum(s["images"] for s in data["subset"].values())
        return f"Nothing to do: {data['target']} holds {images:,} images as the config and the source say."
    head = f"{subset_text(data)}\n\n{actions_text(data)}\n\n{_rows_text(data)}\n"
    if data["status"] == "failed":
        failed = list(data["failed"].items())
        listed = "\n".join(printable(f"failed: {path}: {reason}") for path, reason in failed[:10])
        return f"{head}{listed}\n{plural(len(failed), 'file')} failed; run the same command again to do just these."
    return f"{head}Built {data['target']}."


def index_text(data: dict[str, Any]) -> str:
    """What `coco-diy index` prints."""
    header = ["split", "images", "label files", "empty", "corrupt", "rows", "duplicates", "label, no image",
              "image, no label", "two images"]
    rows: list[list[str | int]] = []
    for split, counts in _by_source(data["source"]):
        labels = counts["labels"]
        rows.append([split, counts["images"], sum(n for s, n in labels.items() if s != "missing"),
                     labels.get("empty", 0), labels.get("corrupt", 0), counts["rows"], counts["duplicate_rows"],
                     counts["no_image"], labels.get("missing", 0), counts["many_images"]])
    where = data["index"] if isinstance(data["index"], str) else ", ".join(data["index"])
    return f"{table(header, rows)}\n\nIndex in {where}, {plural(data['buckets'], 'bucket')}."


def _by_source(source: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Counts by split; of several sources by source and split."""
    if any("labels" in counts for counts in source.values()):
        return list(source.items())
    return [(f"{name} {split}", counts) for name, splits in source.items() for split, counts in splits.items()]


def verify_text(data: dict[str, Any]) -> str:
    """What `coco-diy verify` prints."""
    lines = [printable(f"{d['path']}: {d['detail']}") for d in data["listed"][:20]]
    if len(data["listed"]) > 20:
        lines.append(f"… and {plural(len(data['listed']) - 20, 'more file')}; all with --json")
    if data.get("repaired"):
        lines.append(f"Repaired {plural(data['repaired'], 'file')}.")
    told = ", ".join(f"{n:,} {reason}" for reason, n in data["differences"].items())
    how = "contents and all" if data["deep"] else "by name and size"
    verdict = (f"{plural(len(data['listed']), 'difference')} ({told})" if data["listed"] else "All is as it was built")
    return "\n".join([*lines, f"{verdict}: {data['target']}, {plural(data['files'], 'file')} checked {how}."])


def failure_text(data: dict[str, Any]) -> str:
    """What failed or was left out, a line each: what is said of it where nothing else is."""
    lines = [f"failed: {path}: {reason}" for path, reason in data.get("failed", {}).items()]
    if "differences" in data:
        lines += [f"{d['path']}: {d['detail']}" for d in data["listed"]]
    if data.get("left_out"):
        lines += [f"left out: {row['path']}{':' + str(row['line']) if row['line'] else ''}: {row['detail']}"
                  for row in data["left_out"]["listed"]]
    more = [f"… and {len(lines) - 20:,} more; all with --json"] if len(lines) > 20 else []
    return "\n".join([*lines[:20], *more])


def diff_text(data: dict[str, Any]) -> str:
    """What `coco-diy diff` prints."""
    splits = list(data["by_class"])
    header = ["class", *[f"{s} {what}" for s in splits for what in ("images", "objects")]]
    names = list(next(iter(data["by_class"].values()), {}))
    rows: list[list[str | int]] = []
    for name in names:
        cells = [data["by_class"][s][name][what] for s in splits for what in ("images_by_class", "objects")]
        mark = next((f" ({word})" for word in ("gained", "lost", "renumbered") if name in data["classes"][word]), "")
        rows.append([name + mark, *[f"{n:+,}" if n else "0" for n in cells]])
    total = ["images in all", *[t for s in splits for t in (f"{data['images'][s]:+,}", "")]]
    files = data["files"]
    return (f"{table(header, rows, total=total)}\n\nFiles: {files['gained']:,} gained, {files['lost']:,} lost, "
            f"{files['changed']:,} changed, from {data['from']} to {data['to']}.")


def status_text(data: dict[str, Any]) -> str:
    """What `coco-diy status` prints."""
    lines = [_run_text(run) for run in data["recent"]]
    if data["runs"] > len(lines):
        lines.append(f"… and {data['runs'] - len(lines):,} before.")
    if data["running"]:
        lines.append(f"A run is under way: {data['running']}.")
    if data["stopped"]:
        lines.append("A later run was stopped before its end; run the same command again to go on.")
    return "\n".join(lines) or f"Nothing is known of {data['target']}."


def _run_text(run: dict[str, Any]) -> str:
    head = f"{run['time']} on {run['host']}: {run['status']}"
    if run["error"]:
        return f"{head} (exit code {run['exit_code']}): {run['error']}"
    skipped = " (exit code 3: some was skipped)" if run["exit_code"] == INCOMPLETE else ""
    return f"{head}, {plural(run['changes'] or 0, 'file')} changed{skipped}."
