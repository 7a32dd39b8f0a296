"""One simulated scene in the forms that people have it: the mask is the same, whichever door it came through."""

import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from cloud_assets import load_model, predict_scene
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.simulation.clouds import CloudRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe
from cloud_assets_tests.imagery.layouts import S2_L1C, write_landsat, write_safe, zip_safe
from cloud_assets_tests.scenes.fakes import write_geotiff

SIDE = 96
OPTIONS = SceneOptions(products=("mask",), window=64, overlap=16, test_time_augmentation=False, back_end="torch")
COLOURS = ("red", "green", "blue", "nir")
SENTINEL2, LANDSAT = ("B04", "B03", "B02", "B08"), ("B4", "B3", "B2", "B5")


@pytest.fixture(scope="module")
def patch():
    sensor = SensorRecipe(saturation_chance=0, wedge_chance=0, quantisation_chance=0, coarse_chance=0)
    clouds = CloudRecipe(none=0, overcast=0, stratus=0, veil=0)
    recipe = SimulationRecipe(clouds=clouds, sensor=sensor, illumination=(1, 1))
    patch = simulate_patch(patch_generator(12, 6), SIDE, COLOURS, recipe)
    # Below what every form can hold: a byte of Landsat 5 ends at a reflectance of 1.
    return np.clip(patch.reflectance, 0.01, 0.95), np.isin(patch.mask, (1, 2))


def _safe(folder, scene, **more):
    return write_safe(folder, dict(zip(SENTINEL2, scene, strict=True)), **more)


def _stack(folder, scene, name="stack.tif", offset=0, **more):
    return write_geotiff(folder / name, np.rint(scene * 1e4 + offset).astype(np.uint16), SENTINEL2, metres=10.0, **more)


def _mac_zip(folder, scene):
    path = zip_safe(_safe(folder, scene), {f"__MACOSX/._{S2_L1C}.SAFE": b"\0", f"{S2_L1C}.SAFE/.DS_Store": b"\0"})
    shutil.rmtree(path.with_suffix(".SAFE"))
    return path


def _topless_zip(folder, scene):
    safe = _safe(folder, scene)
    with zipfile.ZipFile(folder / "renamed.zip", "w") as archive:
        for file in sorted(safe.rglob("*")):
            archive.write(file, file.relative_to(safe))
    return folder / "renamed.zip"


def _band_folder(folder, scene):
    for name, values in zip(SENTINEL2, scene, strict=True):
        dn = np.rint(values * 1e4).astype(np.uint16)
        write_geotiff(folder / "bands" / f"T32TQM_20240131T101010_{name}.tif", dn[None], None, metres=10.0)
    return folder / "bands"


def _stac_item(folder, scene):
    _band_folder(folder, scene + 0.1)
    assets = {
        name: {
            "href": f"./bands/T32TQM_20240131T101010_{name}.tif",
            "type": "image/tiff; application=geotiff",
            "eo:bands": [{"name": name}],
            "raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}],
        }
        for name in SENTINEL2
    }
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "item", "geometry": None, "links": [], "assets": assets,
        "properties": {"datetime": "2024-01-31T10:10:10Z", "platform": "sentinel-2b", "processing:level": "L1C"},
    }  # fmt: skip
    (folder / "item.json").write_text(json.dumps(item))
    return folder / "item.json"


def _landsat(folder, scene, **more):
    return write_landsat(folder, dict(zip(LANDSAT, scene, strict=True)), **more)


def _tar(folder, scene):
    unpacked, path = _landsat(folder, scene, sun_elevation=35.0), folder / "LC09.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(unpacked.iterdir()):
            archive.add(file, file.name)
    return path


DOORS = {
    "SAFE 05.10": (_safe, {}),
    "SAFE before 04.00": (lambda folder, scene: _safe(folder, scene, offset=None), {}),
    "zip from macOS": (_mac_zip, {}),
    "zip without a top folder": (_topless_zip, {}),
    "GeoTIFF": (_stack, {"instrument": "sentinel2_l1c"}),
    "GeoTIFF of baseline 05.10": (
        lambda folder, scene: _stack(folder, scene, f"{S2_L1C}.tif", offset=1000),
        {},
    ),
    "GeoTIFF with stated scaling": (
        lambda folder, scene: _stack(folder, scene, offset=500),
        {"instrument": "sentinel2_l1c", "scaling": Scaling(1e-4, -0.05)},
    ),
    "GeoTIFF of float reflectance": (
        lambda folder, scene: write_geotiff(folder / "f.tif", scene.astype(np.float32), SENTINEL2, metres=10.0),
        {"instrument": "sentinel2_l1c"},
    ),
    "one file a band": (_band_folder, {"instrument": "sentinel2_l1c"}),
    "STAC item": (_stac_item, {}),
    "Landsat 9, sun at 35 degrees": (lambda folder, scene: _landsat(folder, scene, sun_elevation=35.0), {}),
    "Landsat 8, Collection 1": (lambda folder, scene: _landsat(folder, scene, satellite="LANDSAT_8", collection=1), {}),
    "Landsat tar": (_tar, {}),
    "Landsat XML": (lambda folder, scene: _landsat(folder, scene, metadata="xml"), {}),
    "Landsat level 2": (lambda folder, scene: _landsat(folder, scene, level="L2SP"), {}),
}


@pytest.fixture(scope="module")
def model():
    # Without its outline, which is in metres: the forms have pixels of 10 or 30.
    bundle = load_model("simulation", device="cpu").bundle
    return bundle.with_card(details={**bundle.card.details, "outline_metres": 0.0})


@pytest.fixture(scope="module")
def expected(patch, model, tmp_path_factory):
    return _mask(model, "GeoTIFF of float reflectance", patch[0], tmp_path_factory.mktemp("expected"))


def _mask(model, door, scene, folder):
    import rasterio

    write, told = DOORS[door]
    options = OPTIONS.model_copy(update={"accept_other_level": True})
    made = predict_scene(model, write(folder / "in", scene), folder / "out", options, **told)
    with rasterio.open(made.paths["mask"]) as raster:
        return raster.read(1)


@pytest.mark.parametrize("door", DOORS)
def test_the_mask_is_the_same_through_every_door(patch, model, expected, tmp_path, door):
    scene, truth = patch
    found = _mask(model, door, scene, tmp_path)
    assert truth.mean() > 0.1
    assert (found != expected).mean() < 0.002, "numbers are rounded differently, nothing else"
    iou = [(one[truth] == 1).sum() / ((one == 1) | truth).sum() for one in (found, expected)]
    assert iou[0] == pytest.approx(iou[1], abs=0.003)
