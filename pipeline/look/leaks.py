"""Images that are in more than one split or source: a model that is tested on what it learned measures too much."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.base.terms import SPLITS
from pipeline.config.model import Config
from pipeline.images.hashes import image_hashes
from pipeline.job.made_subset import has_several, remembered_config
from pipeline.look.bucket import read_images
from pipeline.look.numbers import viewing
from pipeline.look.view import View, open_view
from pipeline.runtime.progress import Progress
from pipeline.stages.select.shared_images import SharedImages, shared_images
from pipeline.stages.verify.status import target_at

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.reports.documents import LeaksReport

#: Images are near that differ in so many bits at most.
BITS = 3

#: An image takes as long as so many label files.
_FILES_AN_IMAGE = 20

#: So many pairs are listed at most; all are counted.
_MOST = 10_000


def leaks(
    what: str | Config, workdir: str, progress: Progress | None = None, engine: Mapping[str, Any] | None = None
) -> LeaksReport:
    """Pairs of equal and near images in two splits or two sources, of a config, a target or any dataset folder.

    Of a target they are its images as they are there; where it has none, or was not built yet, those of its sources.
    Their hashes are cached in the index (`images.hashes`). `workdir` and `engine` are as in `open_view`.
    """
    import pyarrow as pa

    progress = progress or Progress()
    view, sources_in_paths = _view(what, workdir, progress, engine or {})
    tasks = [(bucket,) for bucket in range(view.buckets)]
    files = _FILES_AN_IMAGE * view.images
    with progress.stage("hash", view.images) as step, viewing(view, files) as run:
        parts = []
        for part in run.map(functools.partial(hash_bucket, view, sources_in_paths), tasks, files=files):
            parts.append(part)
            step.add(part.num_rows)
    images = pa.concat_tables(parts).sort_by([("path", "ascending"), ("group", "ascending")]).combine_chunks()
    return _report(view.kind, images, shared_images(images, BITS, _MOST))


def _view(what: str | Config, workdir: str, progress: Progress, engine: Mapping[str, Any]) -> tuple[View, bool]:
    """The view of whose images are compared, and whether the first folder of their paths is their source."""
    root = what.target.root if isinstance(what, Config) else what
    target = target_at(root)
    if target is None or target.made.config["target"]["images"] != "none":
        several = target is not None and has_several(target.made)
        return open_view(root if target is not None else what, workdir, progress, engine), several
    config = what if isinstance(what, Config) else remembered_config(root, *target, "--leaks")
    return open_view(config, workdir, progress, engine), False


def hash_bucket(view: View, sources_in_paths: bool, bucket: int) -> pa.Table:
    """The images of one bucket of a view: path, split, source, group (both of them), hash and digest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    images = read_images(view, bucket, ["key", "split", "image_path"])
    images = images.filter(images["image_path"].is_valid()).combine_chunks()
    keys, names = images["key"].to_pylist(), images["image_path"].to_pylist()
    paths: list[str] = [""] * len(keys)
    for origin, here in view.origins.by_origin(keys):
        join = origin.location.join
        for i in here:
            paths[i] = join(names[i])
    sources = [(name if sources_in_paths else key).split("/", 1)[0] for name, key in zip(names, keys, strict=True)]
    groups = [
        f"{SPLITS.index(split)}/{source}" for split, source in zip(images["split"].to_pylist(), sources, strict=True)
    ]
    parts = [
        image_hashes(
            source.index_dir, bucket, view.origins, images.filter(pc.starts_with(images["key"], source.prefix))
        )
        for source in view.sources
    ]
    hashes = pa.concat_tables(parts)
    return pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "split": images["split"],
            "source": pa.array(sources, pa.string()),
            "group": pa.array(groups, pa.string()),
            "hash": hashes["hash"],
            "digest": hashes["digest"],
        }
    )


def _report(kind: str, images: pa.Table, found: SharedImages) -> LeaksReport:
    """What `leaks` finds, as ``--json`` prints it."""
    import pyarrow.compute as pc

    paths, splits, sources = (images[name].to_pylist() for name in ("path", "split", "source"))
    unread = images["digest"].null_count

    def both(of: list[str], first: int, second: int) -> list[str]:
        return [of[first], of[second]]

    groups = {name: pc.index(images["group"], name).as_py() for pair in found.counts for name in pair}
    return {
        "of": kind,
        "bits": BITS,
        "images": images.num_rows - unread,
        "damaged": images["hash"].null_count - unread,
        "unread": unread,
        "equal": sum(equal for equal, _ in found.counts.values()),
        "near": sum(near for _, near in found.counts.values()),
        "between": [
            {
                "splits": both(splits, groups[first], groups[second]),
                "sources": both(sources, groups[first], groups[second]),
                "equal": equal,
                "near": near,
            }
            for (first, second), (equal, near) in found.counts.items()
        ],
        "listed": [
            {
                "first": paths[pair.first],
                "second": paths[pair.second],
                "splits": both(splits, pair.first, pair.second),
                "sources": both(sources, pair.first, pair.second),
                "distance": pair.distance,
                "equal": pair.equal,
            }
            for pair in found.pairs
        ],
    }
