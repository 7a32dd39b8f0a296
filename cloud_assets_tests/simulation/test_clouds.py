from dataclasses import replace

import numpy as np
import pytest

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from cloud_assets.errors import InvalidRecipe
from cloud_assets.simulation.clouds import (
    CLEAR_SKY,
    SHAPES,
    CloudField,
    CloudRecipe,
    Sun,
    cast_shadow,
    composite_clouds,
    draw_sun,
    lit_albedo,
    opacity,
    outlined,
    simulate_clouds,
)
from cloud_assets.simulation.random_fields import fractal_field
from cloud_assets.simulation.spectra import COMMON_NAMES

SHAPE = (128, 96)
SUN = Sun(azimuth=0.7, elevation=0.8)
NOTHING_ELSE = dict.fromkeys(("none", *SHAPES), 0.0) | {"contrails": 0.0}


def field(kind: str, seed: int = 0, **options: object) -> CloudField:
    recipe = CloudRecipe.model_validate(NOTHING_ELSE | {kind: 1.0} | options)
    return simulate_clouds(np.random.default_rng(seed), SHAPE, SUN, 20.0, recipe)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_every_kind_of_sky_gives_finite_light_and_canonical_codes(kind: str) -> None:
    for seed in range(4):
        clouds = field(kind, seed)
        assert clouds.kind == kind
        assert clouds.optical_depth.min() >= 0
        assert 0 <= clouds.droplets.min() <= clouds.droplets.max() < 1
        assert clouds.shade is not None
        assert 0 <= clouds.shade.min() <= clouds.shade.max() <= 1
        assert set(np.unique(clouds.mask)) <= {CLEAR, THICK_CLOUD, THIN_CLOUD, CLOUD_SHADOW}
        picture, mask = composite_clouds(np.full((13, *SHAPE), 0.1, np.float32), clouds, COMMON_NAMES)
        assert np.isfinite(picture).all()
        assert picture.min() > 0
        assert picture.max() < 2
        np.testing.assert_array_equal(mask, clouds.mask)


def test_labels_follow_the_thickness() -> None:
    clouds = field("broken", 3)
    depth = [clouds.optical_depth[clouds.mask == code].mean() for code in (CLEAR, THIN_CLOUD, THICK_CLOUD)]
    assert depth[0] < depth[1] < depth[2]


def test_clear_sky_changes_nothing_and_returns_a_copy() -> None:
    clouds = simulate_clouds(np.random.default_rng(0), SHAPE, SUN, 20.0, CLEAR_SKY)
    ground = np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)
    picture, mask = composite_clouds(ground, clouds, ("red", "nir"))
    np.testing.assert_array_equal(picture, ground)
    assert picture is not ground
    assert (mask == CLEAR).all()


def test_input_is_not_changed() -> None:
    ground = np.full((1, *SHAPE), 0.2, np.float32)
    composite_clouds(ground, field("overcast"), ("red",))
    assert (ground == 0.2).all()


def test_thick_cloud_is_bright_white_and_hides_the_ground() -> None:
    clouds = field("overcast", 5, strength=(8.0, 8.0), relief=(0, 0), albedo=(1, 1))
    assert clouds.optical_depth.min() > 20
    dark, bright = (np.full((3, *SHAPE), level, np.float32) for level in (0.02, 0.5))
    over_dark, _ = composite_clouds(dark, clouds, ("blue", "red", "nir"))
    over_bright, _ = composite_clouds(bright, clouds, ("blue", "red", "nir"))
    assert over_dark.mean() > 0.6
    assert np.ptp(over_dark.mean((1, 2))) < 0.08
    assert (over_bright - over_dark).max() < 0.12


def even_cloud(reflected: float, ice: bool = False) -> CloudField:
    """One layer without edges, texture, glow and blur, of an albedo of 1."""
    layer = np.full(SHAPE, reflected, np.float32)
    none = np.zeros(SHAPE, np.float32)
    return CloudField(
        kind="overcast", droplets=none if ice else layer, ice=layer if ice else None, optical_depth=none,
        shade=opacity(layer), albedo=np.ones(SHAPE, np.float32), ice_share=0.0, vapour_above=0.0, sun=Sun(0.7, 0.985),
        sharpness=10.0, glow=0.0, mask=np.full(SHAPE, THIN_CLOUD, np.uint8),
    )  # fmt: skip


@pytest.mark.parametrize("ground", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("reflected", [0.1, 0.4, 0.8])
def test_an_even_cloud_adds_up_with_the_ground(ground: float, reflected: float) -> None:
    """Known answer: R + (1 - R)^2 p / (1 - R p), the adding method; the cloud itself is white up to its colour."""
    below = np.full((1, *SHAPE), ground, np.float32)
    seen, _ = composite_clouds(below, even_cloud(reflected), ("red",))
    thick, _ = composite_clouds(np.zeros_like(below), even_cloud(0.999), ("red",))
    expected = reflected * thick.mean() / 0.999 + (1 - reflected) ** 2 * ground / (1 - reflected * ground)
    assert seen.mean() == pytest.approx(expected, abs=0.005)
    assert np.ptp(seen) < 1e-5


def test_cloud_hardly_changes_snow_and_brightens_dark_ground() -> None:
    for ice in (False, True):
        snow, label = composite_clouds(np.full((1, *SHAPE), 0.9, np.float32), even_cloud(0.2, ice), ("red",))
        dark, dark_label = composite_clouds(np.full((1, *SHAPE), 0.02, np.float32), even_cloud(0.2, ice), ("red",))
        assert snow.mean() == pytest.approx(0.9, abs=0.02)
        assert dark.mean() > 0.15
        assert (label == CLEAR).all()
        assert (dark_label == THIN_CLOUD).all()


def test_only_shadows_of_clouds_elsewhere_darken_what_is_below_a_cloud() -> None:
    ground = np.full((1, *SHAPE), 0.3, np.float32)
    cloud = even_cloud(0.5)
    own, _ = composite_clouds(ground, cloud, ("red",))
    darker, _ = composite_clouds(ground, replace(cloud, shade=np.ones(SHAPE, np.float32)), ("red",))
    lit, _ = composite_clouds(ground, replace(cloud, shade=np.zeros(SHAPE, np.float32)), ("red",))
    np.testing.assert_allclose(own, lit)
    assert darker.mean() < own.mean() - 0.01


def test_cirrus_shows_in_its_band_and_low_cloud_does_not() -> None:
    ground = np.full((1, *SHAPE), 0.001, np.float32)
    high, low = field("cirrus", 1, strength=(2, 2)), field("stratus", 1)
    shown, _ = composite_clouds(ground, high, ("cirrus",))
    hidden, _ = composite_clouds(ground, low, ("cirrus",))
    assert high.ice is not None
    assert np.corrcoef(shown.ravel(), high.ice.ravel())[0, 1] > 0.95
    assert shown.max() > 0.03
    assert hidden.max() < shown.max() / 2


def test_ice_absorbs_in_the_shortwave_infrared() -> None:
    clouds = field("cirrus", 4, strength=(3, 3))
    picture, _ = composite_clouds(np.full((2, *SHAPE), 0.01, np.float32), clouds, ("red", "swir22"))
    thick = clouds.optical_depth > np.quantile(clouds.optical_depth, 0.9)
    assert picture[1][thick].mean() < 0.6 * picture[0][thick].mean()


def test_shadow_lies_where_the_sun_and_the_height_put_it() -> None:
    """Known answer: one cloud pixel, 1000 m high, sun at 45 degrees, 20 m pixels: 50 pixels away."""
    layer = np.zeros((200, 200), np.float32)
    layer[20, 30] = 0.9
    for azimuth, place in ((0.0, (20, 80)), (np.pi / 2, (70, 30))):
        shade = cast_shadow(layer, 1000, azimuth, np.pi / 4, 20)
        assert np.unravel_index(shade.argmax(), shade.shape) == place
        assert shade.max() > 0.9


def test_shadows_darken_and_turn_blue() -> None:
    clouds = field("cumulus", 8, glow=(0, 0))
    picture, mask = composite_clouds(np.full((2, *SHAPE), 0.3, np.float32), clouds, ("blue", "nir"))
    shadow = mask == CLOUD_SHADOW
    assert shadow.any()
    assert picture[1][shadow].mean() < 0.24
    assert picture[0][shadow].mean() > picture[1][shadow].mean()


def test_sides_towards_the_sun_are_brighter() -> None:
    hump = np.exp(-(((np.mgrid[:64, :64] - 32) ** 2).sum(0)) / 200).astype(np.float32) * np.float32(30)
    # Shadows point to the right, so the sun stands to the left. The bumps differ from draw to draw, the hump does not.
    draws = [lit_albedo(np.random.default_rng(seed), hump, 0.0, 0.3, 0.5, 1.0, 30.0) for seed in range(20)]
    albedo = np.mean(draws, axis=0)
    assert albedo[28:36, 18:28].mean() > albedo[28:36, 36:46].mean() + 0.1


def test_light_wanders_inside_clouds_and_smooths_their_relief() -> None:
    """The same bumps seen at 15 and at 240 m a pixel: what is smaller than a hundred metres or so has less contrast."""
    depth = np.exp(fractal_field(np.random.default_rng(3), (256, 256), 2.6)).astype(np.float32) * 20
    grain = {
        metres: np.mean(
            [_grain(lit_albedo(np.random.default_rng(seed), depth, 0.5, 0.4, 0.5, 1.0, metres)) for seed in range(10)]
        )
        for metres in (15.0, 240.0)
    }
    assert grain[15.0] < 0.6
    assert grain[240.0] > 1.3 * grain[15.0]


def _grain(field: np.ndarray) -> float:
    """How much neighbours differ, relative to how much means over 4 x 4 pixels do (rough 1, smooth a quarter)."""
    coarse = field.reshape(field.shape[0] // 4, 4, -1, 4).mean(axis=(1, 3))
    return float(np.diff(field, axis=0).std() / np.diff(coarse, axis=0).std())


def test_the_sky_lights_the_far_sides_of_clouds() -> None:
    """Relief is weaker in the blue than in the red, and strongest in the near infrared; more so under a low sun."""
    slopes = {}
    for elevation in (0.3, 1.2):
        clouds = replace(field("overcast", 1, relief=(0.7, 0.7), strength=(20, 20)), sun=Sun(0.7, elevation))
        picture, _ = composite_clouds(np.full((3, *SHAPE), 0.1, np.float32), clouds, ("blue", "red", "nir"))
        relief = picture / picture.mean(axis=(1, 2), keepdims=True) - 1
        slopes[elevation] = [float((band * relief[1]).sum() / (relief[1] ** 2).sum()) for band in relief]
    assert slopes[0.3][0] < slopes[1.2][0] < 0.97
    assert slopes[0.3][2] > slopes[1.2][2] > 1.01


def test_outline_keeps_the_mean_and_removes_single_pixels() -> None:
    layer = np.zeros((32, 32), np.float32)
    layer[10, 10] = 1
    smoothed = outlined(layer)
    assert smoothed.sum() == pytest.approx(1, abs=1e-5)
    assert smoothed.max() == smoothed[10, 10] < 0.2


def test_illumination_scales_the_cloud() -> None:
    clouds = field("overcast", 5)
    ground = np.zeros((1, *SHAPE), np.float32)
    full, _ = composite_clouds(ground, clouds, ("red",))
    half, _ = composite_clouds(ground, clouds, ("red",), illumination=0.5)
    np.testing.assert_allclose(half, full / 2, rtol=1e-4)


def test_wrong_sizes_and_impossible_recipes_are_refused() -> None:
    with pytest.raises(InvalidRecipe, match="same H and W"):
        composite_clouds(np.zeros((1, 8, 8), np.float32), field("veil"), ("red",))
    with pytest.raises(InvalidRecipe, match="weight above 0"):
        simulate_clouds(np.random.default_rng(0), SHAPE, SUN, 20.0, CloudRecipe.model_validate(NOTHING_ELSE))
    with pytest.raises(ValueError, match="smaller to its larger end"):
        CloudRecipe(albedo=(1.0, 0.5))
    with pytest.raises(ValueError, match="positive"):
        CloudRecipe(strength=(0.0, 1.0))


def test_sun_is_drawn_from_its_range() -> None:
    rng = np.random.default_rng(0)
    suns = [draw_sun(rng, (20, 30)) for _ in range(50)]
    assert all(np.radians(20) <= sun.elevation <= np.radians(30) for sun in suns)
    assert np.ptp([sun.azimuth for sun in suns]) > 4


@pytest.mark.parametrize("kind", [*SHAPES, "contrails"])
@pytest.mark.parametrize("axis", [0, 1])
def test_skies_have_no_seam_where_they_are_rolled(kind: str, axis: int) -> None:
    """Between the last and the first row nothing jumps much more than between any two neighbours."""
    options = {"none": 1.0, "contrails": 1.0} if kind == "contrails" else {kind: 1.0}
    for seed in range(4):
        clouds = simulate_clouds(
            np.random.default_rng(seed), SHAPE, SUN, 20.0, CloudRecipe.model_validate(NOTHING_ELSE | options)
        )
        for layer in (clouds.droplets, clouds.ice, clouds.optical_depth, clouds.shade, clouds.albedo):
            if layer is None or np.ptp(layer) == 0:
                continue
            jumps = np.abs(np.roll(layer, -1, axis) - layer).mean(1 - axis)
            assert jumps[-1] <= 1.25 * jumps[:-1].max()


def test_overcast_runs_from_featureless_to_rugged() -> None:
    """Relative spread over 32 x 32 pixels: real Landsat clouds have 0.002 to 0.3, half of them below 0.06."""
    spreads = []
    for seed in range(40):
        picture, _ = composite_clouds(np.full((1, *SHAPE), 0.05, np.float32), field("overcast", seed), ("red",))
        window = picture[0, :32, :32]
        spreads.append(window.std() / window.mean())
    assert min(spreads) < 0.01
    assert 0.01 < np.median(spreads) < 0.1
    assert max(spreads) > 0.12
