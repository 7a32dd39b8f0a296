"""Folders of pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.datasets.image_folders import ImageFolders
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe, NoUsablePatches

DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff", ".TIFF": "GTiff", ".jpeg": "JPEG"}


@pytest.fixture
def folder(tmp_path: Path, raster: Callable[..., Path]) -> Path:
    """Ten cloud-free pictures of all kinds and sizes, two cloudy ones."""
    rng = np.random.default_rng(0)
    place = tmp_path / "cloud-anomaly"
    for number in range(10):
        suffix = list(DRIVERS)[number % len(DRIVERS)]
        pixels = rng.integers(0, 255, (3, 16 + number, 24)).astype(np.uint8)
        raster(place / "noncloud" / f"meadow_{number // 2}_{number}{suffix}", pixels, driver=DRIVERS[suffix])
    for number in range(2):
        pixels = rng.integers(200, 255, (3, 20, 20)).astype(np.uint8)
        raster(place / "cloud" / f"sky_{number}.png", pixels, driver="PNG")
    return place


def catalog(folder: Path, **options: object) -> SceneCatalog:
    return ImageFolders(**options).catalog(folder.parent, progress=False)  # type: ignore[arg-type]


def test_the_folder_is_the_label_and_any_size_and_kind_is_read(folder: Path) -> None:
    found = catalog(folder)
    assert found.summary()["labels"] == {"cloud": 2, "noncloud": 10}
    assert {scene.read(["red", "green", "blue"]).shape for scene in found if scene.label == "noncloud"} == {
        (3, 16 + number, 24) for number in range(10)
    }
    assert found.scenes[0].instrument == "rgb_8bit"
    assert len({scene.group for scene in found}) == 12


def test_groups_can_be_read_off_the_names(folder: Path) -> None:
    groups = {scene.group for scene in catalog(folder, group_pattern=r"^([a-z]+_\d)_") if scene.label == "noncloud"}
    assert groups == {f"meadow_{number}" for number in range(5)}
    assert len({scene.group for scene in catalog(folder, group_pattern="^[a-z]+")}) == 2
    with pytest.raises(InvalidRecipe, match="a regular expression"):
        catalog(folder, group_pattern="(")


def test_grey_and_four_channel_pictures_become_rgb(folder: Path, raster: Callable[..., Path]) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (4, 10, 12)).astype(np.uint8)
    raster(folder / "noncloud" / "grey.png", pixels[:1], driver="PNG")
    raster(folder / "noncloud" / "grey_alpha.png", pixels[:2], driver="PNG")
    raster(folder / "noncloud" / "rgba.png", pixels, driver="PNG")
    found = catalog(folder)
    scenes = {Path(scene.scene_id).name: scene for scene in found}
    bands = ["red", "green", "blue"]
    np.testing.assert_array_equal(scenes["grey.png"].read(bands), pixels[[0, 0, 0]])
    np.testing.assert_array_equal(scenes["grey_alpha.png"].read(bands), pixels[[0, 0, 0]])
    np.testing.assert_array_equal(scenes["rgba.png"].read(bands), pixels[:3])
    assert "fourth is dropped" in str(scenes["rgba.png"].attributes["channels"])
    assert "1 pictures: four channels, the fourth is dropped." in found.notes


def test_a_constant_picture_is_flagged_but_kept(folder: Path, raster: Callable[..., Path]) -> None:
    raster(folder / "noncloud" / "flat.png", np.full((3, 9, 9), 255, np.uint8), driver="PNG")
    found = catalog(folder)
    flat = next(scene for scene in found if "flat" in scene.scene_id)
    assert "constant" in flat.attributes
    assert sum("constant" in scene.attributes for scene in found) == 1
    assert "Pictures of one single colour: noncloud/flat.png." in found.notes


def test_files_that_are_no_usable_pictures_are_skipped_with_their_reasons(
    folder: Path, raster: Callable[..., Path], truncate: Callable[..., None]
) -> None:
    noise = np.random.default_rng(2).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    for name, driver in (("cut.png", "PNG"), ("cut.jpg", "JPEG"), ("cut.tif", "GTiff")):
        truncate(raster(folder / "noncloud" / name, noise, driver=driver), 0.7)
    (folder / "cloud" / "notes.txt").write_text("no picture")
    (folder / "cloud" / "page.png").write_text("<html>")
    raster(folder / "cloud" / "sixteen.tif", noise.astype(np.uint16))
    raster(folder / "cloud" / "many.tif", np.repeat(noise, 2, axis=0))
    palette = raster(folder / "cloud" / "palette.tif", noise[0], photometric="palette")
    import rasterio

    with rasterio.open(palette, "r+") as file:
        file.write_colormap(1, {value: (value, 0, 0, 255) for value in range(256)})
    (folder / "cloud" / ".hidden").write_text("left alone")
    with pytest.raises(InvalidData, match="8 of 20"):
        catalog(folder)
    found = catalog(folder, max_skipped_fraction=0.5)
    reasons = {Path(item.item).name: item.reason for item in found.skipped}
    assert len(found) == 12
    for name in ("cut.png", "cut.jpg", "cut.tif", "page.png"):
        assert name in reasons[name]
        assert "truncated" in reasons[name]
    assert "no picture of a known kind" in reasons["notes.txt"]
    assert "uint16" in reasons["sixteen.tif"]
    assert "6 channels" in reasons["many.tif"]
    assert "colour table" in reasons["palette.tif"]
    assert len(reasons) == 8


def test_too_few_normal_pictures_are_an_error_with_a_way_out(folder: Path) -> None:
    next((folder / "noncloud").glob("*.png")).unlink()
    with pytest.raises(
        NoUsablePatches, match=r"holds 9 usable picture\(s\) without clouds, at least 10.*minimum_normal"
    ):
        catalog(folder)
    assert len(catalog(folder, minimum_normal=9)) == 11


@pytest.mark.parametrize("name", ["noncloud", "cloud"])
def test_an_empty_or_missing_folder_is_named(folder: Path, name: str) -> None:
    for file in (folder / name).iterdir():
        file.unlink()
    with pytest.raises(DataNotFound, match=rf"{name}/ is empty.*{name}"):
        catalog(folder)
    (folder / name).rmdir()
    with pytest.raises(DataNotFound, match=rf"{name}/ is not there"):
        catalog(folder)


def test_a_split_list_names_files_without_their_folder(folder: Path) -> None:
    (folder / "splits.csv").write_text("name,split\nsky_0,test\nmeadow_0_0.png,train\n")
    splits = {scene.scene_id: scene.split for scene in catalog(folder) if scene.split}
    assert splits == {"noncloud/meadow_0_0.png": "train", "cloud/sky_0.png": "test"}


def test_the_real_pictures(real_data: Path) -> None:
    found = ImageFolders(minimum_normal=8).catalog(real_data, progress=False)
    there = {label: len(list((real_data / "cloud-anomaly" / label).glob("*.png"))) for label in ("cloud", "noncloud")}
    assert found.summary()["labels"] == there
    constant = {scene.scene_id for scene in found if "constant" in scene.attributes}
    assert "noncloud/SnowIce_00_1415.png" in constant  # bright snow, white throughout at 8 bits
