"""Hostile and damaged archives by every other way in: unpacked by `fetch --extract`, and read by ranges on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.base.errors import CocoDiyError, StorageError
from pipeline.config.load import validate
from pipeline.config.model import Config
from pipeline.images.integrity import ends_whole
from pipeline.runtime.progress import Progress
from pipeline.stages.fetch.archives import fetch
from pipeline.storage import Limits
from pipeline.storage.web import folder
from tests.builds.test_limits import picture
from tests.support.archives import Member, build
from tests.support.helpers import contents, write_file
from tests.support.web import Faults, faulty

GOOD = Member(b"t/good.txt")
#: A member, what is said of it when it is unpacked, and when it is asked for by a range (None: it is not listed).
HOSTILE = [
    (Member(b"t/../../up.txt"), "unsafe_name", None),
    (Member(b"t/..\\..\\up.txt"), "unsafe_name", None),
    (Member(b"t//up.txt"), "unsafe_name", None),
    (Member(b"t/link.txt", b"/etc/passwd", external=0o120777 << 16), "link", None),
    (Member(b"t/secret.txt", flags=1), "encrypted", None),
    (Member(b"t/lzma.txt", method=14), "method", None),
    (Member(b"t/bomb.txt", b"\0" * 100_000, method=8, size=1 << 31), "bomb", None),
    (Member(b"t/bad\xff.txt", flags=0x800), "not_utf8", None),
    (Member(b"t/good.txt", b"another"), "twice", None),
    (Member(b"t/crc.txt", crc=1), "wrong CRC-32", "wrong CRC-32"),
    (Member(b"t/short.txt", b"\0" * 100_000, method=8, size=500), "wrong CRC-32", "wrong CRC-32"),
]
#: Archives that are refused as a whole.
UNSOUND = {
    "cut": build([GOOD, Member(b"t/b.txt")])[:-30],
    "beginning lost": build([GOOD, Member(b"t/b.txt")])[40:],
    "members overlap": build([GOOD, Member(b"t/b.txt", offset=0)]),
    "miscounted": build([GOOD], count=3),
}


def unpacking(tmp_path: Path, folder: str = "t") -> Config:
    """A config that unpacks ``x.zip`` out of the folder ``www``."""
    return validate(
        {
            "source": {"names": "n.yaml", "root": str(tmp_path / "here/root"), "splits": {"train": "train2017"}},
            "target": {"root": str(tmp_path / "t")},
            "workdir": str(tmp_path / "w"),
            "fetch": {
                "folder": str(tmp_path / "down"),
                "mirror": str(tmp_path / "www"),
                "archives": {"x.zip": {"url": "x", "task": "detect", "unpack": {folder: "out"}}},
            },
        },
        "here",
    )


def unpacked(tmp_path: Path, data: bytes, folder: str = "t") -> str:
    """What is said when an archive is fetched and unpacked; nothing may be written beside the folder ``out``."""
    write_file(tmp_path / "www/x.zip", data)
    with pytest.raises(CocoDiyError) as caught:
        fetch(unpacking(tmp_path, folder), Progress(), extract=True)
    assert {p.parts[0] for p in map(Path, contents(tmp_path))} <= {"www", "down", "here"}
    assert all(p.startswith("root/out/") for p in contents(tmp_path / "here"))
    return str(caught.value)


@pytest.mark.parametrize(("member", "told"), [(m, t) for m, t, _ in HOSTILE])
def test_nothing_hostile_is_unpacked(tmp_path: Path, member: Member, told: str) -> None:
    said = unpacked(tmp_path, build([GOOD, member]))
    assert storage.UNUSABLE.get(told, told) in said
    assert "x.zip" in said
    found = contents(tmp_path / "here")
    assert set(found) <= {"root/out/good.txt"}
    assert not list((tmp_path / "here").rglob("*.unpacked"))


@pytest.mark.parametrize("name", [b"/etc/up.txt", b"C:/up.txt", b"C:up.txt", b"../up.txt"])
def test_nothing_is_unpacked_to_another_place(tmp_path: Path, name: bytes) -> None:
    assert "could lead out of its folder" in unpacked(tmp_path, build([GOOD, Member(name)]), "")


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND)
def test_an_archive_that_is_not_sound_never_counts_as_there(tmp_path: Path, data: bytes) -> None:
    assert "x.zip" in unpacked(tmp_path, data)
    assert not (tmp_path / "down/x.zip").exists()


def test_unusual_archives_are_unpacked(tmp_path: Path) -> None:
    data = build([Member(b"t/"), Member(b"t/a.txt", zip64=True), Member(b"t/\x82.txt"), Member("t/ü.txt".encode())])
    write_file(tmp_path / "www/x.zip", data)
    fetch(unpacking(tmp_path), Progress(), extract=True)
    assert set(contents(tmp_path / "here/root/out")) == {"a.txt", "é.txt", "ü.txt"}


def test_nothing_hostile_comes_by_ranges(tmp_path: Path) -> None:
    files = {f"/{i}/x.zip": build([GOOD, member]) for i, (member, *_) in enumerate(HOSTILE)}
    with faulty(Faults(files)) as url:
        for i, (member, reason, told) in enumerate(HOSTILE):
            place = storage.locate(f"zip://t::{url}/{i}/x.zip", str(tmp_path / "w"))
            odd = [why for _, why in place.listing(frozenset({".txt"}), with_stats=False).unusable]
            names = sorted(place.names())
            failed = place.gather(names, Limits(), lambda _: None)
            name = member.name.decode(errors="replace").removeprefix("t/")
            assert (odd, list(failed)) == (([reason], []) if told is None else ([], [name])), member
            assert all(str(told) in why for why in failed.values())
    kept = contents(tmp_path)
    assert {p.rsplit("/", 1)[-1].rsplit(".", 1)[0] for p in kept if "/images/" in p} == {"good.txt"}
    assert all(p.startswith("w/") for p in kept)


def test_an_archive_on_a_server_that_is_not_sound_is_refused(tmp_path: Path) -> None:
    with faulty(Faults({f"/{name.replace(' ', '-')}/x.zip": data for name, data in UNSOUND.items()})) as url:
        for name in UNSOUND:
            place = storage.locate(f"zip://t::{url}/{name.replace(' ', '-')}/x.zip", str(tmp_path / "w"))
            with pytest.raises(StorageError, match=r"/x.zip: "):
                place.listing(frozenset({".txt"}), with_stats=False)


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz", "images.tgz"])
@pytest.mark.parametrize("where", ["{}", "http://host.invalid"])
def test_tar_archives_are_told_what_to_do_with(tmp_path: Path, name: str, where: str) -> None:
    url = f"zip://train2017::{where.format(tmp_path)}/{name}"
    with pytest.raises(CocoDiyError, match=rf"/{name}: only zip archives are read in place; unpack this one, as by `"):
        storage.locate(url)


# Files that are too large for images


def too_large(tmp_path: Path, place: Callable[[str], str], faults: Faults) -> dict[str, str]:
    """Why two images cannot be had of a server."""
    with faulty(faults) as url:
        found = storage.locate(place(url), str(tmp_path / "w"))
        failed = found.gather(["big.jpg", "small.jpg"], Limits(), lambda _: None)
        assert found.at_hand(["big.jpg", "small.jpg"]) == [False, True]
        return failed


@pytest.mark.parametrize("sized", [True, False])
def test_an_endless_file_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sized: bool) -> None:
    monkeypatch.setattr(folder, "MAX_IMAGE_BYTES", 1 << 20)
    files = {"/i/big.jpg": b"x" * (3 << 20), "/i/small.jpg": b"x" * (1 << 20)}
    failed = too_large(tmp_path, lambda url: f"{url}/i", Faults(files, sized=sized))
    assert list(failed) == ["big.jpg"]
    assert failed["big.jpg"].endswith("/i/big.jpg: is larger than 1 MiB: no image")


@pytest.mark.parametrize("sized", [True, False])
def test_an_image_without_its_end_is_not_taken_for_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sized: bool
) -> None:
    """A server that tells no length says by closing that all came: then the end of an image says it, or nobody."""
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP"}
    whole = {f"/i/{suffix}": picture(kind) for suffix, kind in kinds.items()}
    cut = {f"/i/cut-{suffix}": data[:-7] for (_, data), suffix in zip(whole.items(), kinds, strict=True)}
    names = [path.removeprefix("/i/") for path in (*whole, *cut)]
    with faulty(Faults(whole | cut, sized=sized)) as url:
        found = storage.locate(f"{url}/i", str(tmp_path / "w"))
        failed = found.gather(names, Limits(), lambda _: None, ends_whole)
        here = [name for name, there in zip(names, found.at_hand(names), strict=True) if there]
    assert sorted(failed) == ([] if sized else ["cut-jpg", "cut-png", "cut-webp"])
    assert set(here) == set(names) - set(failed)
    assert all("came without its end, and without its length; run again" in reason for reason in failed.values())
    assert ("gave no length of 2 images, which may be cut short" in caplog.text) is not sized


def test_a_member_that_is_too_large_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.location.MAX_IMAGE_BYTES", 1 << 20)
    members = [Member(b"t/big.jpg", b"\0" * (1 << 21), method=8), Member(b"t/small.jpg", b"x" * (1 << 20))]
    failed = too_large(tmp_path, lambda url: f"zip://t::{url}/x.zip", Faults({"/x.zip": build(members)}))
    assert failed == {"big.jpg": "is larger than 1 MiB: no image"}
