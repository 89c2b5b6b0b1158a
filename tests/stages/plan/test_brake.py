"""The brake: what would lose much of a target that nobody asked to lose stops with exit code 4, before anything."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.plan.brake import Limit
from tests.conftest import MakeSubset, Run, Subset
from tests.formats.test_labelme import jpeg
from tests.support import stores
from tests.support.helpers import contents, make_tree, names_yaml, outside, settle, slow, snapshot, write_file

CLASSES = ("bicycle", "car")


def a_source(root: Path, train: int = 60, val: int = 30, start: int = 0) -> Path:
    """Images of two classes by turns; every object is of a size of its own."""
    labels: dict[str, dict[str, bytes | str]] = {}
    for folder, count in (("train2017", train), ("val2017", val)):
        labels[folder] = {f"{i:04d}": f"{i % 2} 0.5 0.5 0.1 0.{i + 1000}\n" for i in range(start, start + count)}
    make_tree(root, labels, {f: tuple(f"{stem}.jpg" for stem in files) for f, files in labels.items()}, CLASSES)
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        path.write_bytes(jpeg(64 + number, 48))
    return root


@pytest.fixture
def made(tmp_path: Path, make_subset: MakeSubset) -> Subset:
    """A subset of ninety images that is built."""
    subset = make_subset(a_source(tmp_path / "source"), classes=list(CLASSES))
    settle()  # younger files would be read again by the next run
    subset.build()
    return subset


def lose(source: Path, count: int, what: str = "labels", folder: str = "train2017") -> list[Path]:
    """Delete the first `count` files of a folder of the source."""
    gone = sorted((source / what / folder).iterdir())[:count]
    for path in gone:
        path.unlink()
    return gone


def stops(subset: Subset, *words: str, indexed: bool = False) -> dict[str, Any]:
    """What a build says that brakes; nothing at the target changes, nor in the index where it need not be `indexed`."""

    def state() -> list[object]:
        index = {path: data for path, data in contents(subset.workdir / "index").items() if not path.endswith(".lock")}
        return [outside(snapshot(subset.target)), contents(subset.target, record=True), None if indexed else index]

    before = state()
    told = subset.command("build", "--json", *words, code=4)
    assert state() == before
    facts = told.json
    facts.pop("run")
    assert told.err == f"coco-diy: {facts['error']}\n"
    assert (facts["reason"], facts["exit_code"]) == ("brake", 4)
    return facts


# --- how much is too much ---------------------------------------------------------------------------------------------


@given(total=st.integers(0, 10**6), lost=st.integers(0, 10**6), percent=st.integers(0, 100))
def test_a_share_is_exceeded_by_more_than_it_and_more_than_ten(total: int, lost: int, percent: int) -> None:
    exceeded = Limit.of(f"{percent}%").exceeded(lost, total)
    assert exceeded == (lost > 10 and 100 * lost > percent * total)


@given(total=st.integers(0, 10**6), lost=st.integers(0, 10**6), number=st.integers(0, 10**6))
def test_a_number_is_exceeded_by_more(total: int, lost: int, number: int) -> None:
    assert Limit.of(number).exceeded(lost, total) == (lost > number)
    assert not Limit.of("none").exceeded(lost, total)
    assert not Limit.of("none").forbids_all(total)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("110%", "must be a share up to 100%"),
        ("-1", "must be a share"),
        ("some", "must be a share"),
        ("true", "must be"),
        ("1.5", "must be a share"),
        ("[1]", "must be a share"),
    ],
)
def test_a_limit_that_is_none_is_told(subset: Subset, value: str, message: str) -> None:
    assert message in subset.command("plan", "--set", f"target.max_delete={value}", code=2).err


def test_a_build_brakes_exactly_beyond_the_limit(made: Subset) -> None:
    """Losses at random against limits at random: the exit code is what arithmetic says."""
    rng = random.Random(3)
    source, spare = made.source, made.source.with_name("spare")
    for _ in range(8):
        shutil.copytree(source, spare)
        lost = rng.choice((1, 9, 10, 11, 12, 17, 18, 19, 30))
        lose(source, lost)
        limit = rng.choice(("10%", "20%", "0%", "11", "18", "none"))
        plan = made.plan("--max-delete", limit)
        brakes = limit != "none" and (
            2 * lost > int(limit) if limit.isdigit() else lost > 10 and 100 * lost > int(limit[:-1]) * 90
        )
        assert (plan["brake"] is not None) == brakes, (lost, limit)
        if brakes:
            facts = stops(made, "--max-delete", limit, indexed=True)
            assert (facts["count"], facts["total"]) in ((lost, 90), (2 * lost, 180))
        shutil.rmtree(source)
        spare.rename(source)
        made.build("--max-delete", "none")


# --- the source lost files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["labels", "images"])
def test_a_source_that_lost_much(made: Subset, what: str) -> None:
    gone = lose(made.source, 12, what)
    facts = stops(made)
    kind = {"labels": "label files", "images": "images"}[what]
    assert f"{made.source}: lost 12 of 90 {kind} (13.3 %) since {made.target} was made from it" in facts["error"]
    assert ", such as labels/train/0000.txt, labels/train/0001.txt, labels/train/0002.txt; mount" in facts["error"]
    assert facts["hint"] == "mount or restore it, or build with --max-delete none to let them go"
    assert (facts["share"], len(facts["names"])) == (0.133333, 3)
    planned = made.command("plan")
    assert f"A build would stop (exit code 4): {facts['error']}" in planned.out
    assert made.command("plan", "--json").json["brake"] == facts
    if what == "labels":
        built = made.build("--max-delete", "14%")
        assert built["lost"]["files"] == 24
        assert {p.stem for p in gone} & {p.stem for p in (made.target / "labels/train").iterdir()} == set()
        lose(made.source, 7)
        made.build()  # it is compared with what the target was made from last


@pytest.mark.parametrize("how", ["emptied", "gone", "root gone", "names, too"])
@pytest.mark.parametrize("what", ["labels", *slow("images")])
def test_a_split_that_is_not_mounted(made: Subset, what: str, how: str, tmp_path: Path) -> None:
    """However small it is, and whether its mount point is there or not; mounted again, there is nothing to do."""
    place = {"root gone": made.source, "names, too": made.source}.get(how, made.source / what / "val2017")
    away = place.rename(tmp_path / "away")
    if how == "root gone":
        shutil.copy(away / "coco.yaml", write_file(made.source / "coco.yaml", ""))
    elif how == "emptied":
        place.mkdir()
    facts = stops(made)
    assert ("is missing or empty, and" if facts["cause"] == "missing" else "lost all 30") in facts["error"]
    assert made.plan()["brake"] == facts
    shutil.rmtree(place, ignore_errors=True)
    away.rename(place)
    plan = made.build()["plan"]
    assert (plan["write"]["label"]["files"], plan["delete"]["image"]["files"]) == (0, 0)


def test_a_folder_that_was_never_there_is_a_config_error(subset: Subset) -> None:
    told = subset.command("build", "--set", f"source.root={subset.source}x", code=2).err
    assert "does not exist; correct source.root" in told
    assert not subset.target.exists()


def test_a_marker_says_that_the_disk_is_mounted(made: Subset, tmp_path: Path) -> None:
    for word, place in ((".mounted", made.source / ".mounted"), (str(tmp_path / "m"), tmp_path / "m")):
        words = ("--set", f"source.marker={word}")
        facts = stops(made, *words)
        assert facts["error"] == (
            f"{place}: the marker of source source is missing: its disk is not mounted; mount it and run again"
        )
        assert made.plan(*words)["brake"]["cause"] == "marker"
        assert made.command("index", *words, code=4).out == ""
        write_file(place, "")
        assert made.build(*words)["plan"]["write"]["label"]["files"] == 0


def test_one_of_several_sources_is_not_mounted(tmp_path: Path, make_subset: MakeSubset) -> None:
    roots = {"a": a_source(tmp_path / "a", 200, 100), "b": a_source(tmp_path / "b", 15, 5)}
    sources = [
        {
            "name": name,
            "names": str(root / "coco.yaml"),
            "root": str(root),
            "splits": {"train": "train2017", "val": "val2017"},
        }
        for name, root in roots.items()
    ]
    subset = make_subset(roots["a"], classes=list(CLASSES), source=sources)
    subset.build()
    lose(roots["b"], 11)  # most of a small one, and little of all
    facts = stops(subset)
    assert facts["error"].startswith(f"{roots['b']}: lost 11 of 20 label files (55.0 %) since")
    assert all("/b/" in name for name in facts["names"])
    one = make_subset(roots["a"], classes=list(CLASSES), source=sources[:1])
    one.build()  # a source that the config gives up is a wish


@pytest.mark.parametrize(
    "how", [{"archive": "zip"}, {"format": "coco"}, *slow({"format": "coco", "images": "none"}, {"images": "none"})]
)
def test_every_kind_of_target_brakes(tmp_path: Path, make_subset: MakeSubset, how: dict[str, str]) -> None:
    source = a_source(tmp_path / "source")
    subset = make_subset(source, classes=list(CLASSES), target={"root": str(tmp_path / "t"), **how})
    subset = Subset(subset.run, source, subset.config, tmp_path / "t", subset.workdir)
    subset.build()
    lose(source, 12)
    facts = stops(subset)
    assert (facts["cause"], len(facts["names"])) == ("source", 3)
    a_source(source)
    subset.build()
    for stem in range(12):
        write_file(source / f"labels/train2017/{stem:04d}.txt", "")
    facts = stops(subset, indexed=True)  # only the plan sees it
    assert facts["cause"] == "target"
    assert facts["names"]
    subset.build("--max-delete", "30")
    other = a_source(tmp_path / "other", 5, 3, 500)
    facts = stops(subset, "--set", f"source.root={other}", indexed=True)
    assert (facts["cause"], facts["share"]) == ("other_source", 1.0)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stores.Server]:
    """A store that config and environment lead to."""
    with stores.running(stores.s3(tmp_path / "s3", "bucket")) as server:
        monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
        data = {"key": stores.KEY, "secret": stores.SECRET, "endpoint_url": f"http://127.0.0.1:{server.port}"}
        write_file(tmp_path / "options/s3.yaml", yaml.safe_dump({"s3": data}))
        yield server


@pytest.mark.slow
def test_a_target_in_a_store_brakes(tmp_path: Path, make_subset: MakeSubset, run: Run, s3: stores.Server) -> None:
    source = a_source(tmp_path / "source")
    subset = make_subset(source, classes=list(CLASSES), target={"root": "s3://bucket/brake"})
    subset.build()
    data = s3.folder / "data/bucket/brake"
    before = contents(data)
    lose(source, 12)
    assert "lost 12 of 90 label files" in subset.command("build", code=4).err
    assert contents(data) == before
    told = run("status", "s3://bucket/brake", "--json").json
    assert [r["exit_code"] for r in told["recent"]] == [4, 0]
    assert told["recent"][0]["status"] == "brake"
    subset.build("--max-delete", "none")


# --- the target would lose files --------------------------------------------------------------------------------------


def test_labels_that_were_emptied_are_a_loss_of_the_target(made: Subset) -> None:
    """The files are all there, but what is in them is not: the listing cannot tell."""
    for stem in range(12):
        write_file(made.source / f"labels/train2017/{stem:04d}.txt", "")
    facts = stops(made, indexed=True)
    assert made.plan()["brake"] == facts
    assert (
        f"{made.target}: would lose 24 of 180 files (13.3 %) by its own config, such as labels/train/0000.txt"
        in facts["error"]
    )
    assert made.build("--max-delete", "24")["lost"]["files"] == 24


def test_what_a_changed_recipe_takes_away_is_told_and_done(made: Subset) -> None:
    text = made.command("plan", "--set", "classes=[car]").out
    assert "Of 180 files at the target 90 would go and 45 be replaced" in text
    told = made.plan("--set", "classes=[car]")
    assert {k: told["lost"][k] for k in ("files", "replaced", "total")} == {"files": 90, "replaced": 45, "total": 180}
    assert told["brake"] is None
    made.build("--set", "classes=[car]")


@pytest.mark.parametrize("images", ["copy", "none"])
@pytest.mark.parametrize("how", ["folders", "lists"])
def test_images_that_go_to_another_split_are_no_loss(
    tmp_path: Path, make_subset: MakeSubset, how: str, images: str
) -> None:
    """Their keys are others then; what comes has their names and sizes. What does not come is a loss as ever."""
    source = a_source(tmp_path / "source", val=0)
    train = sorted((source / "images/train2017").iterdir())
    splits = {"train": "train.txt", "val": "val.txt"} if how == "lists" else {"train": "train2017", "val": "val2017"}

    def assign(count: int) -> None:
        """The first `count` images are of val, the others of train."""
        write_file(source / "val.txt", "\n".join(map(str, train[:count])))
        write_file(source / "train.txt", "\n".join(map(str, train[count:])))
        for number, image in enumerate(train if how == "folders" else ()):
            folders = ("val2017", "train2017") if number < count else ("train2017", "val2017")
            for path in (image, source / "labels/train2017" / f"{image.stem}.txt"):
                here, there = (path.parents[1] / folder / path.name for folder in folders)
                if there.exists():
                    there.rename(here)

    assign(10)
    keys = {"names": str(source / "coco.yaml"), "root": str(source), "splits": splits}
    target = {"root": str(tmp_path / "subset"), "images": images, "max_delete": "20%"}
    subset = make_subset(source, classes=list(CLASSES), source=keys, target=target)
    subset.build()
    assign(50)
    told = subset.build()
    assert told["subset"]["val"]["images"] == 50
    assert (told["lost"]["files"], told["lost"]["images"], told["lost"]["names"]) == (0, 0, [])
    assert [text for text in told["warnings"] if "40 images in another split than before: 0010 (train to val)" in text]
    assign(10)
    for image in train[:20]:
        next((source / "labels").rglob(f"{image.stem}.txt")).write_text("")
    facts = stops(subset, indexed=True)
    assert (facts["cause"], facts["count"]) == ("target", 20 if images == "none" else 40)


def test_files_that_a_repair_makes_anew_are_no_loss(made: Subset) -> None:
    for path in sorted((made.target / "labels/train").iterdir())[:30]:
        path.write_text("damaged")
    assert made.run("verify", made.target, "--repair", "--json").json["repaired"] == 30


def test_a_repair_brakes(made: Subset) -> None:
    sorted((made.target / "labels/train").iterdir())[40].unlink()
    lose(made.source, 12)
    for what in (made.target, made.config):
        told = made.run("verify", what, "--repair", "--json", code=4).json
        assert told["cause"] == "source"
    assert len(list((made.target / "labels/train").iterdir())) == 59
    made.run("verify", made.target, "--repair", "--max-delete", "none", code=0)


def test_a_loss_is_told_when_quiet_too(made: Subset) -> None:
    """A whole class, and a whole split, by a recipe that asks for it."""
    for path in (made.source / "labels/val2017").iterdir():
        path.write_text("0 0.5 0.5 0.1 0.1\n")
    done = made.command("build", "--quiet", "--set", "classes=[car]")
    assert done.out == ""
    lacking = "the subset has no val images, and trainers need them; split val of the source has no object of these"
    moved, *told = done.err.splitlines()
    assert moved.startswith("warning: class numbers change at the target: 'car' was 1, is 0;")
    assert told == [f"warning: {lacking} classes", "warning: split val had 30 images in the target, and has none now"]
    assert "had 30 images" not in made.command("build", "--quiet", "--set", "classes=[car]").err


def test_labels_that_are_emptied(made: Subset) -> None:
    """All files are there, and say of every image that it has nothing."""
    made.build("--set", "select.backgrounds=all")
    settle()
    for path in (made.source / "labels/train2017").iterdir():
        path.write_text("")
    told = stops_at(made, "--set", "select.backgrounds=all")
    assert (told["cause"], told["count"], told["total"]) == ("target", 60, 60)
    assert "split train would lose all of its 60 objects by its own config" in told["error"]
    made.build("--set", "select.backgrounds=all", "--max-delete", "none")


def test_most_objects_of_a_class(made: Subset) -> None:
    for path in sorted((made.source / "labels/train2017").iterdir()):
        path.write_text("0 0.5 0.5 0.1 0.1\n" * 9)
    made.build("--max-delete", "none")
    settle()
    for path in sorted((made.source / "labels/train2017").iterdir()):
        path.write_text("0 0.5 0.5 0.1 0.1\n")
    told = made.command("build", "--quiet").err
    assert told == "warning: class 'bicycle' had 555 objects in the target, and has 75 now\n"


@pytest.mark.parametrize("before", ["fail", "skip"])
def test_names_that_a_source_lost(tmp_path: Path, make_subset: MakeSubset, before: str) -> None:
    """Half of a names YAML that is written, and rows of unknown classes left out, as the message advises."""
    subset = make_subset(a_source(tmp_path / "source"), classes=None)
    names = Path(yaml.safe_load(subset.config.read_text())["source"]["names"])
    subset.build("--set", f"on_error={before}")
    names.write_text(names_yaml(CLASSES[:1]))
    subset.build(code=1)
    told = stops_at(subset, "--set", "on_error=skip")
    assert (told["cause"], told["count"], told["total"]) == ("target", 90, 180)
    subset.command("build", "--set", "on_error=skip", "--set", "classes=[bicycle]", code=3)  # a wish


def stops_at(subset: Subset, *words: str) -> dict[str, Any]:
    """What a build says that brakes once its plan is made."""
    return stops(subset, *words, indexed=True)


# --- made from another source, or by another recipe -------------------------------------------------------------------


def test_convert_does_not_replace_another_subset(made: Subset, tmp_path: Path, run: Run) -> None:
    tiny = a_source(tmp_path / "tiny", 5, 3, 500)
    words = (
        "convert",
        tiny,
        made.target,
        "--from",
        "yolo",
        "--to",
        "yolo",
        "--labels",
        tiny / "coco.yaml",
        "--workdir",
        tmp_path / "w",
    )
    before = contents(made.target, record=True)
    told = run(*words, code=4).err
    assert f"{made.target}: was made from the source {made.source}/labels, and 180 of its 180 files (100.0 %)" in told
    assert "choose another target, or build with --max-delete none" in told
    assert contents(made.target, record=True) == before
    run(*words, "--max-delete", "none")
    told = run(
        "remake",
        made.source,
        made.target,
        "--src-yaml",
        made.source / "coco.yaml",
        "--dst-yaml",
        made.source / "coco.yaml",
        "--workdir",
        tmp_path / "w2",
        code=4,
    ).err
    assert "was made from the source" in told


@pytest.mark.parametrize("command", ["convert", "remake"])
def test_a_split_that_a_command_does_not_find_any_more(command: str, tmp_path: Path, run: Run) -> None:
    source, target = a_source(tmp_path / "source"), tmp_path / "out"
    more = {
        "convert": ("--from", "yolo", "--to", "yolo", "--labels", source / "coco.yaml"),
        "remake": ("--src-yaml", source / "coco.yaml", "--dst-yaml", source / "coco.yaml"),
    }[command]
    words = (command, source, target, "--workdir", tmp_path / "w", *more)
    run(*words)
    before = contents(target)
    (source / "labels/val2017").rename(tmp_path / "away")
    told = run(*words, code=4).err
    assert f"{source}: lost all 30 label files of split val since {target} was made from it, such as " in told
    assert "val/0000." in told
    assert contents(target) == before
    run(*words, "--max-delete", "none")
    assert not list((target / "labels").glob("val/*"))


def test_a_tiny_subset_of_another_source_is_replaced_no_more_than_a_large_one(
    tmp_path: Path, make_subset: MakeSubset
) -> None:
    subset = make_subset(a_source(tmp_path / "one", 2, 1), classes=list(CLASSES))
    subset.build()
    same_names = a_source(tmp_path / "two", 2, 1)
    write_file(same_names / "labels/train2017/0000.txt", "1 0.5 0.5 0.3 0.3\n")
    assert stops(subset, "--set", f"source.root={same_names}", indexed=True)["cause"] == "other_source"


def test_a_source_that_was_moved_is_the_same(made: Subset, tmp_path: Path) -> None:
    moved = made.source.rename(tmp_path / "moved")
    words = ("--set", f"source.root={moved}", "--set", f"source.names={moved}/coco.yaml")
    assert made.build(*words)["plan"]["delete"]["label"]["files"] == 0
    write_file(moved / "labels/train2017/0003.txt", "1 0.5 0.5 0.2 0.2\n")
    back = moved.rename(made.source)
    assert made.build()["plan"]["write"]["label"]["files"] == 1  # moved, and a little is new
    assert back.exists()


def test_another_config_s_target_is_not_replaced(made: Subset, tmp_path: Path) -> None:
    data = yaml.safe_load(made.config.read_text())
    other = write_file(tmp_path / "cars.yaml", yaml.safe_dump(data | {"classes": ["car"]}))
    theirs = Subset(made.run, made.source, other, made.target, made.workdir)
    facts = stops(theirs)
    assert facts["cause"] == "other_recipe"
    assert "was made from the config subset, and 135 of its 180 files (75.0 %)" in facts["error"]
    copy = write_file(tmp_path / "copy.yaml", made.config.read_text())
    made.run("build", copy)  # another name of the same recipe
    assert theirs.plan()["brake"]["cause"] == "other_recipe"
    theirs.build("--max-delete", "none")
    assert made.plan()["brake"]["cause"] == "other_recipe"


def test_a_manifest_of_before_works(made: Subset) -> None:
    """Without counts and name; the target's own loss is still seen."""
    folder = made.target / ".coco-diy"
    data = json.loads((folder / "manifest.json").read_text())
    assert data.pop("listed") == {"train": {"labels": 60, "images": 60}, "val": {"labels": 30, "images": 30}}
    assert data.pop("name") == "subset"
    of_before = {k: v for k, v in data.items() if k not in ("serial", "digest", "left_out")}
    for path in (folder / "manifest.json", folder / "copy/manifest.json"):
        path.write_text(json.dumps(of_before))
    lose(made.source, 12)
    assert made.command("build", code=4).err.count("would lose 24 of 180 files") == 1


def test_a_first_build_never_brakes(tmp_path: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(a_source(tmp_path / "source", 3, 1), classes=list(CLASSES))
    assert subset.plan("--max-delete", "0")["brake"] is None
    subset.build("--max-delete", "0")


def test_a_moved_target_brakes_where_it_is(made: Subset, tmp_path: Path) -> None:
    moved = made.target.rename(tmp_path / "elsewhere")
    lose(made.source, 12)
    facts = made.command("build", "--json", "--set", f"target.root={moved}", code=4).json
    assert facts["count"] == 12


# --- a subset that would be empty -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ("labels", "has no label file"),
        ("rows", "has no object of any class"),
        ("class", "has no object of these classes"),
        ("images", "has 9 objects of these classes, and none can be used: 9 without an image file"),
        ("all", "has no label file and no image"),
    ],
)
def test_a_subset_that_would_be_empty_says_why(
    tmp_path: Path, make_subset: MakeSubset, change: str, cause: str
) -> None:
    source = a_source(tmp_path / "source", 6, 3)
    subset = make_subset(source, classes=["car"] if change == "class" else list(CLASSES))
    for path in [p for p in source.rglob("*.*") if p.suffix in (".txt", ".jpg")]:
        kind = path.parent.parent.name
        if change in (kind, "all"):
            path.unlink()
        elif kind == "labels" and change in ("rows", "class"):
            path.write_text("" if change == "rows" else "0 0.5 0.5 0.1 0.1\n")
    told = subset.command("build", "--set", "on_error=skip", code=1).err
    assert f"{subset.target}: the subset would be empty: the source {cause}" in told
    assert not subset.target.exists()
    planned = subset.plan("--set", "on_error=skip", code=1)
    assert [w for w in planned["warnings"] if cause in w and w.endswith("a build would stop there")]


def test_a_split_without_images_says_why(tmp_path: Path, make_subset: MakeSubset) -> None:
    source = a_source(tmp_path / "source", 6, 3)
    lose(source, 3, "images", "val2017")
    told = make_subset(source, classes=list(CLASSES)).build("--set", "on_error=skip", code=3)
    assert (
        "the subset has no val images, and trainers need them; split val of the source has 3 objects of these "
        "classes, and none can be used: 3 without an image file" in told["warnings"]
    )


def test_names_that_changed_are_a_wish(made: Subset) -> None:
    write_file(made.source / "coco.yaml", names_yaml(("bike", "car")))
    made.build("--set", "classes=[car, bike]")
