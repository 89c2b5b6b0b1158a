"""The page that `coco-diy --help` prints, and the words that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: What people do, in the order in which they do it, with the commands for it.
_GROUPS = {
    "Begin": ("init", "fetch"),
    "Make a subset": ("plan", "build"),
    "Make one without a config": ("remake", "convert"),
    "Look at a collection or a subset": ("index", "stats", "show", "report", "verify", "diff", "status"),
    "On a cluster": ("worker",),
    "Editors": ("schema",),
}

EPILOG = """\b
Example: bicycles out of COCO 2017
  coco-diy init coco2017
  coco-diy fetch conf/coco2017.yaml
  coco-diy plan conf/coco2017.yaml
  coco-diy build conf/coco2017.yaml

\b
Exit codes:
  0    done, or nothing to do
  1    failed: bad data, files that failed, an internal error
  2    usage or config
  3    done, but rows or files were skipped (on_error: skip)
  4    stopped by the brake: much of the target would be lost
  5    the target or an index is in use by another run
  75   try again later: network, a busy server, no workers
  130  stopped by Ctrl-C (143: SIGTERM, 129: SIGHUP); run again to go on

\b
Completion, for bash (zsh and fish have their own):
  eval "$(_COCO_DIY_COMPLETE=bash_source coco-diy)"   in ~/.bashrc"""


class Commands(click.Group):
    """The commands in groups, in order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in order of use; one that no group has comes last."""
        known = [name for names in _GROUPS.values() for name in names if name in self.commands]
        return [*known, *(name for name in super().list_commands(ctx) if name not in known)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group with the first sentences of its commands, which are short enough not to be cut."""
        names = self.list_commands(ctx)
        grouped = {name for group in _GROUPS.values() for name in group}
        groups = {**_GROUPS, "More": tuple(name for name in names if name not in grouped)}
        for title, group in groups.items():
            there = [name for name in group if name in self.commands]
            rows = [(name.ljust(max(map(len, names))), self.commands[name].get_short_help_str(120)) for name in there]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Name(click.ParamType):  # type: ignore[type-arg]
    """One of the names that a folder of the package has: a shell completes it; what is unknown is said by who uses it.

    `available` gives the names; it is asked only when a page or a shell wants to know.
    """

    name = "name"

    def __init__(self, available: Callable[[], Iterable[str]]) -> None:
        self._available = available

    def get_metavar(self, *_: object, **__: object) -> str:
        """All the names, on the page of the command."""
        return f"[{'|'.join(self._available())}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """The names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self._available() if name.startswith(incomplete)]


def sources() -> list[str]:
    """Names of the formats that are converted from."""
    from pipeline.job import conversion

    return conversion.sources()


def targets() -> list[str]:
    """Names of the formats that are converted to."""
    from pipeline.job import conversion

    return conversion.targets()


def ready_configs() -> list[str]:
    """Names of the ready files."""
    from pipeline.config.templates import described

    return list(described())
