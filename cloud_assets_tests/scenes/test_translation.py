import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

from cloud_assets.command_line import app
from cloud_assets.errors import InvalidRecipe, NoModelForProduct
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.scenes.planning import SceneModels, SceneOptions, plan_scene
from cloud_assets.scenes.prediction import predict_array, predict_scene
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets_tests.prediction.test_translation import make_bundle
from cloud_assets_tests.scenes.fakes import make_bundle as make_segmenter
from cloud_assets_tests.scenes.fakes import write_geotiff

NAMES = ("B04 (red)", "B03 (green)", "B02 (blue)", "B08 (nir)")


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
    bundle = make_bundle()
    options = SceneOptions(window=128, overlap=32, device="cpu")
    made = predict_scene(bundle, tmp_path / "radar.tif", tmp_path / "out", options, instrument="sentinel1_grd")
    whole = predict_array(bundle, pixels, options=options)["reflectance"]
    with rasterio.open(made.paths["optical"]) as optical:
        reflectance = optical.read()
    np.testing.assert_array_equal(np.isnan(reflectance), np.isnan(whole))
    # Far from the edges of the windows, which reach 67 pixels past the middle of their overlap.
    np.testing.assert_allclose(reflectance[:, 20:40, 40:50], whole[:, 20:40, 40:50], atol=1e-3)


def test_the_command_makes_reflectance_of_a_radar_scene_alone(tmp_path: Path) -> None:
    pixels = write_radar(tmp_path / "place_s1.tif", 150, 203)
    make_bundle().save(tmp_path / "model")
    arguments = ["predict", str(tmp_path / "place_s1.tif"), "--out", str(tmp_path / "out")]
    arguments += ["--model", str(tmp_path / "model"), "--products", "optical", "--window", "128"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "predicted from radar: no pixel of it was observed" in result.output
    made = SceneProducts.open(tmp_path / "out" / "place_s1")
    assert set(made.files) == {"optical", "quicklook", "page", "stac"}
    with rasterio.open(made.paths["optical"]) as optical, rasterio.open(tmp_path / "place_s1.tif") as radar:
        assert (optical.crs, optical.transform, optical.shape) == (radar.crs, radar.transform, radar.shape)
        assert optical.descriptions == NAMES
        assert optical.dtypes == ("float32",) * 4
        assert re.match("sar_to_optical/tiny [0-9a-f]+", optical.tags()["CLOUD_ASSETS_MODELS"])
        assert "predicted from radar" in optical.tags()["CLOUD_ASSETS_WARNINGS"]
        reflectance = optical.read()
    np.testing.assert_array_equal(np.isnan(reflectance), np.broadcast_to(np.isnan(pixels[0]), reflectance.shape))
    assert 0 <= np.nanmin(reflectance) < np.nanmax(reflectance) <= 1
    assert made.paths["page"].read_text(encoding="utf-8").count("<img") == 2


def test_what_is_possible_follows_from_the_scene(tmp_path: Path) -> None:
    write_radar(tmp_path / "place_s1.tif", 64, 64)
    radar = open_scene(tmp_path / "place_s1.tif")
    dn = np.full((4, 64, 64), 9000, np.uint16)
    optical = open_scene(write_geotiff(tmp_path / "optical.tif", dn), instrument="landsat8_l1")
    models = SceneModels([make_bundle(), make_segmenter()])
    assert plan_scene(radar, models, SceneOptions()).products == ("optical",)
    assert "optical" not in plan_scene(optical, models, SceneOptions()).products
    with pytest.raises(NoModelForProduct, match="holds top of atmosphere reflectance already"):
        plan_scene(optical, models, SceneOptions(products=("optical",)))
    with pytest.raises(InvalidRecipe):
        plan_scene(radar, models, SceneOptions(products=("mask",)))
    with pytest.raises(NoModelForProduct, match="no translation model was given"):
        plan_scene(radar, SceneModels([make_segmenter()]), SceneOptions())
