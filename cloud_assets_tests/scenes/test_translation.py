from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cloud_assets.errors import InvalidRecipe
from cloud_assets.prediction.predictor import load_predictor
from cloud_assets.scenes.scene_formats import open_scene
from cloud_assets.scenes.translation import translate_scene
from cloud_assets_tests.prediction.test_translation import make_bundle


def write_radar(path: Path, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-22, -4, (2, height, width)).astype(np.float32)
    pixels[:, :7, :30] = np.nan
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "height": height, "width": width}
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_300_000, 10, 10), "nodata": np.nan}
    with rasterio.open(path, "w", **profile, **place) as raster:
        raster.write(pixels)
        raster.set_band_description(1, "VV")
        raster.set_band_description(2, "VH")
    return pixels


def test_tiled_is_as_whole(tmp_path: Path) -> None:
    pixels = write_radar(tmp_path / "radar.tif", 150, 203)
    predictor = load_predictor(make_bundle())
    source = open_scene(tmp_path / "radar.tif", instrument="sentinel1_grd")
    translate_scene(source, predictor, tmp_path / "made.tif", window=128, overlap=96)
    whole = predictor.predict(pixels[None])["reflectance"][0]
    with rasterio.open(tmp_path / "made.tif") as made, rasterio.open(tmp_path / "radar.tif") as radar:
        assert (made.crs, made.transform, made.shape) == (radar.crs, radar.transform, radar.shape)
        assert made.descriptions == ("B04 (red)", "B03 (green)", "B02 (blue)", "B08 (nir)")
        reflectance = made.read()
    np.testing.assert_array_equal(np.isnan(reflectance), np.isnan(whole))
    inside = np.s_[:, 50:100, 50:150]
    np.testing.assert_allclose(reflectance[inside], whole[inside], atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.tif", "radar.tif"]


def test_an_optical_scene_is_refused(tmp_path: Path) -> None:
    write_radar(tmp_path / "radar.tif", 64, 64)
    source = replace(open_scene(tmp_path / "radar.tif", instrument="sentinel1_grd"), instrument="sentinel2_l1c")
    with pytest.raises(InvalidRecipe, match="Give a Sentinel-1 scene"):
        translate_scene(source, load_predictor(make_bundle()), tmp_path / "made.tif")
