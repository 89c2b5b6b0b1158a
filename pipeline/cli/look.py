"""The commands that show what there is: counts, a contact sheet, a page."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from pipeline.base.errors import UsageError
from pipeline.cli.commands import cli
from pipeline.cli.options import cache_folder, common_options, config_of, engine_of
from pipeline.cli.output import progress_of, put_bytes, put_report, say

_WHAT = "CONFIG|TARGET|FOLDER"

#: Where a file is that nobody named.
_HERE = "default: here or, in a folder of the dataset, in the user's cache folder,"

_workdir = click.option(
    "--workdir", metavar="DIR", help="where the index of a TARGET or FOLDER is; default: the user's cache folder"
)


@cli.command()
@click.argument("what", metavar=_WHAT, type=click.Path())
@click.option("--all", "every", is_flag=True, help="also classes without an object")
@click.option("--csv", "as_csv", is_flag=True, help="the result on stdout as CSV, a row a class")
@_workdir
@common_options
def stats(what: str, every: bool, as_csv: bool, workdir: str | None, **common: Any) -> None:
    """Count images and objects by class and split.

    Most objects first; of a CONFIG before and after, of a TARGET, of the FOLDER of any dataset.
    """
    from pipeline.look.stats import stats as stats_of
    from pipeline.reports.class_table import stats_csv, stats_text

    if as_csv and common["as_json"]:
        raise click.UsageError("--csv and --json: name one of them")
    report = stats_of(
        config_of(what, common) or what, workdir or cache_folder(), progress_of(common), engine_of(common)
    )
    if as_csv:
        put_report(report, common, functools.partial(stats_csv, every=every))
    else:
        put_report(report, common, functools.partial(stats_text, every=every, bars=sys.stdout.isatty()))


@cli.command()
@click.argument("what", metavar=_WHAT, type=click.Path())
@click.option("--class", "classes", multiple=True, metavar="NAME", help="objects of this class alone; may be repeated")
@click.option("--split", metavar="NAME", help="images of this split alone")
@click.option("-n", "count", type=click.IntRange(1, 400), default=16, show_default=True, metavar="N", help="how many")
@click.option("--seed", type=int, default=0, metavar="N", help="another number, another sample")
@click.option("--mode", type=click.Choice(["images", "objects"]), default="images", help="whole images, or each object")
@click.option("--sort", metavar="NAME", help="images: random, most; objects: smallest, largest, extreme, random")
@click.option("--font", metavar="FILE", help="a font for names; without it one of this machine is taken that has them")
@click.option("-o", "--output", metavar="FILE", help=f"JPEG, PNG or WebP; - is this terminal; {_HERE} sheet.jpg")
@_workdir
@common_options
def show(
    what: str,
    classes: tuple[str, ...],
    split: str | None,
    count: int,
    seed: int,
    mode: str,
    sort: str | None,
    font: str | None,
    output: str | None,
    workdir: str | None,
    **common: Any,
) -> None:
    """Draw a contact sheet of images with their objects.

    Boxes, polygons and skeletons, on whole images or one object after another.
    """
    from pipeline.look.fonts import Lettering
    from pipeline.look.sheet import draw_sheet
    from pipeline.look.terminals import inline, protocol_of
    from pipeline.look.thumbnails import DESCRIPTION, KINDS, encoded
    from pipeline.look.view import open_view

    if output == "-" and common["as_json"]:
        raise click.UsageError("-o - and --json: name one of them")
    suffix = os.path.splitext(output or "sheet.jpg")[1].lower()
    if output != "-" and suffix not in KINDS:
        raise UsageError(f"-o {output}: is no picture that can be written; end it in {', '.join(KINDS)}")
    if output != "-":
        _note_output(output, "sheet.jpg", what, DESCRIPTION)
    protocol = protocol_of(os.environ) if sys.stdout.isatty() else None
    if output == "-" and sys.stdout.isatty() and protocol is None:
        raise UsageError("-o -: this terminal shows no pictures (kitty, iTerm2 and sixel do); name a file instead")
    letters = Lettering(font)
    view = open_view(config_of(what, common) or what, workdir or cache_folder(), progress_of(common), engine_of(common))
    sheet = draw_sheet(
        view, count=count, classes=classes, split=split, seed=seed, objects=mode == "objects", sort=sort,
        letters=letters,
    )  # fmt: skip
    if output == "-":
        for warning in letters.advice():
            say(f"warning: {warning}")
        put_bytes(inline(sheet, protocol) if protocol is not None else encoded(sheet, ".png"))
        return
    data = encoded(sheet, suffix, description=DESCRIPTION)
    _write(output, "sheet", data, common, {"command": "show", "size": list(sheet.size)}, letters.advice())


@cli.command()
@click.argument("what", metavar=_WHAT, type=click.Path())
@click.option("-o", "--output", metavar="FILE", help=f"the page; {_HERE} report.html")
@click.option("--no-images", is_flag=True, help="embed no picture: for images that must not travel")
@click.option("--seed", type=int, default=0, metavar="N", help="another number, another sample")
@_workdir
@common_options
def report(what: str, output: str | None, no_images: bool, seed: int, workdir: str | None, **common: Any) -> None:
    """Make one HTML page of numbers and pictures.

    Also what is noteworthy, and a sample of each class. It needs no network.
    """
    from pipeline.look.html_page import GENERATOR
    from pipeline.look.page import page_of
    from pipeline.look.view import open_view

    if output is not None and not output.lower().endswith((".html", ".htm")):
        raise UsageError(f"-o {output}: is no page that can be written; end it in .html")
    _note_output(output, "report.html", what, GENERATOR)
    progress = progress_of(common)
    view = open_view(config_of(what, common) or what, workdir or cache_folder(), progress, engine_of(common))
    page = page_of(view, progress, images=not no_images, seed=seed)
    _write(output, "page", page, common, {"command": "report", "bytes": len(page), "images": not no_images})


def _note_output(output: str | None, usual: str, what: str, mark: str) -> None:
    """Have it checked, before anything is read, that what is written replaces nothing but what has our `mark`.

    Where no `output` is named, it is the file `usual` in the working folder, or where caches are if that is in `what`.
    """
    from pipeline.job.outputs import note_output

    instead = None
    if output is None:
        stem = os.path.splitext(os.path.basename(os.path.abspath(what)))[0]
        instead = f"{cache_folder()}/{stem}-{usual}"
    for path in note_output("-o", output or usual, mark.encode(), instead=instead):
        if os.path.exists(path) and not os.path.isfile(path):
            raise UsageError(f"-o {output or path}: is there and no file; name another")


def _write(
    output: str | None, kind: str, data: bytes, common: dict[str, Any], facts: dict[str, Any],
    warnings: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write what a command made, a sheet or a page, and say where it is: as its user named it, if he did."""
    from pipeline.job.outputs import write_output
    from pipeline.reports.report import Report

    folder, name = os.path.split(path := write_output("-o", data))
    shown = output or (name if folder == os.getcwd() else path)
    put_report(Report({**facts, kind: shown}, warnings=list(warnings)), common, lambda _: shown)
