"""The config as a model: every key, its default, and what it must be."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from pipeline.base.errors import unknown
from pipeline.base.redaction import is_signed
from pipeline.base.terms import SPLITS, Split, Task
from pipeline.base.unexpanded import unexpanded
from pipeline.config.messages import Written
from pipeline.config.select import Section, Select
from pipeline.config.values import MD5, SHA256, SOURCE_NAME, SUFFIX, WEB, UserPath


class SplitShares(Section):
    """Assign the images to splits anew, whatever split they are of in the source."""

    train: float | None = Field(None, gt=0, le=1, description="share of the images, 0 to 1")
    val: float | None = Field(None, gt=0, le=1, description="share of the images")
    test: float | None = Field(None, gt=0, le=1, description="share of the images")
    by: str = Field(
        "image",
        min_length=1,
        description="what stays on one side: image, folder, or a regular expression whose first parentheses match the "
        "name of the group in the image's path, as in '^(cam[0-9]+)_'",
    )
    stratify: bool = Field(False, description="each class gets its share too; the decision is saved in `table`")
    seed: int = Field(0, description="another number, another assignment")
    table: UserPath | None = Field(
        None, description="CSV file of group and split that is obeyed; stratify: made, by default in the workdir"
    )

    @property
    def shares(self) -> dict[str, float]:
        """Shares by split, in the order train, val, test."""
        return {name: share for name in SPLITS if (share := getattr(self, name)) is not None}

    @pydantic.model_validator(mode="after")
    def _whole(self) -> SplitShares:
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(
                f"shares add up to {sum(self.shares.values()):g}, not to 1; as in `split: {{train: 0.8, val: 0.2}}`"
            )
        return self

    @pydantic.field_validator("by")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            at = f" from character {error.pos + 1} on" if error.pos is not None else ""
            raise ValueError(
                f"is neither image nor folder, and no regular expression{at}; correct it, as in '^(cam[0-9]+)_'"
            ) from None
        return value


class ImageLocation(Section):
    """Images that are asked for by name, because nobody lists them: the name is that of the label file."""

    url: str = Field(pattern=WEB, description="what comes before /NAME.jpg")
    suffix: str = Field(pattern=SUFFIX, description="what the names end in, as in .jpg")


class SplitFolders(Section):
    """Where one split of a source is, relative to `root` where they are relative paths."""

    labels: str | None = Field(None, description="folder of the label files")
    annotations: str | list[str] | None = Field(
        None, description="the file with all annotations; openimages: or several that belong together"
    )
    captions: str | None = Field(None, description="COCO: a JSON file with captions of the same images")
    images: str | ImageLocation | None = Field(None, description="folder of the images; leave out where there are none")
    image_list: str | list[str] | None = Field(
        None, description="text file of image paths, or several: of the folders, the split is what they list"
    )


class Source(Section):
    """A labelled collection. It is only ever read."""

    name: str = Field("source", pattern=SOURCE_NAME, description="first part of every key")
    format: str = Field("yolo", description="grammar of the label files")
    task: Task = Field(Task.DETECT, description="what a row says: declared, never guessed")
    names: UserPath | None = Field(
        None,
        description="path of the YAML with the class names of the source, the position is the id; or a list, one name "
        "a line. COCO JSON and labelme name their classes themselves: there it gives the order",
    )
    root: UserPath | None = Field(
        None, description="folder or URL of the source; yolo: with labels/<folder> and images/<folder>"
    )
    splits: dict[Split, str | SplitFolders] = Field(
        description="split: its folder, a list of its images (NAME.txt), or {labels: …, images: …}"
    )
    exhaustive: list[str] | None = Field(
        None,
        description="classes of the source, or wildcards, that are labelled wherever they are seen; null: all of its "
        "names. Images are no backgrounds for others, see select.on_unlabelled",
    )
    marker: str | None = Field(
        None, description="a file, by path or below `root`, that is there whenever the disk of the source is mounted"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="of the format")
    links: Literal["follow", "refuse"] = Field(
        "follow", description="links that lead out of root: follow and count them, or stop"
    )

    @pydantic.model_validator(mode="after")
    def _needs_root(self) -> Source:
        if not self.splits:
            raise ValueError("name at least one split, as in `splits: {train: train2017, val: val2017}`")
        if self.root is None and any(isinstance(s, str) for s in self.splits.values()):
            raise ValueError("a split given as a folder's name needs `root`")
        return self


class ClassEntry(Section):
    """A class of the subset that is made of one or more of the source's; without a name each of them by itself.

    Names can be wildcards: `*` is any text, `?` any one character.
    """

    name: str | None = Field(None, min_length=1, description="name in the subset; null: each class under its own")
    from_: str | list[str] | None = Field(
        None, alias="from", description="the source's class or classes that become it; null, also below: all"
    )
    supercategory: str | list[str] | None = Field(None, description="all classes of it, or of them, become it too")
    exclude: str | list[str] | None = Field(None, description="of those, the class or classes that do not")

    @pydantic.model_validator(mode="after")
    def _takes_some(self) -> ClassEntry:
        if self.from_ is None and self.supercategory is None and self.exclude is None:
            raise ValueError("name the classes of the source that become it, as in `from: [car, bus]`")
        return self


class Target(Section):
    """The subset: where it goes and in which layout."""

    root: UserPath = Field(min_length=1, description="folder of the subset, or its URL (s3://bucket/folder)")
    format: str = Field("yolo", description="layout of the dataset")
    layout: str = Field("default", description="where its files are: default, roboflow, or coco2017")
    flat: bool = Field(
        False, description="whether all images of a split are in one folder, without subfolders: <source>__name.jpg"
    )
    images: Literal["copy", "hardlink", "symlink", "none"] = Field("copy", description="how images get there")
    yaml: Literal["portable", "absolute", "cloud"] = Field(
        "portable",
        description="portable: data.yaml with relative paths; absolute: with the paths of this machine; "
        "cloud: relative, and named as the folder",
    )
    archive: Literal["none", "zip"] = Field(
        "none", description="none: a folder of files; zip: one file NAME-<digest>.zip, as training in a cloud takes it"
    )
    report: bool = Field(
        False, description="whether each build leaves a page and a contact sheet in .coco-diy, as with --report"
    )
    max_delete: int | str = Field(
        "10%",
        description="a build that would lose more stops before it writes: a share (of more than 10 files), a number of "
        "files, or none for no limit",
    )

    @pydantic.field_validator("max_delete", mode="before")
    @classmethod
    def _limit(cls, value: object) -> int | str:
        text = "none" if value is None else str(value).strip()
        if text == "none" or (re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100):
            return text
        if not isinstance(value, bool) and re.fullmatch(r"\d{1,12}", text):
            return int(text)
        raise ValueError("must be a share up to 100%, a number of files, or none")

    @property
    def zipped(self) -> bool:
        """Whether the subset is one zip file."""
        return self.archive == "zip"

    @pydantic.model_validator(mode="after")
    def _fit_for_archive(self) -> Target:
        for key, fitting in (("format", ("yolo",)), ("images", ("copy", "none")), ("yaml", ("portable", "cloud"))):
            if self.zipped and getattr(self, key) not in fitting:
                raise ValueError(f"a zip is not made with {key}: {getattr(self, key)}; set it to {fitting[0]}")
        return self


class IndexConfig(Section):
    """How the index is cut."""

    buckets: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        "auto", description="files a table; auto: a power of two with a few thousand images each"
    )


def _is_elsewhere(scheduler: str) -> bool:
    """Whether ``engine.scheduler`` names an address, a scheduler file or the folder of a queue."""
    return "://" in scheduler or "/" in scheduler or scheduler.endswith(".json")


class EngineConfig(Section):
    """What runs the Dask tasks."""

    scheduler: str = Field(
        "auto",
        description="auto, sync, threads, processes, a Dask scheduler (tcp://, tls:// or its scheduler file), or the "
        "folder of a queue (file://)",
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field("auto", description="threads or processes")
    wait_workers: float = Field(300, gt=0, description="seconds that a scheduler may be without any worker")
    performance_report: UserPath | None = Field(None, description="HTML file for what a Dask scheduler saw of the run")

    @property
    def elsewhere(self) -> bool:
        """Whether the scheduler has workers of its own: an address, a scheduler file or the folder of a queue."""
        return _is_elsewhere(self.scheduler)

    @pydantic.field_validator("scheduler")
    @classmethod
    def _known(cls, value: str) -> str:
        known = ("auto", "sync", "threads", "processes")
        if value not in known and not _is_elsewhere(value):
            raise ValueError(unknown("scheduler", value, [*known, "tcp://…"]))
        if value not in known and (why := unexpanded(value)) is not None:
            raise ValueError(why)
        if is_signed(value):
            raise ValueError(
                "the address of a Dask scheduler has no login; remove it, and use tls:// with certificates"
            )
        return value


class Archive(Section):
    """A file that can be fetched: where it is, what it holds, and what it is checked by."""

    url: str = Field(description="http(s)://, or any URL that fsspec knows")
    size: int | None = Field(None, ge=0, description="bytes")
    sha256: str | None = Field(None, pattern=SHA256, description="hexadecimal digest")
    md5: str | None = Field(None, pattern=MD5, description="hexadecimal digest")
    task: Task | None = Field(None, description="it holds the labels of this task")
    split: Split | None = Field(None, description="it holds the images of this split")
    unpack: dict[str, str] = Field(
        default_factory=dict, description="for --extract: folder in the archive: folder below source.root"
    )


class Fetch(Section):
    """Downloads, and images that are elsewhere."""

    folder: UserPath = Field("downloads", description="where archives go that the source does not name by path")
    mirror: UserPath | None = Field(
        None, description="a folder or URL with all archives under their names, read instead"
    )
    connections: int = Field(4, ge=1, le=64, description="at most so many at once: the host is somebody's")
    bytes_per_second: int | None = Field(None, ge=1, description="null: no limit")
    requests_per_second: float | None = Field(None, gt=0, description="null: no limit")
    timeout: float = Field(60, gt=0, description="seconds that a transfer may stall")
    archives: dict[str, Archive] = Field(default_factory=dict, description="file name: what it is")


def _how_many(value: object) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


class Config(Section):
    """One subset: its source or sources, its classes, its target."""

    source: Annotated[
        Annotated[Source, pydantic.Tag("one")] | Annotated[list[Source], pydantic.Tag("several")],
        pydantic.Discriminator(_how_many),
    ] = Field(description="one collection, or a list of them, each with a name; classes are aligned by name")
    fetch: Fetch = Field(
        default_factory=lambda: Fetch.model_validate({}), description="what can be downloaded, and how"
    )
    classes: str | list[str | ClassEntry] | None = Field(
        None, description="classes of the subset, the order gives the ids; or the path of a names YAML; null: all"
    )
    select: Select = Field(
        default_factory=lambda: Select.model_validate({}), description="which rows and images are taken"
    )
    split: SplitShares | None = Field(None, description="null: the source's own splits")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, one or more, by the order of their keys."""
        found = self.source if isinstance(self.source, list) else [self.source]
        return tuple(sorted(found, key=lambda source: f"{source.name}/"))

    @pydantic.field_validator("source")
    @classmethod
    def _own_names(cls, value: Source | list[Source]) -> Source | list[Source]:
        names = [source.name for source in value] if isinstance(value, list) else ["one"]
        if not names:
            raise ValueError("the list is empty; name at least one source")
        if again := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two sources are called {again!r}; give each a `name` of its own, as in `name: mine`")
        return value

    target: Target = Field(description="the subset: where it goes, and in which layout")
    index: IndexConfig = Field(
        default_factory=lambda: IndexConfig.model_validate({}), description="how the index is cut"
    )
    engine: EngineConfig = Field(
        default_factory=lambda: EngineConfig.model_validate({}), description="what runs the work"
    )
    runs: Runs = Field(default_factory=lambda: Runs.model_validate({}), description="the records of runs")
    hooks: Hooks = Field(
        default_factory=lambda: Hooks.model_validate({}), description="commands that a build runs; never the exit code"
    )
    on_error: Literal["fail", "skip"] = Field("fail", description="bad rows and files: stop, or count, list, leave out")
    workdir: UserPath = Field(
        "work", min_length=1, description="index, plans and runs; never the source, never the target"
    )

    #: What the recipe is called: the config file's name without its ending, or the command that has none.
    _name: str | None = pydantic.PrivateAttr(None)

    #: Where its keys were written.
    _written: Written = pydantic.PrivateAttr(default_factory=lambda: Written("config", None, ()))

    @property
    def written(self) -> Written:
        """Where its keys were written, for sentences about them."""
        return self._written

    @property
    def name(self) -> str | None:
        """What the recipe is called, see `validate`."""
        return self._name


class Runs(Section):
    """The records of runs."""

    keep: int = Field(
        30,
        ge=1,
        description="so many stay (at a store up to a third more), among them the last success and the last failure",
    )


_Argument = Annotated[str, Field(min_length=1)]

_Command = Annotated[list[_Argument], Field(min_length=1)]


class Hooks(Section):
    """Commands that a build runs, each a list of program and arguments; no shell reads them."""

    start: _Command | None = Field(None, description="when a build begins")
    success: _Command | None = Field(None, description="after a build that was done, or had nothing to do")
    failure: _Command | None = Field(None, description="after any other")
    changed: _Command | None = Field(None, description="after a success that changed the target")
