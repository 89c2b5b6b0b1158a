"""Archives are read in place: the same subset as of the folders, and nothing that a hostile archive wants."""

from __future__ import annotations

import itertools
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.base.errors import CocoDiyError, ConfigError, StorageError
from pipeline.storage.archives.directory import Members, find_directory, parse_directory
from tests.conftest import MakeSubset, Subset
from tests.support.archives import Member, build, pack, pack_town
from tests.support.helpers import contents, snapshot, write_file
from tests.support.web import Faults, faulty

LABEL = b"1 0.5 0.5 0.1 0.1\n"


@pytest.fixture(scope="session")
def splits(_towns: object, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Where the splits of the packed town lie."""
    return pack_town(_towns.common, tmp_path_factory.mktemp("packed"))  # type: ignore[attr-defined]


@pytest.fixture
def packed(town: Path, splits: dict[str, dict[str, str]], make_subset: MakeSubset) -> Subset:
    """A subset of the town out of its archives."""
    return make_subset(town, "packed", source={"names": str(town / "coco.yaml"), "splits": splits})


def test_a_subset_of_archives_is_that_of_the_folders(
    subset: Subset, packed: Subset, splits: dict[str, dict[str, str]]
) -> None:
    archives = Path(splits["train"]["labels"].split("::")[1]).parent
    before = snapshot(archives)
    assert packed.build()["status"] == "built"
    assert subset.build()["status"] == "built"
    assert contents(packed.target) == contents(subset.target)
    assert len(contents(packed.target)) > 10
    assert packed.build()["status"] == "nothing to do"
    assert packed.command("verify", "--deep").code == 0
    assert snapshot(archives) == before


def test_the_table_of_members_is_kept_in_the_workdir(packed: Subset) -> None:
    packed.command("index")
    kept = sorted(p.name.rsplit("-", 1)[0] for p in (packed.workdir / "members").iterdir())
    assert kept == ["labels", "train2017", "val2017"]


def test_only_members_that_changed_are_read_again(town: Path, tmp_path: Path, make_subset: MakeSubset) -> None:
    places = pack_town(town, tmp_path / "archives")
    subset = make_subset(town, source={"names": str(town / "coco.yaml"), "splits": places})
    first = subset.build()
    labels = tmp_path / "archives/labels.zip"
    with zipfile.ZipFile(labels) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = "coco/labels/train2017/a.txt"
    files[changed] = files[changed].replace(b"1 0.25", b"2 0.25")
    with zipfile.ZipFile(labels, "w") as archive:
        for name in sorted(files, reverse=True):
            archive.writestr(name, files[name])
    again = subset.build()
    assert first["subset"] != again["subset"]
    assert again["plan"]["write"]["label"]["files"] == 1
    assert again["plan"]["copy"]["image"]["files"] == 0


@pytest.mark.parametrize("images", ["hardlink", "symlink"])
def test_links_into_an_archive_are_refused(packed: Subset, images: str) -> None:
    told = packed.command("build", "--set", f"target.images={images}", code=2).err
    assert "set it to copy" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("zip://coco/labels/train2017", "must be zip://FOLDER::ARCHIVE"),
        ("zip://coco/../train2017::{}/labels.zip", "must be zip://FOLDER::ARCHIVE"),
        ("zip://coco/labels/train2017::{}/nothing.zip", "correct source.root or source.splits"),
        ("zip://coco/labels/train2018::{}/labels.zip", "its folders are coco/labels/train2017"),
        ("{}/labels.zip", "is a file; a folder in a zip archive is named as in zip://train2017::"),
        ("zip://labels::{}/labels.tar.gz", "labels.tar.gz: only zip archives are read in place"),
        ("tar://labels::{}/labels.tar", "labels.tar: only zip archives are read in place"),
    ],
)
def test_what_is_not_there_is_told(packed: Subset, splits: dict[str, dict[str, str]], change: str, told: str) -> None:
    folder = os.path.dirname(splits["train"]["labels"].split("::")[1])
    url = change.format(folder)
    assert told in packed.command("index", "--set", f"source.splits.train.labels={url}", code=2).err


# Hostile and damaged archives


def place(path: Path, data: bytes, folder: str = "t") -> storage.Location:
    return storage.locate(f"zip://{folder}::{write_file(path / 'x.zip', data)}")


def listed(where: storage.Location) -> tuple[list[str], list[tuple[str, str]]]:
    found = where.listing(frozenset({".txt"}), with_stats=True)
    return [n for blob, _ in found.chunks for n in blob.decode().split("\0")], found.unusable


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Member(b"t/../../up.txt"), "unsafe_name"),
        (Member(b"t/..\\..\\up.txt"), "unsafe_name"),
        (Member(b"t//abs.txt"), "unsafe_name"),
        (Member(b"t/./dot.txt"), "unsafe_name"),
        (Member(b"t/nul\0.txt"), "unsafe_name"),
        (Member(b"t/line\n.txt"), "unsafe_name"),
        (Member(b"t/link.txt", b"/etc/passwd", external=0o120777 << 16), "link"),
        (Member(b"t/secret.txt", flags=1), "encrypted"),
        (Member(b"t/lzma.txt", method=14), "method"),
        (Member(b"t/bomb.txt", b"\0" * 100_000, method=8, size=1 << 31), "bomb"),
        (Member(b"t/false.txt", size=1 << 20), "bomb"),
        (Member(b"t/bad\xff.txt", flags=0x800), "not_utf8"),
        (Member(b"t/good.txt"), "twice"),
    ],
)
def test_a_hostile_member_is_refused(tmp_path: Path, member: Member, reason: str) -> None:
    where = place(tmp_path, build([Member(b"t/good.txt"), member, Member(b"t/sub/last.txt")]))
    names, odd = listed(where)
    assert [r for _, r in odd] == [reason]
    assert names == (["sub/last.txt"] if reason == "twice" else ["good.txt", "sub/last.txt"])
    assert where.read("sub/last.txt") == LABEL


@pytest.mark.parametrize("name", [b"/etc/x.txt", b"C:/x.txt", b"C:x.txt", b"../x.txt"])
def test_names_that_lead_elsewhere_are_refused_at_the_top(tmp_path: Path, name: bytes) -> None:
    names, odd = listed(place(tmp_path, build([Member(name), Member(b"a.txt")]), ""))
    assert names == ["a.txt"]
    assert [r for _, r in odd] == ["unsafe_name"]


def _named(data: bytes) -> Members:
    where = find_directory(len(data), lambda at, length: data[at : at + length], "x.zip")
    return parse_directory(data[where.offset : where.offset + where.size], where, "x.zip")


@pytest.mark.parametrize(
    ("names", "good", "refused"),
    [
        ([b"t\\a.txt", b"t\\sub\\b.txt", b"t\\", b"c.txt"], ["t/a.txt", "t/sub/b.txt", "c.txt"], {}),
        (["t\\é.txt".encode()], ["t/é.txt"], {}),
        ([b"..\\up.txt", b"a.txt"], ["a.txt"], {"../up.txt": "unsafe_name"}),
        ([b"t\\..\\..\\up.txt", b"a.txt"], ["a.txt"], {"t/../../up.txt": "unsafe_name"}),
        ([b"\\etc\\x.txt", b"a.txt"], ["a.txt"], {"/etc/x.txt": "unsafe_name"}),
        ([b"\\\\host\\x.txt", b"a.txt"], ["a.txt"], {"//host/x.txt": "unsafe_name"}),
        ([b"C:\\x.txt", b"a.txt"], ["a.txt"], {"C:/x.txt": "unsafe_name"}),
        ([b"t\\.\\x.txt", b"a.txt"], ["a.txt"], {"t/./x.txt": "unsafe_name"}),
        ([b"t\\x.txt", b"t\\x.txt", b"a.txt"], ["a.txt"], {"t/x.txt": "twice"}),
        # Where one name has a slash, a backslash is a letter of a name, which no system shares.
        ([b"t\\x.txt", b"t/x.txt"], ["t/x.txt"], {"t\\x.txt": "unsafe_name"}),
        ([b"t\\x.txt", b"empty/", b"a.txt"], ["a.txt"], {"t\\x.txt": "unsafe_name"}),
        # Shift JIS: the second byte of one letter.
        ("表.txt".encode("shift_jis").split(b"?"), [], {"ò\\.txt": "unsafe_name"}),
        ([b"t\\nul\0.txt", b"a.txt"], ["a.txt"], {"t\\nul\0.txt": "unsafe_name"}),
        ([b"./", b"./t/", b"./t/a.txt", b"./c.txt"], ["t/a.txt", "c.txt"], {}),
        ([b"./t/a.txt", b"./../c.txt"], ["t/a.txt"], {"../c.txt": "unsafe_name"}),
        ([b"./t/a.txt", b"././c.txt"], ["t/a.txt"], {"./c.txt": "unsafe_name"}),
        ([b"./t/a.txt", b"t/a.txt"], ["t/a.txt"], {"./t/a.txt": "unsafe_name"}),
    ],
)
def test_names_as_tools_write_them(names: list[bytes], good: list[str], refused: dict[str, str]) -> None:
    """Backslashes by PowerShell 5 and .NET before 4.6.1, where no name of the archive has a slash; ./ by bsdtar."""
    found = _named(build([Member(name, b"" if name.endswith((b"\\", b"/")) else LABEL) for name in names]))
    assert list(filter(None, found.names.decode().split("\0"))) == good
    assert dict(found.unusable) == refused


def test_an_archive_of_which_nothing_can_be_read_says_why(tmp_path: Path) -> None:
    where = place(tmp_path, build([Member(b"/t/a.txt"), Member(b"/t/b.txt")]))
    with pytest.raises(ConfigError, match=r"holds no file that can be read: '/t/a.txt' has a name that could lead out"):
        listed(where)


def test_a_zip_of_windows_is_read(tmp_path: Path) -> None:
    where = place(tmp_path, build([Member(b"t\\a.txt"), Member(b"t\\sub\\b.txt"), Member(b"u\\c.txt")]))
    assert listed(where) == (["a.txt", "sub/b.txt"], [])
    assert where.read("sub/b.txt") == LABEL


def test_a_name_is_judged_by_itself() -> None:
    """One of other letters has all names of its archive checked one by one: each fares as it does without it."""
    names = {b"t/a%cb.txt" % letter for letter in range(1, 128)}
    names |= {b"/".join([*steps, b"a.txt"]) for steps in itertools.product([b"a", b"", b".", b"..", b"..."], repeat=2)}

    def fit(*some: bytes) -> set[bytes]:
        data = build([Member(name) for name in some])
        where = find_directory(len(data), lambda at, length: data[at : at + length], "x.zip")
        return set(parse_directory(data[where.offset : where.offset + where.size], where, "x.zip").names.split(b"\0"))

    other = "é".encode()
    assert {name for name in names if name in fit(name)} == fit(*names, other) - {other}


@pytest.mark.parametrize(
    ("raw", "flags", "name"),
    [
        ("t/é.txt".encode(), 0x800, "é.txt"),
        ("t/é.txt".encode(), 0, "é.txt"),
        (b"t/\x82.txt", 0, "é.txt"),
    ],
)
def test_names_in_utf8_with_and_without_the_flag_and_in_cp437(
    tmp_path: Path, raw: bytes, flags: int, name: str
) -> None:
    where = place(tmp_path, build([Member(raw, flags=flags)]))
    assert listed(where) == ([name], [])
    assert where.read(name) == LABEL


def _unicode_path(of: bytes, name: str) -> bytes:
    """Info-ZIP's extra field, APPNOTE 4.6.9, after one of times, as `zip` writes it."""
    value = struct.pack("<BL", 1, zlib.crc32(of)) + name.encode()
    return struct.pack("<2HBL", 0x5455, 5, 1, 0) + struct.pack("<2H", 0x7075, len(value)) + value


@pytest.mark.parametrize(
    ("raw", "of", "name"),
    [
        (b"t/\x8c\xf6.txt", b"t/\x8c\xf6.txt", "t/口.txt"),  # its cp437 and Shift-JIS are other names
        (b"t/#U53e3.txt", b"t/#U53e3.txt", "t/口.txt"),
        (b"t/new.txt", b"t/\x8c\xf6.txt", "t/new.txt"),  # renamed by a tool that does not know the field
    ],
)
def test_the_name_in_the_extra_field_counts_where_it_is_that_of_the_very_name(
    tmp_path: Path, raw: bytes, of: bytes, name: str
) -> None:
    where = place(tmp_path, build([Member(raw, extra=_unicode_path(of, "t/口.txt")), Member(b"t/b.txt")]))
    assert sorted(listed(where)[0]) == sorted([name.removeprefix("t/"), "b.txt"])
    assert where.read(name.removeprefix("t/")) == LABEL


@pytest.mark.parametrize(
    ("comment", "more"),
    [(b"of PK\x05\x06 and what follows it: " + b"x" * 40, b""), (b"ends in PK\x05\x06", b""), (b"", b"\n\0\0")],
)
def test_a_comment_may_hold_the_bytes_of_an_end(tmp_path: Path, comment: bytes, more: bytes) -> None:
    where = place(tmp_path, build([Member(b"t/a.txt")], comment=comment) + more)
    assert where.read("a.txt") == LABEL


@pytest.mark.parametrize(
    "member",
    [
        Member(b"t/m.txt", crc=1),
        Member(b"t/m.txt", b"\0" * 100_000, method=8, size=500),
        Member(b"t/m.txt", LABEL * 50, method=8, size=len(LABEL) * 50 + 7),
        Member(b"t/m.txt", b"x" * 100_000, crc=5),
    ],
)
def test_a_damaged_member_is_told_and_never_unpacked_beyond_its_size(tmp_path: Path, member: Member) -> None:
    where = place(tmp_path, build([member, Member(b"t/good.txt")]))
    data, _, failed = where.read_many(["good.txt", "m.txt", "none.txt"], 1 << 20)
    assert (list(data), failed) == ([LABEL, b"", b""], {1: "damaged", 2: "vanished"})
    found = {f.index: (f.data, f.reason) for f in where.fetch_many(["m.txt", "good.txt", "none.txt"])}
    assert found[1] == (LABEL, None)
    assert "damaged" in str(found[0][1])
    assert "not in the archive" in str(found[2][1])


def test_a_file_beyond_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    where = place(tmp_path, build([Member(b"t/m.txt", b"0" * 5000, method=8)]))
    assert where.read_many(["m.txt"], 4999)[2] == {0: "too_large"}
    assert where.read_many(["m.txt"], 5000)[0] == [b"0" * 5000]


GOOD = build([Member(b"t/a.txt"), Member(b"t/b.txt")])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no zip archive"),
        (b"not an archive" * 9, "no zip archive"),
        (GOOD[:-30], "no zip archive"),
        (GOOD[40:], "was cut, or changed"),
        (build([Member(b"t/a.zip", GOOD), Member(b"t/b.txt")])[: 37 + len(GOOD)], "an archive that is in it was found"),
        (build([Member(b"t/a.zip", GOOD), Member(b"t/b.txt")])[: 60 + len(GOOD)], "an archive that is in it was found"),
        (build([Member(b"t/a.txt"), Member(b"t/b.txt")], count=3), "has 2 members and not 3"),
        (build([Member(b"t/a.txt"), Member(b"t/b.txt", offset=0)]), "overlap"),
        (build([Member(b"t/a.txt"), Member(b"t/b.txt", offset=20)]), "overlap"),
        (build([Member(b"t/a.txt"), Member(b"t/b.txt", offset=1 << 30)]), "overlap"),
        (GOOD.replace(b"PK\1\2", b"PK\1\3", 1), "damaged at byte 0"),
        (GOOD[:-18] + b"\1\0" + GOOD[-16:], "several parts"),
    ],
)
def test_an_archive_that_is_not_sound_is_refused_whole(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(StorageError, match=told) as caught:
        listed(place(tmp_path, data))
    assert str(tmp_path / "x.zip") in str(caught.value)


def test_an_archive_whose_offsets_began_anew_is_told() -> None:
    """The Archive Utility of macOS packs more than 4 GiB without the records that hold larger numbers."""
    size = len(GOOD) + (1 << 32)
    with pytest.raises(StorageError, match=r"x.zip: is larger than 4 GiB and has no zip64 directory, as macOS packs"):
        find_directory(size, lambda _at, count: GOOD.rjust(count, b"\0"), "x.zip")


@pytest.mark.parametrize(
    "data",
    [
        build([Member(b"t/a.txt"), Member(b"t/b.txt", zip64=True)]),
        build([Member(b"t/a.txt"), Member(b"t/b.txt")], comment=b"PK\1\2 a comment" * 4),
        build([Member(b"t/a.txt"), Member(b"t/b.txt")], before=b"#!/bin/sh unpacks itself\n" * 9),
        build([Member(b"t/a.txt"), Member(b"t/b.txt"), Member(b"t/PK\1\2" + b"x" * 50)]),
        build([Member(b"t/"), Member(b"t/a.txt", method=8), Member(b"t/b.txt")]),
        build([Member(b"t/a.txt"), Member(b"t/b.txt")]) + bytes(512),
    ],
    ids=["zip64 sizes", "comment", "self-extracting", "mark in a name", "folder entry", "something behind"],
)
def test_unusual_archives_are_read(tmp_path: Path, data: bytes) -> None:
    where = place(tmp_path, data)
    assert listed(where)[0] == ["a.txt", "b.txt"]
    assert where.read_many(["b.txt", "a.txt"], 99)[0] == [LABEL, LABEL]


def many(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"t/{i:06d}.txt"), b"")
    return path


def old_many(path: Path) -> Path:
    """As old tools write more members than a count of 16 bits holds: modulo 65,536."""
    data = bytearray(many(path).read_bytes())
    where = data.rfind(b"PK\6\6")
    end = bytearray(data[data.rfind(b"PK\5\6") :])
    end[8:12] = (70_000 % 65_536).to_bytes(2, "little") * 2
    path.write_bytes(data[:where] + end)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("make", [many, old_many])
def test_more_members_than_16_bits_count(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    where = storage.locate(f"zip://t::{make(tmp_path / 'many.zip')}")
    assert where.listing(frozenset({".txt"}), with_stats=False).count == 70_000
    assert where.exist_many(["069999.txt", "070000.txt"]) == [True, False]
    with faulty(Faults({"/many.zip": (tmp_path / "many.zip").read_bytes()})) as url:
        remote = storage.locate(f"zip://t::{url}/many.zip", str(tmp_path / "w"))
        assert remote.listing(frozenset({".txt"}), with_stats=False).count == 70_000
        assert remote.gather(["069999.txt"], storage.Limits(), lambda _: None) == {}
        assert remote.read("069999.txt") == b""


def test_nothing_is_written_outside(tmp_path: Path, make_subset: MakeSubset, town: Path) -> None:
    names = [b"t/../../../evil.txt", b"t/..\\evil.txt", b"/evil.txt", b"t/link.txt"]
    bad = [Member(n, external=0o120777 << 16 if b"link" in n else 0) for n in names]
    labels = write_file(tmp_path / "l.zip", build([*bad, Member(b"t/a.txt")]))
    pictures = [Member(b"t/a.jpg", b"picture"), Member(b"t/../../../evil.jpg", b"x")]
    images = write_file(tmp_path / "i.zip", build(pictures))
    subset = make_subset(
        town,
        source={
            "names": str(town / "coco.yaml"),
            "splits": {"train": {"labels": f"zip://t::{labels}", "images": f"zip://t::{images}"}},
        },
    )
    assert "could lead out of its folder" in subset.command("build", code=1).err
    done = subset.build("--set", "on_error=skip", code=3)
    assert done["subset"]["train"]["images"] == 1
    assert not list(tmp_path.parent.rglob("evil*"))
    assert set(contents(subset.target)) == {"data.yaml", "images/train/a.jpg", "labels/train/a.txt"}


def test_a_damaged_image_fails_by_itself(tmp_path: Path, make_subset: MakeSubset, town: Path) -> None:
    places = pack_town(town, tmp_path / "archives")
    archive = tmp_path / "archives/train2017.zip"
    archive.write_bytes(archive.read_bytes().replace(b"picture of train2017/a.jpg", b"Picture of train2017/a.jpg"))
    subset = make_subset(town, source={"names": str(town / "coco.yaml"), "splits": places})
    done = subset.build(code=1)
    assert list(done["failed"]) == ["images/train/a.jpg"]
    assert "zip://train2017/a.jpg::" in done["failed"]["images/train/a.jpg"]
    pack(town / "images/train2017", archive, "train2017", zipfile.ZIP_STORED)
    assert subset.build()["status"] == "built"
    assert (subset.target / "images/train/a.jpg").read_bytes() == (town / "images/train2017/a.jpg").read_bytes()


def test_wrong_places_are_config_errors(tmp_path: Path) -> None:
    for url in ("zip://x", "zip://a/../b::c.zip", "zip://a::"):
        with pytest.raises(ConfigError):
            storage.locate(url)
    assert issubclass(StorageError, CocoDiyError)
