"""DATASET.md and its JSON: what a subset holds and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline.base.humanize import plural
from pipeline.base.text import markdown
from pipeline.base.yaml_document import dump_yaml
from pipeline.reports.steps_text import STEPS, step_rows
from pipeline.reports.words import lost

#: The page and the contact sheet that a build leaves where ``target.report`` asks for them, below the target.
PAGE, SHEET = ".coco-diy/report.html", ".coco-diy/sheet.jpg"


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
    rows.append(["", "total", "", *total])
    balance: list[list[str | int]] = []
    for what in ("rows", "images"):
        counts_of = facts[what]
        balance += [
            [what, "in the source", counts_of["source"]],
            ["", "kept", counts_of["kept"]],
            *(_loss_row(n, words) for n, words in lost(counts_of)),
        ]
    config = dump_yaml(facts["config"])
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", config)), default=0))
    return (
        "# What this dataset is made of\n\n"
        f"Made by {facts['tool']} from {plural(facts['label_files'], 'label file')}; "
        "a build writes this file anew.\n"
        f"Digest of the subset, which `data.yaml` has too: `{facts['digest']}`\n"
        f"Digest of the names and contents of these label files: `{facts['fingerprint']}`\n\n"
        f"{_pictures(facts['config']['target'])}"
        f"{_markdown(header, rows)}\n\n{_markdown(['', 'what became of it', 'count'], balance)}\n\n"
        f"The steps of the selection, in their order:\n\n{_markdown(STEPS, step_rows(facts['steps']))}\n\n"
        f"The config, without what does not decide about the files:\n\n{fence}yaml\n{config}{fence}\n"
    )


def _pictures(target: dict[str, Any]) -> str:
    """The sheet and the page that a build leaves, where the config asks for them; in a zip they would not be there."""
    if not target.get("report") or target["archive"] != "none":
        return ""
    sheet = f"![A contact sheet: a sample of the images with their objects]({SHEET})\n\n"
    return f"{sheet if target['images'] != 'none' else ''}[Numbers and pictures]({PAGE})\n\n"


def _loss_row(count: int, words: str) -> list[str | int]:
    return ["", words, count]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    cells = [[f"{c:,}" if isinstance(c, int) else markdown(c) for c in row] for row in rows]
    lines = [list(header), ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
