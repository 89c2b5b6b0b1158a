"""What is in a zip file or at a store is looked at as a folder here is; of its images the sample alone comes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.look.page import page_of
from pipeline.look.view import open_view
from pipeline.storage.stores import lease
from tests.conftest import MakeSubset, Run, Subset
from tests.job.test_layouts import LAYOUTS
from tests.look.test_browser import dataset
from tests.support.helpers import contents, write_file
from tests.support.images import marked_image
from tests.support.proxy import Proxy, before_store

#: Images of each split; more than any sample of the tests has.
_TRAIN, _VAL = 36, 12


def zip_of(folder: Path, archive: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(archive, "w", method) as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))
    return archive


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims the same lock here."""
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO folder of two classes; no name is in two splits, for of such images a plan compares the content."""
    image = marked_image("jpeg").data
    files = {
        f"{split}/{split}{i:03d}": (image, f"{i % 2} 0.5 0.5 0.{1 + i % 8} 0.25\n")
        for split, count in (("train", _TRAIN), ("val", _VAL))
        for i in range(count)
    }
    return dataset(tmp_path_factory.mktemp("elsewhere") / "set", ("cat", "dog"), files, ".jpg")


def counts(run: Run, what: object, tmp_path: Path) -> dict[str, Any]:
    told = run("stats", str(what), "--json", "--workdir", tmp_path / "w").json
    return {key: told[key] for key in ("classes", "subset", "sizes")}


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_file_is_a_folder(folder: Path, run: Run, tmp_path: Path, method: int) -> None:
    archive = zip_of(folder, tmp_path / "set.zip", method)
    wanted = counts(run, folder, tmp_path)
    for what in (archive, f"zip://::{archive}"):
        assert counts(run, what, tmp_path) == wanted
    pages = []
    for what in (folder, archive):
        page, sheet = tmp_path / "page.html", tmp_path / "sheet.png"
        run("show", what, "-o", sheet, "-n", "5", "--workdir", tmp_path / "w")
        run("report", what, "-o", page, "--workdir", tmp_path / "w")
        pages.append(page.read_bytes().count(b"data:image/jpeg"))
    assert pages[0] == pages[1] > 0
    assert pipeline.open_dataset(str(archive), str(tmp_path / "w")).show(class_="dog", n=3).size[0] > 300


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inner", ["", "exported/"])
def test_every_layout_is_found_in_a_zip(run: Run, tmp_path: Path, layout: str, inner: str) -> None:
    files, splits = LAYOUTS[layout]
    for name, content in files.items():
        write_file(tmp_path / "set" / f"{inner}{name}", content)
    archive = zip_of(tmp_path / "set", tmp_path / "set.zip")
    wanted, found = (
        run("stats", what, "--json", "--workdir", tmp_path / "w", code=None) for what in (tmp_path / "set", archive)
    )
    assert found.code == wanted.code
    if not found.code:
        assert found.json["subset"] == wanted.json["subset"]
        assert {split: counts["images"] for split, counts in found.json["subset"].items()} == splits


@pytest.mark.slow
def test_a_target_that_is_a_zip(folder: Path, make_subset: MakeSubset, run: Run, tmp_path: Path) -> None:
    keys = {
        "source": {"names": str(folder / "data.yaml"), "root": str(folder), "splits": {"train": "train", "val": "val"}},
        "classes": [{"name": "animal", "from": ["dog"]}, "cat"],
    }
    plain = make_subset(folder, "plain", **keys)
    packed = make_subset(folder, "packed", **keys, target={"root": str(tmp_path / "packed"), "archive": "zip"})
    for subset in (plain, packed):
        subset.build()
    told = [run("stats", subset.target, "--json", "--workdir", tmp_path / "w").json for subset in (plain, packed)]
    assert told[0]["warnings"] == told[1]["warnings"] == []
    assert told[0]["sizes"] == told[1]["sizes"] is not None
    assert [one["made_of"] for one in told] == 2 * [{"animal": ["1 dog"], "cat": ["0 cat"]}]
    opened = pipeline.open_subset(str(packed.target), str(tmp_path / "w"))
    assert len(opened.images) == _TRAIN + _VAL
    assert opened.show(class_="animal", n=2).size[0] > 300
    page = tmp_path / "page.html"
    run("report", packed.target, "-o", page, "--workdir", tmp_path / "w")
    assert page.read_bytes().count(b"data:image/jpeg") > 0
    assert b"1 dog" in page.read_bytes()
    built = packed.build("--report")
    assert built["report"] == str(packed.target / ".coco-diy/report.html")


@pytest.mark.slow
def test_a_config_of_zips(folder: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    zip_of(folder, tmp_path / "set.zip")
    found = []
    sources: dict[str, dict[str, Any]] = {
        "plain": {"root": str(folder), "splits": {"train": "train", "val": "val"}},
        "packed": {
            "splits": {
                s: {kind: f"zip://{kind}/{s}::{tmp_path}/set.zip" for kind in ("labels", "images")}
                for s in ("train", "val")
            },
        },
    }
    for name, source in sources.items():
        subset = make_subset(
            folder, name, source={"names": str(folder / "data.yaml"), **source}, classes=["dog"], split=None
        )
        after = subset.command("stats", "--json").json["after"]
        subset.run("report", subset.config, "-o", tmp_path / f"{name}.html")
        subset.run("show", subset.config, "-o", tmp_path / f"{name}.png", "--mode", "objects")
        page = (tmp_path / f"{name}.html").read_text()
        pictures = page.count("data:image/jpeg")
        found.append((after["subset"], after["sizes"], pictures))
        where = str(folder) if name == "plain" else f"zip://labels/train::{tmp_path}/set.zip"
        assert where in page.partition("<main>")[0]  # the first screen says where it is from
        subset.build()
        assert where in page_of(open_view(str(subset.target), str(tmp_path / "w")), images=False).decode()
    assert found[0] == found[1]
    assert found[0][1] is not None


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Before an S3 store, which the options of the tests lead to."""
    with pytest.MonkeyPatch.context() as patch, before_store(tmp_path_factory.mktemp("store"), patch) as found:
        yield found


def images_asked(proxy: Proxy) -> list[str]:
    """The images that were asked for since the last time."""
    asked = [request.path for request in proxy.requests if request.method == "GET" and request.path.endswith(".jpg")]
    proxy.reset()
    return asked


@pytest.fixture(scope="module")
def at_store(proxy: Proxy, folder: Path) -> str:
    """The folder, as it is at a store."""
    from pipeline import storage

    there = storage.locate_writable("s3://bucket/set")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [str(path.relative_to(folder)) for path in paths]
    there.write_many(names, [path.read_bytes() for path in paths]).must(there)
    return there.url


@pytest.fixture(params=["folder", "yolo target", "coco target", "coco folder", "config"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def there(kind: str, at_store: str, folder: Path, make_subset: MakeSubset, tmp_path: Path) -> tuple[str, Subset]:
    """What is looked at, of each kind; and a config that makes the same of the folder on this disk."""
    source = {"names": str(folder / "data.yaml"), "splits": {"train": "train", "val": "val"}}
    words = {
        "classes": ["cat", "dog"],
        "select": {"backgrounds": "all"},
        "workdir": str(tmp_path / f"work-{kind.replace(' ', '-')}"),
    }
    here = make_subset(folder, "here", source={**source, "root": str(folder)}, **words)
    if kind == "folder":
        return at_store, here
    if kind == "config":
        return str(make_subset(folder, "far", source={**source, "root": at_store}, **words).config), here
    url = f"s3://bucket/{kind.replace(' ', '-')}"
    made = make_subset(
        folder,
        "made",
        source={**source, "root": str(folder)},
        target={"root": url, "format": kind.split(maxsplit=1)[0]},
        **words,
    )
    made.build()
    if kind == "coco folder":
        from pipeline import storage

        inner = storage.locate_writable(url)
        inner.delete_many(sorted(name for name in inner.names() if name.startswith(".coco-diy")))
    return url, here


@pytest.mark.xdist_group("elsewhere")
def test_at_a_store_only_the_sample_comes(
    kind: str, there: tuple[str, Subset], proxy: Proxy, run: Run, tmp_path: Path
) -> None:
    what, here = there
    options = () if kind == "config" else ("--workdir", tmp_path / "w")
    wanted = here.command("stats", "--json").json["after"]["subset"]
    images_asked(proxy)
    told = run("stats", what, "--json", *options).json
    found = (told["after"] if kind == "config" else told)["subset"]
    assert {split: {key: found[split][key] for key in counts} for split, counts in wanted.items()} == wanted
    assert images_asked(proxy) == []
    run("show", what, "-n", "5", "-o", tmp_path / "x.png", *options)
    assert len(set(images_asked(proxy))) == 5
    page = tmp_path / "page.html"
    run("report", what, "-o", page, *options)
    pictures = page.read_bytes().count(b"data:image/jpeg")
    asked = images_asked(proxy)
    assert len(asked) == len(set(asked)) == pictures == 12
    run("report", what, "-o", page, "--no-images", *options)
    assert images_asked(proxy) == []
    from pipeline.config.load import load_config

    opened = pipeline.open_subset(load_config(what) if kind == "config" else what, str(tmp_path / "w"))
    assert len(opened.objects) == _TRAIN + _VAL
    assert images_asked(proxy) == []
    assert len(opened._repr_html_()) <= 1_000_000
    assert len(images_asked(proxy)) == 8


@pytest.mark.xdist_group("elsewhere")
@pytest.mark.parametrize("parts", [True, False])
def test_a_zip_at_a_store_is_a_zip_here(
    proxy: Proxy, run: Run, make_subset: MakeSubset, tmp_path: Path, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers and pictures; of a store that gives parts only directory, labels and sample come."""
    from pipeline import storage
    from pipeline.look.page import _OF_CLASS

    noise = io.BytesIO()
    Image.effect_noise((120, 90), 99).save(noise, "PNG")
    image = noise.getvalue() + bytes(20_000)  # more than what may come along between two that are wanted
    count = 40
    files = {f"train/{i:03d}": (image, f"{i % 2} 0.5 0.5 0.{1 + i % 8} 0.25\n") for i in range(count)}
    folder = dataset(tmp_path / "set", ("cat", "dog"), files)
    archive = zip_of(folder, tmp_path / "set.zip")
    there = storage.locate_writable(f"s3://bucket/zips-{parts}")
    there.write("set.zip", archive.read_bytes())
    monkeypatch.setattr(proxy, "parts", parts)
    words = ("--workdir", tmp_path / "w")

    def asked(*command: object) -> tuple[int, int]:
        """Requests, and bytes that came, of a command on the archive."""
        proxy.reset()
        run(*command, *words)
        some = [request.came for request in proxy.requests if request.method == "GET"]
        return len(some), sum(some)

    url = f"{there.url}/set.zip"
    wanted = counts(run, archive, tmp_path)
    assert counts(run, url, tmp_path) == wanted | {"sizes": None}  # no image comes, and YOLO rows say no size
    first, again = asked("stats", url, "--workdir", tmp_path / "new"), asked("stats", url)
    shown, page = (
        asked("show", url, "-n", "5", "-o", tmp_path / "x.png"),
        asked("report", url, "-o", tmp_path / "x.html"),
    )
    assert asked("report", url, "-o", tmp_path / "x.html")[0] == again[0]  # the pictures are cached
    if parts:
        assert first[0] <= again[0] + 3  # the directory, and the labels of one split
        assert max(first[1], again[1]) < archive.stat().st_size / 4
        for command, pictures in ((shown, 5), (page, 2 * _OF_CLASS)):
            assert 0 < command[0] - again[0] <= pictures
            assert command[1] - again[1] <= pictures * (len(image) + 8192)
    run("show", archive, "-n", "5", "-o", tmp_path / "y.png", *words)
    here, at_store = (np.asarray(Image.open(tmp_path / name))[74:] for name in ("y.png", "x.png"))  # below the title
    assert np.array_equal(here, at_store)
    made: list[dict[str, bytes]] = []
    for root in (str(tmp_path), there.url):
        splits = {"train": {kind: f"zip://{kind}/train::{root}/set.zip" for kind in ("labels", "images")}}
        source = {"names": str(folder / "data.yaml"), "splits": splits}
        subset = make_subset(folder, f"of{len(made)}", source=source, classes=["dog"])
        subset.build()
        made.append(contents(subset.target))
    assert made[0] == made[1]
    assert sum(path.endswith(".png") for path in made[0]) == count / 2
    there.write("set.zip", b"no zip" * 99)
    assert "no zip archive" in run("stats", url, *words, code=1).err
    assert "no such config" in run("stats", f"{there.url}/gone.zip", code=2).err


@pytest.mark.xdist_group("elsewhere")
def test_a_target_that_is_a_zip_at_a_store(
    proxy: Proxy, folder: Path, make_subset: MakeSubset, run: Run, tmp_path: Path
) -> None:
    target = {"root": "s3://bucket/packed", "archive": "zip"}
    subset = make_subset(
        folder,
        source={"names": str(folder / "data.yaml"), "root": str(folder), "splits": {"train": "train", "val": "val"}},
        classes=["dog"],
        target=target,
    )
    subset.build()
    told = run("stats", target["root"], "--json", "--workdir", tmp_path / "w").json
    assert told["subset"]["train"]["objects"] == {"dog": _TRAIN // 2}
    assert told["warnings"] == []
    page = tmp_path / "page.html"
    run("report", target["root"], "-o", page, "--workdir", tmp_path / "w")
    assert page.read_bytes().count(b"data:image/jpeg") > 0
    assert subset.build("--report")["report"] == f"{target['root']}/.coco-diy/report.html"
