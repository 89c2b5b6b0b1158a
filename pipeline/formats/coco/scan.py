"""One pass over a COCO JSON: where everything is, and what belongs to what."""

from __future__ import annotations

import contextlib
import functools
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from pipeline.base.memory import release_free
from pipeline.base.terms import Task
from pipeline.base.text import whole_number
from pipeline.formats import FileOutline, Malformed
from pipeline.formats._image_names import ImageNames
from pipeline.formats._keypoint_names import as_flips, flips
from pipeline.formats._large_json import Chunk, LargeObject
from pipeline.formats._stretches import Ahead, Read, Stretch, read_stretch
from pipeline.formats._values import as_id, category_name, finite, plain, shown, supercategory_name
from pipeline.formats.coco.images import LOST, Id, ImageEntry, outline_of_images

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts as Spans  # of any width
    from pipeline.base.arrays import Ints


Owners: TypeAlias = "list[Id] | array[int]"

_ARRAYS = frozenset({"images", "annotations"})

#: Annotations whose images are found at a time.
_OWNERS = 1 << 16


class _OfImage(msgspec.Struct, gc=False):
    image_id: Id = None


class _OfPose(_OfImage, gc=False):
    category_id: Id = None
    keypoints: msgspec.Raw = msgspec.Raw(b"[]")


_images = msgspec.json.Decoder(list[ImageEntry]).decode

_owners: dict[bool, Any] = {
    True: msgspec.json.Decoder(list[_OfPose]).decode,
    False: msgspec.json.Decoder(list[_OfImage]).decode,
}


class SpansAndOwners:
    """What one pass finds: spans, owners of annotations, images as they are written, mistakes."""

    def __init__(self, task: Task) -> None:
        self.pose = task is Task.POSE
        self.decoders = {"images": _images, "annotations": _owners[self.pose]}
        #: Begin and end of each element: 4 bytes wide where that is enough.
        self.spans: dict[str, array[int]] = {member: array("I") for member in _ARRAYS}
        self.images: list[ImageEntry | str] = []
        self.owners: list[Owners] = []
        #: That of the images alone, once it was asked for.
        self.outline: FileOutline | None = None
        #: How many keypoints annotations have, by category.
        self.points: Counter[tuple[Id, int]] = Counter()
        #: Why annotations are no JSON objects, by number.
        self.bad: dict[int, str] = {}

    def take(self, chunk: Chunk) -> None:
        """Read what belongs to what in a chunk, and note where its elements are."""
        if not chunk.first:  # of two members of one name the last counts, as for `json`
            self._forget(chunk.member)
        self._note(chunk.member, chunk.spans)
        if chunk.member == "images":
            self.images += _decoded(_images, chunk, lambda i: _image_of(chunk, i))
            return
        self._note_owners(_decoded(self.decoders["annotations"], chunk, lambda i: self._owner_of(chunk, i)))

    def take_amid(self, found: list[Any], spans: Spans) -> None:
        """The same of annotations, decoded, which begin and end at `spans`."""
        self._note("annotations", spans)
        self._note_owners(found)

    def _note_owners(self, found: list[Any]) -> None:
        _extend(self.owners, [row.image_id for row in found])
        if self.pose:
            self.points.update(
                (row.category_id, row.keypoints and bytes(row.keypoints).count(b",") + 1)
                for row in found
                if bytes(row.keypoints) not in (b"[]", b"null")
            )

    def _owner_of(self, chunk: Chunk, i: int) -> _OfImage:
        data = plain(chunk.element(i))
        if not isinstance(data, dict):
            self.bad[chunk.first + i] = chunk.no_object(i) or "cannot be read"
            return _OfPose()
        points = data.get("keypoints")
        return _OfPose(
            as_id(data.get("image_id")),
            as_id(data.get("category_id")),
            msgspec.Raw(b"," * (len(points) - 1) if isinstance(points, list) and points else b"[]"),
        )

    def _forget(self, member: str) -> None:
        self.spans[member] = array("I")
        if member == "images":
            self.images, self.outline = [], None
        else:
            self.owners = []
            self.points.clear()
            self.bad.clear()

    def outlined(self, names: ImageNames | None) -> FileOutline:
        """The outline of the images alone, which are let go of."""
        if self.outline is None:
            images, self.images = self.images, []
            self.outline = outline_of_images(self.array("images"), images, names)
        return self.outline

    def ask(self, ask: Callable[[], Stretch | None], names: ImageNames | None) -> Stretch | None:
        """What `ask` says, after what there is to do meanwhile: amid the annotations, images that came are all."""
        if self.images:
            self.outlined(names)
        return ask()

    def _note(self, member: str, more: Spans) -> None:
        spans = self.spans[member]
        if spans.typecode == "I" and more.max(initial=0) >= 1 << 32:
            spans = self.spans[member] = array("q", spans)
        spans.frombytes(more.astype(spans.typecode).tobytes())

    def join(self, other: tuple[Spans, list[Owners], Counter[tuple[Id, int]]]) -> None:
        """Take over what another reader found of the annotations that follow, see `stretch`."""
        spans, owners, points = other
        self._note("annotations", spans)
        self.points.update(points)
        for some in owners:
            _extend(self.owners, some)

    def array(self, member: str) -> Spans:
        """The spans of all elements of a member, shape (n, 2)."""
        spans = self.spans[member]
        return np.frombuffer(spans, spans.typecode).reshape(-1, 2)


def _extend(owners: list[Owners], ids: Owners) -> None:
    """Add ids of images of annotations: whole numbers are an array, which has a tenth of the size."""
    more: Owners = ids
    for width in ("i", "q"):
        with contextlib.suppress(TypeError, OverflowError):
            more = array(width, ids)  # type: ignore[arg-type]
            break
    if isinstance(more, array) and owners and isinstance(owners[-1], array) and owners[-1].typecode == more.typecode:
        owners[-1].extend(more)
    else:
        owners.append(more)


def _image_of(chunk: Chunk, i: int) -> ImageEntry | str:
    """An image, or the clause that says why it is not one."""
    data = plain(chunk.element(i))
    if not isinstance(data, dict):
        return chunk.no_object(i) or "cannot be read"
    name, url = data.get("file_name"), data.get("coco_url")
    return ImageEntry(
        as_id(data.get("id")),
        str(name) if isinstance(name, str | int | float) else None,
        url if isinstance(url, str) else None,
    )


def _decoded(decode: Any, chunk: Chunk, one: Any) -> list[Any]:
    """All elements of a chunk at once; where one of them is bad, each by itself."""
    if chunk.found is not None:
        return chunk.found
    try:
        found: list[Any] = decode(chunk.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [one(i) for i in range(len(chunk))]
    return found


def stretch(pieces: Iterable[bytes], begin: int, task: Task) -> Stretch | None:
    """See `pipeline.formats.coco.stretch`."""
    reader = SpansAndOwners(task)
    read = read_stretch(pieces, begin, reader.decoders["annotations"], reader.take_amid)
    found = reader.array("annotations"), reader.owners, reader.points
    return read and replace(read, found=found)


def outline(
    pieces: Iterable[bytes],
    task: Task,
    names: ImageNames | None,
    ahead: Sequence[Read] = (),
) -> FileOutline:
    """See `pipeline.formats.coco.outline`."""
    reader = SpansAndOwners(task)
    reads = [(begin, functools.partial(reader.ask, ask, names)) for begin, ask in ahead]
    file = LargeObject(pieces, _ARRAYS, reader.decoders, ahead=Ahead("annotations", reads, reader.join))
    for chunk in file.chunks():
        reader.take(chunk)
    _must_be_coco(file)
    rest, shown = _rest(file.rest)
    found = reader.outlined(names)
    found.rest, found.notes, notes = shown, [], found.notes
    _categories(found, rest.get("categories"))
    if any(reader.owners) and not found.labels:
        raise Malformed("has annotations but no categories: their classes have no names")
    if task is Task.POSE:
        _keypoints(found, rest.get("categories"), reader.points)
    found.notes += notes
    release_free()  # what the texts between all that stays took
    found.annotations = reader.array("annotations")
    _belongings(found, reader.owners, reader.bad)
    return found


#: Members that files of other tools have, and what those are.
_OTHER_TOOLS = {
    "_via_img_metadata": "a project of VIA; export it as COCO",
    "shapes": "a label file of labelme (format: labelme)",
    "items": "a project of Datumaro; export it as COCO",
    "assets": "a project of VoTT; export it anew",
}


def _must_be_coco(file: LargeObject) -> None:
    """Raise `Malformed` for JSON of another kind."""
    other = next((kind for member, kind in _OTHER_TOOLS.items() if member in file.rest), None)
    if other is not None and "images" not in file.found:
        raise Malformed(f"is JSON, but no COCO dataset: {other}")
    for member in sorted(_ARRAYS & file.rest.keys()):
        if file.rest[member] != b"null":
            raise Malformed(f"is JSON, but no COCO dataset: `{member}` is no list")
    if not file.found and not {*_ARRAYS, "categories"} & file.rest.keys():
        raise Malformed("is JSON, but no COCO dataset: it has no `images`")


def _rest(members: dict[str, bytes]) -> tuple[dict[str, Any], bytes]:
    """The small members, decoded, and as JSON: as they are written, but for what JSON does not know."""
    found = {name: plain(text) for name, text in members.items() if name not in _ARRAYS}
    parts = []
    for name, text in members.items():
        if name in _ARRAYS:
            continue
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if found[name] is None:
                raise Malformed(f"is not JSON: `{name}` cannot be read") from None
            text = msgspec.json.encode(finite(found[name]))  # noqa: PLW2901
        parts.append(msgspec.json.encode(name) + b": " + text)
    return found, b"{" + b", ".join(parts) + b"}"


def captions(pieces: Iterable[bytes], of: FileOutline) -> tuple[Ints, Ints]:
    """See `pipeline.formats.coco.captions`."""
    reader = SpansAndOwners(Task.DETECT)
    for chunk in LargeObject(pieces, _ARRAYS, reader.decoders).chunks():
        if chunk.member == "annotations":
            reader.take(chunk)
    owner = np.array([_index_of(of.index_of_id, i) for some in reader.owners for i in some], np.int64)
    order = np.flatnonzero(owner >= 0)
    return reader.array("annotations")[order].astype(np.int64), owner[order]


def _categories(found: FileOutline, categories: Any) -> None:
    """Names by id; several categories of one name are one class."""
    if not isinstance(categories, list | None):
        raise Malformed("has `categories` that are no list")
    for number, category in enumerate(categories or ()):
        if not isinstance(category, dict):
            raise Malformed(f"has a category that is no object (number {number + 1})")
        key = as_id(category.get("id"))
        name = category_name(category)
        if key is None:
            raise Malformed(f"has a category without an id ({shown(name)})")
        if name is None:
            raise Malformed(f"has a category without a proper name (number {number + 1}, id {shown(key)})")
        if found.labels.setdefault(key, name) != name:
            raise Malformed(
                f"has the category id {key!r} twice, as {found.labels[key]!r} and {name!r}; give each an id of its own"
            )
    order = sorted(found.labels, key=lambda key: (isinstance(key, str), key))
    above = {category_name(c) or "": supercategory_name(c) for c in categories or ()}
    found.names = {
        "names": list(dict.fromkeys(found.labels[key] for key in order)),
        "supercategories": {name: group for name, group in above.items() if group is not None},
    }
    for key in order:  # an annotation may write as text what is a number here, and the other way round
        digits = None if isinstance(key, int) else whole_number(key)
        other: int | str = str(key) if isinstance(key, int) else key if digits is None else digits
        found.labels.setdefault(other, found.labels[key])
        if isinstance(key, int):
            found.labels.setdefault(f"{key}.0", found.labels[key])


def _keypoints(found: FileOutline, categories: Any, counted: Counter[tuple[Id, int]]) -> None:
    """How many keypoints objects have and what those are called: by the categories, else by the annotations."""
    points: dict[str, list[str]] = {}
    said: dict[str, Any] = {}  # what our own exporter says of a flip where names do not say it
    for category in categories or ():
        names_of, name = category.get("keypoints"), str(category_name(category))
        if isinstance(names_of, list) and names_of:
            points.setdefault(name, [str(p) for p in names_of])
        said.setdefault(name, category.get("flip_idx"))
    by_name: Counter[tuple[str, int]] = Counter()
    for (category, count), objects in counted.items():
        key = as_id(category)
        if key is not None and key in found.labels and count % 3 == 0:
            by_name[found.labels[key], count // 3] += objects
    names = found.names["names"]
    counts = {name: len(some) for name, some in points.items()}
    for (name, count), _ in by_name.most_common():
        counts.setdefault(name, count)
    if not counts:
        return
    objects_of = Counter({name: sum(n for (other, _), n in by_name.items() if other == name) for name in counts})
    first = max(counts, key=lambda name: (objects_of[name], -names.index(name)))
    width = counts[first]
    found.names["kpt_shape"] = width, 3
    found.names["flip_idx"] = as_flips(said.get(first), width) or flips(points.get(first, ()))
    if kpt_names := {str(names.index(name)): some for name, some in points.items() if len(some) == width}:
        found.names["kpt_names"] = kpt_names
    if others := {name: count for name, count in counts.items() if count != width}:
        listed = ", ".join(f"{name!r} {count}" for name, count in others.items())
        found.notes.append(
            f"categories have several skeletons: {first!r} has {width} keypoints, {listed}; rows are of "
            f"{width}, and objects with another number are left out"
        )


def _belongings(found: FileOutline, owners: list[Owners], bad: Mapping[int, str]) -> None:
    """The image of each annotation; those of none are taken out. `bad` says of some why they are no objects."""
    image_of = np.empty(sum(map(len, owners)), np.int32)
    lost: list[tuple[int, Id]] = []
    indexes, at = _indexes_by_id(found.index_of_id), 0
    for some in (several[i : i + _OWNERS] for several in owners for i in range(0, len(several), _OWNERS)):
        here = image_of[at : at + len(some)]
        here[:] = indexes(some)
        for i in np.flatnonzero(here < 0).tolist():
            if here[i] == -1:
                here[i] = _index_of(found.index_of_id, some[i])
            if here[i] < 0:
                lost.append((at + i, some[i]))
        at += len(some)
    found.image_of = image_of
    if not lost:
        return
    with_image: Counter[int] = Counter()
    for number, owner in lost:
        if image_of[number] == LOST:
            with_image[
                next(found.lost_with[k] for k in (owner, as_id(owner), str(owner), _int(owner)) if k in found.lost_with)
            ] += 1
        else:
            reason = "bad_annotation" if number in bad else "no_such_image"
            detail = f"annotations[{number}] {bad[number]}" if number in bad else _no_image_of(number, owner)
            found.problems.append(("", reason, detail, 1))
    for problem, count in with_image.items():
        found.problems[problem] = (*found.problems[problem][:3], count)
    keep = image_of >= 0
    found.annotations, found.image_of = found.annotations[keep], image_of[keep]


def _indexes_by_id(index_of_id: Mapping[Any, int]) -> Callable[[Owners], Ints]:
    """What gives the index of the image of each of some owners by the very id that it has, -1 where none has it."""

    def one_by_one(owners: Owners) -> Ints:
        return np.fromiter(map(index_of_id.get, owners, itertools.repeat(-1)), np.int64, len(owners))

    try:
        ids = np.array(array("q", index_of_id), np.int64)
    except (TypeError, OverflowError):
        return one_by_one
    order = np.argsort(ids)
    ids, indexes = ids[order], np.fromiter(index_of_id.values(), np.int64, len(ids))[order]

    def at_once(owners: Owners) -> Ints:
        if not isinstance(owners, array) or not len(ids):
            return one_by_one(owners)
        numbers = np.asarray(owners)
        at = np.minimum(np.searchsorted(ids, numbers), len(ids) - 1)
        return np.where(ids[at] == numbers, indexes[at], -1)

    return at_once


def _no_image_of(number: int, owner: Id) -> str:
    """The clause for an annotation whose image is not there."""
    said = "has no image_id" if owner is None else f"belongs to no image (image_id {shown(owner)})"
    return f"annotations[{number}] {said}"


def _int(owner: Id) -> int | None:
    """The whole number that the text of an id is, if it is one."""
    text = owner.strip() if isinstance(owner, str) else ""
    number = whole_number(text.removeprefix("-"))
    return -number if number is not None and text.startswith("-") else number


def _index_of(indexes: dict[Any, int], owner: Id) -> int:
    """The index of an image by its id, which may be written as text here and as a number there."""
    if owner in indexes:
        return indexes[owner]
    if (number := _int(owner)) is not None:
        return indexes.get(number, -1)
    key = as_id(owner)
    return indexes.get(str(key), -1) if key is not None else -1
