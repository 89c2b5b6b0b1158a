"""Running whole programs and measuring them: wall time, and the memory of all their processes together.

A figure of a data tool is that of the whole process, interpreter start and imports included, because that is what its
user waits for. Compared programs run in turn, A B C A B C, so that a machine that gets slower or faster meanwhile does
it to all of them alike; the figure is the median. Memory is sampled in runs of its own, since sampling slows what it
looks at.

Memory is PSS, the proportional set size: a page that n processes share counts 1/n for each of them. So the sum over a
process tree is what the tree really takes, where summed RSS counts the shared libraries of every worker anew.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Command = Sequence[str] | Callable[[], object]
Prepare = Callable[[str], None]

#: Seconds between two looks at the memory.
SAMPLE_EVERY = 0.02
#: Seconds that processes left behind by a finished command get to end by themselves.
GRACE = 2.0


class CommandError(Exception):
    """A measured command ended badly, so that its time says nothing; the text holds the end of its stderr."""

    def __init__(self, command: Sequence[str], code: int, stderr: str) -> None:
        tail = stderr.strip()[-4000:]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"{' '.join(command)}\n{how}; its stderr:\n{tail or '(nothing)'}")
        self.code = code


@dataclass(frozen=True)
class Summary:
    """Several runs of one command, in seconds; `processor` are those of the processor, also of processes it started."""

    name: str
    seconds: tuple[float, ...]
    processor: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The figure that is compared."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """The fastest run."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """The slowest run."""
        return max(self.seconds)


@dataclass(frozen=True)
class Memory:
    """The peak of a command's process tree."""

    name: str
    #: Summed PSS in bytes at the moment when it was largest, and how many processes there were then.
    peak: int
    processes: int
    #: Samples taken: a peak between two of them (20 ms) goes unseen.
    samples: int

    @property
    def megabytes(self) -> float:
        """The peak in MB of a million bytes."""
        return self.peak / 1e6


@dataclass(frozen=True)
class _Process:
    """What ``/proc/<pid>/stat`` says about a process."""

    pid: int
    state: str
    parent: int
    group: int
    session: int


def _processes() -> list[_Process]:
    """All processes of the machine at this moment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            # The command's name stands in brackets and may hold anything, so the fields are counted from the last one.
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                found.append(_Process(int(name), fields[0], int(fields[1]), int(fields[2]), int(fields[3])))
    return found


def process_tree(leader: int) -> list[int]:
    """Ids of the living processes of a session's leader: its session, its group and all descendants of these.

    Descent alone would lose a worker whose parent has ended, the session alone one that has made a session of its own.
    """
    alive = [process for process in _processes() if process.state not in "ZX"]
    members = {process.pid for process in alive if leader in (process.pid, process.group, process.session)}
    grown = -1
    while grown != len(members):
        grown = len(members)
        members |= {process.pid for process in alive if process.parent in members}
    return sorted(members)


def pss(pid: int, *, anonymous: bool = False) -> int:
    """Proportional set size of one process in bytes; 0 if it has ended meanwhile.

    With `anonymous` without pages of files, which the system can drop and read again.
    """
    begin = "Pss_Anon:" if anonymous else "Pss:"
    try:
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith(begin):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _wait_for_rest(leader: int) -> None:
    """Let what a finished command left behind end, then end it, so that it does not run beside the next one.

    The command's own time is over by then: nobody waits for a resource tracker.
    """
    deadline = time.monotonic() + GRACE
    while rest := [pid for pid in process_tree(leader) if pid != leader]:
        if time.monotonic() > deadline:
            for pid in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.01)


def _run(
    command: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, watch: Callable[[int], None] | None
) -> float:
    """Run a command as a session of its own; return its wall seconds. ``watch`` gets its id over and over."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        try:
            while watch is not None and child.poll() is None:
                watch(child.pid)
                time.sleep(SAMPLE_EVERY)
            code = child.wait()
            seconds = time.perf_counter() - began
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        finally:
            _wait_for_rest(child.pid)
        if code:
            errors.seek(0)
            raise CommandError(command, code, errors.read().decode(errors="replace"))
    return seconds


def wall_seconds(command: Command, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """Run once and return the wall seconds: a whole process from its start to its end, or a call of a function."""
    if callable(command):
        began = time.perf_counter()
        command()
        return time.perf_counter() - began
    return _run(command, env, cwd, None)


def processor_seconds(command: Command, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """As `wall_seconds`, but the processor's: of a process and of those that it waited for, or of this one alone.

    They say more where other programs run beside.
    """
    who = resource.RUSAGE_SELF if callable(command) else resource.RUSAGE_CHILDREN
    before = resource.getrusage(who)
    wall_seconds(command, env, cwd)
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_memory(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    anonymous: bool = False,
) -> Memory:
    """Run once and return the peak of the process tree's summed PSS. Its time is no measurement: sampling slows it.

    `anonymous` is as in `pss`. A page of a file on tmpfs counts for a process that has it mapped, as any shared page
    does, and not for one that reads it.
    """
    peak = processes = samples = 0

    def look(leader: int) -> None:
        nonlocal peak, processes, samples
        sizes = [pss(pid, anonymous=anonymous) for pid in process_tree(leader)]
        samples += 1
        if sum(sizes) > peak:
            peak, processes = sum(sizes), sum(size > 0 for size in sizes)

    _run(command, env, cwd, look)
    return Memory(name, peak, processes, samples)


def alternate(
    commands: Mapping[str, Command],
    rounds: int = 5,
    prepare: Prepare | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    warm_up: bool = True,
    clock: Callable[[Command, Mapping[str, str] | None, Path | None], float] = wall_seconds,
) -> dict[str, Summary]:
    """Run the commands in turn, ``rounds`` times each, and return the seconds of each by name, those of `clock`.

    ``prepare`` is called with the command's name before each run, out of the measured time: to remove the target, for
    instance. ``warm_up`` runs each command once beforehand, untimed, so that no round pays for compiling modules or
    for cold caches.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(-1 if warm_up else 0, rounds):
        for name, command in commands.items():
            if prepare is not None:
                prepare(name)
            before = _processor()
            seconds = clock(command, env, cwd)
            if number >= 0:
                taken[name].append((seconds, _processor() - before))
    return {name: Summary(name, *zip(*runs, strict=True)) for name, runs in taken.items()}


def _processor() -> float:
    """Processor seconds of this process, and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass(frozen=True)
class Comparison:
    """One row of a table: this against that, and the ratio that was promised (None: for information)."""

    what: str
    ours: Summary
    base: Summary
    limit: float | None = None

    @property
    def ratio(self) -> float:
        """Median by median."""
        return self.ours.median / self.base.median

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        return self.limit is None or self.ratio <= self.limit


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first is text, the others are figures and stand to the right."""
    cells = [list(headers), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        pairs = enumerate(zip(row, widths, strict=True))
        padded = (f"{cell:>{width}}" if at else f"{cell:<{width}}" for at, (cell, width) in pairs)
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def _verdict(limit: str, met: bool) -> tuple[str, str]:
    """The last two cells of a row."""
    return (limit, ("yes" if met else "NO") if limit else "")


def print_summaries(title: str, summaries: Iterable[Summary]) -> None:
    """Print median, fastest and slowest run of each command, in seconds, and the median of its processor seconds."""
    rows = []
    for item in summaries:
        figures = (item.median, item.low, item.high, statistics.median(item.processor or [0.0]))
        rows.append((item.name, *(f"{value:.3f}" for value in figures)))
    print(f"\n### {title}\n\n{table(('command', 'median s', 'min s', 'max s', 'processor s'), rows)}", flush=True)


def print_comparisons(title: str, comparisons: Iterable[Comparison]) -> None:
    """Print medians in seconds, their ratio, the promised ratio and whether it was kept."""
    rows = [
        (
            item.what,
            f"{item.ours.median:.3f}",
            item.base.name,
            f"{item.base.median:.3f}",
            f"{item.ratio:.2f}",
            *_verdict("" if item.limit is None else f"<= {item.limit:g}", item.met),
        )
        for item in comparisons
    ]
    headers = ("what", "median s", "against", "median s", "ratio", "limit", "met")
    print(f"\n### {title}\n\n{table(headers, rows)}", flush=True)


def print_memory(title: str, peaks: Iterable[tuple[Memory, float | None]]) -> None:
    """Print peaks in MB (a million bytes), each with its limit in MB."""
    rows = [
        (
            item.name,
            f"{item.megabytes:.0f}",
            str(item.processes),
            *_verdict("" if limit is None else f"<= {limit:g}", limit is None or item.megabytes <= limit),
        )
        for item, limit in peaks
    ]
    print(f"\n### {title}\n\n{table(('command', 'peak MB', 'processes', 'limit MB', 'met'), rows)}", flush=True)
