"""What stands for a folder when two machines compare what they see of it."""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from tests.support.helpers import write_file


def test_a_folder_rather_than_a_file_since_files_go(tmp_path: Path) -> None:
    assert storage.any_name(str(tmp_path)) is None
    write_file(tmp_path / "data.yaml", "names: {}\n")
    assert storage.any_name(str(tmp_path)) == "data.yaml"
    for name in ("labels/train/a.txt", ".coco-diy/manifest.json", "images/train/a.jpg"):
        write_file(tmp_path / name, "")
    assert storage.any_name(str(tmp_path)) == ".coco-diy"
    assert storage.any_name(str(tmp_path / "none")) is None
