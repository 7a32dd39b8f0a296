"""Reading bands and truth of a scene."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.datasets.rasters import file_digest, read_header
from cloud_assets.datasets.scene import RasterBand, Scene, bands_of_file
from cloud_assets.errors import InvalidData, UnknownBand

BANDS = ("B02", "B03", "B04")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.arange(1, 3 * 4 * 5 + 1, dtype=np.uint16).reshape(3, 4, 5)


@pytest.fixture
def scene(tmp_path: Path, raster: Callable[..., Path], pixels: np.ndarray) -> Scene:
    image = raster(tmp_path / "image.tif", pixels, crs="EPSG:32633", transform=(10, 0, 500, 0, -10, 900))
    truth = raster(tmp_path / "truth.tif", np.array([[0, 99, 1, 2, 3], [4, 5, 6, 0, 0]] * 2, np.uint8))
    codes = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 99: 255}
    bands = bands_of_file(str(image), BANDS)
    return Scene(
        "one", "group", "sentinel2_l1c", bands, RasterBand(str(truth)), codes, content_hash=file_digest(str(image))
    )


def test_bands_come_in_the_order_asked_for_whatever_they_are_called(scene: Scene, pixels: np.ndarray) -> None:
    values = scene.read(["red", "B02", "B3"])
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, pixels[[2, 0, 1]])


def test_a_window_past_the_edge_is_nodata_there_and_unlabelled(scene: Scene, pixels: np.ndarray) -> None:
    window = (-1, 2, 4, 4)  # one column left of the raster, two rows below it
    bands = {name: replace(band, window=window) for name, band in scene.bands.items()}
    truth = replace(scene.truth, window=window) if scene.truth else None
    part = replace(scene, bands=bands, truth=truth)
    expected = np.zeros((3, 4, 4), np.uint16)
    expected[:, :2, 1:] = pixels[:, 2:4, :3]
    np.testing.assert_array_equal(part.read(BANDS), expected)
    mask = part.read_truth()
    np.testing.assert_array_equal(mask[:2, 1:], scene.read_truth()[2:4, :3])
    assert (mask[:, 0] == 255).all()
    assert (mask[2:] == 255).all()
    grid = part.grid()
    assert (grid.height, grid.width) == (4, 4)
    assert grid.transform == (10.0, 0.0, 490.0, 0.0, -10.0, 880.0)


def test_a_window_outside_the_raster_is_all_nodata(scene: Scene) -> None:
    bands = {name: replace(band, window=(50, 50, 2, 3)) for name, band in scene.bands.items()}
    assert replace(scene, bands=bands).read(["red"]).tolist() == [[[0, 0]] * 3]


def test_floating_point_bands_are_padded_with_nan(tmp_path: Path, raster: Callable[..., Path]) -> None:
    path = raster(tmp_path / "s1.tif", np.full((2, 2, 2), -9.0, np.float32))
    scene = Scene("one", "group", "sentinel1_grd", bands_of_file(str(path), ("VV", "VH"), (0, 0, 3, 2)))
    assert np.isnan(scene.read(["VH"])[0]).tolist() == [[False, False, True]] * 2


def test_truth_is_translated_with_the_legend(scene: Scene) -> None:
    np.testing.assert_array_equal(scene.read_truth()[:2], [[0, 255, 1, 1, 2], [2, 3, 3, 0, 0]])


def test_a_code_without_an_explanation_is_an_error_that_names_it(scene: Scene) -> None:
    with pytest.raises(InvalidData, match=r"truth\.tif holds the label code\(s\) 5, 6"):
        replace(scene, truth_codes={0: 0, 1: 1, 2: 1, 3: 2, 4: 2, 99: 255}).read_truth()


def test_absent_and_unknown_bands_are_told_apart(scene: Scene) -> None:
    with pytest.raises(InvalidData, match=r"no band swir16 \(B11\).*B02, B03, B04"):
        scene.read(["swir16"])
    with pytest.raises(UnknownBand, match="infrared"):
        scene.read(["infrared"])
    with pytest.raises(InvalidData, match="without truth"):
        replace(scene, truth=None).read_truth()


def test_pairs_hold_bands_of_two_instruments_that_cannot_be_read_as_one_array(
    tmp_path: Path, raster: Callable[..., Path], scene: Scene
) -> None:
    radar = raster(tmp_path / "s1.tif", np.full((2, 4, 5), -9.0, np.float32))
    bands = {**scene.bands, **bands_of_file(str(radar), ("VV", "VH"))}
    pair = replace(scene, bands=bands, band_instruments={"VV": "sentinel1_grd", "VH": "sentinel1_grd"})
    assert pair.read(["vv", "VH"]).dtype == np.float32
    assert pair.read(["red"]).dtype == np.uint16
    assert pair.band_instrument("VV").unit == "dB"
    with pytest.raises(InvalidData, match="VV: float32"):
        pair.read(["VV", "red"])


def test_bands_of_different_size_are_an_error(tmp_path: Path, raster: Callable[..., Path], scene: Scene) -> None:
    small = raster(tmp_path / "small.tif", np.ones((2, 2), np.uint16))
    mixed = replace(scene, bands={**scene.bands, "B08": RasterBand(str(small))})
    with pytest.raises(InvalidData, match="differ in size"):
        mixed.read(["red", "nir"])


def test_unreadable_files_are_named(tmp_path: Path, raster: Callable[..., Path], truncate: Callable[..., None]) -> None:
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    for path in (text, tmp_path / "nowhere.tif"):
        with pytest.raises(InvalidData, match=path.name):
            read_header(str(path))
    cut = raster(tmp_path / "cut.tif", np.random.default_rng(0).integers(0, 9, (3, 64, 64)).astype(np.uint16))
    assert read_header(str(cut)).count == 3
    truncate(cut, 0.6)
    with pytest.raises(InvalidData, match=r"cut\.tif"):
        read_header(str(cut))


def test_a_record_is_the_whole_scene(scene: Scene) -> None:
    full = replace(
        scene,
        bands={"B02": RasterBand("/vsisubfile/1_2,a.taco", 2, (1, -2, 3, 4))},
        label="cloud",
        split="test",
        attributes={"share": 0.5, "roi": "x"},
        band_instruments={"VV": "sentinel1_grd"},
    )
    assert Scene.from_record(full.to_record()) == full
    bare = Scene("one", "group", "rgb_8bit", {})
    assert Scene.from_record(bare.to_record()) == bare


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "other"},
        {"group": "other"},
        {"split": "test"},
        {"label": "cloud"},
        {"truth_codes": {0: 1}},
        {"truth": None},
        {"scene_id": "two"},
    ],
)
def test_identity_follows_what_is_learnt_from_but_not_the_path(scene: Scene, change: dict[str, object]) -> None:
    assert replace(scene, **change).identity != scene.identity  # type: ignore[arg-type]
    moved = {name: replace(band, path="/elsewhere.tif") for name, band in scene.bands.items()}
    assert replace(scene, bands=moved).identity == scene.identity
