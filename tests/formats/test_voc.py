"""Pascal VOC's XML: what tools write, where pixels begin, and what cannot be taken."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import formats
from pipeline.base.terms import Task
from pipeline.formats import Parsed, voc, yolo
from pipeline.formats._xml import MAX_DEPTH
from pipeline.images.header import Picture
from pipeline.job.conversion import dataset
from pipeline.job.layouts import find_splits
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.formats.test_labelme import jpeg
from tests.support.contracts import FormatContract
from tests.support.helpers import PROJECT, write_file

REAL = PROJECT / "tests/formats/real"
WIDTH, HEIGHT = 100, 50


def boxed(name: str = "cat", corners: Any = (11, 11, 50, 30), more: str = "") -> str:
    """An object as labelImg writes it."""
    inner = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object>\n<name>{name}</name>{more}<bndbox>{inner}</bndbox></object>\n"


def xml(*objects: str, size: Any = (WIDTH, HEIGHT), head: str = "", filename: str = "a.jpg") -> bytes:
    """A label file of an image of 100 x 50 pixels."""
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"{head}<annotation>\n<filename>{filename}</filename>{said}\n{''.join(objects)}</annotation>\n".encode()


class TestVocFormat(FormatContract):
    name = "voc"
    nothing = xml()
    samples: ClassVar = {
        Task.DETECT: [
            *(
                (REAL / f"voc{name}.xml").read_bytes()
                for name in ("2012", "_labelimg", "_roboflow", "_roboflow_whole", "_datumaro")
            ),
            xml(boxed(), boxed("dog"), head='<?xml version="1.0" encoding="UTF-8"?>\n'),
            b"\xef\xbb\xbf" + xml(boxed()),
        ]
    }


def parse(content: bytes, picture: Picture | None = None, **options: Any) -> Parsed:
    return voc.parse([content], Task.DETECT, None, options, lambda _number, _said: picture)


def rows(content: bytes, picture: Picture | None = None, **options: Any) -> list[dict[str, Any]]:
    parsed = parse(content, picture, **options)
    assert parsed.problems == []
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def box_of(row: dict[str, Any], width: int = WIDTH, height: int = HEIGHT) -> list[float]:
    """Left, top, right and bottom in pixels."""
    x, y, w, h = row["cx"] * width, row["cy"] * height, row["w"] * width, row["h"] * height
    return [round(v, 6) for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]


def test_the_whole_image_is_from_its_first_pixel_to_its_last() -> None:
    (row,) = rows(xml(boxed(corners=(1, 1, WIDTH, HEIGHT))))
    assert row["tail"] == b" 0.500000 0.500000 1.000000 1.000000"
    (row,) = rows(xml(boxed(corners=(0, 0, WIDTH, HEIGHT))), first_pixel=0)
    assert row["tail"] == b" 0.500000 0.500000 1.000000 1.000000"
    assert row["loss"] is None
    (row,) = rows(xml(boxed(corners=(0, 0, WIDTH, HEIGHT))))
    assert (box_of(row), row["loss"]) == ([0, 0, WIDTH, HEIGHT], "pixel_zero")


def test_real_files_give_the_boxes_that_their_tools_show() -> None:
    """VOC's are those of Detectron2, whose own comment is that 1 and W are the whole image."""
    bottle, monitor = rows((REAL / "voc2012.xml").read_bytes())
    assert (bottle["label"], box_of(bottle, 500, 370)) == ("bottle", [35, 249, 79, 354])
    assert json.loads(monitor["raw"]) == {
        "bbox": [159.0, 25.0, 212.0, 216.0], "area": 45792.0, "iscrowd": 0, "pose": "Frontal",
    }  # fmt: skip
    (raccoon,) = rows((REAL / "voc_labelimg.xml").read_bytes())
    assert box_of(raccoon, 650, 417) == [80, 87, 522, 408]
    (exported,) = rows((REAL / "voc_cvat.xml").read_bytes(), Picture(20, 10), first_pixel=0)
    assert box_of(exported, 20, 10) == [1, 2, 4, 6]
    assert json.loads(exported["raw"])["occluded"] == 1
    cat, person = rows((REAL / "voc_datumaro.xml").read_bytes())
    assert (cat["label"], cat["loss"]) == ("cat", "truncated")
    assert (person["label"], person["loss"]) == ("person", "parts")
    assert box_of(person, 20, 10) == [3, 4, 6, 7]


def test_boxes_of_roboflow_are_edges_that_count_from_1() -> None:
    """In its exports a box of the whole image is 1, 1, W + 1, H + 1, and no corner is 0."""
    (bed,) = rows((REAL / "voc_roboflow_whole.xml").read_bytes())
    assert (bed["tail"], bed["loss"]) == (b" 0.500000 0.500000 1.000000 1.000000", "edges_from_one")
    content = (REAL / "voc_roboflow.xml").read_bytes()
    for database in (b"roboflow.com", b"roboflow.ai", b"\n Roboflow.com "):
        helmets = rows(content.replace(b"roboflow.com", database))
        assert [box_of(row, 416, 416) for row in helmets] == [[148, 93, 191, 159], [93, 160, 112, 193]]
    plain = [rows(content.replace(b"roboflow.com", b"Unknown")), rows(content, first_pixel=1)]
    for helmets in plain:
        assert [box_of(row, 416, 416) for row in helmets] == [[148, 93, 192, 160], [93, 160, 113, 194]]
        assert [row["loss"] for row in helmets] == [None, None]


def test_what_is_marked_as_difficult_is_no_object_unless_it_is_kept() -> None:
    content = xml(boxed(more="<difficult>1</difficult>"), boxed("dog", more="<difficult>0</difficult>"))
    difficult, plain = rows(content)
    assert (difficult["tail"], difficult["raw"], difficult["loss"]) == (None, None, "difficult")
    assert plain["loss"] is None
    kept, _ = rows(content, difficult="keep")
    assert (kept["loss"], json.loads(kept["raw"])["difficult"]) == ("marked_difficult", 1)


@pytest.mark.parametrize("flag", ["truncated", "occluded"])
def test_what_rows_cannot_say_is_counted_and_goes_along_to_coco_json(flag: str) -> None:
    (marked,) = rows(xml(boxed(more=f"<{flag}>1</{flag}><pose>Left</pose>")))
    assert (marked["loss"], json.loads(marked["raw"])[flag]) == (flag, 1)
    assert marked["tail"] is not None


@pytest.mark.parametrize(("pose", "loss"), [("Left", "attributes"), ("Unspecified", None), ("", None)])
def test_a_pose_is_counted_where_rows_cannot_say_it(pose: str, loss: str | None) -> None:
    (posed,) = rows(xml(boxed(more=f"<pose>{pose}</pose>")))
    assert (posed["loss"], json.loads(posed["raw"]).get("pose")) == (loss, pose if loss else None)


WORD = st.text("abcäé 0", min_size=1, max_size=4).filter(str.strip)
VALUE = st.sampled_from(["", "0", "false", "True", "no", " red ", "1.5", "a,b", "Unspecified", "<&>"])


@given(st.dictionaries(WORD.map(str.strip), VALUE, max_size=3), st.dictionaries(st.sampled_from("xyz"), VALUE), VALUE)
def test_further_fields_go_along_to_coco_json_or_say_nothing(
    attributes: dict[str, str], others: dict[str, str], inner: str
) -> None:
    """CVAT's attributes, and elements that no version of VOC has."""
    parts = [
        f"<attribute><name>{escape(n)}</name><value>{escape(v)}</value></attribute>" for n, v in attributes.items()
    ]
    more = f"<attributes>\n{''.join(parts)}</attributes>" + "".join(
        f"<{n}>{escape(v)}</{n}>" for n, v in others.items()
    )
    (row,) = rows(xml(boxed(more=f"{more}<deep><one>{escape(inner)}</one></deep>")))
    empty = ("", "0", "false", "no", "unspecified")
    wanted: dict[str, Any] = {name: {"false": False, "True": True}.get(v, v.strip()) for name, v in attributes.items()}
    wanted |= {name: v.strip() for name, v in others.items() if v.lower() not in empty}
    wanted |= {"deep": {"one": inner.strip()}} if inner.lower() not in empty else {}
    assert json.loads(row["raw"]).get("attributes", {}) == wanted
    says = any(v is True or (v is not False and str(v).lower() not in empty) for v in wanted.values())
    assert (row["loss"], row["tail"] is None) == ("attributes" if says else None, False)


def test_elements_without_end_are_no_deep_attributes() -> None:
    (row,) = rows(xml(boxed(more="<a>" * 20_000 + "x" + "</a>" * 20_000)))
    assert json.loads(row["raw"])["attributes"] == {"a": {"a": "x"}}


POLYGON = "<polygon><x1>10</x1><y1>10</y1><x2>30</x2><y2>10</y2><x3>30</x3><y3>30</y3></polygon>"


def test_an_outline_is_counted_whatever_it_becomes(run: Run, tmp_path: Path) -> None:
    """Tools do not agree on where its pixels begin, so its box is taken."""
    marked = "<truncated>1</truncated><part/>"
    found = rows(xml(boxed(more=POLYGON), boxed(more=marked + POLYGON), boxed(more=marked)))
    assert [row["loss"] for row in found] == ["outlines", "outlines", "parts"]
    (empty,) = rows(xml(boxed(more="<polygon/>")))
    assert (empty["loss"], "segmentation" in json.loads(empty["raw"])) == (None, False)
    red = "<attributes><attribute><name>color</name><value>red</value></attribute></attributes>"
    content = xml(boxed(more=POLYGON), boxed(more=red), boxed(more="<part><name>head</name></part>"))
    write_file(tmp_path / "in/a.xml", content)
    write_file(tmp_path / "in/a.jpg", jpeg(WIDTH, HEIGHT))
    for target in ("yolo", "coco"):
        told = run("convert", tmp_path / "in", tmp_path / target, "--to", target, "--workdir", tmp_path / "w").out
        assert "1 object with an outline (<polygon>), of which the box is taken." in told
        assert "1 object with parts (as head and hand), which are no objects." in told
        assert ("1 object with further fields" in told) == (target == "yolo")
    made = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert [one.get("attributes") for one in made["annotations"]] == [None, {"color": "red"}, None]


@pytest.mark.parametrize(
    ("corners", "box", "loss"),
    [
        ((50, 30, 11, 11), [10, 10, 50, 30], None),
        (("10.5", " 11.25\n", "5e1", "30.75"), [9.5, 10.25, 50, 30.75], None),
        ((1, 1, 100.9, 50.5), [0, 0, 100, 50], None),
        ((91, 41, 140, 90), [90, 40, 100, 50], "clipped"),
        ((200, 11, 240, 30), None, "outside"),
    ],
)
def test_corners(corners: Any, box: list[float] | None, loss: str | None) -> None:
    (row,) = rows(xml(boxed(corners=corners)))
    assert row["loss"] == loss
    assert (row["tail"] is None) == (box is None)
    if box is not None:
        assert box_of(row) == box


def test_a_line_is_a_column_of_pixels_or_has_no_area() -> None:
    line = xml(boxed(corners=(11, 11, 11, 30)))
    assert box_of(rows(line)[0]) == [10, 10, 11, 30]
    assert rows(line, first_pixel=0)[0]["loss"] == "zero_area"


def test_a_file_without_a_size_asks_its_image() -> None:
    for size in (None, (0, 0), ("", "")):
        (row,) = rows(xml(boxed(corners=(1, 1, 40, 20)), size=size), Picture(80, 40))
        assert row["tail"] == b" 0.250000 0.250000 0.500000 0.500000"
        (problem,) = parse(xml(boxed(), size=size)).problems
        assert (problem.reason, problem.rows) == ("no_size", 1)


def test_an_image_that_was_resized_has_its_boxes_scaled() -> None:
    (row,) = rows(xml(boxed(corners=(1, 1, 50, 25))), Picture(200, 100))
    assert (row["tail"], row["loss"]) == (b" 0.250000 0.250000 0.500000 0.500000", "resized")
    (problem,) = parse(xml(boxed()), Picture(64, 64)).problems
    assert problem.reason == "size_differs"
    assert "100 x 50" in problem.detail
    assert rows(xml(boxed()), Picture(64, 64), sizes="trust")


def test_the_image_is_said_by_its_name_or_its_path() -> None:
    parsed = parse(xml(boxed(), filename="other.png"))
    assert parsed.images is not None
    assert parsed.images["image_said"].to_pylist() == ["other.png"]
    path = xml(boxed(), filename="</filename><path>C:\\photos\\a.jpg</path><filename>")
    found = parse(path).images
    assert found is not None
    assert found["image_said"].to_pylist() == ["C:/photos/a.jpg"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "latin1", "gbk", "shift_jis", "koi8-r"]
)
def test_the_encoding_that_a_file_declares_is_obeyed(encoding: str) -> None:
    name = {"gbk": "猫", "shift_jis": "ネコ", "koi8-r": "кот"}.get(encoding, "chaté")
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n' + xml(boxed(name)).decode()
    (row,) = rows(text.encode(encoding))
    assert row["label"] == name


BOMB = "<!DOCTYPE a [" + "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(12)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason", "line", "said"),
    [
        (xml(boxed("&l11;"), head=BOMB), "doctype", 1, "has a DOCTYPE"),
        (xml(boxed("&x;"), head='\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "doctype", 2, "DOCTYPE"),
        (xml(boxed(), head='<!DOCTYPE annotation SYSTEM "http://x/voc.dtd">'), "doctype", 1, "DOCTYPE"),
        (f'<?xml version="1.0" encoding="utf-16"?>{BOMB}<annotation/>'.encode("utf-16"), "doctype", 1, "DOCTYPE"),
        (f'<?xml version="1.0" encoding="utf-16"?>{BOMB}<annotation/>'.encode("utf-16-le"), "doctype", 1, "DOCTYPE"),
        (f'<?xml version="1.0" encoding="utf-7"?>{BOMB}<annotation/>'.encode("utf-7"), None, 1, ""),
        (b"<annotation>" + b"<a>" * 200_000, "not_xml", 1, f"more than {MAX_DEPTH} deep"),
        (xml(boxed("&nbsp;")), "not_xml", 4, "names an entity"),
        (xml(boxed())[:-20], "not_xml", 4, "cut short"),
        (xml(boxed()).replace(b"</name>", b"</nam>"), "not_xml", 4, "is not XML from this line on"),
        (xml(boxed("狗狗")).replace("狗狗".encode(), "狗狗".encode("gbk")), "not_utf8", 4, "is not UTF-8"),
        (b"\x1f\x8b\x08\0\0", "not_xml", None, "is compressed (gzip); unpack it"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "encoding", 1, "klingon"),
        (b'<?xml version="1.0" encoding="base64"?><annotation/>', "encoding", 1, "base64"),
        (xml(boxed("<<<<<<< HEAD")).replace(b"<name>", b"<name>\n"), "merge_marks", 5, "marks of a merge"),
        (b"", "not_xml", None, "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not_xml", None, "git lfs pull"),
        (b"<annotations><image/></annotations>", "not_voc", None, "CVAT's own"),
        (xml(boxed(), size=("wide", 3)), "size", None, "wide"),
        (xml(boxed(), size=(1 << 20, 1 << 20)), "size", None, "larger than trainers read"),
        (xml("<object><name>x</name></object>"), "box", 3, 'object 1 ("x") has no <bndbox>'),
        (xml(boxed(), "\n<object/>", boxed(corners=(1, 2, 3, "x"))), "name", 6, "object 2 has no <name>"),
        (xml(boxed(corners=(1, 2, "nan", 4))), "box", 3, 'the xmax "nan"'),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_bad_is_told(content: bytes, reason: str | None, line: int | None, said: str) -> None:
    parsed = parse(content)
    if reason is None:  # an encoding in which nobody writes: whatever it is, nothing is expanded
        assert parsed.rows.num_rows == 0
        return
    problem = parsed.problems[0]
    assert (problem.reason, problem.line) == (reason, line)
    assert said in problem.detail
    assert parsed.states[0] is (LabelState.FOUND if parsed.rows.num_rows else LabelState.CORRUPT)


def test_a_bad_object_leaves_the_others() -> None:
    parsed = parse(xml(boxed(corners=(1, 2, 3, "x")), boxed("dog")))
    assert [row["label"] for row in parsed.rows.to_pylist()] == ["dog"]
    assert [problem.rows for problem in parsed.problems] == [1]


@given(
    st.integers(32, 4000),
    st.integers(32, 4000),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5),
    st.sampled_from([0, 1]),
)
def test_boxes_are_those_of_yolo_rows(
    width: int, height: int, corners: list[tuple[float, float, float, float]], first: int
) -> None:
    """The same boxes, written by either grammar, are the same within a millionth."""
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    boxes = [box for box in boxes if box[2] - box[0] > 1e-3 and box[3] - box[1] > 1e-3] or [(0.1, 0.2, 0.3, 0.4)]
    content = xml(
        *(boxed(corners=(a * width + first, b * height + first, c * width, d * height)) for a, b, c, d in boxes),
        size=(width, height),
    )
    lines = [f"0 {(a + c) / 2!r} {(b + d) / 2!r} {c - a!r} {d - b!r}\n" for a, b, c, d in boxes]
    expected = yolo.parse(["".join(lines).encode()], Task.DETECT, None).rows.to_pylist()
    found = rows(content, first_pixel=first)
    for row, other in itertools.zip_longest(found, expected):
        for name in ("cx", "cy", "w", "h"):
            assert math.isclose(row[name], other[name], abs_tol=1e-6)
        for value, other_value in zip(row["tail"].split(), other["tail"].split(), strict=True):
            assert math.isclose(float(value), float(other_value), abs_tol=1e-6)


def _devkit(root: Path, year: str, lists: dict[str, str], stems: Iterable[str]) -> None:
    for stem in stems:
        write_file(root / year / "JPEGImages" / f"{stem}.jpg", jpeg(WIDTH, HEIGHT))
        write_file(root / year / "Annotations" / f"{stem}.xml", xml(boxed(), filename=f"{stem}.jpg"))
    for name, text in lists.items():
        write_file(root / year / "ImageSets/Main" / f"{name}.txt", text)


def test_the_years_of_vocdevkit(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kit = tmp_path / "source" / "VOCdevkit"
    _devkit(kit, "VOC2007", {"trainval": "a\nb\n", "test": "c\n", "cat_test": "c  1\n"}, "abc")
    _devkit(kit, "VOC2012", {"train": "d\n", "val": "e.jpg\ng\n", "trainval": "d\ne\n"}, "def")
    made = run("convert", str(kit.parent), str(tmp_path / "mine"), "--from", "voc", "--to", "yolo")
    for images, expected in (("train", {"a", "b", "d"}), ("val", {"e"}), ("test", {"c"})):
        assert {p.stem for p in (tmp_path / "mine/images" / images).rglob("*.jpg")} == expected
    assert "1 of the 2 images that it lists is not in" in made.err
    assert "1 image of" in made.err
    assert "in no list of a split" in made.err


def test_the_flags_of_a_list_of_one_class_are_no_names(tmp_path: Path, run: Run) -> None:
    _devkit(tmp_path / "source", "VOC2007", {"train": "a  1\nb -1\nc 1\n"}, ["a", "b", "c", "c 1"])
    run("convert", tmp_path / "source", tmp_path / "mine", "--to", "yolo", "--workdir", tmp_path / "work")
    assert {p.stem for p in (tmp_path / "mine/images/train").rglob("*.jpg")} == {"a", "b", "c 1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "train.txt: lists no image"), ("d\ne\n", "train.txt: 2 of the 2 images that it lists are not in")],
)
def test_a_list_of_nothing_is_named(tmp_path: Path, run: Run, text: str, said: str) -> None:
    _devkit(tmp_path / "source", "VOC2007", {"train": text}, "abc")
    words = ["--to", "yolo", "--workdir", tmp_path / "work"]
    found = run("convert", tmp_path / "source", tmp_path / "mine", *words, code=1).err
    assert "no label file there has an object of a class (" in found
    assert said in found


def test_files_whose_objects_are_all_bad_are_not_said_to_have_none(tmp_path: Path, run: Run) -> None:
    """As in Datumaro's own voc_dataset2, which has neither images nor their sizes."""
    box = "<bndbox><xmin>1.0</xmin><ymin>2.0</ymin><xmax>4.0</xmax><ymax>6.0</ymax></bndbox>"
    text = f"<annotation><filename>b.jpg</filename><object><name>bird</name>{box}</object></annotation>"
    write_file(tmp_path / "in/Annotations/b.xml", text)
    (tmp_path / "in/JPEGImages").mkdir()
    assert "(1 bad row or file left out, listed in " in run("stats", tmp_path / "in", code=1).err


def test_layouts_of_voc(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_file(tmp_path / "roboflow" / split / "a.xml", xml(boxed()))
        write_file(tmp_path / "labelimg" / "a.xml", xml(boxed()))
    found = find_splits(str(tmp_path / "roboflow"), "voc", formats.load("voc"), Task.DETECT)
    assert found == {"train": ["train"], "val": ["valid"], "test": ["test"]}
    alone = find_splits(str(tmp_path / "labelimg"), "voc", formats.load("voc"), Task.DETECT)
    assert list(alone) == ["train"]
    for folder in ("roboflow", "labelimg"):
        assert dataset(str(tmp_path / folder), str(tmp_path / "work"))["source"]["format"] == "voc"


def test_every_real_file_is_in_order() -> None:
    for path in sorted(Path(REAL).glob("voc*.xml")):
        assert rows(path.read_bytes(), Picture(20, 10), sizes="trust"), path
