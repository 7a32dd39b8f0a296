"""Fine texture: known answers, and what it must not be moved by."""

import numpy as np
import pytest

from cloud_assets.patches.preprocessing import fine_texture
from cloud_assets.simulation.clouds import CLEAR_SKY
from cloud_assets.simulation.ground import GroundRecipe
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch

EVERYWHERE = np.ones((128, 128), bool)
SINGLE, BLOCKS = 0, 1


def picture(grain: float, noise: float, bands: int = 4, side: int = 128) -> np.ndarray:
    """A white surface with a grain that all bands share, and noise that each has for itself."""
    rng = np.random.default_rng(0)
    shared = grain * rng.standard_normal((side, side))
    return (0.7 + shared + noise * rng.standard_normal((bands, side, side))).astype(np.float32)


def contrast(texture: np.ndarray) -> np.ndarray:
    """Back from the scale of the channels to reflectance."""
    return 10 ** (texture * 3 - 4)


@pytest.mark.parametrize("grain", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_it_measures_the_grain_that_bands_share_under_their_own_noise(grain: float, noise: float) -> None:
    texture = fine_texture(picture(grain, noise * grain), EVERYWHERE)
    # Of white noise, eight ninths of the variance are left when the mean of nine pixels is taken away.
    assert np.median(contrast(texture[SINGLE])) == pytest.approx(grain * np.sqrt(8 / 9), rel=0.1)
    # Means of 25 pixels less those of 225 keep 1/25 - 1/225 of it.
    assert np.median(contrast(texture[BLOCKS])) == pytest.approx(grain * np.sqrt(1 / 25 - 1 / 225), rel=0.2)


def test_noise_alone_is_less_than_a_third_of_itself() -> None:
    texture = fine_texture(picture(0.0, 0.003), EVERYWHERE)
    assert np.percentile(contrast(texture[SINGLE]), 95) < 0.001


def test_an_even_slope_has_none() -> None:
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, 128, dtype=np.float32), (4, 128, 128))
    texture = fine_texture(np.ascontiguousarray(ramp), EVERYWHERE)
    assert not texture[:, :, 40:-40].any()


def test_the_edge_of_the_data_is_no_texture() -> None:
    valid = np.add.outer(np.arange(128), np.arange(128)) > 100
    flat = np.full((4, 128, 128), 0.6, np.float32) * valid
    assert not fine_texture(flat, valid).any()
    grainy = picture(0.01, 0.001) * valid
    beside = fine_texture(grainy.astype(np.float32), valid)
    far = np.add.outer(np.arange(128), np.arange(128)) > 115
    assert np.median(contrast(beside[SINGLE][far])) == pytest.approx(0.01 * np.sqrt(8 / 9), rel=0.1)
    assert not beside[:, ~valid].any()


def test_it_depends_on_the_surroundings_of_a_pixel_only_and_turns_with_the_picture() -> None:
    large = picture(0.005, 0.002, side=192)
    whole = fine_texture(large, np.ones((192, 192), bool))
    cut = fine_texture(np.ascontiguousarray(large[:, 32:160, 32:160]), EVERYWHERE)
    np.testing.assert_allclose(cut[:, 32:-32, 32:-32], whole[:, 64:128, 64:128], atol=1e-5)
    turned = fine_texture(np.ascontiguousarray(np.rot90(large, axes=(1, 2))), np.ones((192, 192), bool))
    np.testing.assert_allclose(turned, np.rot90(whole, axes=(1, 2)), atol=1e-5)


def test_simulated_ice_sheets_may_be_grainy_without_anything_larger() -> None:
    recipe = SimulationRecipe(ground=GroundRecipe(biomes=("ice sheet",)), clouds=CLEAR_SKY)
    assert np.quantile(finer(recipe), 0.75) > 0.05


def test_simulated_overcast_is_smoother_the_closer_one_looks() -> None:
    overcast = CLEAR_SKY.model_copy(update={"none": 0.0, "overcast": 1.0})
    assert np.quantile(finer(SimulationRecipe(clouds=overcast)), 0.9) < 0.0


def finer(recipe: SimulationRecipe) -> list[float]:
    """How much more contrast there is between pixels than between blocks of them."""
    textures = (
        fine_texture(np.minimum(patch.reflectance, np.float32(1.2)), patch.valid)
        for patch in (
            simulate_patch(patch_generator(0, number), 96, ("red", "green", "blue", "nir"), recipe)
            for number in range(40)
        )
    )
    return [float(np.median(texture[SINGLE] - texture[BLOCKS])) for texture in textures]
