"""A config as plain data: to mean the same in every folder, for the record, and as a digest of what it asks for."""

from __future__ import annotations

import json
import os
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from pipeline import formats, storage
from pipeline.base.redaction import is_signed, redact_data, redact_url
from pipeline.base.version import VERSION
from pipeline.job.job import marker_url
from pipeline.target.manifest import FOLDER
from pipeline.target.split_copy import COPY, unsign

if TYPE_CHECKING:
    from pipeline.base.classes import Names
    from pipeline.job.job import Job
    from pipeline.job.spec import SplitSpec


#: Keys of `select` that name files.
LISTS = ("images", "exclude_images")


def portable_config(job: Job) -> dict[str, Any]:
    """The config as plain data that means the same in every working directory of this machine."""
    data = job.config.model_dump(mode="json", by_alias=True)
    data.pop("hooks")  # a subset travels: it brings neither commands nor what may be secret in them
    entries = data["source"] if isinstance(data["source"], list) else [data["source"]]
    sources = {s.source.name: s for s in job.sources}
    for source in entries:
        spec = sources[source["name"]].spec
        whole = formats.load(spec.format).WHOLE
        if source["names"] is not None:
            source["names"] = storage.local_path(source["names"])
        source["splits"] = {
            s.split: {"annotations" if whole else "labels": _portable_labels(s), "images": _portable_images(s)}
            | ({"captions": s.captions} if s.captions else {})
            | ({"image_list": list(s.image_lists)} if s.image_lists else {})
            for s in spec.splits
        }
        if source["root"] is not None:  # links that lead out of it are counted, and no target is in it
            source["root"] = storage.locate(source["root"]).url
        if source["marker"] is not None:
            source["marker"] = marker_url(sources[source["name"]].source)
    data["target"]["root"], data["workdir"] = job.root, job.workdir
    # All other URLs are refused where they have a login; these are for `fetch` alone, and a subset travels.
    data["fetch"], data["engine"] = redact_data(data["fetch"]), redact_data(data["engine"])
    if job.split_table is not None:
        data["split"]["table"] = job.split_table
    for key in LISTS:
        if data["select"][key] is not None:
            data["select"][key] = storage.local_path(data["select"][key])
    if isinstance(data["classes"], str):
        data["classes"] = storage.local_path(data["classes"])
    return data


def decisive(config: dict[str, Any]) -> dict[str, Any]:
    """A portable config without the keys that decide about no file of the subset."""
    dropped = ("workdir", "engine", "index", "fetch", "runs")
    entries = config["source"] if isinstance(config["source"], list) else [config["source"]]
    sources = [{key: value for key, value in source.items() if key != "root"} for source in entries]
    target = {key: value for key, value in config["target"].items() if key != "max_delete"}
    for key, usual in (("report", False), ("layout", "default"), ("flat", False)):
        if target.get(key) == usual:
            del target[key]
    others = {key: value for key, value in config.items() if key not in dropped}
    return {**others, "source": sources if isinstance(config["source"], list) else sources[0], "target": target}


def recorded_config(job: Job) -> dict[str, Any]:
    """The config as the record of the subset has it: what decides about the files, but not where on a machine."""
    config = decisive(portable_config(job))
    config["target"].pop("root")
    for source in config["source"] if isinstance(config["source"], list) else [config["source"]]:
        source.pop("marker")
    if config["split"] is not None:
        config["split"].pop("table")
    for source in config["source"] if isinstance(config["source"], list) else [config["source"]]:
        if source["links"] == "follow":  # decides about no file; to refuse them stops a build, so that is one anew
            source.pop("links")
    if not job.several:
        # It is in no path then. A list of one is as good as that one.
        config["source"] = config["source"][0] if isinstance(config["source"], list) else config["source"]
        config["source"].pop("name")
    found: dict[str, Any] = _without_folders(config)
    return found


def _without_folders(value: Any) -> Any:
    """`value` without nulls, and of each path the last part: its folder is this machine's affair."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if not isinstance(value, str):
        return value
    within, chain, path = value.rpartition("::")
    if os.path.isabs(path):
        return within + chain + os.path.basename(path.rstrip("/"))
    return redact_url(value) if is_signed(value) else value


def _split_table_content(job: Job) -> str | None:
    if job.split_table is None:
        return None
    folder, name = os.path.split(job.split_table)
    content = storage.locate(folder).read(name)
    if content is None and job.config.split is not None and job.config.split.stratify:  # lost: the target has a copy
        content = unsign(job.target.own(FOLDER).read(COPY) or b"")
    return content.decode(errors="replace") if content is not None else None


def recipe(job: Job) -> str:
    """Digest of everything in the config that decides about the files of the subset.

    Names that the sources themselves have are no part of it: what the sources are decides about those.
    """
    from pipeline.base.digest import digest_of

    parts: list[Any] = [
        VERSION,
        [[s.spec.digest(), *_facts(s.file_names)] for s in job.sources],
        None if job.specs is None else [astuple(spec) for spec in job.specs],
        recorded_config(job),
        job.root if job.config.target.yaml != "portable" else "",
        _split_table_content(job),
        [_list_content(path) for key in LISTS if (path := getattr(job.config.select, key)) is not None],
    ]
    return digest_of(json.dumps(parts, sort_keys=True).encode()).hex()


def _list_content(path: str) -> str | None:
    """What changes with a list of images; None where it is not there, which is said when it is read."""
    from pipeline.base.digest import digest_of

    folder, name = os.path.split(storage.local_path(path))
    content = storage.locate(folder).read(name)
    return digest_of(content).hex() if content is not None else None


def _portable_labels(split: SplitSpec) -> str | list[str]:
    return [split.labels, *split.further] if split.further else split.labels


def _portable_images(split: SplitSpec) -> str | dict[str, str] | None:
    if split.suffix is None or split.images is None:
        return split.images
    return {"url": split.images, "suffix": split.suffix}


def _facts(names: Names | None) -> list[Any]:
    if names is None:
        return []
    by_class = [sorted(facts.items()) for facts in (names.kpt_names, names.supercategories)]
    by_class += [sorted(names.ancestors.items())] if names.ancestors else []
    return [names.names, names.kpt_shape, names.flip_idx, *by_class]
