"""The command line: commands, printing and exit codes; nothing else.

stdout carries the result, stderr everything else. `errors` says what a process ends with.
"""

from pipeline.cli import look
from pipeline.cli.commands import cli
from pipeline.cli.run import run_cli

__all__ = ["cli", "look", "run_cli"]
