"""Hostile or merely large files: bounded memory, no pipe is waited for, and only what trainers read is opened."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipeline import storage
from pipeline.base.errors import ConfigError
from pipeline.config.load import read_text
from pipeline.images.header import mask_of, opened, picture_of
from pipeline.storage import UNUSABLE
from tests.conftest import Run
from tests.support.helpers import PROJECT, Result, contents, write_file

ROW = "0 0.5 0.5 0.2 0.2\n"


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind)
    return out.getvalue()


def config(root: Path, **keys: Any) -> Path:
    names = write_file(root / "n.yaml", "names: [cat]\n")
    data = {
        "source": {"names": str(names), "root": str(root / "src"), "splits": {"train": "train"}},
        "target": {"root": str(root / "out")},
        "workdir": str(root / "work"),
        **keys,
    }
    return write_file(root / "c.yaml", yaml.safe_dump(data))


def test_a_folder_whose_sizes_nobody_knew(tmp_path: Path) -> None:
    """Reading stops once there is enough; whoever reads goes on with the rest, and gets the same in the end."""
    rng = random.Random(3)
    files = {f"{i}.txt": rng.randbytes(rng.randrange(3000)) for i in range(50)}
    for name, data in files.items():
        write_file(tmp_path / name, data)
    place, left, found = storage.locate(str(tmp_path)), list(files), list[bytes]()
    while left:
        some, stats, failed = place.read_many(left, 1 << 20, 5000)
        assert 1 <= len(some) == len(stats) // 4
        assert sum(map(len, some[:-1])) < 5000
        assert not failed
        found += some
        left = left[len(some) :]
    assert found == list(files.values())


@pytest.mark.slow
@pytest.mark.parametrize("archived", [True, False])
def test_memory_of_large_label_files(tmp_path: Path, archived: bool) -> None:
    """Ten label files of 40 MB of blanks: an archive of half a megabyte, or sparse files."""
    count, size = 10, 40 << 20
    if archived:
        with zipfile.ZipFile(tmp_path / "l.zip", "w", zipfile.ZIP_DEFLATED) as made:
            for i in range(count):
                made.writestr(f"t/{i}.txt", ROW.encode() + b" " * size)
    for i in range(count):
        write_file(tmp_path / f"src/images/train/{i}.jpg", "x")
        if not archived:
            write_file(tmp_path / f"src/labels/train/{i}.txt", ROW.encode() + b" " * size)
    labels = f"zip://t::{tmp_path}/l.zip" if archived else str(tmp_path / "src/labels/train")
    path = config(
        tmp_path,
        source={
            "names": str(write_file(tmp_path / "n.yaml", "names: [cat]\n")),
            "splits": {"train": {"labels": labels, "images": str(tmp_path / "src/images/train")}},
        },
    )
    code = (
        "import resource, sys\nfrom pipeline.cli import run_cli\nfound = run_cli(sys.argv[1:])\n"
        "print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "build", str(path), "--quiet", "--scheduler", "sync"],
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )
    found, megabytes = map(int, done.stdout.split())
    assert found == 0, done.stderr
    assert megabytes < 800
    assert len(contents(tmp_path / "out")) == 2 * count + 1


def bounded(*words: str | Path) -> Result:
    """A run that must not wait for ever: it is a process of its own with a limit, see `run_process`."""
    from tests.support.helpers import run_process

    return run_process(*words, "--scheduler", "sync")


@pytest.mark.slow
def test_pipes_are_not_read(tmp_path: Path) -> None:
    """As a label file, an image, an image that labelme names, and a file of the target."""
    for stem in "ab":
        write_file(tmp_path / f"src/labels/train/{stem}.txt", ROW)
        write_file(tmp_path / f"src/images/train/{stem}.png", picture())
    write_file(tmp_path / "src/labels/train/empty.txt", "")
    os.mkfifo(tmp_path / "src/labels/train/pipe.txt")
    os.mkfifo(tmp_path / "src/images/train/pipe.png")
    os.symlink("/dev/zero", tmp_path / "src/images/train/zero.png")
    path = config(tmp_path, on_error="skip", select={"check_images": "full", "backgrounds": "all"})
    told = bounded("build", path)
    assert f"{UNUSABLE['not_a_file']}" in bounded("build", path, "--set", "on_error=fail").err
    assert told.code == 3, told.err
    assert {p for p in contents(tmp_path / "out") if p.startswith("images/")} == {
        "images/train/a.png",
        "images/train/b.png",
    }
    victim = tmp_path / "out/labels/train/a.txt"
    victim.unlink()
    os.mkfifo(victim)
    assert bounded("verify", tmp_path / "out", "--deep").code == 1


def test_an_image_that_a_label_file_names_is_a_pipe(tmp_path: Path) -> None:
    write_file(
        tmp_path / "src/a.json",
        json.dumps(
            {
                "version": "2.0",
                "shapes": [{"label": "cat", "points": [[1, 1], [9, 1], [9, 9]]}],
                "imagePath": "pipe.png",
            }
        ),
    )
    os.mkfifo(tmp_path / "src/pipe.png")
    told = bounded(
        "convert",
        tmp_path / "src",
        tmp_path / "out",
        "--from",
        "labelme",
        "--to",
        "yolo",
        "--workdir",
        tmp_path / "work",
    )
    assert told.code == 1
    assert "is a pipe or a device" in told.err or "is no file" in told.err


#: Formats of Pillow that no trainer reads; it would run Ghostscript for the first.
FOREIGN = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n",
    **{kind: picture(kind) for kind in ("GIF", "TGA", "PPM", "ICO", "PCX")},
}
TRAINERS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "JPEG2000", "MPO")


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("level", ["header", "full"])
def test_only_images_of_trainers_are_opened(
    tmp_path: Path, run: Run, kind: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = write_file(tmp_path / "bin/gs", f"#!/bin/sh\necho 10.02\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    write_file(tmp_path / "src/images/train/a.jpg", FOREIGN[kind])
    write_file(tmp_path / "src/images/train/b.png", picture())
    for stem in "ab":
        write_file(tmp_path / f"src/labels/train/{stem}.txt", ROW)
    path = config(tmp_path, select={"check_images": level}, on_error="skip")
    assert run("build", path, "--json", code=3).json["problems"] == {"image_unreadable": 1}
    assert picture_of(FOREIGN[kind]) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", TRAINERS)
def test_images_of_trainers_are(kind: str) -> None:
    found = picture_of(picture(kind))
    assert found is not None
    assert (found.width, found.height) == (64, 48)


def test_no_pixel_is_decoded_to_learn_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in TRAINERS:
        with opened(picture(kind)) as image:
            decoder = type(image)
        monkeypatch.setattr(decoder, "load", lambda *_: pytest.fail("decoded"))
        assert picture_of(picture(kind)) is not None


def test_a_mask_of_too_many_pixels_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.images.header.MAX_PIXELS", 1000)
    assert mask_of(picture()) is None


@pytest.mark.parametrize("skip", [True, False])
def test_images_of_unknown_size_are_left_out_of_coco_json(tmp_path: Path, run: Run, skip: bool) -> None:
    for stem, data in (("a", picture()), ("b", b"text"), ("c", b""), ("d", picture()[:20])):
        write_file(tmp_path / f"src/images/train/{stem}.png", data)
        write_file(tmp_path / f"src/labels/train/{stem}.txt", ROW)
    path = config(tmp_path, target={"root": str(tmp_path / "out"), "format": "coco"})
    if not skip:
        told = run("build", path, code=1)
        assert f"{tmp_path}/src/images/train/b.png: is no image whose size can be read" in told.err
        return
    found = run("build", path, "--set", "on_error=skip", "--json", code=3).json
    assert found["images"]["kept"] == 1
    assert found["problems"] == {"image_unreadable": 3}
    made = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [image["file_name"] for image in made["images"]] == ["a.png"]
    assert run("build", path, "--set", "on_error=skip", "--json", code=3).json["problems"] == {"image_unreadable": 3}


@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.parametrize("level", ["none", "header"])
def test_files_of_systems_are_nobodys(tmp_path: Path, run: Run, archived: bool, level: str) -> None:
    files = {"labels/train/a.txt": ROW.encode(), "images/train/a.png": picture(), "images/train/b.png": picture()}
    double = b"\0\5\x16\7\0\2\0\0Mac OS X"
    for path in list(files):
        folder, _, name = path.rpartition("/")
        files |= {
            f"{folder}/{of}{name}": double
            for of in (
                "._",
                "__MACOSX/",
                "__MACOSX/._",
                "sub/__MACOSX/",
                ".AppleDouble/",
                "@eaDir/",
                "@eaDir/x.png/THUMB_",
                ".Trash-1000/files/",
                "$RECYCLE.BIN/S-1-5-21/",
                "#recycle/",
                "lost+found/",
            )
        }
    if archived:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
            for path, data in files.items():
                made.writestr(path, data)
        places = {kind: f"zip://{kind}/train::{tmp_path}/x.zip" for kind in ("labels", "images")}
        source = {"names": str(write_file(tmp_path / "n.yaml", "names: [cat]\n")), "splits": {"train": places}}
    else:
        for name, data in files.items():
            write_file(tmp_path / "src" / name, data)
        os.symlink("nowhere", tmp_path / "src/labels/train/._gone.txt")
        os.symlink("lost+found", tmp_path / "src/images/train/lost+found/again")  # nobody looks into it
        source = {"names": str(tmp_path / "n.yaml"), "root": str(tmp_path / "src"), "splits": {"train": "train"}}
    configured = config(tmp_path, source=source, select={"backgrounds": "unlabelled", "check_images": level})
    told = run("build", configured, "--json").json
    assert {p for p in contents(tmp_path / "out") if "/" in p} == {
        "labels/train/a.txt",
        "labels/train/b.txt",
        "images/train/a.png",
        "images/train/b.png",
    }
    assert told["images"]["source"] == 2


def test_a_name_in_another_unicode_form_is_the_same(tmp_path: Path, run: Run) -> None:
    write_file(tmp_path / "src/labels/train/caf\u00e9.txt", ROW)
    write_file(tmp_path / "src/images/train/cafe\u0301.png", picture())
    assert run("build", config(tmp_path), "--json").json["images"]["kept"] == 1
    made = {path.rpartition("/")[2].rpartition(".")[0] for path in contents(tmp_path / "out") if "/train/" in path}
    assert len(made) == 1  # a trainer looks for the label by the very bytes of the image's name


def test_a_names_file_that_never_ends(tmp_path: Path) -> None:
    for path in ("/dev/zero", str(write_file(tmp_path / "n.yaml", b"#" * ((1 << 20) + 1)))):
        with pytest.raises(ConfigError, match="is larger than 1 MiB; is it the right one"):
            read_text(path, "class names", 1 << 20)


def test_a_pipe_of_nobody_is_not_waited_for(tmp_path: Path, run: Run) -> None:
    """Neither as a config nor as the names that a folder came with; what a shell writes to one is read."""
    given = config(tmp_path)
    text = given.read_bytes()
    write_file(tmp_path / "src/labels/train/a.txt", ROW)
    write_file(tmp_path / "src/images/train/a.png", picture())
    names = tmp_path / "pipe.yaml"
    os.mkfifo(names)
    assert "pipe.yaml: is empty" in run("build", names, code=2).err
    assert f"{names}" in run("build", given, "--set", f"source.names={names}", code=2).err
    read, write = os.pipe()

    def answer() -> None:
        os.write(write, text)
        os.close(write)

    threading.Timer(0.2, answer).start()
    run("build", f"/dev/fd/{read}")
    os.close(read)


def test_a_bucket_of_long_rows_is_built_in_a_few_times_their_size(tmp_path: Path) -> None:
    """Polygons of a thousand points: Arrow holds the rows, their texts, and pages of the plan that is written."""
    row = "0" + " 0.123456 0.654321" * 1000 + "\n"
    for number in range(30):
        write_file(tmp_path / f"src/labels/train/{number}.txt", row * 20)
    source = {"names": str(tmp_path / "n.yaml"), "root": str(tmp_path / "src"), "splits": {"train": "train"}}
    path = config(tmp_path, source={**source, "task": "segment"})
    code = (
        "import sys\nimport pyarrow as pa\nfrom pipeline.cli import run_cli\n"
        "assert run_cli(['index', *sys.argv[1:]]) == 0\n"
        "pa.set_memory_pool(counted := pa.proxy_memory_pool(pa.default_memory_pool()))\n"
        "print(run_cli(['build', *sys.argv[1:], '--set', 'target.images=none']), counted.max_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--quiet", "--scheduler", "sync"],
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=True,
    )
    found, peak = map(int, done.stdout.split()[-2:])
    assert found == 0, done.stderr
    text = 30 * 20 * len(row)
    assert text < peak < 4 * text
