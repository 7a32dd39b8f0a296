"""The command line on a scene in the inbox, with a champion from the registry: a partition that the UI shows."""

import json

import dagster as dg
import pystac
import pytest
import rasterio
from dagster._core.instance import InstanceRef

from cloud_assets.tracking import Tracker
from cloud_assets_tests.end_to_end.workplace import Workplace
from cloud_assets_tests.orchestration.scene_place import make_champions, write_scene
from cloud_assets_tests.scenes.fakes import make_bundle

CONFIG = """
ops:
  scenes__scene_products:
    config: {window: 128, back_end: torch, device: cpu, products: [mask, probability, validity, coverage]}
loggers:
  progress: {}
"""


@pytest.fixture(scope="module")
def place(workplace: Workplace) -> Workplace:
    tracker = Tracker(f"sqlite:///{workplace.folder}/mlflow/mlflow.db")
    make_champions(tracker, workplace.folder / "trainings", make_bundle(variant="unet"))
    return workplace


def test_a_partition_by_the_command_line(place: Workplace) -> None:
    scene = write_scene(place.folder / "data" / "inbox", 1)
    partition = json.dumps({"dagster/partition": scene.name})
    printed = place.run([*place.job("scene_products", CONFIG), "--tags", partition])
    assert "yet: scenes go without." in printed
    assert f"{scene.name}: made" in printed
    folder = place.folder / "data" / "scenes" / scene.stem
    item = pystac.Item.from_file(str(folder / "stac_item.json"))
    assert {"mask", "probability", "validity", "coverage"} <= item.assets.keys()
    with rasterio.open(folder / "mask.tif") as mask, rasterio.open(scene) as original:
        assert (mask.crs, mask.transform, mask.shape) == (original.crs, original.transform, original.shape)
    key = dg.AssetKey(["scenes", "scene_products"])
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(place.folder / ".dagster"))) as instance:
        assert instance.get_dynamic_partitions("scenes") == [scene.name]
        assert instance.get_materialized_partitions(key) == {scene.name}
    assert place.materialisation("scenes", "scene_products").partition == scene.name
