from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window
from cloud_assets_tests.scenes.fakes import RGBN, landsat_dn, write_geotiff

PIXELS = np.random.default_rng(0).integers(1, 60_000, (4, 90, 70)).astype(np.uint16)


def corrupt(path, row: int, column: int) -> None:
    """Overwrites the compressed bytes of the block that holds a pixel."""
    with rasterio.open(path) as raster:
        height, width = raster.block_shapes[0]
        x, y = column // width, row // height
        offset = int(raster.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1))
        size = int(raster.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)


def test_windows_past_the_border_are_mirrored(tmp_path):
    source = open_scene(write_geotiff(tmp_path / "a.tif", PIXELS), instrument="landsat8_l1")
    with source.open(RGBN) as reader:
        found = reader.read(Window(-10, 45, 40, 40))
    expected = np.pad(PIXELS, ((0, 0), (10, 0), (0, 15)), mode="reflect")[:, :40, 45:85]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2)])
def test_scenes_of_a_few_pixels_fill_any_window(tmp_path, size):
    pixels = PIXELS[:, : size[0], : size[1]]
    source = open_scene(write_geotiff(tmp_path / "a.tif", pixels), instrument="landsat8_l1")
    with source.open(["red"]) as reader:
        found = reader.read(Window(-16, -16, 48, 48))
    assert found.shape == (1, 48, 48)
    assert set(found.ravel()) == set(pixels[0].ravel())
    np.testing.assert_array_equal(found[0, 16 : 16 + size[0], 16 : 16 + size[1]], pixels[0])


def test_a_corrupt_block_is_named_with_its_window_and_the_rest_stays_readable(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 60_000, (1, 256, 256)).astype(np.uint16)
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    path = write_geotiff(tmp_path / "a.tif", pixels, ("red",), **options)
    corrupt(path, 100, 200)
    with open_scene(path, instrument="landsat8_l1").open(["red"]) as reader:
        np.testing.assert_array_equal(reader.read(Window(0, 0, 60, 256)), pixels[:, :60])
        with pytest.raises(InvalidData, match=r"rows 70-129, columns 150-249 cannot be read from .*a\.tif"):
            reader.read(Window(70, 150, 60, 100))


def test_a_coarser_grid_holds_the_means_of_its_pixels(tmp_path):
    pixels = PIXELS[:, :80, :60].copy()
    pixels[:, :8] = 0
    source = open_scene(write_geotiff(tmp_path / "a.tif", pixels), instrument="landsat8_l1").at_resolution(60.0)
    assert (source.grid.height, source.grid.width) == (40, 30)
    assert source.pixel_metres == pytest.approx(60)
    with source.open(["red", "nir"]) as reader:
        found = reader.read(Window(0, 0, 40, 30))
    means = pixels[[0, 3]].reshape(2, 40, 2, 30, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(found[:, 4:], means[:, 4:], atol=0.51)
    assert (found[:, :4] == 0).all()


def test_a_resolution_that_is_finer_or_unknown_is_refused(tmp_path):
    source = open_scene(write_geotiff(tmp_path / "a.tif", PIXELS), instrument="landsat8_l1")
    with pytest.raises(InvalidScene, match="30 m"):
        source.at_resolution(10)
    plain = open_scene(write_geotiff(tmp_path / "b.tif", PIXELS, crs=None), instrument="landsat8_l1")
    with pytest.raises(InvalidScene, match="coordinate reference system"):
        plain.at_resolution(60)


def test_pixels_in_degrees_are_measured_at_their_latitude(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS, crs="EPSG:4326", metres=0.001, corner=(10.0, 60.0))
    metres = open_scene(path, instrument="landsat8_l1").pixel_metres
    assert metres == pytest.approx(111.3, abs=0.2)


def test_radar_is_brought_to_the_optical_grid(tmp_path):
    rows, columns = np.mgrid[:60, :60]
    ramp = (-25 + 0.2 * columns + 0.1 * rows).astype(np.float32)
    path = write_geotiff(tmp_path / "s1.tif", np.stack([ramp, ramp - 6]), ("VV", "VH"), metres=20, nodata=None)
    radar = open_scene(path, instrument="sentinel1_grd")
    _, _, left, _, _, top = radar.grid.transform
    shifted = Grid(40, 40, radar.grid.crs, (10.0, 0.0, left + 100, 0.0, -10.0, top - 200))
    with replace(radar, grid=shifted).open(["VV"]) as reader:
        found = reader.read(Window(5, 5, 20, 20))[0]
    # A plane stays a plane under bilinear resampling.
    y, x = np.mgrid[5:25, 5:25]
    expected = -25 + 0.2 * ((100 + (x + 0.5) * 10) / 20 - 0.5) + 0.1 * ((200 + (y + 0.5) * 10) / 20 - 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_two_grids_without_reference_systems_cannot_be_brought_together(tmp_path):
    path = write_geotiff(tmp_path / "s1.tif", -PIXELS[:2].astype(np.float32), ("VV", "VH"), crs=None, nodata=None)
    radar = open_scene(path, instrument="sentinel1_grd")
    with pytest.raises(InvalidScene, match="their relative position is unknown"):
        replace(radar, grid=Grid(20, 20, "EPSG:32632", (10, 0, 0, 0, -10, 0))).open(["VV"])


def test_thumbnails_are_small_and_of_the_whole_scene(tmp_path):
    pixels = np.repeat(np.repeat(np.arange(1, 17).reshape(4, 4), 100, axis=0), 100, axis=1).astype(np.uint16)
    source = open_scene(write_geotiff(tmp_path / "a.tif", pixels[np.newaxis], ("red",)), instrument="landsat8_l1")
    with source.open(["red"]) as reader:
        assert reader.thumbnail(40).shape == (1, 40, 40)
        np.testing.assert_array_equal(reader.thumbnail(4)[0], np.arange(1, 17).reshape(4, 4))


def test_a_band_of_a_real_38_cloud_patch_names_the_whole_patch(real_data):
    from cloud_assets.datasets.cloud38 import Cloud38

    scene = Cloud38().catalog(real_data, progress=False).scenes[0]
    source = open_scene(Path(scene.bands["B3"].path))
    assert source.instrument == scene.instrument
    with source.open(RGBN) as reader:
        whole = reader.read(Window(0, 0, source.grid.height, source.grid.width))
    np.testing.assert_array_equal(whole, scene.read(RGBN))


def test_landsat_numbers_of_the_fakes_are_those_of_the_profile(tmp_path):
    reflectance = np.random.default_rng(0).uniform(0, 1, (4, 10, 10))
    source = open_scene(write_geotiff(tmp_path / "a.tif", landsat_dn(reflectance)), instrument="landsat8_l1")
    with source.open(RGBN) as reader:
        found = source.profile.to_physical(reader.read(Window(0, 0, 10, 10)))
    np.testing.assert_allclose(found, reflectance, atol=2e-5)


def test_blocks_that_rows_of_windows_share_are_kept_within_the_memory_given(tmp_path):
    pixels = np.ones((4, 40, 640), np.uint16)
    rows = write_geotiff(tmp_path / "rows.tif", pixels)
    tiles = write_geotiff(tmp_path / "tiles.tif", pixels, tiled=True, blockxsize=256, blockysize=256)

    def kept(path: Path, limit: int) -> int:
        source = replace(open_scene(path, instrument="landsat8_l1"), cache_bytes=limit)
        with source.open(RGBN):
            return int(rasterio.env.getenv()["GDAL_CACHEMAX"])

    with rasterio.Env(GDAL_CACHEMAX=7_000_000):
        a_row = 640 * pixels.itemsize * len(pixels)
        assert kept(tiles, 20_000_000) == 2_000_000 + (768 + 256) * a_row
        assert 2_000_000 + 768 * a_row < kept(rows, 20_000_000) < 2_000_000 + (768 + 40) * a_row
        assert kept(rows, 3_000_000) == 3_000_000
        assert int(rasterio.env.getenv()["GDAL_CACHEMAX"]) == 7_000_000


def test_a_scene_of_tiles_that_is_too_wide_for_the_memory_is_read_in_strips(tmp_path):
    pixels = np.ones((4, 40, 6400), np.uint16)
    rows = write_geotiff(tmp_path / "rows.tif", pixels)
    tiles = write_geotiff(tmp_path / "tiles.tif", pixels, tiled=True, blockxsize=256, blockysize=256)

    def strip(path: Path, limit: int) -> float:
        with replace(open_scene(path, instrument="landsat8_l1"), cache_bytes=limit).open(RGBN) as reader:
            return reader.strip

    column = (768 + 256) * pixels.itemsize * len(pixels)
    enough = 6400 * column
    assert strip(tiles, enough * 10 // 9 + 1) == np.inf
    found = strip(tiles, enough * 9 // 10)
    assert 2 * 768 <= found <= 3200
    assert (found + 2 * 256) * column <= enough * 0.81
    # A strip of rows that are stored whole is read as slowly as all of them.
    assert strip(rows, enough // 10) == np.inf


def test_a_damaged_band_file_takes_only_its_window_along(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 60_000, (4, 256, 256)).astype(np.uint16)
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    for name, band in zip(("B4", "B3", "B2", "B5"), pixels, strict=True):
        write_geotiff(tmp_path / "scene" / f"scene_{name}.tif", band[None], None, **options)
    corrupt(tmp_path / "scene" / "scene_B3.tif", 100, 200)
    with open_scene(tmp_path / "scene", instrument="landsat8_l1").open(RGBN) as reader:
        for _ in range(3):
            with pytest.raises(InvalidData, match=r"rows 70-129, columns 150-249 cannot be read from .*_B3\.tif"):
                reader.read(Window(70, 150, 60, 100))
            np.testing.assert_array_equal(reader.read(Window(0, 0, 60, 256)), pixels[:, :60])
