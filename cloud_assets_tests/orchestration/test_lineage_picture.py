"""The picture of a lineage: every asset is in it, and everything stands to the right of what it is made from."""

from xml.etree import ElementTree

import pytest

from cloud_assets.orchestration.common.lineage_picture import lineage_svg
from cloud_assets.orchestration.lineage.lineage import lineage
from cloud_assets.tasks import ALL_TASKS
from cloud_assets.tasks.task import Task

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_every_asset_is_drawn_and_arrows_lead_to_the_right(task: Task) -> None:
    picture = ElementTree.fromstring(lineage_svg(task))
    names = [text.text for text in picture.iter(f"{SVG}text")]
    keys = [spec.key.path[1:] for asset in lineage(task) for spec in asset.specs]
    assert sorted(name for name in names if name) == sorted(part for key in keys for part in key)
    curves = [path.attrib["d"].replace("M", "").replace("C", "").split() for path in picture.iter(f"{SVG}path")]
    assert len(curves) > len(keys)
    for curve in curves:
        assert float(curve[0].split(",")[0]) < float(curve[-1].split(",")[0])
