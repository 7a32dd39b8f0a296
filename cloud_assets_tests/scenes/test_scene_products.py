import json
import re
from itertools import pairwise

import numpy as np
import pystac
import pytest
import rasterio
from filelock import FileLock
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW
from cloud_assets.errors import AlreadyRunning, InvalidData, InvalidScene, NoModelForProduct
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_scene
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.scenes.production import scene_products
from cloud_assets_tests.imagery.layouts import RESOLUTION, write_landsat, write_safe
from cloud_assets_tests.imagery.test_scene_reader import corrupt
from cloud_assets_tests.scenes.fakes import (
    RGBN,
    bright_is_cloud,
    cloudy_reflectance,
    landsat_dn,
    make_bundle,
    write_geotiff,
)

SMALL = SceneOptions(window=128, overlap=32)
HEIGHT, WIDTH = 300, 420


@pytest.fixture(scope="module")
def reflectance():
    values = cloudy_reflectance(HEIGHT, WIDTH)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    values[:, (rows + 3 * columns < 250) | (rows > 0.2 * columns + 260)] = 0
    return values


@pytest.fixture(scope="module")
def dn(reflectance):
    return np.where(reflectance > 0, landsat_dn(reflectance), 0).astype(np.uint16)


@pytest.fixture
def scene(dn, tmp_path):
    return write_geotiff(tmp_path / "in" / "LC08_L1TP_193028_20230615_20230615_02_T1.tif", dn)


@pytest.fixture
def made(scene, make_models, tmp_path):
    return predict_scene(make_models(), scene, tmp_path / "out", SMALL)


def read(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


def expected_mask(dn):
    brightness = (dn * 2e-5 - 0.1).mean(axis=0)
    return np.where((dn != 0).any(axis=0), (brightness >= 0.3).astype(np.uint8), 255)


def test_every_product_is_a_cloud_optimised_geotiff_on_the_scenes_grid(made, scene):
    assert set(made.files) == {"mask", "probability", "validity", "coverage", "quicklook", "page", "stac"}
    with rasterio.open(scene) as original:
        for product in ("mask", "probability", "validity"):
            is_valid, errors, warnings = cog_validate(made.paths[product], strict=True)
            assert is_valid, (errors, warnings)
            with rasterio.open(made.paths[product]) as raster:
                assert (raster.crs, raster.transform, raster.shape) == (
                    original.crs,
                    original.transform,
                    original.shape,
                )
                tags = raster.tags()
                assert (
                    tags["CLOUD_ASSETS_MODELS"]
                    == "landsat_segmentation/brightness " + made.models["landsat_segmentation/brightness"]
                )
                assert tags["TIFFTAG_SOFTWARE"].startswith("cloud-assets ")
    with rasterio.open(made.paths["mask"]) as raster:
        assert raster.nodata == 255
        assert raster.colormap(1)[1] == (255, 255, 255, 255)
        assert raster.descriptions == ("cloud class",)


def test_large_products_have_overviews(make_models, tmp_path):
    path = write_geotiff(tmp_path / "big.tif", np.full((4, 1100, 600), 20_000, np.uint16))
    models = make_models()
    made = predict_scene(models, path, tmp_path / "out", SceneOptions(window=512), instrument="landsat8_l1")
    with rasterio.open(made.paths["mask"]) as raster:
        assert raster.overviews(1) == [2, 4]


def test_the_mask_is_the_models_and_nodata_stays_untouched(made, dn):
    mask = read(made.paths["mask"])
    expected = expected_mask(dn)
    is_close_call = np.abs((dn * 2e-5 - 0.1).mean(axis=0) - 0.3) < 1e-4
    np.testing.assert_array_equal(mask[~is_close_call], expected[~is_close_call])
    np.testing.assert_array_equal(mask == 255, (dn == 0).all(axis=0))


def test_masks_grow_by_the_outline_of_the_card_on_disk_as_in_memory(dn, make_models, tmp_path):
    own = make_bundle()
    points = {
        name: {"threshold": 0.5, "precision": 0.9, "recall": 0.9, "measured_on": "fakes", "outline_metres": outline}
        for name, outline in (("balanced", 70.0), ("strict", 0.0))
    }
    grown = own.with_card(details={**own.card.details, "outline_metres": 70.0, "operating_points": points})
    wide = np.tile(dn, (1, 2, 2))  # several blocks of a raster
    path = write_geotiff(tmp_path / "wide.tif", wide)

    def mask(point):
        options = SMALL.model_copy(update={"operating_point": point})
        models = make_models(grown, options=options)
        on_disk = predict_scene(models, path, tmp_path / f"{point}", options, instrument="landsat8_l1")
        in_memory = predict_array(models, wide, RGBN, instrument="landsat8_l1", options=options)["mask"]
        np.testing.assert_array_equal(read(on_disk.paths["mask"]), in_memory)
        return in_memory

    plain = mask("strict")
    rows, columns = np.mgrid[-2:3, -2:3]
    expected = ndimage.binary_dilation(plain == 1, np.hypot(rows, columns) <= 70 / 30)
    np.testing.assert_array_equal(mask(None), np.where(plain == 255, 255, expected))
    np.testing.assert_array_equal(mask("balanced"), mask(None))
    assert 0 < (plain == 1).sum() < expected[plain != 255].sum()


def test_the_probability_is_a_percentage_that_agrees_with_the_mask(made, dn):
    percent, mask = read(made.paths["probability"]), read(made.paths["mask"])
    np.testing.assert_array_equal(percent == 255, mask == 255)
    assert percent[mask == 1].min() >= 50
    assert percent[mask == 0].max() <= 50
    brightness = (dn * 2e-5 - 0.1).mean(axis=0)
    expected = 100 / (1 + np.exp(-20 * (brightness - 0.3)))
    np.testing.assert_allclose(percent[mask != 255], expected[mask != 255], atol=0.6)


def test_the_validity_mask_keeps_its_distance_from_clouds_but_not_from_the_scenes_edge(made, dn):
    mask = read(made.paths["mask"])
    distance = ndimage.distance_transform_edt(mask != 1)
    expected = (mask == 0) & (distance > 150 / 30)
    np.testing.assert_array_equal(read(made.paths["validity"]).astype(bool), expected)
    assert made.statistics["usable_fraction"] == pytest.approx(expected.mean())


def test_coverage_is_counted_cell_by_cell(made, dn):
    mask = read(made.paths["mask"])
    with rasterio.open(made.paths["coverage"]) as raster:
        classes, percentage = raster.read()
        assert raster.transform.a == 30 * 256
    assert classes.shape == (2, 2)
    for row in range(2):
        for column in range(2):
            cell = mask[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
            share = 100 * (cell == 1).sum() / (cell != 255).sum()
            assert percentage[row, column] == pytest.approx(share, abs=0.51)
            assert classes[row, column] == np.digitize(share, [25, 50, 75])


def test_statistics_count_the_observed_pixels_only(made):
    mask = read(made.paths["mask"])
    seen = mask[mask != 255]
    assert made.statistics["cloud_percentage"] == pytest.approx(100 * (seen == 1).mean())
    assert made.statistics["clear_percentage"] == pytest.approx(100 * (seen == 0).mean())
    assert made.statistics["valid_fraction"] == pytest.approx((mask != 255).mean())
    assert "thin_cloud_percentage" not in made.statistics


def test_the_stac_item_is_valid_and_says_what_is_in_the_files(made):
    item = pystac.Item.from_file(str(made.paths["stac"]))
    urls = list(item.stac_extensions)
    # The extensions' schemas are on the network; the core's come with pystac.
    item.stac_extensions = []
    item.validate()
    assert [url.split("/")[3] for url in urls] == ["projection", "processing", "eo", "classification"]
    assert item.properties["eo:cloud_cover"] == pytest.approx(made.statistics["cloud_percentage"], abs=1e-3)
    assert item.datetime.isoformat() == "2023-06-15T00:00:00+00:00"
    assert item.properties["processing:software"].keys() == {"cloud-assets", "landsat_segmentation/brightness"}
    mask = item.assets["mask"]
    assert mask.href == "./mask.tif"
    assert [(entry["value"], entry["name"]) for entry in mask.extra_fields["classification:classes"]] == [
        (0, "clear"),
        (1, "cloud"),
    ]
    assert mask.extra_fields["proj:code"] == "EPSG:32633"
    assert mask.extra_fields["proj:shape"] == [HEIGHT, WIDTH]
    west, _, east, north = item.bbox
    assert west == pytest.approx(15.0, abs=0.01)
    assert north == pytest.approx(41.55, abs=0.01)
    assert east - west == pytest.approx(WIDTH * 30 / 111_320 / np.cos(np.radians(41.5)), rel=0.02)
    ring = item.geometry["coordinates"][0]
    assert ring[0] == ring[-1]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
    assert area > 0, "outlines run against the clock"


def test_the_page_shows_every_product_without_other_files(made):
    page = made.paths["page"].read_text(encoding="utf-8")
    assert page.count("<img") == 5
    assert page.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=\"https?://", page)
    for product in ("mask", "probability", "validity", "coverage"):
        assert f'href="{product}.tif"' in page
    with rasterio.open(made.paths["quicklook"]) as picture:
        assert picture.count == 4
        assert picture.shape == (HEIGHT, WIDTH)
        assert picture.read(4).max() == 255
        assert (picture.read(4) == 0).sum() > 1000


def test_only_finished_files_are_in_the_folder(made, tmp_path):
    assert {path.name for path in made.directory.iterdir()} == {*made.files.values(), "products.json"}
    assert SceneProducts.open(made.directory).statistics == pytest.approx(made.statistics)


def test_finished_products_are_kept_until_scene_model_or_options_change(made, scene, dn, make_models, tmp_path):
    out = tmp_path / "out"
    again = predict_scene(make_models(), scene, out, SMALL)
    assert not again.is_new
    assert again.fingerprint == made.fingerprint
    assert predict_scene(make_models(), scene, out, SceneOptions(window=96, overlap=32)).is_new
    assert predict_scene(make_models(), scene, out, SMALL).is_new
    assert not predict_scene(make_models(), scene, out, SceneOptions(window=128, overlap=32, back_end="torch")).is_new
    write_geotiff(scene, np.minimum(dn, 20_000))
    changed = predict_scene(make_models(), scene, out, SMALL)
    assert changed.is_new
    assert predict_scene(make_models(), scene, out, SceneOptions(window=128, overlap=32, overwrite=True)).is_new


def test_products_that_lost_a_file_are_made_again(made, scene, make_models, tmp_path):
    made.paths["mask"].unlink()
    assert predict_scene(make_models(), scene, tmp_path / "out", SMALL).is_new
    assert made.paths["mask"].exists()


def test_another_scene_of_the_same_name_does_not_replace_products(made, dn, scene, make_models, tmp_path):
    other = write_geotiff(tmp_path / "elsewhere" / scene.name, dn)
    before = made.paths["mask"].read_bytes()
    with pytest.raises(InvalidScene, match="another scene of the same name"):
        predict_scene(make_models(), other, tmp_path / "out", SMALL)
    assert made.paths["mask"].read_bytes() == before
    replaced = predict_scene(
        make_models(), other, tmp_path / "out", SceneOptions(window=128, overlap=32, overwrite=True)
    )
    assert replaced.source == str(other)


def test_a_scene_that_another_process_works_on_is_left_alone(scene, make_models, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / f".{scene.stem}.lock"), pytest.raises(AlreadyRunning, match="another process"):
        predict_scene(make_models(), scene, tmp_path / "out", SMALL)


def test_what_a_killed_process_left_is_removed_and_nothing_else(scene, make_models, tmp_path):
    out = tmp_path / "out"
    left_over = out / f".{scene.stem}-a1b2c3d4"
    others = [out / f".{scene.stem}-2-a1b2c3d4", out / "folder", out / f"{scene.stem}-a1b2c3d4"]
    for folder in (left_over, *others):
        (folder / "scratch").mkdir(parents=True)
    predict_scene(make_models(), scene, out, SMALL)
    assert not left_over.exists()
    assert all(folder.exists() for folder in others)


def test_a_corrupt_block_fails_the_scene_and_leaves_the_old_products(dn, make_models, tmp_path):
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    path = write_geotiff(tmp_path / "a.tif", dn, **options)
    models = make_models()
    old = predict_scene(models, path, tmp_path / "out", SMALL, instrument="landsat8_l1")
    before = old.paths["mask"].read_bytes()
    corrupt(path, 200, 200)
    with pytest.raises(InvalidData, match=r"a\.tif: rows \d+-\d+, columns \d+-\d+ cannot be read"):
        predict_scene(models, path, tmp_path / "out", SMALL, instrument="landsat8_l1")
    assert old.paths["mask"].read_bytes() == before
    assert [entry.name for entry in (tmp_path / "out").iterdir() if entry.is_dir()] == ["a"]


def test_a_failing_model_leaves_nothing(scene, make_models, tmp_path):
    def fails(pixels):
        raise ArithmeticError("the network failed")

    with pytest.raises(ArithmeticError):
        predict_scene(make_models(logits=fails), scene, tmp_path / "out", SMALL)
    assert [entry for entry in (tmp_path / "out").iterdir() if entry.is_dir()] == []


def test_without_a_reference_system_products_are_in_pixels_and_say_so(dn, make_models, tmp_path):
    path = write_geotiff(tmp_path / "a.tif", dn, crs=None)
    made = predict_scene(make_models(), path, tmp_path / "out", SMALL, instrument="landsat8_l1")
    with rasterio.open(made.paths["mask"]) as raster:
        assert raster.crs is None
        assert "no coordinate reference system" in raster.tags()["CLOUD_ASSETS_WARNINGS"]
    mask = read(made.paths["mask"])
    np.testing.assert_array_equal(read(made.paths["validity"]) == 1, mask == 0)
    item = json.loads(made.paths["stac"].read_text())
    assert item["geometry"] is None
    assert "bbox" not in item


def test_a_scene_without_a_valid_pixel_gives_nodata_products(make_models, tmp_path):
    path = write_geotiff(tmp_path / "a.tif", np.zeros((4, 200, 150), np.uint16))
    made = predict_scene(make_models(), path, tmp_path / "out", SMALL, instrument="landsat8_l1")
    assert (read(made.paths["mask"]) == 255).all()
    assert (read(made.paths["validity"]) == 0).all()
    assert (read(made.paths["coverage"]) == 255).all()
    assert any("no valid pixel" in warning for warning in made.warnings)
    assert "eo:cloud_cover" not in json.loads(made.paths["stac"].read_text())["properties"]


def test_only_the_products_asked_for_are_made(scene, make_models, tmp_path):
    options = SceneOptions(window=128, overlap=32, products=("validity",))
    made = predict_scene(make_models(), scene, tmp_path / "out", options)
    assert set(made.files) == {"validity", "quicklook", "page", "stac"}
    assert not (made.directory / "mask.tif").exists()


@pytest.mark.parametrize(
    ("product", "message"),
    [("anomaly", "no anomaly model was given"), ("cloud_free", "needs a Sentinel-1 scene")],
)
def test_a_product_that_nobody_can_make_is_refused_before_anything_is_computed(
    scene, make_models, tmp_path, product, message
):
    options = SceneOptions(window=128, overlap=32, products=("mask", product))
    with pytest.raises(NoModelForProduct, match=message):
        predict_scene(make_models(), scene, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_missing_band_and_the_wrong_level_are_refused(dn, reflectance, make_models, tmp_path):
    three = write_geotiff(tmp_path / "rgb.tif", dn[:3], RGBN[:3])
    with pytest.raises(InvalidData, match=r"B5 \(nir\)"):
        predict_scene(make_models(), three, tmp_path / "out", SMALL, instrument="landsat8_l1")
    bands = dict(zip(("B04", "B03", "B02", "B08"), reflectance[:, :60, :60], strict=True))
    surface = write_safe(tmp_path, bands, level="L2A")
    with pytest.raises(InvalidScene, match="surface"):
        predict_scene(make_models(), surface, tmp_path / "out", SMALL)


def test_a_sentinel2_product_is_masked_by_a_landsat_model(reflectance, make_models, tmp_path):
    bands = dict(zip(("B04", "B03", "B02", "B08"), reflectance, strict=True))
    assert all(RESOLUTION[name] == 10 for name in bands)
    made = predict_scene(make_models(), write_safe(tmp_path, bands), tmp_path / "out", SMALL)
    valid = (reflectance > 0).any(axis=0)
    brightness = reflectance.mean(axis=0)
    expected = np.where(valid, (brightness >= 0.3).astype(np.uint8), 255)
    is_close_call = np.abs(brightness - 0.3) < 2e-4
    np.testing.assert_array_equal(read(made.paths["mask"])[~is_close_call], expected[~is_close_call])


def test_a_coarser_resolution_gives_coarser_products(scene, dn, make_models, tmp_path):
    options = SceneOptions(window=128, overlap=32, resolution_metres=60.0)
    made = predict_scene(make_models(), scene, tmp_path / "out", options)
    with rasterio.open(made.paths["mask"]) as raster:
        assert raster.shape == (HEIGHT // 2, WIDTH // 2)
        assert raster.transform.a == 60
    fine = (
        expected_mask(dn)
        .reshape(HEIGHT // 2, 2, WIDTH // 2, 2)
        .transpose(0, 2, 1, 3)
        .reshape(HEIGHT // 2, WIDTH // 2, 4)
    )
    coarse = read(made.paths["mask"])
    is_uniform = (fine == fine[..., :1]).all(axis=-1)
    assert (coarse[is_uniform] == fine[is_uniform, 0]).mean() > 0.999


def test_models_are_loaded_once_for_many_scenes(dn, make_models, tmp_path):
    models = make_models()
    first = None
    for name in ("a", "b"):
        source = open_scene(write_geotiff(tmp_path / f"{name}.tif", dn[:, :100, :100]), instrument="landsat8_l1")
        scene_products(source, models, tmp_path / "out", SMALL)
        predictor = models.predictor("segmentation", source)
        assert first is None or predictor is first
        first = predictor


def test_progress_counts_every_pixel_once(scene, make_models, tmp_path):
    pixels = []
    source = open_scene(scene)
    scene_products(source, make_models(logits=bright_is_cloud), tmp_path / "out", SMALL, progress=pixels.append)
    assert sum(pixels) == HEIGHT * WIDTH


def dark_is_shadow(pixels):
    """(N, C, H, W) reflectance -> (N, 4, H, W) logits: bright is thick cloud, dark is shadow."""
    brightness = pixels.mean(axis=1)
    clear = np.zeros_like(brightness)
    return np.stack([clear, (brightness - 0.3) * 200, clear - 20, (0.05 - brightness) * 200], axis=1)


@pytest.mark.parametrize("is_on", [True, False])
def test_dark_water_far_from_clouds_is_no_shadow_where_the_sun_is_known(make_models, tmp_path, is_on):
    side = 400
    ground = np.full((side, side), 0.15)
    ground[150:170, 200:220] = 0.7  # a cloud, and its shadow away from the morning sun
    ground[140:150, 185:200] = ground[120:140, 20:40] = 0.02  # the latter is a pond
    scene = write_landsat(tmp_path, dict.fromkeys(("B2", "B3", "B4", "B5"), ground), sun_elevation=58.0)
    models = make_models(
        make_bundle(instrument="landsat8_toa", classes=tuple(CLASS_NAMES.values())), logits=dark_is_shadow
    )
    made = predict_scene(models, scene, tmp_path / "out", SMALL.model_copy(update={"shadow_geometry": is_on}))
    mask = read(made.paths["mask"])
    assert (mask[142:148, 187:198] == CLOUD_SHADOW).all()
    assert (mask[122:138, 22:38] == (CLEAR if is_on else CLOUD_SHADOW)).all()
    assert made.statistics["cloud_shadow_percentage"] == pytest.approx(100 * (mask == CLOUD_SHADOW).mean())
    assert made.statistics.get("doubted_shadow_percentage", 0) == pytest.approx(0.25 if is_on else 0, abs=0.01)
    assert (read(made.paths["validity"])[122:138, 22:38] == (1 if is_on else 0)).all()
