from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from cloud_assets.errors import InvalidData, InvalidRecipe, InvalidScene, UnknownBand
from cloud_assets.imagery.formats.names import safe_name, time_from_name
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window
from cloud_assets_tests.scenes.fakes import RGBN, write_geotiff

PIXELS = np.random.default_rng(0).integers(1, 60_000, (4, 20, 30)).astype(np.uint16)
WHOLE = Window(0, 0, 20, 30)


def test_bands_are_found_by_description_in_any_order(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS, ("nir", "B3", "Red", "B02"))
    source = open_scene(path, instrument="landsat8_l1")
    assert set(source.bands) == {"B5", "B3", "B4", "B2"}
    with source.open(["red", "green", "blue", "nir"]) as reader:
        np.testing.assert_array_equal(reader.read(WHOLE), PIXELS[[2, 1, 3, 0]])


def test_given_names_win_over_descriptions(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS, RGBN)
    source = open_scene(path, ["blue", "green", "red", "nir"], "landsat8_l1")
    with source.open(["red"]) as reader:
        np.testing.assert_array_equal(reader.read(WHOLE)[0], PIXELS[2])


def test_a_file_name_may_list_the_bands_and_tell_instrument_and_time(tmp_path):
    path = write_geotiff(tmp_path / "LC80130312015295LGN00_red_green_blue_nir_120m.tif", PIXELS, None)
    source = open_scene(path)
    assert source.instrument == "landsat8_l1"
    assert tuple(source.bands) == ("B4", "B3", "B2", "B5")
    assert source.acquired == datetime(2015, 10, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "crs", "is_known"),
    [
        ("S2A_MSIL1C_20240630T101010_N0510.tif", "EPSG:32633", True),
        ("S2A_MSIL1C_20240630T221010_N0510.tif", "EPSG:32633", False),  # night
        ("S2A_MSIL1C_20240630_N0510.tif", "EPSG:32633", False),  # no time of day
        ("S2A_MSIL1C_20240630T101010_N0510.tif", None, False),  # no place
    ],
)
def test_the_sun_is_known_by_time_and_place(tmp_path, name, crs, is_known):
    sun = open_scene(write_geotiff(tmp_path / name, PIXELS, RGBN, crs=crs)).sun
    assert (sun is not None) == is_known
    if sun is not None:  # half an hour before noon at 15 degrees east, 41.5 degrees north, a week after midsummer
        assert (sun.azimuth, sun.elevation) == pytest.approx((143.0, 68.0), abs=2.0)


def test_the_real_scene_is_understood_from_its_name(real_data):
    (path,) = (real_data / "scenes").glob("*.tif")
    source = open_scene(path)
    assert (source.instrument, source.grid.crs) == ("landsat8_l1", "EPSG:32618")
    with source.open(["red", "nir"]) as reader, rasterio.open(path) as raster:
        np.testing.assert_array_equal(
            reader.read(Window(100, 200, 50, 60)), raster.read([1, 4], window=((100, 150), (200, 260)))
        )


@pytest.mark.parametrize(
    ("name", "instrument"),
    [
        ("S2A_MSIL1C_20240131T101010_N0510_R022_T32TQM_20240131T121212", "sentinel2_l1c"),
        ("S2C_MSIL2A_20250131T101010_N0511_R022_T32TQM_20250131T121212", "sentinel2_l2a"),
        ("LC08_L1TP_193028_20230615_20230615_02_T1", "landsat8_l1"),
        ("LC09_L2SP_193028_20230615_20230615_02_T1", "landsat8_l2"),
    ],
)
def test_the_agencies_names_tell_the_instrument(tmp_path, name, instrument):
    assert open_scene(write_geotiff(tmp_path / f"{name}.tif", PIXELS)).instrument == instrument


def test_no_coordinate_reference_system_is_a_warning(tmp_path):
    source = open_scene(write_geotiff(tmp_path / "a.tif", PIXELS, crs=None), instrument="landsat8_l1")
    assert source.grid.crs is None
    assert source.pixel_metres is None
    assert "no coordinate reference system" in source.warnings[0]


def test_the_files_own_nodata_becomes_the_instruments(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, :3] = 9999
    pixels[:, 3:, :] = np.where(pixels[:, 3:, :] == 9999, 1, pixels[:, 3:, :])
    source = open_scene(write_geotiff(tmp_path / "a.tif", pixels, nodata=9999), instrument="landsat8_l1")
    with source.open(RGBN) as reader:
        dn = reader.read(WHOLE)
        assert not reader.valid(dn)[:3].any()
        assert reader.valid(dn)[3:].all()
    np.testing.assert_array_equal(dn[:, 3:], pixels[:, 3:])


def test_a_mask_inside_the_file_is_nodata(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        write_geotiff(path, PIXELS, nodata=None)
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(np.arange(600).reshape(20, 30) >= 300)
    with open_scene(path, instrument="landsat8_l1").open(["red"]) as reader:
        dn = reader.read(WHOLE)
    assert (dn[0, :10] == 0).all()
    np.testing.assert_array_equal(dn[0, 10:], PIXELS[0, 10:])


def test_signed_files_and_scale_tags_come_out_as_the_profiles_numbers(tmp_path):
    """Some archives keep Sentinel-2 as signed numbers, -9999 for nodata, the baseline's offset in their tags."""
    pixels = np.array([[[-9999, 1000, 3500], [12_000, 1, 2000]]], np.int16)
    path = write_geotiff(tmp_path / "a.tif", pixels, ("B04",), nodata=-9999)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (1e-4,), (-0.1,)
    with open_scene(path, instrument="sentinel2_l1c").open(["red"]) as reader:
        dn = reader.read(Window(0, 0, 2, 3))
    # Reflectance of 0 and less stays the smallest valid number, never nodata.
    np.testing.assert_array_equal(dn, [[[0, 1, 2500], [11_000, 1, 1000]]])


def test_eight_bit_landsat_and_pictures(tmp_path):
    small = (PIXELS >> 8).astype(np.uint8)
    assert (
        open_scene(write_geotiff(tmp_path / "a.tif", small), instrument="landsat8_l1").instrument == "landsat8_l1_8bit"
    )
    with rasterio.open(tmp_path / "a.png", "w", driver="PNG", width=30, height=20, count=3, dtype="uint8") as raster:
        raster.write(small[:3])
    picture = open_scene(tmp_path / "a.png")
    assert picture.instrument == "rgb_8bit"
    with picture.open(["blue"]) as reader:
        np.testing.assert_array_equal(reader.read(WHOLE)[0], small[2])


@pytest.mark.parametrize(
    ("bands", "given", "error", "message"),
    [
        (None, None, InvalidScene, "which of its 4 bands"),
        (("a", "b", "c", "d"), None, InvalidScene, "which of its 4 bands"),
        (("red", "B4", "blue", "nir"), None, InvalidScene, "same name"),
        (None, ["red", "green"], InvalidScene, "4 bands, 2 names"),
        (None, ["red", "B4", "blue", "nir"], InvalidScene, "once"),
        (None, ["red", "green", "blue", "ultraviolet"], UnknownBand, "ultraviolet"),
    ],
)
def test_unnamed_and_misnamed_bands(tmp_path, bands, given, error, message):
    with pytest.raises(error, match=message):
        open_scene(write_geotiff(tmp_path / "a.tif", PIXELS, bands), given, "landsat8_l1")


def test_unknown_sensor_and_missing_band(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS)
    with pytest.raises(InvalidScene, match="which instrument"):
        open_scene(path)
    with pytest.raises(InvalidScene, match="no instrument 'spot'"):
        open_scene(path, instrument="spot")
    with pytest.raises(InvalidData, match=r"B6 \(swir16\)"):
        open_scene(path, instrument="landsat8_l1").open(["swir16"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_data_type_that_is_not_the_instruments(tmp_path, dtype):
    path = write_geotiff(tmp_path / "a.tif", np.ones((4, 5, 5), dtype))
    with pytest.raises(InvalidScene, match=f"holds {np.dtype(dtype).name}"):
        open_scene(path, instrument="sentinel2_l1c")


def test_radar_in_linear_power_is_told_from_decibels(tmp_path):
    decibels = np.random.default_rng(0).normal(-12, 3, (2, 30, 30)).astype(np.float32)
    decibels[:, :4] = np.nan
    path = write_geotiff(tmp_path / "db.tif", decibels, ("VV", "VH"), nodata=None)
    with open_scene(path, instrument="sentinel1_grd").open(["VV"]) as reader:
        assert not reader.valid(reader.read(Window(0, 0, 4, 30))).any()
    linear = write_geotiff(tmp_path / "linear.tif", 10 ** (decibels / 10), ("VV", "VH"), nodata=None)
    with pytest.raises(InvalidRecipe, match="10 \\* log10"):
        open_scene(linear, instrument="sentinel1_grd")


def test_files_that_are_no_scene(tmp_path):
    truncated = write_geotiff(tmp_path / "cut.tif", np.zeros((4, 200, 200), np.uint16) + 7)
    truncated.write_bytes(truncated.read_bytes()[:100_000])
    with pytest.raises(InvalidData, match=r"cut\.tif: .*truncated"):
        open_scene(truncated, instrument="landsat8_l1")
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(InvalidData, match=r"text\.tif"):
        open_scene(tmp_path / "text.tif", instrument="landsat8_l1")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InvalidScene, match="is no scene"):
        open_scene(tmp_path / "notes.txt")
    with pytest.raises(InvalidScene, match="does not exist"):
        open_scene(tmp_path / "missing.tif")


def test_a_virtual_raster_in_disguise_cannot_name_other_files(tmp_path):
    secret = write_geotiff(tmp_path / "secret.tif", PIXELS)
    (tmp_path / "scene.tif").write_text(
        f"""<VRTDataset rasterXSize="30" rasterYSize="20"><VRTRasterBand dataType="UInt16" band="1">
        <Description>red</Description><SimpleSource><SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand>
        </SimpleSource></VRTRasterBand></VRTDataset>"""
    )
    with pytest.raises(InvalidScene, match="VRT"):
        open_scene(tmp_path / "scene.tif", instrument="landsat8_l1")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "etc_passwd"),
        (".hidden", "hidden"),
        ("a b/c\\d:é", "a_b_c_d_é"),
        ("...", "scene"),
        ("x" * 500, "x" * 120),
        ("T32-TQM_2024.v1", "T32-TQM_2024.v1"),
    ],
)
def test_names_of_product_folders_are_harmless(name, safe):
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("S2B_MSIL1C_20240131T101010_N0510", datetime(2024, 1, 31, 10, 10, 10, tzinfo=UTC)),
        ("LC09_L1TP_193028_20230615_20230616_02_T1", datetime(2023, 6, 15, tzinfo=UTC)),
        ("LC80130312016366LGN00", datetime(2016, 12, 31, tzinfo=UTC)),
        ("HLS.S30.T33UUP.2024031T101010.v2.0", datetime(2024, 1, 31, 10, 10, 10, tzinfo=UTC)),
        ("field_99999999", None),
        ("field", None),
    ],
)
def test_times_in_file_names(name, time):
    assert time_from_name(name) == time


def test_zero_is_an_observation_where_numbers_may_be_negative(tmp_path):
    water = np.full((4, 20, 30), 300, np.int16)
    water[3] = np.arange(-10, 20)  # near infrared over dark water
    water[:, :5] = -9999
    path = write_geotiff(tmp_path / "HLS.L30.T33UUP.2024031T101010.v2.0.tif", water, nodata=-9999)
    source = open_scene(path, instrument="landsat8_l2")
    with source.open(RGBN) as reader:
        valid = reader.valid(reader.read(WHOLE))
    assert not valid[:5].any()
    assert valid[5:].all()


def test_a_virtual_raster_without_its_file_says_so(tmp_path):
    write_geotiff(tmp_path / "a.tif", PIXELS)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.vrt", driver="VRT")
    (tmp_path / "a.tif").unlink()
    with pytest.raises(InvalidData, match=r"a\.tif, which its pixels lie in, is missing"):
        open_scene(tmp_path / "a.vrt", instrument="landsat8_l1")
