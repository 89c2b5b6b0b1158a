"""The files of conf/schedule, each used as far as this machine goes: by systemd, a real cron, a linter, a shell.

Where a path of theirs begins with /srv/bikes, a test puts a folder of its own; the command is this checkout's.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipeline.cli import cli
from pipeline.config.templates import described
from tests.conftest import Run
from tests.support.forks import write_command
from tests.support.helpers import PROJECT, Result, settle
from tests.support.stores import tool

FOLDER = PROJECT / "conf/schedule"
FILES = sorted(p for p in FOLDER.rglob("*") if p.is_file() and p.suffix != ".md" and "__pycache__" not in p.parts)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What /srv/bikes is to a file: a config called nightly.yaml, its source, and the command in a .venv."""
    home = tmp_path / "bikes"
    for name in ("conf", "tests/sample"):
        shutil.copytree(PROJECT / name, home / name)
    config = yaml.safe_load((PROJECT / "conf/demo.yaml").read_text())
    (home / "nightly.yaml").write_text(yaml.safe_dump(config | {"target": {"root": "bikes"}, "workdir": "work"}))
    command = home / ".venv/bin/coco-diy"
    command.parent.mkdir(parents=True)
    write_command(command)
    settle()
    return home


def text_at(name: str, home: Path) -> str:
    """A file of the folder with the paths of `home`."""
    return (FOLDER / name).read_text(encoding="utf-8").replace("/srv/bikes", str(home))


def ran(words: list[str], cwd: Path | str, env: Mapping[str, str] | None = None) -> Result:
    """Run a program in the folder `cwd`, with the environment `env` (default: ours)."""
    done = subprocess.run(words, cwd=cwd, env=env, text=True, capture_output=True, check=False, timeout=60)
    return Result(done.returncode, done.stdout, done.stderr)


def is_built(home: Path) -> bool:
    """Whether a run that a file asked for has ended well."""
    log = home / "nightly.log"
    return log.exists() and " info ends with exit code 0 (built)" in log.read_text()


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_options_are_there_and_nothing_is_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r'^(#!.*\n)?(# |""")\S', text), "it begins by saying what it is"
    assert sum(line.lstrip().startswith("#") for line in text.splitlines()) >= (path.suffix != ".py")
    for command, options in re.findall(r"coco-diy (build|status|plan)((?:[^\n\"'|]|\\\n)*)", text):
        known = {o for p in cli.commands[command].params for o in p.opts}
        assert set(re.findall(r"(?<=\s)-{1,2}[A-Za-z][a-z-]*", options)) <= known, command
    assert not re.search(r"https?://\S*(hc-ping|@)", text)


def test_each_is_copied_by_its_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [name for name in described() if name.startswith("schedule/")]
    copied = [path for name in names for path in run("init", name).out.splitlines()]
    assert sorted(copied) == [str(p.relative_to(PROJECT)) for p in FILES]
    assert all((tmp_path / path).read_bytes() == (PROJECT / path).read_bytes() for path in copied)
    assert "is there already" in run("init", "schedule/systemd").out
    for name in ("schedule", "schedule/README", "../conf/demo", "schedule/systemd/coco-diy.service"):
        assert "unknown ready config" in run("init", name, code=2).err


# --- systemd ----------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_units(home: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    for path in (FOLDER / "systemd").iterdir():
        (units / path.name).write_text(text_at(f"systemd/{path.name}", home))
    words = [tool("systemd-analyze"), "verify", *map(str, sorted(units.iterdir()))]
    done = ran(words, home)
    assert (done.code, done.err.strip()) == (0, "")
    spec = re.search(r"OnCalendar=(.+)", (units / "coco-diy.timer").read_text())
    assert spec is not None
    subprocess.run([words[0], "calendar", spec[1]], check=True, capture_output=True, timeout=60)


def test_the_command_of_the_service(home: Path) -> None:
    """Its environment alone: what it says of variables, and none of ours."""
    unit = text_at("systemd/coco-diy.service", home)
    env = dict(re.findall(r"^Environment=(\w+)=(.+)$", unit, re.MULTILINE))
    (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    (folder,) = re.findall(r"^WorkingDirectory=(.+)$", unit, re.MULTILINE)
    (home / "metrics").mkdir()
    done = ran(shlex.split(command), folder, env)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert is_built(home)
    assert 'coco_diy_exit_code{target="' in (home / "metrics/coco-diy.prom").read_text()
    assert list((home / "state").iterdir())


# --- cron -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cron(tmp_path: Path) -> Iterator[Any]:
    """Debian's cron with crontabs of its own, for whom a minute is a second or two; root alone can start one so."""
    program, fast = tool("cron"), tool("faketime")
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a cron with crontabs of its own needs root and a mount namespace")
    tabs, empty = tmp_path / "tabs", tmp_path / "empty"
    started: list[subprocess.Popen[bytes]] = []

    def start(crontab: str, user: str = "root", prepare: str = "true") -> None:
        tabs.mkdir()
        empty.mkdir()
        (tabs / user).write_text(crontab)
        (tabs / user).chmod(0o600)
        mounts = [("/var/spool/cron/crontabs", tabs), ("/etc/cron.d", empty), ("/run", empty)]
        script = "; ".join([prepare, *(f"mount --bind {shlex.quote(str(mine))} {theirs}" for theirs, mine in mounts)])
        script += f"; mount --bind /dev/null /etc/crontab; exec {fast} -f '@2026-11-28 03:16:30 x30' {program} -f"
        started.append(subprocess.Popen(["unshare", "-m", "sh", "-ec", script], start_new_session=True))

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_built(home: Path) -> None:
    """Until the build of `home` is over, for a minute at most."""
    for _ in range(600):
        if is_built(home):
            break
        time.sleep(0.1)
    assert is_built(home)
    assert (home / "bikes/data.yaml").exists()


@pytest.mark.slow
def test_a_real_cron_runs_the_line(home: Path, cron: Any) -> None:
    cron(text_at("crontab", home).replace("MAILTO=bikes", 'MAILTO=""'))
    wait_until_built(home)


def words_of_a_user(number: int) -> list[str]:
    """The words of this checkout's command that the user `number` can run; skipped where nobody but root can."""
    path = os.pathsep.join([str(PROJECT), str(Path(click.__file__).parents[1])])
    for python in (sys.executable, "/usr/bin/python3"):
        words = ["env", f"PYTHONPATH={path}", python]
        done = subprocess.run(
            [*words, "-c", "import pipeline.api, dask.dataframe"], check=False, user=number, group=number,
            extra_groups=[], env={}, cwd="/", capture_output=True,
        )  # fmt: skip
        if done.returncode == 0:
            return [*words, "-m", "pipeline"]
    pytest.skip("needs a Python and a checkout that any user can read")


@pytest.mark.slow
def test_a_real_cron_runs_the_line_for_a_user_who_is_not_root(home: Path, cron: Any, tmp_path: Path) -> None:
    """The file as it is: /srv/bikes is a folder of the user bikes, who is known in this cron's namespace alone."""
    number = 54321
    command = home / ".venv/bin/coco-diy"
    command.write_text(f'#!/bin/sh\n{shlex.join(words_of_a_user(number))} "$@"\n')
    for path in (home, *home.rglob("*")):
        os.chown(path, number, number)
    known = tmp_path / "passwd"
    known.write_text(f"{Path('/etc/passwd').read_text()}bikes:*:{number}:{number}::/srv/bikes:/bin/sh\n")
    prepare = "mount -t tmpfs none /srv; mkdir /srv/bikes"
    prepare += f"; mount --bind {shlex.quote(str(home))} /srv/bikes; mount --bind {shlex.quote(str(known))} /etc/passwd"
    text = (FOLDER / "crontab").read_text(encoding="utf-8").replace("MAILTO=bikes", 'MAILTO=""')
    cron(text, "bikes", prepare)
    wait_until_built(home)
    made = [path for name in ("bikes", "work", "nightly.log") for path in (home / name, *(home / name).rglob("*"))]
    assert {path.stat().st_uid for path in made} == {number}


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_the_job_of_slurm(home: Path) -> None:
    path = home / "slurm.sh"
    path.write_text(text_at("slurm.sh", home))
    path.chmod(0o755)
    env = {"SLURM_CPUS_PER_TASK": "2", "COCO_DIY_STATE": str(home / "state")}
    done = ran([str(path)], "/", env)
    assert (done.code, done.out + done.err) == (0, "")
    assert is_built(home)
    text = path.read_text()
    jobs = {
        kind: dict(re.findall(rf"^#{kind} --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE)) for kind in ("SBATCH", "SCRON")
    }
    assert all(jobs["SBATCH"][key] == jobs["SCRON"][key] for key in ("cpus-per-task", "mem", "time", "job-name"))
    (home / "slurm.conf").write_text("ClusterName=none\nSlurmctldHost=localhost\n")  # or it has no help to give
    wanted = ran([tool("sbatch"), "--help"], home, {"SLURM_CONF": str(home / "slurm.conf")}).out
    assert [key for job in jobs.values() for key in job if f"--{key}" not in wanted] == []


def steps_of(text: str) -> list[str]:
    """The shell commands of a job of GitHub or GitLab that build."""
    job = yaml.safe_load(text)
    if "jobs" in job:
        return [step["run"] for step in job["jobs"]["rebuild"]["steps"] if "coco-diy build" in step.get("run", "")]
    return [line for line in job["nightly subset"]["script"] if "coco-diy build" in line]


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_job_of_a_forge(name: str, home: Path) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    (script,) = steps_of(text)
    path = f"{home}/.venv/bin:{os.environ['PATH']}"
    words = ["bash", "-e", "-c", script]
    done = ran(words, home, os.environ | {"PATH": path})
    assert (done.code, done.err) == (0, "")
    assert is_built(home)
    job = yaml.safe_load(text)
    if name == "github.yml":
        assert job[True]["schedule"] == [{"cron": "17 3 * * *"}]  # YAML 1.1 reads `on` as true, and GitHub does not
        assert job["permissions"] == {"contents": "read"}
        for code, red in ((0, 0), (3, 0), (1, 1), (4, 1), (75, 1)):
            (home / ".venv/bin/coco-diy").write_text(f"#!/bin/sh\nexit {code}\n")
            assert ran(words, home, os.environ | {"PATH": path}).code == red
    else:
        assert job["nightly subset"]["allow_failure"] == {"exit_codes": [3]}


def test_the_task_of_airflow(home: Path) -> None:
    tree = ast.parse(text_at("airflow.py", home))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "BashOperator"]
    tasks = {ast.literal_eval(k.value): call for call in calls for k in call.keywords if k.arg == "task_id"}
    given = {k.arg: ast.literal_eval(k.value) for k in tasks["rebuild"].keywords}
    for code in (0, given["skip_on_exit_code"]):
        done = ran(["bash", "-c", given["bash_command"]], "/")
        assert (done.code, done.err) == (code, "")


def test_the_image(home: Path) -> None:
    path = FOLDER / "docker.Dockerfile"
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.split(None, 1) for line in text.splitlines() if line]
    for sources in (rest.split()[:-1] for word, rest in lines if word == "COPY"):
        assert all((PROJECT / source).exists() for source in sources)
    users = [rest for word, rest in lines if word == "USER"]
    assert users[-1:] not in ([], ["root"], ["0"])
    (entry,) = [ast.literal_eval(rest) for word, rest in lines if word == "ENTRYPOINT"]
    (words,) = [ast.literal_eval(rest) for word, rest in lines if word == "CMD"]
    command = [str(home / ".venv/bin" / entry[0]), *entry[1:]]
    for more in (words, ["build", "nightly.yaml", "--quiet", "--log-file", "nightly.log"]):
        done = ran([*command, *more], home, {})
        assert (done.code, done.err) == (0, "")
    assert is_built(home)
    done = ran([tool("hadolint"), str(path)], home)
    assert (done.code, done.out) == (0, "")


@pytest.mark.slow
def test_make_rebuild(home: Path) -> None:
    shutil.copy(PROJECT / "Makefile", home)
    words = ["make", "-s", "rebuild", f"PY={home}/.venv/bin/python", "CONFIG=nightly.yaml", "ARGS=--unchanged-exit 9"]
    python = home / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH={PROJECT}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for code in (0, 2):  # make ends with 2 whatever its command ends with
        done = ran(words, home)
        assert done.code == code, done.err
        assert done.out == ""
    assert "Error 9" in done.err
    assert " info ends with exit code 9 (nothing to do)" in (home / "rebuild.log").read_text()
