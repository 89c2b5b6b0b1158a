"""Ultralytics NDJSON as a source: what its lines become, and that Ultralytics' converter would write the same rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Parsed, Part, ndjson
from pipeline.formats._image_names import ImageNames
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.helpers import PROJECT, contents, write_file
from tests.support.web import serving

#: As https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/platform/data/datasets/ have them.
HEAD = {"type": "dataset", "task": "detect", "name": "Example", "description": "COCO NDJSON example dataset",
        "url": "https://app.ultralytics.com/user/datasets/example",
        "class_names": {"0": "person", "1": "bicycle", "2": "car"}, "bytes": 426342, "version": 0,
        "created_at": "2024-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z"}  # fmt: skip
BOXES = [[0, 0.52481, 0.37629, 0.28394, 0.41832], [1, 0.73526, 0.29847, 0.19275, 0.33691]]


def image(file: str = "image1.jpg", **more: Any) -> dict[str, Any]:
    url = f"https://www.url.com/path/to/{file}"
    return {"type": "image", "file": file, "url": url, "width": 640, "height": 480, "split": "train", **more}


def document(*images: Any, **head: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in (HEAD | head, *images)).encode()


def outline(
    text: bytes, task: Task = Task.DETECT, split: str | None = None, names: Sequence[str] | None = None
) -> FileOutline:
    return ndjson.outline([text], task, ImageNames(names) if names is not None else None, split)


def parse(
    text: bytes, task: Task = Task.DETECT, options: Mapping[str, Any] | None = None, split: str | None = None
) -> tuple[Parsed, FileOutline]:
    found = outline(text, task, split)
    part = Part([text[a:b] for a, b in found.images.tolist()], [], found.image_of, found.labels)
    return ndjson.parse(part, task, found.names.get("kpt_shape"), options), found


def test_the_example_of_the_documentation() -> None:
    parsed, found = parse(document(image(annotations={"boxes": BOXES}), image("image2.jpg", split="val")))
    assert found.names["names"] == ["person", "bicycle", "car"]
    assert (found.stems, found.paths) == (["image1", "image2"], ["path/to/image1.jpg", "path/to/image2.jpg"])
    rows = parsed.rows.to_pylist()
    assert [(row["file"], row["line"], row["label"], row["tail"]) for row in rows] == [
        (0, 1, "person", b" 0.52481 0.37629 0.28394 0.41832"), (0, 2, "bicycle", b" 0.73526 0.29847 0.19275 0.33691"),
    ]  # fmt: skip
    assert parsed.states == [LabelState.FOUND, LabelState.EMPTY]
    assert parsed.images is not None
    assert parsed.images.select(["width", "height"]).to_pylist() == [{"width": 640, "height": 480}] * 2
    assert json.loads(found.rest) == {"info": {"description": "COCO NDJSON example dataset"}}


@pytest.mark.parametrize(
    ("task", "lists", "tails"),
    [
        (Task.SEGMENT, {"segments": [[2, 0.1, 0.2, 0.3, 0.2, 0.3, 0.5]]}, [b" 0.1 0.2 0.3 0.2 0.3 0.5"]),
        (Task.POSE, {"pose": [[0, 0.5, 0.5, 0.4, 0.4, 0.1, 0.2, 2, 0, 0, 0]]}, [b" 0.5 0.5 0.4 0.4 0.1 0.2 2 0 0 0"]),
        (Task.DETECT, {"pose": [[0, 0.5, 0.5, 0.4, 0.4, 0.1, 0.2, 2, 0, 0, 0]]}, [b" 0.5 0.5 0.4 0.4"]),
        (Task.DETECT, {"obb": [[0, 0.1, 0.1, 0.3, 0.1, 0.3, 0.2, 0.1, 0.2]]}, [b" 0.1 0.1 0.3 0.1 0.3 0.2 0.1 0.2"]),
        (Task.DETECT, {"bboxes": BOXES[:1]}, [b" 0.52481 0.37629 0.28394 0.41832"]),
        (Task.DETECT, {"segments": [[0, 0.1, 0.1, 0.3, 0.1, 0.2, 0.2]], "boxes": BOXES[:1]},
         [b" 0.52481 0.37629 0.28394 0.41832"]),
        (Task.DETECT, {"whatever": BOXES[:1]}, [b" 0.52481 0.37629 0.28394 0.41832"]),
        (Task.DETECT, {"boxes": [["0", "0.5", 0.5, 0.1, 1e-1]]}, [b" 0.5 0.5 0.1 0.1"]),
        (Task.DETECT, {"boxes": []}, []),
        (Task.DETECT, {"boxes": [[], BOXES[0]]}, [b" 0.52481 0.37629 0.28394 0.41832"]),
        (Task.DETECT, {"boxes": None}, []),
        (Task.DETECT, {}, []),
    ],
)  # fmt: skip
def test_the_objects_of_each_task(task: Task, lists: Any, tails: list[bytes]) -> None:
    head = {"task": "pose"} if "pose" in lists else {}
    parsed, _ = parse(document(image(annotations=lists), **head), task)
    assert (parsed.rows["tail"].to_pylist(), parsed.problems) == (tails, [])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 0.5, 0.5, 0.1]], 'image "image1.jpg", object 1: '),
        ([BOXES[0], [0, 1.5, 0.5, 0.1, 0.1]], 'image "image1.jpg", object 2: '),
        ([[0, None, 0.5, 0.1, 0.1]], "null"),
        ([[0, True, 0.5, 0.1, 0.1]], "True"),
        ([["cat", 0.5, 0.5, 0.1, 0.1]], "cat"),
        ([[0, [0.5], 0.5, 0.1, 0.1]], "[0.5]"),
        ([7], "object 1"),
        ("boxes", "boxes"),
    ],
)
def test_a_bad_object_is_counted_with_its_image(rows: Any, said: str) -> None:
    parsed, _ = parse(document(image(annotations={"boxes": rows})))
    (problem,) = parsed.problems
    assert problem.rows == 1
    assert said in problem.detail
    assert parsed.rows.num_rows == (len(rows) - 1 if isinstance(rows, list) else 0)


def test_names_are_as_trainers_fill_them_in() -> None:
    _, found = parse(document(image(annotations={"boxes": [[4, 0.5, 0.5, 0.1, 0.1]]})))
    assert found.names["names"] == ["person", "bicycle", "car", "class3", "class4"]
    parsed, found = parse(document(image(annotations={"boxes": [[1, 0.5, 0.5, 0.1, 0.1]]}), class_names={}))
    assert found.names["names"] == ["class_0", "class_1"]
    assert parsed.rows["label"].to_pylist() == ["class_1"]
    assert outline(document(class_names=["cat", "dog"])).names["names"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ([0.1, 0.2, 2, 0.3, 0.4, 0], (2, 3)),
        ([0.1, 0.2, 0.3, 0.4], (2, 2)),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None),
        ([], None),
        ([0.1], None),
    ],
)
def test_keypoints_are_inferred_as_trainers_do(row: list[float], shape: tuple[int, int] | None) -> None:
    text = document(image(annotations={"pose": [[0, 0.5, 0.5, 0.4, 0.4, *row]] * 2}), task="pose")
    assert outline(text, Task.POSE).names.get("kpt_shape") == shape
    head = {"task": "pose", "kpt_shape": [5, 2], "flip_idx": [1, 0, 2, 4, 3], "kpt_names": {"2": list("abcde")}}
    names = outline(document(**head), Task.POSE).names
    assert (names["kpt_shape"], names["flip_idx"], names["kpt_names"]) == (
        (5, 2),
        [1, 0, 2, 4, 3],
        {"2": list("abcde")},
    )


def test_each_image_is_of_its_split() -> None:
    draft = image("e.jpg", split="draft", annotations={"boxes": BOXES})
    splits = ("train", "valid", "test", None)
    text = document(*(image(f"{name}.jpg", split=split) for name, split in zip("abcd", splits, strict=True)), draft)
    stems = {split: outline(text, split=split).stems for split in ("train", "val", "test")}
    assert stems == {"train": ["a", "d"], "val": ["b"], "test": ["c"]}
    assert [p for split in stems for p in outline(text, split=split).problems] == [
        ("", "bad_split", 'line 6 has the split "draft"; make it train, val or test', 2)
    ]
    assert ndjson.contents([text]).splits == ["train", "val", "test"]


def test_where_images_are() -> None:
    found = ndjson.contents([document(image(), path="..", task="semantic")])
    assert (found.task, found.folder, found.server, found.signed) == (Task.SEGMENT, "..", "https://www.url.com", False)
    signed = ndjson.contents([document(image(url="https://h/a.jpg?X-Goog-Signature=1"))])
    assert (signed.server, signed.signed) == ("https://h", True)
    two = document(image(url="https://h/a.jpg"), image("b.jpg", url="https://g/a.jpg"))
    assert ndjson.contents([two]).server is None
    listed = outline(
        document(image("a.jpg"), image("b.jpg", url="https://h/0f1e.jpg?x=1")), names=["x/a.jpg", "0f1e.jpg"]
    )
    assert listed.paths == ["x/a.jpg", "0f1e.jpg"]


def test_two_lines_of_one_image_are_reported() -> None:
    text = document(image(annotations={"boxes": BOXES}), image(annotations={"boxes": BOXES}), {"type": "image"})
    assert [problem[1:] for problem in outline(text).problems] == [
        ("image_twice", 'line 3 ("image1.jpg") is of the image of line 2; join them, or remove one', 2),
        ("bad_image", "line 4 names no image", 0),
    ]
    same_name = document(image(url="https://h/x/a.jpg"), image(url="https://h/y/a.jpg"))
    assert outline(same_name).stems == ["image1", "image1.jpg"]


def test_an_address_goes_along_unless_it_is_signed() -> None:
    parsed, _ = parse(
        document(image(), image("b.jpg", url="https://h/b.jpg?X-Goog-Signature=1"), image("c.jpg", url=7))
    )
    assert parsed.images is not None
    assert parsed.images["raw"].to_pylist() == [b'{"coco_url":"https://www.url.com/path/to/image1.jpg"}', None, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"<html>", "is a web page"),
        (b"\xff\xfe{\x00", "is UTF-16"),
        (b"{", "is no NDJSON: its first line ends before its JSON does"),
        (b'{"images": []}\n{"a"', "is no NDJSON, but"),
        (b"[1]\n", "no dataset of Ultralytics"),
        (json.dumps(image()).encode(), "no dataset of Ultralytics"),
        (document(task="classify"), "is a dataset of task classify"),
        (document(task="depth"), "is a dataset of task depth"),
        (document(task="segmnet"), "unknown task 'segmnet'"),
        (b"\x1f\x8b\x08\0\0", "is compressed (gzip); unpack it"),
        (document(class_names={"x": "cat"}), 'has the class "x": "cat"'),
        (document(class_names={"0": ""}), 'has the class "0": ""'),
        (document(class_names=7), "has `class_names` that are no object"),
    ],
)
def test_what_is_no_dataset(text: bytes, said: str) -> None:
    if text.startswith(b'{"images"'):
        assert outline(text).problems[0][1] == "bad_line"  # Ultralytics takes any first line
        return
    with pytest.raises(Malformed) as caught:
        outline(text)
    assert said in str(caught.value)


@given(st.data())
def test_pieces_decide_about_nothing(data: st.DataObject) -> None:
    lines = [image("a.jpg", annotations={"boxes": BOXES}), image("ü.jpg"), image("c.jpg", url=None)]
    text = document(*lines).replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\n\n \n"])))
    text = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.rstrip()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = ndjson.outline(pieces, Task.DETECT)
    assert [json.loads(text[a:b]) for a, b in found.images.tolist()] == lines
    assert found.stems == ["a", "ü", "c"]


def test_a_line_that_is_no_json_is_counted_and_the_others_are_read() -> None:
    text = document(image()) + b'{"file": "b.jpg",\n' + json.dumps(image("c.jpg", width=float("nan"))).encode()
    parsed, found = parse(text)
    assert found.stems == ["image1", "c"]
    assert found.problems == [("", "bad_line", "line 3 is not JSON (character 18: it is cut short); correct it", 0)]
    assert parsed.states == [LabelState.EMPTY] * 2


SAMPLE = PROJECT / "tests/sample"


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_a_target_is_a_source_of_the_same_rows(task: str, run: Run, tmp_path: Path) -> None:
    """To NDJSON and back is the same, byte for byte, as to YOLO at once; the file says its task and splits."""
    names = PROJECT / ("conf/coco-pose.yaml" if task == "pose" else "conf/coco.yaml")
    work = ["--workdir", tmp_path / "work"]
    told = [
        run(
            "convert",
            SAMPLE / task,
            tmp_path / to,
            "--from",
            "yolo",
            "--to",
            to,
            "--task",
            task,
            "--labels",
            names,
            *work,
        )
        for to in ("ndjson", "yolo")
    ]
    back = ["--to", "yolo", *work]
    told += [run("convert", tmp_path / "ndjson/dataset.ndjson", tmp_path / "back", *back)]
    told += [run("convert", tmp_path / "ndjson", tmp_path / "again", "--from", "ndjson", "--to", "ndjson", *work)]
    assert [one.code for one in told] == [0] * 4, told
    assert f"{tmp_path}/ndjson/dataset.ndjson: is read as format ndjson; if it is another" in told[2].err
    assert contents(tmp_path / "back") == contents(tmp_path / "yolo")
    made = [(tmp_path / name / "dataset.ndjson").read_bytes().partition(b"\n")[2] for name in ("again", "ndjson")]
    assert made[0] == made[1]


def test_images_are_fetched_from_their_addresses(run: Run, tmp_path: Path) -> None:
    """One file names a class subset; its own images alone are fetched, those of the class that is wanted."""
    work = ["--workdir", tmp_path / "work"]
    asked: list[str] = []

    class Recorder(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    def fetched() -> list[str]:
        found = sorted(asked)
        asked.clear()
        return found

    def showing(number: int) -> list[str]:
        """Paths of the images with an object of a class of the file."""
        return sorted(
            f"/{line['split']}2017/{line['file']}"
            for line in lines
            if any(row[0] == number for row in line["annotations"]["boxes"])
        )

    with serving(partial(Recorder, directory=str(SAMPLE / "detect/images"))) as port:
        data = {
            "source": {
                "names": str(PROJECT / "conf/coco.yaml"),
                "root": str(SAMPLE / "detect"),
                "splits": {
                    split: {
                        "labels": f"labels/{split}2017",
                        "images": {"url": f"http://127.0.0.1:{port}/{split}2017", "suffix": ".png"},
                    }
                    for split in ("train", "val")
                },
            },
            "classes": ["bicycle", "car"],
            "select": {"exclude_images": str(write_file(tmp_path / "capitals.txt", "000000700127\n"))},
            "target": {"root": str(tmp_path / "file"), "format": "ndjson", "images": "none"},
            "workdir": str(tmp_path / "work"),
        }
        told = run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
        assert told.code == 0, told.err
        head, *lines = (json.loads(line) for line in (tmp_path / "file/dataset.ndjson").read_text().splitlines())
        assert "path" not in head
        assert not fetched()
        assert {line["url"].rpartition("/")[0] for line in lines} == {
            f"http://127.0.0.1:{port}/{split}2017" for split in ("train", "val")
        }
        write_file(tmp_path / "alone/x.ndjson", (tmp_path / "file/dataset.ndjson").read_text())
        told = run("convert", tmp_path / "alone/x.ndjson", tmp_path / "yolo", "--from", "ndjson", "--to", "yolo", *work,
                   "--set", "classes=[bicycle]")  # fmt: skip
        assert told.code == 0, told.err
        assert fetched() == showing(0)
        data = {
            "source": {
                "format": "ndjson",
                "root": str(tmp_path / "alone"),
                "splits": {
                    split: {"annotations": "x.ndjson", "images": {"url": f"http://127.0.0.1:{port}", "suffix": ".png"}}
                    for split in ("train", "val")
                },
            },
            "classes": ["car"],
            "target": {"root": str(tmp_path / "cars")},
            "workdir": str(tmp_path / "own"),
        }
        config = write_file(tmp_path / "cars.yaml", yaml.safe_dump(data))
        run("build", config)
        assert fetched() == showing(1)
    made = {path.name for path in (tmp_path / "yolo/images").rglob("*.png")}
    assert made == {line["file"] for line in lines if any(row[0] == 0 for row in line["annotations"]["boxes"])}
    assert len(made) < len(lines)
