import numpy as np
import pytest

from cloud_assets.simulation.random_fields import cells, diffused, fractal_field, level, smooth, soften


@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_power_spectrum_falls_with_the_slope(slope: float) -> None:
    """An independent Fourier transform finds the exponent that was asked for."""
    rng = np.random.default_rng(3)
    power = np.zeros((128, 65))
    for _ in range(20):
        power += np.abs(np.fft.rfft2(fractal_field(rng, (128, 128), slope))) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    inside = (frequency > 0.03) & (frequency < 0.4)
    found = -np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0]
    assert found == pytest.approx(slope, abs=0.15)


def test_field_is_standardised_reproducible_and_periodic() -> None:
    field = fractal_field(np.random.default_rng(1), (96, 160), 3.0)
    assert field.shape == (96, 160)
    assert field.dtype == np.float32
    assert abs(float(field.mean())) < 1e-4
    assert float(field.std()) == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(field, fractal_field(np.random.default_rng(1), (96, 160), 3.0))
    step = np.abs(np.diff(field, axis=0)).mean()
    assert np.abs(field[0] - field[-1]).mean() < 2 * step


def test_stretching_makes_structures_longer_along_the_angle() -> None:
    field = fractal_field(np.random.default_rng(5), (128, 128), 3.0, stretch=6, angle=0.0)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.6 * np.abs(np.diff(field, axis=0)).mean()


def test_outer_scale_limits_the_size_of_structures() -> None:
    rng = np.random.default_rng(6)
    blobs = fractal_field(rng, (256, 256), 4.0, outer_scale=4)
    hills = fractal_field(rng, (256, 256), 4.0)
    assert smooth(blobs, 32).std() < 0.2 * smooth(hills, 32).std()


def test_level_is_an_approximate_quantile() -> None:
    field = np.random.default_rng(2).random((256, 256), dtype=np.float32)
    for share in (0.0, 0.25, 0.9, 1.0):
        assert level(field, share) == pytest.approx(share, abs=0.02)


def test_smoothing_keeps_constants_and_the_mean() -> None:
    assert smooth(np.full((2, 50, 70), 3.0, np.float32), 9) == pytest.approx(3.0, abs=1e-5)
    field = np.random.default_rng(4).random((128, 128), dtype=np.float32)
    smoothed = smooth(field, 8)
    assert float(smoothed.mean()) == pytest.approx(float(field.mean()), abs=0.01)
    assert smoothed.std() < 0.2 * field.std()


def test_cells_are_connected_areas_of_about_the_pitch() -> None:
    owner, border = cells(np.random.default_rng(7), (120, 120), 20.0)
    assert 20 <= len(np.unique(owner)) <= 80
    assert border.min() >= 0
    changes = owner[:, 1:] != owner[:, :-1]
    # Where the owner changes there is a border: the distance to it is less than a pixel's share of the pitch.
    assert border[:, 1:][changes].max() < 0.06
    assert border.max() > 0.3


def test_soften_is_a_clipped_ramp() -> None:
    field = np.linspace(-1, 1, 201, dtype=np.float32)[None]
    step = soften(field, 0.2, 0.4)
    assert step[0, 0] == 0
    assert step[0, -1] == 1
    assert step[0, 120] == pytest.approx(0.5, abs=1e-3)
    assert (np.diff(step[0]) >= 0).all()


def test_light_diffuses_by_a_power_of_the_size_of_structures_and_round_the_edges() -> None:
    """Known answer: waves keep (1 + (length / wavelength)^2) to the power of minus half the exponent; so do sums."""
    for wavelength in (4, 16, 64):
        wave = np.broadcast_to(np.cos(2 * np.pi * np.arange(64) / wavelength), (48, 64)).astype(np.float32)
        kept = (1 + (10 / wavelength) ** 2) ** -0.75
        np.testing.assert_allclose(diffused(wave, 10.0, 1.5), wave * kept, atol=1e-5)
    point = np.zeros((64, 48), np.float32)
    point[0, 20] = 1
    spread = diffused(point, 10.0, 1.5)
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert spread[-3, 20] == pytest.approx(spread[3, 20], rel=1e-3)
    assert spread[-3, 20] > 0
