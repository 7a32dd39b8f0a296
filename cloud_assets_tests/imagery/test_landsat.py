import shutil
import tarfile
from datetime import UTC, datetime

import numpy as np
import pytest

from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.landsat import read_metadata
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window
from cloud_assets_tests.imagery.layouts import LANDSAT, write_landsat

WHOLE = Window(0, 0, 40, 50)


@pytest.fixture(scope="module")
def reflectance():
    rng = np.random.default_rng(0)
    bands = {f"B{number}": rng.uniform(0.01, 0.9, (40, 50)) for number in (2, 3, 4, 5)}
    for values in bands.values():
        values[:, :7] = 0
    return {**bands, "B8": rng.uniform(0.01, 0.9, (80, 100))}


@pytest.fixture(scope="module")
def scene(reflectance, tmp_path_factory):
    return write_landsat(tmp_path_factory.mktemp("landsat"), reflectance)


@pytest.mark.parametrize("level", ["L1TP", "L2SP"])
def test_reflectance_comes_out_at_both_levels(reflectance, tmp_path, level):
    bands = {name: reflectance[name] for name in ("B2", "B4", "B5")}
    source = open_scene(write_landsat(tmp_path, bands, level=level))
    assert source.instrument == ("landsat8_toa" if level == "L1TP" else "landsat8_l2")
    with source.open(["red", "nir"]) as reader:
        dn = reader.read(WHOLE)
        valid = reader.valid(dn)
    np.testing.assert_array_equal(valid, reflectance["B4"] > 0)
    expected = np.stack([reflectance["B4"], reflectance["B5"]])
    np.testing.assert_allclose(source.profile.to_physical(dn)[:, valid], expected[:, valid], atol=3e-5)


@pytest.mark.parametrize("metadata", ["txt", "xml", "json"])
@pytest.mark.parametrize("level", ["L1TP", "L2SP"])
def test_all_forms_of_the_metadata_say_the_same(reflectance, tmp_path, level, metadata):
    bands = {name: reflectance[name] for name in ("B2", "B4")}
    text = open_scene(write_landsat(tmp_path / "text", bands, level=level))
    other = open_scene(write_landsat(tmp_path / metadata, bands, level=level, metadata=metadata))
    assert (other.name, other.instrument, other.acquired) == (text.name, text.instrument, text.acquired)
    assert {name: (band.scale, band.offset) for name, band in other.bands.items()} == {
        name: (band.scale, band.offset) for name, band in text.bands.items()
    }


@pytest.mark.parametrize(
    ("satellite", "level", "collection", "instrument"),
    [
        ("LANDSAT_5", "L1TP", 2, "landsat_tm_toa"),
        ("LANDSAT_5", "L2SP", 2, "landsat_tm_l2"),
        ("LANDSAT_5", "L1TP", 1, "landsat_tm_toa"),
        ("LANDSAT_5", "L1T", 0, "landsat_tm_toa"),
        ("LANDSAT_7", "L1TP", 2, "landsat_etm_toa"),
        ("LANDSAT_7", "L2SP", 2, "landsat_etm_l2"),
        ("LANDSAT_8", "L1GT", 1, "landsat8_toa"),
        ("LANDSAT_8", "L1T", 0, "landsat8_toa"),
    ],
)
def test_satellites_and_collections(reflectance, tmp_path, satellite, level, collection, instrument):
    bands = {name: reflectance[name] for name in ("B2", "B3", "B4")}
    source = open_scene(write_landsat(tmp_path, bands, level=level, satellite=satellite, collection=collection))
    assert source.instrument == instrument
    with source.open(["B3", "B4"]) as reader:
        dn = reader.read(WHOLE)
        valid = reader.valid(dn)
    np.testing.assert_array_equal(valid, reflectance["B4"] > 0)
    expected = np.stack([reflectance["B3"], reflectance["B4"]])[:, valid]
    step = 1 / 255 if satellite < "LANDSAT_8" and level.startswith("L1") else 2e-5
    np.testing.assert_allclose(source.profile.to_physical(dn)[:, valid], expected, atol=0.67 * step + 5e-5)


def test_a_folder_of_several_scenes_is_several_scenes(reflectance, tmp_path):
    bands = {"B4": reflectance["B4"]}
    darker = {"B4": reflectance["B4"] / 2}
    for number, (values, level) in enumerate([(bands, "L1TP"), (darker, "L1TP"), (bands, "L2SP")]):
        scene = write_landsat(tmp_path / "apart", values, level=level, name=f"LC09_{level}_19302{number}_20230615")
        shutil.copytree(scene, tmp_path / "together", dirs_exist_ok=True)
    folder = tmp_path / "together"
    with pytest.raises(InvalidScene, match="holds 3 scenes"):
        open_scene(folder)
    files = sorted(folder.glob("*_MTL.txt"))
    sources = [open_scene(file) for file in files]
    assert [source.name for source in sources] == [file.name.removesuffix("_MTL.txt") for file in files]
    assert [source.instrument for source in sources] == ["landsat8_toa", "landsat8_toa", "landsat8_l2"]
    means = []
    for source in sources[:2]:
        with source.open(["red"]) as reader:
            dn = reader.read(WHOLE)
            means.append(source.profile.to_physical(dn)[:, reader.valid(dn)].mean())
    assert means[0] == pytest.approx(2 * means[1], rel=1e-3)


@pytest.mark.parametrize("suffix", [".tar", "of the folder .tar", ".zip"])
def test_archives_are_read_where_they_lie(reflectance, tmp_path, suffix):
    folder = write_landsat(tmp_path / "unpacked", {name: reflectance[name] for name in ("B2", "B4")})
    path = tmp_path / f"{LANDSAT}{suffix.rpartition(' ')[2]}"
    path.write_bytes(b"so far")  # it is still being copied
    with pytest.raises((InvalidData, InvalidScene), match="Download it again"):
        open_scene(path)
    if suffix == "of the folder .tar":
        with tarfile.open(path, "w") as archive:
            archive.add(folder, ".")  # tar -cf … -C folder .
    elif suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.add(file, file.name)  # USGS archives have no top folder
    else:
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)
    source = open_scene(path)
    assert source.name == LANDSAT
    with source.open(["B4"]) as archived, open_scene(folder).open(["B4"]) as unpacked:
        np.testing.assert_array_equal(archived.read(WHOLE), unpacked.read(WHOLE))


@pytest.mark.parametrize("elevation", [7.0, 15.0, 60.0, 90.0])
def test_level_1_is_corrected_for_the_height_of_the_sun_and_can_be_read_without(reflectance, tmp_path, elevation):
    bands = {name: reflectance[name] for name in ("B4", "B5")}
    source = open_scene(write_landsat(tmp_path, bands, sun_elevation=elevation))
    expected, valid = np.stack(list(bands.values())), bands["B4"] > 0
    factor = np.sin(np.radians(elevation))
    for read, factor_left in (
        (source, 1.0),
        (source.read_as("landsat8_l1"), factor),
        (source.read_as("landsat8_l2"), 1.0),
    ):
        with read.open(["red", "nir"]) as reader:
            found = read.profile.to_physical(reader.read(WHOLE))
        np.testing.assert_allclose(found[:, valid], expected[:, valid] * factor_left, atol=2e-5 + 1.1e-5 / factor)
    assert source.read_as("landsat8_l1").instrument == "landsat8_l1"


BEFORE_2012 = """GROUP = L1_METADATA_FILE
  GROUP = METADATA_FILE_INFO
    ORIGIN = "Image courtesy of the U.S. Geological Survey"
    PRODUCT_CREATION_TIME = 2010-06-13T06:15:29Z
  END_GROUP = METADATA_FILE_INFO
  GROUP = PRODUCT_METADATA
    PRODUCT_TYPE = "L1T"
    SPACECRAFT_ID = "Landsat5"
    SENSOR_ID = "TM"
    ACQUISITION_DATE = 1999-06-21
    SCENE_CENTER_SCAN_TIME = 10:02:11.3950190Z
    BAND1_FILE_NAME = "L5193028_02819990621_B10.TIF"
    BAND3_FILE_NAME = "L5193028_02819990621_B30.TIF"
    BAND6_FILE_NAME = "L5193028_02819990621_B60.TIF"
  END_GROUP = PRODUCT_METADATA
  GROUP = MIN_MAX_RADIANCE
    LMAX_BAND1 = 193.000
    LMIN_BAND1 = -1.520
    LMAX_BAND3 = 264.000
    LMIN_BAND3 = -1.170
  END_GROUP = MIN_MAX_RADIANCE
  GROUP = MIN_MAX_PIXEL_VALUE
    QCALMAX_BAND1 = 255.0
    QCALMIN_BAND1 = 1.0
    QCALMAX_BAND3 = 255.0
    QCALMIN_BAND3 = 1.0
  END_GROUP = MIN_MAX_PIXEL_VALUE
  GROUP = PRODUCT_PARAMETERS
    SUN_AZIMUTH = 124.3
    SUN_ELEVATION = 59.5
  END_GROUP = PRODUCT_PARAMETERS
END_GROUP = L1_METADATA_FILE
END
"""


def test_metadata_of_before_2012_scale_by_the_limits_of_radiance():
    found = read_metadata(BEFORE_2012.encode(), "L5193028_02819990621_MTL.txt")
    assert (found.satellite, found.sensor, found.level, found.sun_elevation) == ("LANDSAT_5", "TM", "L1T", 59.5)
    assert found.bands["3"].file == "L5193028_02819990621_B30.TIF"
    assert "6" not in found.bands
    distance = 1 - 0.01672 * np.cos(np.radians(0.9856 * (172 - 4)))
    brightest = found.bands["1"].scale * 255 + found.bands["1"].offset
    assert brightest == pytest.approx(np.pi * 193.0 * distance**2 / 1983, rel=1e-6)
    darkest = found.bands["3"].scale * 1 + found.bands["3"].offset
    assert darkest == pytest.approx(np.pi * -1.17 * distance**2 / 1536, rel=1e-5)


def test_night_is_refused_and_a_low_sun_is_told(reflectance, tmp_path):
    bands = {"B4": reflectance["B4"]}
    with pytest.raises(InvalidScene, match=r"59\.0 degrees below the horizon"):
        open_scene(write_landsat(tmp_path / "night", bands, sun_elevation=-59.0))
    (warning,) = open_scene(write_landsat(tmp_path / "low", bands, sun_elevation=3.0)).warnings
    assert "3.0 degrees" in warning


def test_what_the_metadata_tell(scene):
    source = open_scene(scene)
    assert source.name == LANDSAT
    assert source.acquired == datetime(2023, 6, 15, 10, 3, 12, 123_456, tzinfo=UTC)
    assert source.attributes == {"satellite": "LANDSAT_9", "processing_level": "L1TP"}
    assert (source.grid.height, source.grid.width, source.grid.crs) == (40, 50, "EPSG:32633")
    assert open_scene(scene / f"{LANDSAT}_MTL.txt") == source


def test_the_panchromatic_band_is_averaged_onto_the_grid_of_the_others(scene, reflectance):
    source = open_scene(scene)
    with source.open(["B8", "B4"]) as reader:
        dn = reader.read(Window(5, 10, 20, 20))
    fine = reflectance["B8"][10:50, 20:60]
    expected = fine.reshape(20, 2, 20, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(source.profile.to_physical(dn[0]), expected, atol=1e-4)


def test_a_missing_band_file_is_missed_only_when_it_is_needed(scene, tmp_path):
    copy = tmp_path / scene.name
    shutil.copytree(scene, copy)
    (copy / f"{LANDSAT}_B5.TIF").unlink()
    source = open_scene(copy)
    source.open(["red", "green"]).__exit__(None, None, None)
    with pytest.raises(InvalidData, match=r"B5 \(nir\)"):
        source.open(["red", "nir"])


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("LANDSAT_9", "LANDSAT_3", InvalidScene, "LANDSAT_3"),
        ("OLI_TIRS", "MSS", InvalidScene, "MSS"),
        ('"L1TP"', '"RAW"', InvalidScene, "RAW"),
        (f'"{LANDSAT}_B4.TIF"', '"../../etc/passwd"', InvalidData, "outside its folder"),
        ("REFLECTANCE_MULT_BAND_4", "NOTHING", InvalidScene, "REFLECTANCE_MULT_BAND_4"),
    ],
)
def test_wrong_metadata_are_named(scene, tmp_path, old, new, error, message):
    copy = tmp_path / scene.name
    shutil.copytree(scene, copy)
    file = copy / f"{LANDSAT}_MTL.txt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(error, match=message):
        open_scene(copy)


def test_a_folder_without_metadata_or_bands_is_no_scene(scene, tmp_path):
    copy = tmp_path / scene.name
    shutil.copytree(scene, copy, ignore=shutil.ignore_patterns("*.TIF"))
    with pytest.raises(InvalidData, match="none of the band files"):
        open_scene(copy)
    (copy / f"{LANDSAT}_MTL.txt").unlink()
    with pytest.raises(InvalidScene, match="is no scene"):
        open_scene(copy)
