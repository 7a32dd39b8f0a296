import numpy as np
import pytest

from cloud_assets.simulation import sensor
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch
from cloud_assets.simulation.sensor import SensorRecipe, randomise_sensor


@pytest.fixture
def light() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.02, 1.0, (3, 60, 72)).astype(np.float32)


def test_miscalibration_is_one_gain_and_offset_a_band(light: np.ndarray) -> None:
    seen = sensor.miscalibrate(np.random.default_rng(1), light, 0.1, 0.01)
    for before, after in zip(light, seen, strict=True):
        gain, offset = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(after, gain * before + offset, atol=1e-4)
    np.testing.assert_array_equal(sensor.miscalibrate(np.random.default_rng(1), light, 0, 0), light)


def test_blur_keeps_the_mean_and_spreads_by_its_sigma() -> None:
    point = np.zeros((1, 41, 41), np.float32)
    point[0, 20, 20] = 1
    for sigma in (0.3, 0.7, 1.0):
        spread = sensor.blur(point, sigma)[0]
        assert spread.sum() == pytest.approx(1, abs=1e-5)
        offsets = np.arange(41) - 20
        assert (spread.sum(0) * offsets**2).sum() == pytest.approx(min(sigma, 1.15) ** 2, rel=0.15)
    constant = np.full((1, 9, 9), 0.4, np.float32)
    np.testing.assert_allclose(sensor.blur(constant, 1.0), constant, rtol=1e-5)


def test_coarsening_averages_blocks(light: np.ndarray) -> None:
    seen = sensor.coarsen(light, (1, 2, 6))
    np.testing.assert_array_equal(seen[0], light[0])
    np.testing.assert_allclose(seen[1][:2, :2], light[1][:2, :2].mean(), rtol=1e-5)
    np.testing.assert_allclose(seen[2][54:60, 66:72], light[2][54:60, 66:72].mean(), rtol=1e-5)
    odd = sensor.coarsen(light[:, :, :71], 4)
    assert odd.shape == (3, 60, 71)


def test_noise_has_its_standard_deviation_and_is_independent_between_bands() -> None:
    flat = np.full((3, 200, 200), 0.25, np.float32)
    seen = sensor.add_noise(np.random.default_rng(2), flat, 0.01) - flat
    assert seen.std() == pytest.approx(0.01, rel=0.05)
    assert abs(np.corrcoef(seen.reshape(3, -1))[0, 1]) < 0.03
    shot = sensor.add_noise(np.random.default_rng(2), flat, 0.0, 0.02) - flat
    assert shot.std() == pytest.approx(0.01, rel=0.05)


def test_saturation_cuts_each_band_at_its_level(light: np.ndarray) -> None:
    seen = sensor.saturate(light, np.array([0.5, 0.7, 2.0]))
    assert seen[0].max() == 0.5
    assert seen[1].max() == pytest.approx(0.7)
    np.testing.assert_array_equal(seen[2], light[2])


def test_a_knee_bends_below_the_level_and_keeps_the_order(light: np.ndarray) -> None:
    light = np.sort(light.reshape(3, -1)).reshape(light.shape)
    seen = sensor.saturate(light, np.array([0.5, 0.7, 2.0]), knee=0.2)
    assert seen[0].max() < 0.5
    assert (np.diff(seen.reshape(3, -1)) >= 0).all()
    dark = light[0] < 0.4
    np.testing.assert_allclose(seen[0][dark], light[0][dark], rtol=1e-6)
    np.testing.assert_allclose(seen[2], light[2], rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_quantisation_has_as_many_steps_as_bits_allow(light: np.ndarray, bits: int) -> None:
    seen = sensor.quantise(light, bits)
    step = 1.2 / (2**bits - 1)
    assert np.abs(seen - light).max() <= step / 2 + 1e-6
    np.testing.assert_allclose(seen / step, np.rint(seen / step), atol=1e-3)


def test_wedge_is_straight_and_leaves_a_fifth() -> None:
    for seed in range(30):
        valid = sensor.nodata_wedge(np.random.default_rng(seed), (64, 80))
        assert 0.17 < valid.mean() < 1
        # A straight edge crosses each row at most once.
        assert (np.abs(np.diff(valid.astype(int), axis=1)).sum(1) <= 1).all()


def test_random_sensor_keeps_shape_marks_nodata_and_does_not_change_its_input(light: np.ndarray) -> None:
    before = light.copy()
    recipe = SensorRecipe(wedge_chance=1, missing_band_chance=0.5, saturation_chance=1, quantisation_chance=1)
    missing = 0
    for seed in range(20):
        seen = randomise_sensor(np.random.default_rng(seed), light, recipe)
        assert seen.reflectance.shape == light.shape
        assert seen.reflectance.dtype == np.float32
        assert (seen.reflectance[:, ~seen.valid] == 0).all()
        assert (seen.reflectance[~seen.present] == 0).all()
        assert (seen.reflectance[seen.present][:, seen.valid] > 0).all()
        assert seen.present.any()
        missing += int((~seen.present).sum())
    assert missing > 5
    np.testing.assert_array_equal(light, before)


COLOURS = ("red", "green", "blue", "nir")


def through(name: str, light: np.ndarray, bands: tuple[str, ...] = COLOURS, overhead: float = 1.0) -> sensor.Sensed:
    recipe = SensorRecipe(instruments=(name,), gain_spread=0, offset_spread=0, blur_chance=0, wedge_chance=0)
    return randomise_sensor(np.random.default_rng(5), light, recipe, bands, overhead)


@pytest.mark.parametrize(
    ("name", "ends"),
    [  # under a sun overhead: pi times saturation radiance by irradiance, Chander et al. 2009 for the first two
        ("landsat_tm", (0.540, 0.638, 0.306, 0.673)),
        ("landsat_etm", (0.313, 0.341, 0.301, 0.729)),
        ("landsat_oli", (0.937, 0.939, 0.911, 0.928)),
        ("sentinel2_msi", (1.006, 0.963, 0.987, 0.929)),
    ],
)
@pytest.mark.parametrize("elevation", [90.0, 45.0, 20.0])
def test_real_instruments_saturate_where_their_makers_say_by_the_height_of_the_sun(name, ends, elevation) -> None:
    bright = np.full((4, 8, 8), 5.0, np.float32)
    overhead = 1 / np.sin(np.radians(elevation))
    seen = through(name, bright, overhead=overhead).reflectance
    assert seen[:, 0, 0] == pytest.approx(np.array(ends) * overhead, rel=2e-3)
    assert (seen == seen[:, :1, :1]).all()


@pytest.mark.parametrize(("name", "bits", "noise"), [("landsat_tm", 8, 1.6e-3), ("sentinel2_msi", 12, 1.4e-3)])
def test_real_instruments_have_their_noise_and_their_steps(name, bits, noise) -> None:
    level = np.full((1, 200, 200), 0.15, np.float32)
    seen = through(name, level, ("blue",)).reflectance[0]
    full = {"landsat_tm": 0.30576, "sentinel2_msi": 0.98673}[name]
    steps = seen / (full / (2**bits - 1))
    np.testing.assert_allclose(steps, np.rint(steps), atol=0.02)
    # Signal-to-noise 39 at 40 W m-2 sr-1 um-1, 154 at 128; a step of TM is wider than half of that.
    assert seen.std() == pytest.approx(noise, rel=0.1)
    assert seen.mean() == pytest.approx(0.15, abs=1e-4)


def test_bands_of_real_instruments_have_their_own_resolution_or_are_absent() -> None:
    light = np.random.default_rng(1).uniform(0.1, 0.3, (4, 60, 60)).astype(np.float32)
    bands = ("blue", "swir16", "cirrus", "coastal")
    msi = through("sentinel2_msi", light, bands)
    assert msi.present.all()
    assert [float(np.abs(band[0, 0:6] - band[0, 0]).max()) > 0.02 for band in msi.reflectance] == [
        True,
        True,
        False,
        False,
    ]
    assert np.abs(msi.reflectance[1, 0, :2] - msi.reflectance[1, 0, 0]).max() < 0.02
    tm = through("landsat_tm", light, bands)
    assert tm.present.tolist() == [True, True, False, False]
    assert (tm.reflectance[2:] == 0).all()


def test_instruments_are_drawn_from_and_leave_other_recipes_alone() -> None:
    several = SensorRecipe(instruments=("landsat_etm", "sentinel2_msi"), gain_spread=0, offset_spread=0, wedge_chance=0)
    recipe = SimulationRecipe(sensor=several, sun_elevation=(60.0, 60.0), illumination=(1, 1))
    bright = np.full((1, 9, 9), 9.0, np.float32)
    seen = [randomise_sensor(np.random.default_rng(seed), bright, several, ("blue",)) for seed in range(12)]
    blues = {round(float(one.reflectance.max()), 2) for one in seen}
    assert blues == {0.30, 0.99}
    patch = simulate_patch(patch_generator(3, 1), 32, COLOURS, recipe)
    assert patch.present.all()
    assert SimulationRecipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert "instruments" not in SensorRecipe().model_dump_json()
