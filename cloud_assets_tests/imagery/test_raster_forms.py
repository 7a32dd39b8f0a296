"""One scene in the forms of GeoTIFF that people have: it must read alike through every one of them."""

import numpy as np
import pytest
import rasterio

from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window

SHAPE = (40, 50)
WHOLE = Window(0, 0, *SHAPE)
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def reflectance():
    values = np.random.default_rng(5).uniform(0.02, 0.9, (4, *SHAPE)).astype(np.float32)
    values[:, :, :8] = 0
    return values


def write(path, values, descriptions=BANDS, **profile):
    options = {"nodata": 0, "crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 6e5, 0, -10, 5.1e6), **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=SHAPE[0], width=SHAPE[1], dtype=values.dtype, **options
    ) as raster:
        raster.write(values)
        raster.descriptions = descriptions
    return path


def read(source):
    with source.open(["red", "green", "blue", "nir"]) as reader:
        dn = reader.read(WHOLE)
        return source.profile.to_physical(dn), reader.valid(dn)


def numbers(reflectance, offset=0):
    return np.where(reflectance > 0, np.rint(reflectance * 1e4) + offset, 0).astype(np.uint16)


def check(source, reflectance, atol=6e-5):
    physical, valid = read(source)
    np.testing.assert_array_equal(valid, reflectance[0] > 0)
    np.testing.assert_allclose(physical[:, valid], reflectance[[2, 1, 0, 3]][:, valid], atol=atol)


@pytest.mark.parametrize("name", ["plain.tif", "S2A_MSIL1C_20240131T101010_N0205_R022_T32TQM.tif"])
def test_digital_numbers(reflectance, tmp_path, name):
    check(open_scene(write(tmp_path / name, numbers(reflectance)), instrument="sentinel2_l1c"), reflectance)


def test_reflectance_as_floating_point_with_0_or_nan_for_nodata(reflectance, tmp_path):
    for name, values, nodata in (
        ("zero.tif", reflectance, None),
        ("nan.tif", np.where(reflectance > 0, reflectance, np.nan), np.nan),
        ("tag.tif", np.where(reflectance > 0, reflectance, -9999), -9999),
    ):
        source = open_scene(write(tmp_path / name, values, nodata=nodata), instrument="sentinel2_l1c")
        check(source, reflectance)
        assert any("read as reflectance" in warning for warning in source.warnings)


def test_floating_point_numbers_that_could_be_anything_are_asked_about(reflectance, tmp_path):
    path = write(tmp_path / "percent.tif", reflectance * 100, nodata=None)
    with pytest.raises(InvalidScene, match=r"--scale 0\.01"):
        open_scene(path, instrument="sentinel2_l1c")
    check(open_scene(path, instrument="sentinel2_l1c", scaling=Scaling(0.01, 0.0)), reflectance)


@pytest.mark.parametrize("tell", ["name", "tag"])
def test_the_offset_of_baseline_04_00_is_applied_with_a_note(reflectance, tmp_path, tell):
    name = "S2A_MSIL1C_20240131T101010_N0510_R022_T32TQM.tif" if tell == "name" else "scene.tif"
    path = write(tmp_path / name, numbers(reflectance, 1000))
    if tell == "tag":
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(PROCESSING_BASELINE="05.10")
    source = open_scene(path, instrument="sentinel2_l1c")
    check(source, reflectance)
    assert any("offset of -1000" in warning for warning in source.warnings)


def test_numbers_that_were_harmonised_meanwhile_keep_theirs(reflectance, tmp_path):
    path = write(tmp_path / "S2A_MSIL1C_20240131T101010_N0510_R022_T32TQM.tif", numbers(reflectance))
    source = open_scene(path)
    check(source, reflectance)
    assert any("harmonised" in warning for warning in source.warnings)


def test_bands_that_are_not_used(reflectance, tmp_path):
    extra = np.concatenate([numbers(reflectance), np.full((1, *SHAPE), 255, np.uint16)])
    described = write(tmp_path / "described.tif", extra, (*BANDS, "QA60"))
    check(open_scene(described, instrument="sentinel2_l1c"), reflectance)
    named = write(tmp_path / "named.tif", extra, (None,) * 5)
    check(open_scene(named, ["blue", "green", "red", "nir", "-"], "sentinel2_l1c"), reflectance)


def test_alpha_and_masks_inside_and_beside_the_file(reflectance, tmp_path):
    values, there = numbers(np.maximum(reflectance, 0.02)), (reflectance[0] > 0).astype(np.uint8) * 255
    with_alpha = np.concatenate([values, there[None].astype(np.uint16) * 257])
    alpha = write(tmp_path / "alpha.tif", with_alpha, (*BANDS, None), nodata=None)
    with rasterio.open(alpha, "r+") as raster:
        raster.colorinterp = [*raster.colorinterp[:4], rasterio.enums.ColorInterp.alpha]
    for name, internal in (("internal.tif", True), ("beside.tif", False)):
        path = write(tmp_path / name, values, nodata=None)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as raster:
            raster.write_mask(there)
    assert (tmp_path / "beside.tif.msk").exists()
    for name in ("alpha.tif", "internal.tif", "beside.tif"):
        check(open_scene(tmp_path / name, instrument="sentinel2_l1c"), reflectance)


def test_a_pixel_that_lacks_one_band_is_no_observation(reflectance, tmp_path):
    staggered = numbers(reflectance)
    staggered[3, :, 8:12] = 0
    source = open_scene(write(tmp_path / "staggered.tif", staggered), instrument="sentinel2_l1c")
    _, valid = read(source)
    assert not valid[:, :12].any()
    assert valid[:, 12:].all()


def test_0_is_missing_beside_another_number_that_the_file_names(reflectance, tmp_path):
    source = open_scene(write(tmp_path / "two.tif", numbers(reflectance), nodata=65535), instrument="sentinel2_l1c")
    check(source, reflectance)


@pytest.mark.parametrize("names", ["{band}", "chip_{band}", "T32TQM_20240131T101010_{band}", "S2_{band}_10m"])
def test_one_file_a_band(reflectance, tmp_path, names):
    folder = tmp_path / "scene"
    folder.mkdir()
    for band, values in zip(BANDS, numbers(reflectance), strict=True):
        write(folder / f"{names.format(band=band)}.tif", values[None], (None,))
    (folder / "label.tif").write_bytes((folder / next(iter(folder.glob("*B02*"))).name).read_bytes())
    check(open_scene(folder, instrument="sentinel2_l1c"), reflectance)


def test_a_folder_of_unknown_files_says_what_was_found(reflectance, tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    write(folder / "first.tif", numbers(reflectance)[:1], (None,))
    with pytest.raises(InvalidScene, match=r"--instrument.*first\.tif"):
        open_scene(folder)
    with pytest.raises(InvalidScene, match=r"no file is named by a band.*first\.tif"):
        open_scene(folder, instrument="sentinel2_l1c")


def test_names_in_other_scripts_stay_apart(reflectance, tmp_path):
    names = {
        open_scene(write(tmp_path / f"{stem}.tif", numbers(reflectance)), instrument="sentinel2_l1c").name
        for stem in ("场景一", "场景二", "Ünïcode %?[x]")
    }
    assert len(names) == 3
    assert {"场景一", "场景二"} < names


def test_a_virtual_raster_stacks_the_files_beside_it(reflectance, tmp_path):
    bands = numbers(reflectance)
    (tmp_path / "bands").mkdir()
    for name, values in zip(BANDS, bands, strict=True):
        write(tmp_path / "bands" / f"{name}.tif", values[None], (name,))
    rows = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"><Description>{name}</Description>'
        f'<NoDataValue>0</NoDataValue><SimpleSource><SourceFilename relativeToVRT="1">bands/{name}.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, name in enumerate(BANDS, start=1)
    )
    path = tmp_path / "stack.vrt"
    size = f'rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}"'
    place = "<SRS>EPSG:32632</SRS><GeoTransform>600000, 10, 0, 5100000, 0, -10</GeoTransform>"
    path.write_text(f"<VRTDataset {size}>{place}{rows}</VRTDataset>")
    source = open_scene(path, instrument="sentinel2_l1c")
    check(source, reflectance)
    write(tmp_path / "bands" / "B04.tif", bands[[0]] + 1, ("B04",))
    assert open_scene(path, instrument="sentinel2_l1c").fingerprint != source.fingerprint
    path.write_text(path.read_text().replace('relativeToVRT="1">bands/B02.tif', 'relativeToVRT="0">/etc/hostname'))
    with pytest.raises(InvalidScene, match="must be raster files in its own folder"):
        open_scene(path, instrument="sentinel2_l1c")
