"""Composites against numpy, pixel by pixel, and against the ground that was put under clouds."""

import json
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio

from cloud_assets.errors import InvalidRecipe, InvalidScene
from cloud_assets.imagery.formats.geotiff import open_geotiff
from cloud_assets.scenes.composite import METHODS, Observation, combined, make_composite
from cloud_assets_tests.scenes.fakes import RGBN, landsat_dn, write_geotiff

DATES = ("20240105", "20240121", "20240206", "20240222", "20240309")


def observation(folder, date, reflectance, usable, corner=(500_000.0, 4_600_000.0)):
    scene = write_geotiff(folder / f"scene_{date}.tif", landsat_dn(reflectance), corner=corner)
    mask = write_geotiff(
        folder / f"usable_{date}.tif", usable[None].astype(np.uint8), ["usable"], corner=corner, nodata=None
    )
    return Observation(open_geotiff(scene, instrument="landsat8_l1"), mask)


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Five dates of one ground that gets greener, half of each under a cloud."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("dates")
    ground = rng.uniform(0.05, 0.3, (4, 70, 90))
    made = []
    for place, date in enumerate(DATES):
        usable = rng.random((70, 90)) > 0.5
        usable[0, 0] = False
        reflectance = np.where(usable, ground + 0.004 * place, 0.9)
        made.append(observation(folder, date, reflectance, usable))
    return ground, made


def pixels(path):
    with rasterio.open(path) as raster:
        return raster.read(), raster.descriptions, raster.transform


@pytest.mark.parametrize("method", METHODS)
def test_composite_of_clear_pixels_is_the_ground(dates, tmp_path, method):
    ground, observations = dates
    made = make_composite(list(reversed(observations)), tmp_path / "out", method=method)
    found, names, _ = pixels(tmp_path / "out" / "composite.tif")
    assert names == ("B2", "B3", "B4", "B5")
    clear = found[0] != 0
    assert not clear[0, 0]
    reflectance = (found * 2e-5 - 0.1)[[2, 1, 0, 3]]
    assert np.abs(reflectance - ground)[:, clear].max() < 0.004 * 4 + 2e-5
    count, *_ = pixels(tmp_path / "out" / "count.tif")
    usable = np.stack([pixels(one.usable)[0][0] == 1 for one in observations])
    np.testing.assert_array_equal(count[0], usable.sum(axis=0))
    assert made.covered == pytest.approx(usable.any(axis=0).mean())
    date, *_ = pixels(tmp_path / "out" / "date.tif")
    assert set(np.unique(date)) <= {0, *map(int, DATES)}
    assert ((date[0] != 0) == clear).all()


def test_each_method_against_numpy():
    rng = np.random.default_rng(0)
    physical = rng.random((5, 3, 20, 30)).astype(np.float32)
    clear = rng.random((5, 20, 30)) > 0.4
    clear[:, 0, 0] = False
    dates = np.array([int(date) for date in DATES], np.int32)
    masked = np.where(clear[:, None], physical, np.nan)
    is_clear = clear.any(axis=0)
    median, _ = combined(physical, clear, dates, "median")
    with warnings.catch_warnings(action="ignore"):
        np.testing.assert_allclose(median[:, is_clear], np.nanmedian(masked, axis=0)[:, is_clear], rtol=1e-6)
    assert np.isnan(median[:, 0, 0]).all()
    latest, date = combined(physical, clear, dates, "latest")
    medoid, _ = combined(physical, clear, dates, "medoid")
    for row, column in zip(*np.nonzero(is_clear), strict=True):
        last = np.nonzero(clear[:, row, column])[0][-1]
        assert date[row, column] == dates[last]
        np.testing.assert_array_equal(latest[:, row, column], physical[last, :, row, column])
        seen = physical[clear[:, row, column], :, row, column]
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1).sum(axis=1)
        np.testing.assert_array_equal(medoid[:, row, column], seen[distances.argmin()])


def test_scenes_that_overlap_in_part_cover_the_ground_of_both(tmp_path):
    everything = np.ones((60, 60), bool)
    left = observation(tmp_path, "20240101", np.full((4, 60, 60), 0.1), everything)
    right = observation(
        tmp_path, "20240201", np.full((4, 60, 60), 0.2), everything, (500_000.0 + 30 * 40, 4_600_000.0 + 30 * 10)
    )
    make_composite([left, right], tmp_path / "out", method="latest")
    found, _, transform = pixels(tmp_path / "out" / "composite.tif")
    assert found.shape == (4, 70, 100)
    reflectance = found[0] * 2e-5 - 0.1
    assert reflectance[30, 20] == pytest.approx(0.1, abs=1e-4)
    assert reflectance[30, 50] == pytest.approx(0.2, abs=1e-4)
    assert found[0, 0, 0] == 0
    assert transform.f == 4_600_300.0


def test_stac_item_of_a_composite_says_what_it_is_made_of(dates, tmp_path):
    import pystac

    make_composite(dates[1], tmp_path / "out", bands=("red", "nir"))
    item = pystac.Item.from_file(tmp_path / "out" / "stac_item.json")
    item.stac_extensions.clear()  # their schemas lie on the network
    item.validate()
    assert item.properties["cloud_assets:scenes"] == [f"scene_{date}" for date in DATES]
    assert item.common_metadata.start_datetime == datetime(2024, 1, 5, tzinfo=UTC)
    assert json.loads((tmp_path / "out" / "stac_item.json").read_text())["assets"].keys() >= {
        "composite",
        "count",
        "date",
    }


def test_what_cannot_be_composed_is_said(dates, tmp_path):
    one = dates[1][0]
    with pytest.raises(InvalidRecipe, match="mode"):
        make_composite([one], tmp_path / "out", method="mode")
    other = write_geotiff(tmp_path / "b_20240301.tif", np.full((4, 9, 9), 900, np.uint16), RGBN)
    with pytest.raises(InvalidScene, match="sentinel2_l2a"):
        make_composite(
            [one, Observation(open_geotiff(other, instrument="sentinel2_l2a"), one.usable)], tmp_path / "out"
        )
    undated = write_geotiff(tmp_path / "undated.tif", np.full((4, 9, 9), 900, np.uint16), RGBN)
    with pytest.raises(InvalidScene, match="date of acquisition"):
        make_composite([Observation(open_geotiff(undated, instrument="landsat8_l1"), one.usable)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
