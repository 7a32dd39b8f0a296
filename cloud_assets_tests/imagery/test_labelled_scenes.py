"""Images and masks of one's own, named and drawn as people do."""

import json

import numpy as np
import pytest
import rasterio

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe
from cloud_assets.imagery.labelled_scenes import LabelledScenes, read_mask
from cloud_assets_tests.imagery.layouts import write_landsat
from cloud_assets_tests.scenes.fakes import landsat_dn, write_geotiff

HEIGHT, WIDTH = 40, 60
RNG = np.random.default_rng(0)
REFLECTANCE = RNG.uniform(0.05, 0.4, (4, HEIGHT, WIDTH))
CLOUD = np.zeros((HEIGHT, WIDTH), np.uint8)
CLOUD[10:30, 20:50] = 1


def write_pair(folder, image, mask, codes=CLOUD, corner=0.0, **options):
    place = {"corner": (500_000.0 + corner, 4_600_000.0)}
    write_geotiff(folder / image, landsat_dn(REFLECTANCE), **place)
    write_geotiff(folder / mask, codes[None], None, nodata=None, **place, **options)


def catalog(folder, tmp_path, **settings):
    data = LabelledScenes(path=folder, **{"instrument": "landsat8_l1", **settings})
    return data.catalog(tmp_path, tmp_path / "cache", progress=False)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.tif", "masks/a.tif"),
        ("Images/Field 1.TIF", "Labels/field_1_mask.tif"),
        ("img/north/s_003_image.tif", "gt/s_003_GT.TIFF"),
        ("scenes/x.tif", "annotations/mask_x.tif"),
        ("x.tif", "x_label.tif"),
        ("imgs/cloud_7.tif", "masks/7.tif"),
        ("images/b.tif", "masks/b_msk.tif.tif"),
        ("images/c.TIF", "masks/c_cloudmask.TIF"),
        ("site 1/image.tif", "site 1/mask.tif"),
        ("train/images/4.tif", "train/masks/4.tif"),
    ],
)
def test_pairs_are_found_by_name(tmp_path, image, mask):
    write_pair(tmp_path / "data", image, mask)
    (scene,) = catalog(tmp_path / "data", tmp_path)
    np.testing.assert_array_equal(scene.read_truth(), CLOUD)
    found = scene.read(["red", "green", "blue", "nir"])
    np.testing.assert_allclose(found * 2e-5 - 0.1, REFLECTANCE, atol=2e-5)


def test_whatever_a_scene_is_stored_as_it_gives_the_same_numbers(tmp_path):
    bands = {f"B{number}": REFLECTANCE[row] for row, number in enumerate((4, 3, 2, 5))}
    name = write_landsat(tmp_path / "data" / "images", bands, sun_elevation=35.0).name
    write_geotiff(tmp_path / "data" / "masks" / f"{name}.tif", CLOUD[None], None, crs=None, nodata=None)
    (scene,) = catalog(tmp_path / "data", tmp_path, instrument=None)
    assert scene.instrument == "landsat8_toa"
    np.testing.assert_allclose(scene.read(["red", "nir"]) * 2e-5 - 0.1, REFLECTANCE[[0, 3]], atol=5e-5)
    percent = (REFLECTANCE * 100).astype(np.float32)
    write_geotiff(tmp_path / "percent" / "images" / "a.tif", percent)
    write_geotiff(tmp_path / "percent" / "masks" / "a.tif", CLOUD[None], None, nodata=None)
    (scene,) = catalog(tmp_path / "percent", tmp_path, scale=0.01, offset=0.0)
    np.testing.assert_allclose(scene.read(["red"])[0] * 2e-5 - 0.1, REFLECTANCE[0], atol=2e-5)


def test_codes_are_explained_and_nodata_is_unlabelled(tmp_path):
    codes = np.where(CLOUD, 128, 64).astype(np.uint8)
    codes[:5] = 255
    write_pair(tmp_path / "data", "images/a.tif", "masks/a.tif", codes)
    with rasterio.open(tmp_path / "data" / "images" / "a.tif", "r+") as raster:
        dn = raster.read()
        dn[:, -3:] = 0
        raster.write(dn)
    (scene,) = catalog(tmp_path / "data", tmp_path, codes={64: "clear", "128": "shadow", 255: "ignore"})
    expected = np.where(CLOUD, 3, 0)
    expected[:5] = expected[-3:] = UNLABELLED
    np.testing.assert_array_equal(scene.read_truth(), expected)
    with pytest.raises(InvalidData, match=r"the label '64', which is not explained"):
        catalog(tmp_path / "data", tmp_path)
    with pytest.raises(InvalidRecipe, match="'foggy' is none of"):
        LabelledScenes(codes={"1": "foggy"}).legend()


def polygons(path, crs=None, attribute="Class", classes=("cloud",)):
    left, top = 500_000 + 20 * 30, 4_600_000 - 10 * 30
    ring = [[left, top], [left + 900, top], [left + 900, top - 600], [left, top - 600], [left, top]]
    features = [
        {"type": "Feature", "properties": {attribute: value}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for value in classes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    crs = {"type": "name", "properties": {"name": crs or "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


@pytest.mark.parametrize("name", ["a.geojson", "everything.gpkg"])
def test_polygons_are_masks_wherever_they_are_drawn(tmp_path, name):
    write_geotiff(tmp_path / "data" / "images" / "a.tif", landsat_dn(REFLECTANCE))
    polygons(tmp_path / "drawn.geojson")
    target = tmp_path / "data" / "masks" / name
    target.parent.mkdir()
    if name.endswith("gpkg"):  # in degrees, as QGIS saves by default
        import pyogrio

        meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "drawn.geojson")
        from rasterio.warp import transform_geom
        from shapely import from_wkb, to_wkb
        from shapely.geometry import mapping, shape

        degrees = [
            to_wkb(shape(transform_geom("EPSG:32633", "EPSG:4326", mapping(from_wkb(one)), precision=9)))
            for one in geometry
        ]
        pyogrio.raw.write(
            target,
            np.array(degrees),
            fields,
            fields=meta["fields"],
            geometry_type="Polygon",
            crs="EPSG:4326",
            driver="GPKG",
        )
    else:
        (tmp_path / "drawn.geojson").rename(target)
    (scene,) = catalog(tmp_path / "data", tmp_path)
    found = scene.read_truth()
    assert (found != CLOUD).mean() < 0.01
    (scene,) = catalog(tmp_path / "data", tmp_path, outside="unlabelled")
    assert set(np.unique(scene.read_truth())) == {1, UNLABELLED}


def test_attributes_of_polygons(tmp_path):
    image = write_geotiff(tmp_path / "a.tif", landsat_dn(REFLECTANCE))
    from cloud_assets.imagery.formats.geotiff import open_geotiff

    grid = open_geotiff(image, instrument="landsat8_l1").grid
    polygons(tmp_path / "m.geojson", attribute="art", classes=(3, 2))
    assert set(np.unique(read_mask(tmp_path / "m.geojson", grid, None, "art"))) == {0, 2}, "cloud lies over shadow"
    with pytest.raises(InvalidData, match="no polygon has the attribute 'kind'; there are art"):
        read_mask(tmp_path / "m.geojson", grid, None, "kind")


def test_a_mask_on_another_grid_is_brought_to_the_image(tmp_path):
    fine = np.kron(CLOUD, np.ones((3, 3), np.uint8))
    write_geotiff(tmp_path / "data" / "images" / "a.tif", landsat_dn(REFLECTANCE))
    write_geotiff(tmp_path / "data" / "masks" / "a.tif", fine[None], None, metres=10.0, nodata=None)
    (scene,) = catalog(tmp_path / "data", tmp_path)
    np.testing.assert_array_equal(scene.read_truth(), CLOUD)
    write_geotiff(tmp_path / "data" / "masks" / "a.tif", fine[None], None, crs=None, nodata=None)
    with pytest.raises(InvalidData, match="180 x 120 pixels, its image 60 x 40"):
        catalog(tmp_path / "data", tmp_path)


def test_what_does_not_fit_is_named_and_leaves_the_others_alone(tmp_path):
    data = tmp_path / "data"
    for number in range(8):
        write_pair(data, f"images/{number}.tif", f"masks/{number}.tif", corner=10_000.0 * number)
    write_geotiff(data / "images" / "lonely.tif", landsat_dn(REFLECTANCE))
    write_geotiff(data / "masks" / "orphan.tif", CLOUD[None], None)
    write_pair(data, "images/double.tif", "masks/double.tif")
    write_geotiff(data / "masks" / "double_mask.tif", CLOUD[None], None)
    (data / "masks" / "0.tif").write_bytes(b"II*\0broken")
    found = catalog(data, tmp_path, max_skipped_fraction=0.5)
    assert [scene.scene_id for scene in found] == list("1234567")
    reasons = {item.item.rsplit("/", 1)[-1]: item.reason for item in found.skipped}
    assert reasons.keys() == {"0.tif", "double.tif"}
    assert found.notes == ("1 image(s) without a mask: lonely.tif", "1 mask(s) without an image: orphan.tif")
    assert "has 2 masks: double.tif, double_mask.tif" in reasons["double.tif"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFound, match="Put images into images/"):
        catalog(tmp_path / "empty", tmp_path)
    with pytest.raises(DataNotFound, match="nowhere is no folder"):
        catalog(tmp_path / "nowhere", tmp_path)
    write_pair(tmp_path / "unlike", "images/a.tif", "masks/b.tif")
    with pytest.raises(DataNotFound, match=r"1 image\(s\) \(a\.tif\).*1 mask\(s\) \(b\.tif\)"):
        catalog(tmp_path / "unlike", tmp_path)


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for number, site in enumerate(("train/a", "train/b", "val/a")):
        write_pair(tmp_path / "data", f"{site}/image.tif", f"{site}/mask.tif", corner=10_000.0 * number)
    found = {scene.scene_id: scene.split for scene in catalog(tmp_path / "data", tmp_path)}
    assert found == {"train/a/image": "train", "train/b/image": "train", "val/a/image": "validation"}
    write_pair(tmp_path / "data", "val/c/image.tif", "val/c/mask.tif", corner=10_000.0)
    found = catalog(tmp_path / "data", tmp_path)
    assert {scene.split for scene in found} == {None}, "c lies on b, which is for training"
    assert any("they cut groups" in note for note in found.notes)


def test_pieces_of_an_image_are_one_group(tmp_path):
    for number, name in enumerate(("a_p1", "a_p2", "b_tile_3", "b_tile_4", "c_0_by_1", "d")):
        write_pair(tmp_path / "data", f"images/{name}.tif", f"masks/{name}.tif", corner=10_000.0 * number)
    groups = [scene.group for scene in catalog(tmp_path / "data", tmp_path)]
    assert groups == ["a", "a", "b", "b", "c", "d"]


def test_a_mask_elsewhere_is_no_mask_of_the_image(tmp_path):
    write_geotiff(tmp_path / "data" / "images" / "a.tif", landsat_dn(REFLECTANCE))
    for name, nodata in (("a.tif", None), ("a.tif", 0)):
        write_geotiff(tmp_path / "data" / "masks" / name, CLOUD[None], None, nodata=nodata, corner=(9e5, 4.6e6))
        with pytest.raises(InvalidData, match=r"masks/a\.tif does not lie on its image"):
            catalog(tmp_path / "data", tmp_path)
    (tmp_path / "data" / "masks" / "a.tif").unlink()
    polygons(tmp_path / "data" / "masks" / "a.geojson", crs="urn:ogc:def:crs:EPSG::32634")
    with pytest.raises(InvalidData, match="no polygon lies on its image"):
        catalog(tmp_path / "data", tmp_path)
    polygons(tmp_path / "data" / "masks" / "all.geojson", crs="urn:ogc:def:crs:EPSG::32634")
    (tmp_path / "data" / "masks" / "a.geojson").unlink()
    (scene,) = catalog(tmp_path / "data", tmp_path)
    assert not scene.read_truth().any(), "one file for all images may have no cloud in this one"


def test_overlapping_ground_and_one_product_are_one_group(tmp_path):
    data, shift = tmp_path / "data", WIDTH * 30.0
    for name, corner in (("a", 0.0), ("b", shift / 2), ("c", shift * 1.5), ("d", 10 * shift), ("e", 11 * shift)):
        write_pair(data, f"images/{name}.tif", f"masks/{name}.tif", corner=corner)
    for part in (1, 2):
        name = f"LC08_L1TP_193028_20230615_20230615_02_T1_part{part}"
        write_pair(data, f"images/{name}.tif", f"masks/{name}.tif", corner=(20 + 5 * part) * shift)
    groups = {scene.scene_id: scene.group for scene in catalog(data, tmp_path)}
    assert groups["a"] == groups["b"] != groups["c"], "a and b overlap by half, b and c only touch"
    assert groups["d"] != groups["e"], "neighbours share an edge only"
    assert len({group for name, group in groups.items() if name.startswith("LC08")}) == 1
    by_pattern = {scene.group for scene in catalog(data, tmp_path, group_pattern="^LC08|^[a-e]")}
    assert len(by_pattern) == 5


def test_converted_scenes_are_kept_until_something_changes(tmp_path):
    write_pair(tmp_path / "data", "images/a.tif", "masks/a.tif")
    first = catalog(tmp_path / "data", tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.tif")}
    assert catalog(tmp_path / "data", tmp_path).data_version == first.data_version
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.tif")} == kept
    write_geotiff(tmp_path / "data" / "masks" / "a.tif", (1 - CLOUD)[None], None, nodata=None)
    assert catalog(tmp_path / "data", tmp_path).data_version != first.data_version


def _stac_item(path, assets, links=(), **properties):
    path.parent.mkdir(parents=True, exist_ok=True)
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": path.stem, "geometry": None, "assets": assets,
        "properties": {"datetime": "2021-07-01T10:00:00Z", **properties}, "links": list(links),
    }  # fmt: skip
    path.write_text(json.dumps(item))


def _stac_source(folder, name):
    write_geotiff(folder / f"{name}.tif", landsat_dn(REFLECTANCE))
    bands = [{"name": band} for band in ("B4", "B3", "B2", "B5")]
    _stac_item(
        folder / f"{name}.json",
        {"data": {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff", "eo:bands": bands}},
        platform="landsat-8",
    )


def test_stac_items_with_labels_name_their_scenes(tmp_path):
    data = tmp_path / "data"
    _stac_source(data / "source" / "one", "one")
    write_geotiff(data / "labels" / "one_labels" / "labels.tif", CLOUD[None], None, nodata=None)
    label = {"label:type": "raster", "label:properties": None, "label:description": "clouds"}
    _stac_item(
        data / "labels" / "one_labels" / "one_labels.json",
        {"labels": {"href": "./labels.tif", "roles": ["data"], "type": "image/tiff"}},
        [{"rel": "source", "href": "../../source/one/one.json", "type": "application/json", "label:assets": ["data"]}],
        **label,
    )
    _stac_item(
        data / "labels" / "gone.json",
        {"labels": {"href": "https://labels.example/gone.tif"}},
        [{"rel": "source", "href": "../source/one/one.json"}],
        **label,
    )
    found = catalog(data, tmp_path, max_skipped_fraction=0.5)
    (scene,) = found
    assert scene.scene_id == "one_labels"
    np.testing.assert_array_equal(scene.read_truth(), CLOUD)
    np.testing.assert_allclose(scene.read(["red"])[0] * 2e-5 - 0.1, REFLECTANCE[0], atol=2e-5)
    assert "no local file" in str(found.skipped[0])
