"""The loop that a person writes for this job, a file at a time: the baseline where the tutorial's is not at hand.

The algorithm is the tutorial's, written anew, and it costs the same on purpose: a listing a folder, an ``open`` a
file, the path printed, each line split once to look at its class and once more to rewrite it, both names found by
walking through a dictionary, the row put together from single tokens, the list printed, the image copied. Nothing here
is to be made faster.

It is right for box rows only. It takes what follows the class id in groups of four numbers, so that a polygon row
becomes several boxes of nonsense; that is the tutorial's bug, and part of the cost.

    python plain_loop.py SRC DST SRC_YAML DST_YAML [--no-images]
"""

from __future__ import annotations

import argparse
import os
import shutil

import yaml

Ids = dict[str, int]

#: Source folder and target folder of each split.
SPLITS = (("train2017", "train"), ("val2017", "val"))


def load_ids(path: str) -> Ids:
    """Read a names YAML (``names`` as a mapping) as name -> id."""
    with open(path, encoding="utf-8") as file:
        names: dict[int, str] = yaml.safe_load(file)["names"]
    return {name: number for number, name in names.items()}


def name_of(ids: Ids, number: str) -> str | None:
    """Find the name of an id, as the row has it, by walking through the dictionary: that cost is the baseline's."""
    for name, value in ids.items():
        if value - int(number) == 0:
            return name
    return None


def id_of(ids: Ids, wanted: str | None) -> int | None:
    """Find the id of a name, walking again where a look-up would do."""
    for name, value in ids.items():
        if name == wanted:
            return value
    return None


def rewrite(tokens: list[str], old: Ids, new: Ids) -> list[object]:
    """Give the pieces of the new row, or rows: one for each four numbers after the class id."""
    number = id_of(new, name_of(old, tokens[0]))
    rest = tokens[1:]
    pieces: list[object] = []
    for at in range(0, len(rest) - len(rest) % 4, 4):
        pieces.append(number)
        for token in rest[at : at + 4]:
            pieces.append(" ")
            pieces.append(token)
        pieces.append("\n")
    return pieces


def remake_split(source: str, target: str, folders: tuple[str, str], names: tuple[Ids, Ids]) -> None:
    """Do one split; ``folders`` and ``names`` are each the source's and the target's."""
    old, new = names
    wanted = [old[name] for name in new if name in old]
    label_folder = os.path.join(source, "labels", folders[0])
    image_folder = os.path.join(source, "images", folders[0])
    new_labels = os.path.join(target, "labels", folders[1])
    new_images = os.path.join(target, "images", folders[1])
    for entry in os.listdir(label_folder):
        if not entry.endswith(".txt"):
            continue
        path = os.path.join(label_folder, entry)
        photo = entry.replace(".txt", ".jpg")
        image = os.path.join(image_folder, photo)
        with open(path) as file:
            print(path)
            lines = file.readlines()
        kept: list[object] = []
        for line in lines:
            if int(line.strip().split()[0]) in wanted:
                kept += rewrite(line.strip().split(), old, new)
        if kept:
            print(kept)
            with open(os.path.join(new_labels, entry), "w") as file:
                for piece in kept:
                    file.write(f"{piece}")
            shutil.copy(image, os.path.join(new_images, photo))


def main() -> None:
    """Read the four values from the command line and do both splits."""
    parser = argparse.ArgumentParser(description="the plain loop: a subset of a YOLO box label tree")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("source_yaml")
    parser.add_argument("target_yaml")
    parser.add_argument("--no-images", action="store_true", help="write labels only")
    args = parser.parse_args()
    if args.no_images:
        # A copy that does nothing, and no branch in the loop: this is how the benchmark runs the tutorial's script.
        shutil.copy = lambda source, target, **_: target  # type: ignore[assignment]
    names = load_ids(args.source_yaml), load_ids(args.target_yaml)
    for folders in SPLITS:
        for kind in ("images", "labels"):
            os.makedirs(os.path.join(args.target, kind, folders[1]), exist_ok=True)
    for folders in SPLITS:
        remake_split(args.source, args.target, folders, names)


if __name__ == "__main__":
    main()
