"""The library as a notebook uses it: public names, what stands for a config, reports that print, names of classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import pipeline
from pipeline.base.errors import ConfigError
from tests.conftest import Subset
from tests.support.helpers import NAMES


def test_a_prompt_offers_the_public_names_alone() -> None:
    import pipeline.api  # loads dozens of submodules, which are attributes from then on

    assert set(dir(pipeline)) == set(pipeline.__all__)


def test_a_config_is_a_path_or_keys_or_itself(own_subset: Subset) -> None:
    path = own_subset.config
    keys = yaml.safe_load(path.read_text())
    keys["engine"] = {"scheduler": "sync"}
    plans = [pipeline.plan(what).data for what in (str(path), Path(path), keys, pipeline.load_config(path))]
    assert all(plan == plans[0] for plan in plans)
    assert pipeline.build(keys).data["status"] == "built"
    with pytest.raises(pipeline.CocoDiyError, match=r"^config: target\.imges|unknown key 'target.imges'"):
        pipeline.plan(keys | {"target": {**keys["target"], "imges": "copy"}})


def test_a_report_prints_as_its_command_does(own_subset: Subset) -> None:
    report = pipeline.plan(own_subset.config)
    told = own_subset.command("plan")
    assert str(report).endswith(told.out.rstrip("\n"))
    assert repr(report) == "<Report of plan: exit code 0>"
    page = report._repr_html_()
    assert page.startswith("<pre>")
    assert "<" not in page.removeprefix("<pre>").removesuffix("</pre>")


def test_an_index_opened_by_a_config_has_names_of_classes(subset: Subset) -> None:
    pipeline.make_index(subset.config)
    index = pipeline.open_index(subset.config)
    frame = index.annotations.compute(scheduler="sync")
    assert len(frame) > 0
    assert frame["label"].tolist() == [NAMES[number] for number in frame["class_id"].tolist()]
    assert index.annotations.dtypes["label"] == frame.dtypes["label"]
    assert index.directory == pipeline.open_index(str(subset.workdir)).directory
    with pytest.raises(ConfigError, match="holds no index; make one with"):
        pipeline.open_index(str(subset.source))
