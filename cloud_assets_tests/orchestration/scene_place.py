"""An inbox with small scenes, and a registry with champions."""

from pathlib import Path

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.tracking import Tracker
from cloud_assets_tests.scenes.fakes import cloudy_reflectance, landsat_dn, write_geotiff

_NAME = "LC08_L1TP_193028_2023061{}_20230615_02_T1.tif"
_BLOCKS = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


def write_scene(inbox: Path, number: int, height: int = 140, width: int = 200) -> Path:
    """Writes a Landsat scene with bright spots and an edge without pixels."""
    dn = landsat_dn(cloudy_reflectance(height, width, seed=number))
    dn[:, :, :20] = 0
    return write_geotiff(inbox / _NAME.format(number), dn, **_BLOCKS)


def make_champions(tracker: Tracker, workspace: Path, *bundles: ModelBundle) -> None:
    """Registers models as the champions of their tasks."""
    for bundle in bundles:
        folder = workspace / bundle.card.task / bundle.version
        folder.mkdir(parents=True, exist_ok=True)
        version = tracker.register(tracker.publish(folder, bundle), bundle, {})
        tracker.set_alias(bundle.card.task, "champion", version.version)
