"""Names of classes and folders that mean something to mmengine, read back by it: they are data, and no command runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.base.test_text import HOSTILE
from tests.interop.conftest import Reader
from tests.support.helpers import run_process, write_file

pytestmark = pytest.mark.interop


def hostile(folder: Path) -> list[str]:
    """Class names that would write the file ``ran`` of `folder`, and others that mean something."""
    command = f"__import__('os').system('touch {folder}/ran')"
    # Names that differ in blanks alone are one class, so that each comes as it looks.
    names = dict.fromkeys(" ".join(name.split()) for name in HOSTILE if name.strip() and name.isprintable())
    return [
        *names,
        "a{{$A:.*}}",
        f"b}}}}',{command}))#",
        f"{{{{ {command} }}}}",
        f"'+{command}+'",
        "{{ _base_.model }}",
        "{{'$HOME:x'}}",
    ]


@pytest.mark.parametrize("folder", ["it's", 'say "x"', "{{ fileBasename }}", "{{ $HOME:x }}", "two\nlines", "back\\sl"])
@pytest.mark.parametrize("form", ["portable", "absolute"])
def test_mmengine_reads_what_was_written(tmp_path: Path, read: Reader, folder: str, form: str) -> None:
    names = hostile(tmp_path)
    source, target = tmp_path / "src", tmp_path / folder / "out"
    write_file(source / "train2017/a.jpg", "image")
    write_file(
        source / "annotations/instances_train2017.json",
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
                "annotations": [
                    {
                        "id": i,
                        "image_id": 1,
                        "category_id": i,
                        "bbox": [1, 1, 9, 9],
                        "area": 81,
                        "iscrowd": 0,
                        "segmentation": [[1, 1, 9, 1, 9, 9]],
                    }
                    for i in range(1, len(names) + 1)
                ],
                "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
            }
        ),
    )
    target.parent.mkdir()  # what is called after a variable of the shell must be there to be meant
    told = run_process(
        "convert",
        source,
        target,
        "--from",
        "coco",
        "--to",
        "coco",
        "--workdir",
        tmp_path / "work",
        "--set",
        f"target.yaml={form}",
    )
    assert told.code == 0, told.err
    (found,) = read("mmengine_config", (target / "mmdetection.py",))
    assert found == {
        "classes": names,
        "root": f"{target}/",
        "keys": ["subset_metainfo", "subset_train", "subset_train_annotations"],
    }
    assert not (tmp_path / "ran").exists()
