import json
import shutil
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest

from cloud_assets.errors import InvalidData, InvalidScene
from cloud_assets.imagery.formats.scene_formats import open_scene
from cloud_assets.imagery.tiling import Window
from cloud_assets_tests.imagery.layouts import S2_L1C, write_safe, zip_safe

SIZE = 120


@pytest.fixture(scope="module")
def reflectance():
    rng = np.random.default_rng(3)
    bands = {
        name: rng.uniform(0.01, 0.9, (SIZE * 10 // metres, SIZE * 10 // metres))
        for name, metres in (("B02", 10), ("B03", 10), ("B04", 10), ("B08", 10), ("B11", 20), ("B09", 60))
    }
    for values in bands.values():
        values[: len(values) // 6] = 0
    return bands


@pytest.fixture(scope="module")
def safe(reflectance, tmp_path_factory):
    return write_safe(tmp_path_factory.mktemp("s2"), reflectance)


WHOLE = Window(0, 0, SIZE, SIZE)


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize(("offset", "quantification"), [(-1000, 10_000), (None, 10_000), (-500, 20_000)])
def test_reflectance_comes_out_whatever_offset_and_quantification_the_product_has(
    reflectance, tmp_path, level, offset, quantification
):
    bands = {name: values for name, values in reflectance.items() if name in ("B02", "B08")}
    source = open_scene(write_safe(tmp_path, bands, level=level, offset=offset, quantification=quantification))
    assert source.instrument == f"sentinel2_{level.lower()}"
    with source.open(["nir", "blue"]) as reader:
        dn = reader.read(WHOLE)
        assert dn.dtype == np.uint16
        valid = reader.valid(dn)
    expected = np.stack([reflectance["B08"], reflectance["B02"]])
    np.testing.assert_array_equal(valid, expected[0] > 0)
    found = source.profile.to_physical(dn)
    np.testing.assert_allclose(found[:, valid], expected[:, valid], atol=1.1e-4)
    assert (dn[:, ~valid] == 0).all()


def test_what_the_metadata_tell(safe):
    source = open_scene(safe)
    assert source.name == S2_L1C
    assert source.acquired == datetime(2024, 1, 31, 10, 10, 10, 24_000, tzinfo=UTC)
    assert source.attributes == {"processing_baseline": "05.10", "satellite": "Sentinel-2B"}
    assert (source.grid.height, source.grid.width, source.grid.crs) == (SIZE, SIZE, "EPSG:32632")
    assert source.pixel_metres == 10
    assert open_scene(safe / "MTD_MSIL1C.xml") == source


def test_coarser_bands_come_on_the_finest_grid_the_same_from_any_window(safe, reflectance):
    source = open_scene(safe)
    with source.open(["B11", "B09", "B04"]) as reader:
        whole = reader.read(WHOLE)
        parts = np.concatenate(
            [
                np.concatenate([reader.read(Window(row, column, 40, 60)) for column in (0, 60)], axis=2)
                for row in (0, 40, 80)
            ],
            axis=1,
        )
    np.testing.assert_array_equal(whole, parts)
    # Bilinear between the centres of two 20 m pixels: a quarter of one and three quarters of the other.
    swir = reflectance["B11"]
    row, column = 30, 20
    expected = 0.75**2 * swir[row, column] + 0.25**2 * swir[row + 1, column + 1]
    expected += 0.75 * 0.25 * (swir[row + 1, column] + swir[row, column + 1])
    found = source.profile.to_physical(whole[0])[2 * row + 1, 2 * column + 1]
    assert found == pytest.approx(expected, abs=3e-4)


def test_nodata_does_not_bleed_into_upsampled_bands(safe):
    with open_scene(safe).open(["B11"]) as reader:
        dn = reader.read(WHOLE)
    edge = SIZE // 6
    assert (dn[0, :edge] == 0).all()
    assert (dn[0, edge:] > 90).all()


def test_a_zip_archive_reads_like_the_folder_and_nothing_is_unpacked(safe, tmp_path):
    shutil.copytree(safe, tmp_path / safe.name)
    path = zip_safe(tmp_path / safe.name)
    shutil.rmtree(tmp_path / safe.name)
    source = open_scene(path)
    assert source.name == S2_L1C
    with source.open(["B04", "B11"]) as zipped, open_scene(safe).open(["B04", "B11"]) as unpacked:
        np.testing.assert_array_equal(zipped.read(WHOLE), unpacked.read(WHOLE))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _with_macos_files(archive, safe):
    archive.writestr(f"__MACOSX/{safe.name}/._MTD_MSIL1C.xml", b"\0\5\x16\7")
    archive.writestr(f"{safe.name}/._INSPIRE.xml", b"\0\5\x16\7")
    _add(archive, safe, safe.parent)


def _add(archive, safe, root):
    for file in sorted(safe.rglob("*")):
        archive.write(file, file.relative_to(root))


def _nested(archive, safe):
    inner = safe.parent / "inner.zip"
    with zipfile.ZipFile(inner, "w") as other:
        _add(other, safe, safe.parent)
    archive.write(inner, inner.name)
    inner.unlink()


@pytest.mark.parametrize(
    "fill",
    [
        _with_macos_files,
        pytest.param(lambda archive, safe: _add(archive, safe, safe), id="without a top folder"),
        pytest.param(lambda archive, safe: _add(archive, safe, safe.parents[1]), id="in one folder more"),
        _nested,
    ],
)
@pytest.mark.parametrize("name", ["renamed.zip", "download"])
def test_zip_archives_as_people_have_them(safe, tmp_path, fill, name):
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive, safe)
    source = open_scene(tmp_path / name)
    with source.open(["B04", "B11"]) as zipped, open_scene(safe).open(["B04", "B11"]) as unpacked:
        np.testing.assert_array_equal(zipped.read(WHOLE), unpacked.read(WHOLE))


def test_damage_in_an_archive_is_found_where_it_is_read_and_only_there(safe, tmp_path):
    shutil.copytree(safe, tmp_path / safe.name)
    path = zip_safe(tmp_path / safe.name)
    with zipfile.ZipFile(path) as archive:
        member = next(info for info in archive.infolist() if info.filename.endswith("_B03.jp2"))
    content = bytearray(path.read_bytes())
    content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    source = open_scene(path)
    with source.open(["B04"]) as reader:
        reader.read(WHOLE)
    with pytest.raises(InvalidData, match="damaged"):
        source.open(["B03", "B04"])


def test_products_of_before_december_2016_hold_granules(safe, tmp_path):
    old = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20160101T000000_R022_V20160101T101010_20160101T101010.SAFE"
    shutil.copytree(safe, old)
    metadata = old / "S2A_OPER_MTD_SAFL1C_PDMC_20160101T000000_R022_V20160101T101010_20160101T101010.xml"
    (old / "MTD_MSIL1C.xml").rename(metadata)
    granules = old / "GRANULE"
    (granule,) = granules.iterdir()
    names = [f"S2A_OPER_MSI_L1C_TL_EPA__20160101T000000_A000734_{tile}_N02.04" for tile in ("T32TQM", "T32TQL")]
    for image in granule.rglob("*.jp2"):
        image.rename(image.with_name(f"S2A_OPER_MSI_L1C_TL_EPA__20160101T000000_A000734_T32TQM_{image.stem[-3:]}.jp2"))
    granule.rename(granules / names[0])
    assert open_scene(old).name == old.name.removesuffix(".SAFE")
    shutil.copytree(granules / names[0], granules / names[1])
    with pytest.raises(InvalidScene, match="holds 2 granules"):
        open_scene(old)
    source = open_scene(granules / names[1])
    assert (source.name, source.instrument) == (names[1], "sentinel2_l1c")
    with source.open(["B04"]) as found, open_scene(safe).open(["B04"]) as expected:
        np.testing.assert_array_equal(found.read(WHOLE), expected.read(WHOLE))


@pytest.mark.parametrize(("baseline", "offset"), [("N0205", 0), ("N0510", -1000)])
def test_tiles_of_the_aws_archive(reflectance, tmp_path, baseline, offset):
    safe = write_safe(tmp_path / "safe", {name: reflectance[name] for name in ("B02", "B04")}, offset=offset)
    tile = tmp_path / "tiles" / "32" / "T" / "QM" / "2024" / "1" / "31" / "0"
    (tile / "preview").mkdir(parents=True)
    for image in safe.rglob("*.jp2"):
        shutil.copy(image, tile / f"{image.stem[-3:]}.jp2")
        shutil.copy(image, tile / "preview" / f"{image.stem[-3:]}.jp2")
    product = S2_L1C.replace("N0510", baseline)
    (tile / "tileInfo.json").write_text(json.dumps({"productName": product, "timestamp": "2024-01-31T10:10:10.024Z"}))
    source = open_scene(tile)
    assert source.name == product
    with source.open(["red", "blue"]) as found, open_scene(safe).open(["red", "blue"]) as expected:
        np.testing.assert_array_equal(found.read(WHOLE), expected.read(WHOLE))


def test_a_radar_product_is_told_what_to_run_first(tmp_path):
    folder = tmp_path / "S1A_IW_GRDH_1SDV_20180716T004042_20180716T004107_022812_02792A_FD5B.SAFE"
    (folder / "measurement").mkdir(parents=True)
    (folder / "manifest.safe").write_text("<x/>")
    (folder / "measurement" / "iw-vv.tiff").write_bytes(b"II*\0")
    with pytest.raises(InvalidScene, match=r"Sentinel-1 GRD.*Terrain Correction"):
        open_scene(folder)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil.txt", f"{S2_L1C}.SAFE/../../evil.txt", "C:\\evil.txt", "a\\..\\..\\evil.txt"]
)
def test_a_zip_member_that_leads_out_is_refused(safe, tmp_path, name):
    shutil.copytree(safe, tmp_path / safe.name)
    path = zip_safe(tmp_path / safe.name, {name: b"evil"})
    with pytest.raises(InvalidData, match="leads out of its folder"):
        open_scene(path)


def test_a_link_in_a_zip_is_refused(safe, tmp_path):
    shutil.copytree(safe, tmp_path / safe.name)
    path = zip_safe(tmp_path / safe.name)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo(f"{S2_L1C}.SAFE/GRANULE/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidData, match="link"):
        open_scene(path)


def test_links_in_a_folder_are_followed_as_caches_have_them(safe, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(safe, cache)
    copy = tmp_path / safe.name
    for file in cache.rglob("*"):
        if file.is_file():
            link = copy / file.relative_to(cache)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    with open_scene(copy).open(["B04"]) as linked, open_scene(safe).open(["B04"]) as plain:
        np.testing.assert_array_equal(linked.read(WHOLE), plain.read(WHOLE))


def test_entities_in_the_metadata_are_refused(safe, tmp_path):
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy)
    (copy / "MTD_MSIL1C.xml").write_text('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>')
    with pytest.raises(InvalidData, match="entities"):
        open_scene(copy)


def _without_metadata(copy):
    (copy / "MTD_MSIL1C.xml").unlink()


def _truncated_metadata(copy):
    file = copy / "MTD_MSIL1C.xml"
    file.write_text(file.read_text()[:400])


def _no_quantification(copy):
    file = copy / "MTD_MSIL1C.xml"
    file.write_text(file.read_text().replace("QUANTIFICATION_VALUE", "SOMETHING"))


def _zero_quantification(copy):
    file = copy / "MTD_MSIL1C.xml"
    file.write_text(file.read_text().replace(">10000<", ">0<"))


def _odd_offset(copy):
    file = copy / "MTD_MSIL1C.xml"
    file.write_text(file.read_text().replace(">-1000<", ">many<"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_metadata, "no MTD_MSIL1C.xml"),
        (_truncated_metadata, "is damaged"),
        (_no_quantification, "QUANTIFICATION_VALUE"),
        (_zero_quantification, "impossible"),
        (_odd_offset, "no number"),
    ],
)
def test_damaged_metadata_are_named(safe, tmp_path, damage, message):
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy)
    damage(copy)
    with pytest.raises(InvalidScene, match=message):
        open_scene(copy)


def test_a_product_without_any_band_and_one_without_the_wanted_band(safe, tmp_path):
    with pytest.raises(InvalidData, match="B12"):
        open_scene(safe).open(["swir22"])
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy, ignore=shutil.ignore_patterns("*.jp2"))
    with pytest.raises(InvalidData, match="IMG_DATA"):
        open_scene(copy)


def test_zip_archives_that_are_none_or_hold_something_else(tmp_path):
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises((InvalidData, InvalidScene), match=r"cut\.zip"):
        open_scene(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no product")
    with pytest.raises(InvalidScene, match="is no scene"):
        open_scene(tmp_path / "other.zip")


def test_the_fingerprint_changes_when_a_band_does(safe, tmp_path):
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy)
    before = open_scene(copy).fingerprint
    band = next(copy.rglob("*_B02.jp2"))
    band.write_bytes(band.read_bytes())
    assert open_scene(copy).fingerprint != before
