"""Whether a worker can do the work of a run: asked of all before the first task, and of late ones before theirs.

What differs between two machines and nobody notices is what ruins a subset: another version writes other bytes, a disk
that is not mounted is an empty folder, a clock that is ahead makes a file look settled.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import CocoDiyError
from pipeline.base.humanize import size as shown_size
from pipeline.base.version import __version__
from pipeline.cluster.run_folder import Facts, facts_of
from pipeline.storage.local.disk_space import free_bytes

#: Packages whose version decides about bytes or about what two machines say to each other.
_PACKAGES = ("dask", "distributed", "pyarrow", "numpy", "pandas", "obstore")

#: Less than this is used up by one bucket.
_LEAST_FREE = 100 << 20

#: A file is trusted when it is two seconds old, so a clock must not be ahead of the file server's by more.
_CLOCK_S = 5.0

SAME = "install the same version there"
MOUNT = "mount it there under the same path, or leave that worker out"


@dataclass(frozen=True)
class Problem:
    """Why a worker is unfit, a clause without subject, and what helps."""

    what: str
    cure: str


@dataclass(frozen=True)
class Fitness:
    """What a worker says of itself: where it is, the file that it left as an answer, and what is wrong."""

    host: str
    answer: str
    problems: list[Problem]


@functools.cache
def versions() -> dict[str, str]:
    """Versions that must be the same on all machines; of Python the first two numbers."""
    found = {"Python": "{}.{}".format(*sys.version_info), "coco-diy": f"{__version__} ({_code()})"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _code() -> str:
    """Digest of this package's modules: two checkouts can have one version."""
    folder = storage.locate(os.path.dirname(os.path.dirname(__file__)))
    names = sorted(name for name in folder.names() if name.endswith(".py"))
    digests = [digest or b"" for digest in folder.content_digests(names)]
    return digest_of("\0".join(names).encode() + b"".join(digests)).hex()[:8]


def examine(run_path: str, wanted: dict[str, str]) -> Fitness:
    """What is wrong with this process as a worker of the run whose folder is `run_path`, by the driver's versions."""
    host, answer = os.uname().nodename, f"{os.uname().nodename}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    mine = versions()
    differing = [
        f"{name} {mine.get(name)} instead of {found}" for name, found in wanted.items() if mine.get(name) != found
    ]
    if differing:
        return Fitness(host, "", [Problem(f"has {', '.join(differing)}", SAME)])
    run = storage.locate_writable(run_path).sealed()
    if "facts" not in run.flat_names(""):  # listed, not asked for: what is asked for may be remembered as missing
        return Fitness(
            host, "", [Problem(f"does not see the workdir {os.path.dirname(os.path.dirname(run_path))}", MOUNT)]
        )
    facts = facts_of(run_path)
    problems = [
        *_unwritable(run, "answers", answer, "the workdir", facts.workdir),
        *unseen(facts),
        *_unreachable(facts),
    ]
    if facts.target is not None and not problems:
        target = storage.locate_writable(facts.target)
        problems += _unwritable(target.own(facts.fence).sealed(), "", answer, "the target", facts.target)
    if not problems:
        problems += _clock(run, f"answers/{answer}")
    return Fitness(host, answer, problems)


def unseen(facts: Facts) -> list[Problem]:
    """Folders of this machine that are not as the driver sees them: quick, so that it is asked after each task."""
    problems = []
    for place in facts.places:
        location = storage.locate(place.url)
        if location.local is None:
            continue
        if (why := _why_unseen(location)) is not None:
            problems.append(Problem(why, MOUNT))
        elif place.sample is not None and not location.exist_many([place.sample])[0]:
            problems.append(Problem(f"sees another folder, or an empty one, at {place.url}", MOUNT))
    return problems


def _unreachable(facts: Facts) -> list[Problem]:
    """Stores, archives and other such places that give this worker nothing: no credentials, no route."""
    problems = []
    for place in facts.places:
        location = storage.locate(place.url)
        if location.local is None and not location.remote and (why := _why_unseen(location)) is not None:
            problems.append(Problem(why, "credentials are those of the worker's own environment; set them there"))
    return problems


def _why_unseen(location: storage.Location) -> str | None:
    """Why a location is of no use to this worker; None where it is there."""
    try:
        return None if location.exists() else f"does not see {location.url}"
    except CocoDiyError as error:
        return f"cannot use {location.url}: {str(error).partition(';')[0]}"


def _unwritable(folder: storage.WritableLocation, inner: str, answer: str, what: str, name: str) -> list[Problem]:
    """Whether a file can be made in `folder`, and is still there afterwards."""
    path = f"{inner}/{answer}" if inner else answer
    try:
        folder.write_many([path], [b""]).must(folder)
        free = free_bytes(folder.local) if folder.local is not None else None
    except CocoDiyError as error:  # also a store that its own environment does not name
        if folder.local is not None and not os.path.isdir(folder.local):
            return [Problem(f"does not see {what} {name}", MOUNT)]
        text, _, cure = str(error).partition("; ")
        return [Problem(f"cannot write to {what}: {text}", cure or "let its user write there")]
    if free is not None and free < _LEAST_FREE:
        return [Problem(f"has {shown_size(free)} free for {what} {name}", "make room there")]
    return []


def _clock(folder: storage.WritableLocation, path: str) -> list[Problem]:
    """Whether the clock here is that of the file server, which has just written the file `path`."""
    found = folder.listing_of([path])
    stats = next((stats for _, stats in found.chunks if stats is not None), None)
    if stats is None:
        return []
    ahead = time.time() - int(stats[1]) / 1e9
    if abs(ahead) <= _CLOCK_S:
        return []
    return [Problem(f"has a clock that is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}", "set it, with NTP")]


def import_early() -> None:
    """What tasks import takes seconds: all workers do it at once, and before two threads of one can meet in it."""
    import dask.dataframe
    import pyarrow.parquet

    assert dask.dataframe
    assert pyarrow.parquet


def sentence(scheduler: str, unfit: Sequence[tuple[str, Problem]]) -> str:
    """One sentence on all workers that are `unfit`, each given by name and host."""
    by_what: dict[str, list[str]] = {}
    for worker, problem in unfit:
        by_what.setdefault(problem.what, []).append(worker)
    what = ", and ".join(f"worker {', '.join(workers)} {clause}" for clause, workers in by_what.items())
    cures = list(dict.fromkeys(problem.cure for _, problem in unfit))
    return f"{scheduler}: {what}; {', and '.join(cures)}"
