"""Builds that shape their subset, against the same steps as a plain loop over the source."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.stages.select.draw import most_backgrounds, rank_of
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, make_tree, settle, write_file
from tests.support.web import Faults, faulty

NAMES = ("person", "bicycle", "car", "dog")
WANTED = ["bicycle", "car"]


def _tree(root: Path, count: int, seed: int = 3) -> Path:
    """A collection whose pictures have sizes of their own, some turned by EXIF data, with random boxes."""
    random = np.random.default_rng(seed)
    labels: dict[str, dict[str, bytes | str]] = {"train2017": {}, "val2017": {}}
    for i in range(count):
        ids, sides = random.choice(4, 4, p=[0.5, 0.1, 0.2, 0.2]), random.uniform(0.01, 0.9, (4, 2))
        some = range(random.integers(0, 5))
        rows = [f"{ids[n]} 0.5 0.5 {sides[n, 0]:.6f} {sides[n, 1]:.6f}" for n in some]
        labels["val2017" if i % 4 == 0 else "train2017"][f"{i:05d}"] = "".join(row + "\n" for row in rows)
    make_tree(root, labels, dict.fromkeys(labels, ()), NAMES)
    for split, files in labels.items():
        for stem in files:
            width, height = int(stem) % 7 * 30 + 40, int(stem) % 5 * 40 + 50
            exif = Image.Exif()
            if int(stem) % 3 == 0:
                exif[0x0112] = 6  # shown with width and height exchanged
            path = root / "images" / split / f"{stem}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (width, height), int(stem) % 256).save(path, exif=exif)
    return root


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = _tree(tmp_path_factory.mktemp("boxes") / "boxes", 240)
    settle()
    return root


def _sources(root: Path) -> dict[str, dict[str, Any]]:
    """By key the split, the shown size and the rows (class, w, h) of each image."""
    found = {}
    for path in sorted(root.glob("labels/*/*.txt")):
        with Image.open(root / "images" / path.parent.name / f"{path.stem}.jpg") as picture:
            size = picture.size[::-1] if picture.getexif().get(0x0112) == 6 else picture.size
        rows = [
            (int(c), float(w), float(h)) for c, _, _, w, h in (line.split() for line in path.read_text().splitlines())
        ]
        split = path.parent.name.removesuffix("2017")
        found[f"source/{path.parent.name}/{path.stem}"] = {"split": split, "size": size, "rows": rows}
    return found


def _expected(root: Path, min_side: float, most_aspect: float, ratio: float) -> dict[str, int]:
    """By path of the label file in the subset its number of rows, for limits of objects and a share of backgrounds."""
    taken: dict[str, int] = {}
    free: dict[str, list[str]] = {"train": [], "val": []}
    for key, one in _sources(root).items():
        wide, high = one["size"]
        wanted = [(w * wide, h * high) for c, w, h in one["rows"] if NAMES[c] in WANTED]
        fit = [s for s in wanted if round(min(s), 2) >= min_side and max(s) / min(s) <= most_aspect]
        if fit:
            taken[key] = len(fit)
        elif not wanted:
            free[one["split"]].append(key)
    for split, keys in free.items():
        count = sum(f"/{split}2017/" in key for key in taken)
        for key in sorted(keys, key=lambda key: rank_of(key, 5))[: most_backgrounds(count, ratio)]:
            taken[key] = 0
    return {f"labels/{key.split('/')[1].removesuffix('2017')}/{key.split('/')[2]}.txt": n for key, n in taken.items()}


SHAPE = {"objects": {"min_side": 20, "max_aspect": 3}, "background": {"ratio": 0.3, "seed": 5}}


def _rows(subset: Subset) -> dict[str, int]:
    return {p: data.count(b"\n") for p, data in contents(subset.target).items() if p.startswith("labels/")}


@pytest.mark.parametrize(
    "how",
    [
        (),
        ("--set", "index.buckets=1"),
        ("--set", "index.buckets=16", "--scheduler", "threads"),
        pytest.param(("--set", "index.buckets=64", "--scheduler", "processes"), marks=pytest.mark.slow),
    ],
    ids=["auto", "1", "16 threads", "64 processes"],
)
def test_it_is_the_plain_loop_for_any_buckets_and_scheduler(
    boxes: Path, make_subset: MakeSubset, how: tuple[str, ...]
) -> None:
    subset = make_subset(boxes, classes=WANTED, select=SHAPE)
    told = subset.build(*how)
    assert _rows(subset) == _expected(boxes, 20, 3, 0.3)
    for split in ("train", "val"):
        counts = told["subset"][split]
        assert counts["backgrounds"] == most_backgrounds(counts["images"] - counts["backgrounds"], 0.3)
    assert "Nothing to do" in subset.command("build").out


@pytest.mark.parametrize(
    "select",
    [
        SHAPE,
        {"per_class": {"max_images": 20}, "background": "all"},
        {"per_class": {"max_objects": {"bicycle": 9}}, "objects_per_image": {"max": 2}, "background": {"max": 7}},
        {
            "background": {"ratio": 0.5, "max": 9, "prefer": "near-miss"},
            "objects": {"where": "w < 0.5", "drop": "image"},
        },
        {"dedup": {"across": ["train", "val"], "keep": "val", "bits": 0}, "check_images": "full", "duplicates": "drop"},
    ],
    ids=["share", "caps", "caps of objects", "near misses", "near duplicates"],
)
def test_what_goes_in_comes_out_or_is_counted(boxes: Path, make_subset: MakeSubset, select: dict[str, Any]) -> None:
    """The sums of each step, of each class, and the same set for other buckets."""
    subset = make_subset(boxes, classes=WANTED, select=select)
    plan = subset.plan()
    steps = list(plan["steps"].values())
    assert list(plan["steps"]) == ["lists", "objects", "images", "duplicates", "caps", "background", "split"]
    for what in ("images", "objects"):
        for step, after in itertools.pairwise(steps):
            assert step[what]["in"] - sum(step[what]["left_out"].values()) == step[what]["out"] == after[what]["in"]
    assert steps[0]["images"]["in"] == plan["images"]["source"] == 240
    assert steps[-1]["images"]["out"] == plan["images"]["kept"] == sum(s["images"] for s in plan["subset"].values())
    assert sum(n for word, n in plan["images"].items() if word != "source") == 240
    assert sum(n for word, n in plan["rows"].items() if word != "source") == plan["rows"]["source"]
    for name in WANTED:
        left = sum(
            step["classes"][name]["in"] - step["classes"][name]["out"] for step in steps if name in step["classes"]
        )
        assert steps[0]["classes"][name]["in"] - left == sum(s["objects"][name] for s in plan["subset"].values())
    assert subset.plan("--set", "index.buckets=16", "--scheduler", "threads")["digest"] == plan["digest"]


def test_caps_hold_and_what_is_above_them_is_said(boxes: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(boxes, classes=WANTED, select={"per_class": {"max_images": 12}})
    plan = subset.plan()
    images = {name: sum(s["images_by_class"][name] for s in plan["subset"].values()) for name in WANTED}
    assert images["bicycle"] == 12  # the rarer one
    assert images["car"] >= 12
    above = images["car"] - 12
    assert not above or f"class 'car' has {images['car']} images, {above} above its cap of 12" in "".join(
        plan["warnings"]
    )
    few = make_subset(boxes, "few", classes=WANTED, select={"per_class": {"max_images": {"car": 1, "bicycle": 50}}})
    assert "above its cap of 1: images taken for rarer classes hold them" in "".join(few.plan()["warnings"])


def test_more_images_move_no_background_out_but_by_the_share(tmp_path: Path, make_subset: MakeSubset) -> None:
    small, large = _tree(tmp_path / "small", 100), _tree(tmp_path / "large", 120)
    found = []
    for root in (small, large):
        subset = make_subset(root, f"of-{root.name}", classes=WANTED, select={"background": {"ratio": 0.2}})
        subset.build()
        found.append({path for path, rows in _rows(subset).items() if not rows})
    gone = found[0] - found[1]
    keys = {path: f"source/{path.split('/')[1]}2017/{Path(path).stem}" for path in found[0] | found[1]}
    for path in gone:  # each gave way to one of its split that comes before it
        came = [p for p in found[1] - found[0] if p.split("/")[1] == path.split("/")[1]]
        assert all(rank_of(keys[p], 0) < rank_of(keys[path], 0) for p in came)
        assert came


def test_a_list_decides_and_a_changed_list_is_a_change(boxes: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    names = sorted(key for key, one in _sources(boxes).items() if any(NAMES[c] in WANTED for c, _, _ in one["rows"]))
    listed = write_file(tmp_path / "list.txt", "\n".join([*names[:5], "nowhere.jpg"]))
    subset = make_subset(boxes, classes=WANTED, select={"images": str(listed)})
    told = subset.build()
    assert sorted(_rows(subset)) == sorted(
        f"labels/{'train' if '/train' in k else 'val'}/{k.split('/')[2]}.txt" for k in names[:5]
    )
    assert told["lists"] == {"images": {"entries": 6, "unmatched": ["nowhere.jpg"]}}
    assert "1 of 6 entries names no image of the source, such as nowhere.jpg" in "".join(told["warnings"])
    assert "Nothing to do" in subset.command("build").out
    listed.write_text("\n".join(names[:6]))
    assert subset.build()["images"]["kept"] == 6
    out = make_subset(boxes, "out", classes=WANTED, select={"exclude_images": str(listed)})
    assert out.build()["images"]["excluded"] == 6
    assert len(_rows(out)) == len(names) - 6


def test_what_was_found_in_the_index_goes_back_into_a_build(boxes: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(boxes, classes=WANTED)
    subset.command("index")
    annotations = pipeline.open_index(subset.config).annotations
    large = annotations[(annotations.w * annotations.h > 0.25) & annotations.class_id.isin([1, 2])]
    keys = sorted(set(large["key"].compute()))
    assert len(keys) > 5
    report = pipeline.build(subset.config, keep=large)
    assert len(_rows(subset)) == report.data["images"]["kept"] == len(keys)
    assert pipeline.build(subset.config, keep=keys).data["status"] == "nothing to do"
    assert pipeline.plan(subset.config, keep=large["key"].compute()).data["changes"] == 0
    for keep, sentence in (
        (large[["w"]], "has no column key; it has w"),
        ("a.jpg", "is one text"),
        ([], "names no image"),
        ([3], "3 is no name of an image"),
        (["a", None], "None is no name of an image"),
        ([0], "0 is no name of an image"),
        (np.array([["a", "b"]]), "is no name of an image"),
        (5, "is 5, no list of images"),
        (Path("list.txt"), "is one text"),
    ):
        with pytest.raises(pipeline.CocoDiyError, match=sentence):
            pipeline.build(subset.config, keep=keep)


def test_a_key_of_one_source_names_no_image_of_another(own_town: Path, make_subset: MakeSubset) -> None:
    """Both sources have the same names in the same folders."""
    here = {"names": str(own_town / "coco.yaml"), "root": str(own_town), "splits": {"train": "train2017"}}
    subset = make_subset(own_town, source=[{"name": name, **here} for name in ("one", "two")])
    report = pipeline.build(subset.config, keep=["one/train2017/a", "two/train2017/b"])
    assert sorted(_rows(subset)) == ["labels/train/one/a.txt", "labels/train/two/b.txt"]
    assert report.data["lists"]["images"]["unmatched"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "select",
    [
        {"objects": {"min_side": 30}, "per_class": {"max_images": 10}},
        {"dedup": {"across": ["train", "val"], "keep": "val", "bits": 0}, "per_class": {"max_images": 10}},
    ],
    ids=["sizes", "near duplicates"],
)
def test_images_of_a_web_server_make_the_same_subset(
    tmp_path: Path, make_subset: MakeSubset, select: dict[str, Any]
) -> None:
    """What a cap leaves room for is known only once the images are there; before, the plan says so."""
    root = _tree(tmp_path / "boxes", 80)
    settle()
    here = make_subset(root, "here", select=select)
    here.build()
    files = {f"/{path.parent.name}/{path.name}": path.read_bytes() for path in root.rglob("*.jpg")}
    with faulty(Faults(files=files)) as url:
        splits = {
            split: {"labels": f"labels/{split}2017", "images": {"url": f"{url}/{split}2017", "suffix": ".jpg"}}
            for split in ("train", "val")
        }
        source = {"names": str(root / "coco.yaml"), "root": str(root), "splits": splits}
        remote = make_subset(root, "remote", source=source, select=select)
        assert "are decided on once" in "".join(remote.plan()["warnings"])
        told = remote.build()
        assert "are decided on once" not in "".join(told["warnings"])
        assert remote.build()["status"] == "nothing to do"
        if "objects" in select:  # nobody fetches what is not copied, and no limit is passed over
            alone = make_subset(root, "alone", source=source, select=select)
            error = alone.command("build", "--set", "target.images=none", code=1)
            assert "is remote, and its size is needed: with target.images none it is not fetched" in error.err
    assert _rows(remote) == _rows(here) != {}


def test_a_limit_of_nothing_asks_no_image_for_its_size(own_town: Path, make_subset: MakeSubset) -> None:
    """None of the town's images can be read."""
    subset = make_subset(own_town, select={"objects": {"min_side": 0, "min_area": 0, "min_area_ratio": 0}})
    assert subset.build()["images"]["kept"] == 7
    subset.command("plan", "--set", "select.objects.min_side=1", code=1)


@pytest.mark.parametrize("target", [{"format": "coco"}, {"format": "coco", "images": "none"}, {"format": "yolo"}])
def test_the_share_of_backgrounds_is_of_what_is_there(
    tmp_path: Path, make_subset: MakeSubset, target: dict[str, str]
) -> None:
    """Of images that cannot be read, or are not there, none counts; a limit in pixels asks none of them its size."""
    root = _tree(tmp_path / "boxes", 80)
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        if number % 3 == 0:
            path.write_bytes(path.read_bytes()[:40])
        if number % 7 == 0:
            path.unlink()
    settle()
    select = {"background": {"ratio": 0.3}, "objects": {"min_side": 2}}
    told = make_subset(root, target={"root": str(tmp_path / "t"), **target}, on_error="skip", select=select).build(
        code=3
    )
    for counts in told["subset"].values():
        assert 0 < counts["backgrounds"] <= most_backgrounds(counts["images"] - counts["backgrounds"], 0.3)


def test_near_duplicates_go_from_the_other_split(tmp_path: Path, make_subset: MakeSubset) -> None:
    """A picture of val is in train again at another size and quality; and once more as the same bytes."""
    root = make_tree(
        tmp_path / "twins",
        {
            "train2017": dict.fromkeys(("near", "same", "other"), "1 0.5 0.5 0.5 0.5\n"),
            "val2017": {"a": "1 0.5 0.5 0.5 0.5\n"},
        },
        {"train2017": (), "val2017": ()},
        NAMES,
    )
    random = np.random.default_rng(1)
    one, two = (Image.fromarray(random.integers(0, 256, (9, 8), np.uint8)).resize((320, 240)) for _ in range(2))
    for name, picture, quality in (
        ("val2017/a", one, 95),
        ("train2017/near", one.resize((200, 150)), 60),
        ("train2017/other", two, 95),
        ("train2017/same", one, 95),
    ):
        path = root / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=quality)
    subset = make_subset(root, classes=WANTED, select={"dedup": {"across": ["train", "val"], "keep": "val"}})
    plan = subset.build()
    assert sorted(_rows(subset)) == ["labels/train/other.txt", "labels/val/a.txt"]
    assert plan["steps"]["duplicates"]["images"]["left_out"] == {"near_duplicate": 1, "equal_image": 1}
    labels = subset.plan("--set", "target.images=none", "--set", "target.root=labels")
    assert labels["steps"]["duplicates"] == plan["steps"]["duplicates"]


def test_an_image_that_was_too_small_is_taken_once_it_is_not(tmp_path: Path, make_subset: MakeSubset) -> None:
    """It is not in the subset, and no label changed: what was seen of it is compared all the same."""
    root = _tree(tmp_path / "few", 24)
    keys = [key for key, one in _sources(root).items() if any(NAMES[c] in WANTED for c, _, _ in one["rows"])]
    settle()
    subset = make_subset(root, classes=WANTED, select={"objects": {"min_side": 60}})
    before = subset.build()
    assert "Nothing to do" in subset.command("build").out
    left = next(key for key in keys if f"{key.split('/')[2]}.txt" not in " ".join(_rows(subset)))
    Image.new("L", (6000, 6000)).save(root / "images" / f"{left.partition('/')[2]}.jpg")
    after = subset.build()
    assert after["images"]["kept"] == before["images"]["kept"] + 1


@pytest.mark.parametrize("format_", ["yolo", "coco"])
def test_what_is_counted_and_shown_is_the_shaped_subset(boxes: Path, make_subset: MakeSubset, format_: str) -> None:
    select = {**SHAPE, "per_class": {"max_images": 15}, "duplicates": "drop"}
    target = {"root": str(boxes.parent / f"seen-{format_}"), "format": format_}
    subset = make_subset(boxes, f"seen-{format_}", classes=WANTED, select=select, target=target)
    planned, seen = subset.plan()["subset"], subset.command("stats", "--json").json["after"]["subset"]
    for split, counts in seen.items():
        assert {word: planned[split][word] for word in counts} == counts


def test_what_cannot_be_is_refused_in_a_sentence(boxes: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(boxes, classes=WANTED)
    for setting, sentence in (
        ("select.per_class.max_images={bycicle: 3}", "unknown class 'bycicle'; did you mean 'bicycle'?"),
        ("select.objects={min_side: 9, max_side: 3}", "min_side (9) is more than max_side (3)"),
        ("select.objects.where=widht > 3", "unknown column 'widht'; did you mean 'width'"),
        ("select.background={prefer: random}", "names neither ratio nor max"),
        ("select.background.ratio=10%", "select.background.ratio: must be a number"),
        ("select.background=al", "'all'"),
        ("select.objects_per_image={min: 3, max: 2}", "min (3) is more than max (2)"),
        ("select.images=nowhere.txt", "nowhere.txt"),
        ("select.dedup={across: [train], keep: train}", "must name two splits or three"),
        ("select.backgroud=all", "did you mean 'background'?"),
    ):
        error = subset.command("plan", "--set", setting, code=2).err
        assert sentence in error, error
        assert "Traceback" not in error
