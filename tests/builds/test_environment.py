"""What the process is given: limits, a working folder, streams and arguments. Each lack is a sentence, or none."""

from __future__ import annotations

import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Run
from tests.support.helpers import PROJECT, contents, write_file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_file(tmp_path / "src/labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n")
    write_file(tmp_path / "src/images/train/a.jpg", "x" * 4000)
    write_file(tmp_path / "n.yaml", "names: [cat]\n")
    return write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "names": str(tmp_path / "n.yaml"),
                    "root": str(tmp_path / "src"),
                    "splits": {"train": "train"},
                },
                "target": {"root": str(tmp_path / "out")},
                "workdir": str(tmp_path / "work"),
            }
        ),
    )


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in `folder`; `$CD` is the command."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "CD": f"{sys.executable} -m pipeline"}
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "clause"),
    [
        ("ulimit -n 16; $CD build c.yaml -q", 1, "too many open files; raise the limit with `ulimit -n 1024`"),
        ("ulimit -f 1; $CD build c.yaml -q", 1, "the limit of file sizes is reached"),
        ("mkdir gone && cd gone && rmdir ../gone && $CD plan ../c.yaml", 2, "the working folder was removed"),
    ],
)
def test_what_the_machine_lacks(config: Path, line: str, code: int, clause: str) -> None:
    done = shell(line, config.parent)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert clause in done.stderr
    assert shell("$CD build c.yaml", config.parent).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(config: Path, closed: str) -> None:
    """A build is a build, and nothing that is printed ends up in a file that was opened in the stream's place."""
    done = shell(f"$CD build c.yaml {closed}", config.parent)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    made = contents(config.parent / "out")
    assert made["labels/train/a.txt"] == b"0 0.5 0.5 0.2 0.2\n"
    assert not any(b"Built" in data for data in (*made.values(), *contents(config.parent / "work").values()))


def test_a_folder_that_is_not_utf8(config: Path) -> None:
    done = shell(
        "mv src $'d\\xff'; $CD remake $'d\\xff' x --src-yaml n.yaml --dst-yaml n.yaml --workdir w", config.parent
    )
    assert done.returncode == 2
    assert "d\\xff: the path is not UTF-8" in done.stderr
    assert not (config.parent / "x").exists()


_POOL = """
import os, pipeline.__main__
def end(code):
    import pyarrow
    print(code, pyarrow.default_memory_pool().backend_name)
os._exit = end
pipeline.__main__.main()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of another C library Arrow's own choice stays")
@pytest.mark.parametrize(("chosen", "pool"), [("", "system"), ("ARROW_DEFAULT_MEMORY_POOL=mimalloc", "mimalloc")])
def test_arrow_takes_memory_from_glibc_unless_the_user_chose(config: Path, chosen: str, pool: str) -> None:
    write_file(config.parent / "pool.py", _POOL)
    done = shell(f"{chosen} {sys.executable} pool.py build c.yaml -q", config.parent)
    assert done.stdout == f"0 {pool}\n", done.stderr


def test_a_user_without_a_home(config: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whom a container is given by number: a build needs none, and other commands name the cure."""

    def unknown(*_: object) -> object:
        raise KeyError

    for name in ("HOME", "COCO_DIY_STATE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(config.parent)
    run("build", config, code=0)
    assert "this user has no home folder; set HOME to one" in run("stats", "out", code=1).err
    run("stats", "out", "--workdir", "work", code=0)
    run("verify", "out", "--deep", code=0)
    assert not (config.parent / "~").exists()
