from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.errors import InvalidRecipe, UnknownBand
from cloud_assets.patches.preprocessing import Preprocessing, coarser, resized

BANDS = ("red", "green", "nir")


def landsat(**fields: object) -> Preprocessing:
    return Preprocessing(**{"instrument": "landsat8_l1", "bands": BANDS, **fields})


def numbers(shape: tuple[int, ...] = (2, 3, 16, 16), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(6_000, 50_000, shape, dtype=np.uint16)


def test_range_maps_reflectance_onto_zero_to_one() -> None:
    dn = np.array([5_000, 15_000, 25_000, 40_000], np.uint16).reshape(1, 1, 4)
    scaled, valid = Preprocessing(instrument="landsat8_l1", bands=("red",), clip=(0.0, 0.4))(dn)
    np.testing.assert_allclose(scaled[0, 0], [0.0, 0.5, 1.0, 1.0], atol=1e-5)
    assert valid.all()


def test_radar_is_scaled_to_minus_one_to_one() -> None:
    sar = Preprocessing(instrument="sentinel1_grd", bands=("VV", "VH"), clip=(-25.0, 0.0), scaled_to=(-1.0, 1.0))
    decibels = np.array([[-30, -25, -12.5, 0, 3, np.nan], [-25, -25, -25, -25, -25, -25]], np.float32)[:, None]
    scaled, valid = sar(decibels)
    np.testing.assert_allclose(scaled[0, 0], [-1, -1, 0, 1, 1, 0], atol=1e-6)
    assert valid[0].tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("normalisation", ["range", "standardise", "patch_standardise"])
def test_result_is_float32_whole_batches_like_single_patches(normalisation: str) -> None:
    preprocessing = landsat(normalisation=normalisation, mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3))
    dn = numbers()
    dn[1, :, :5] = 0
    scaled, valid = preprocessing(dn)
    assert (scaled.dtype, scaled.shape, valid.dtype, valid.shape) == (np.float32, dn.shape, bool, (2, 16, 16))
    for patch, expected, there in zip(dn, scaled, valid, strict=True):
        single, single_valid = preprocessing(patch)
        np.testing.assert_array_equal(single, expected)
        np.testing.assert_array_equal(single_valid, there)
    assert not scaled[1, :, :5].any()
    assert not valid[1, :5].any()
    assert valid[1, 5:].all()


def test_digital_numbers_below_the_offset_do_not_wrap_around() -> None:
    """Baseline 04.00 of Sentinel-2: DN 500 is a reflectance of -0.05, not of 6.5."""
    baseline4 = Preprocessing(instrument="sentinel2_l1c", bands=("B04",), offset=-0.1, clip=(-0.2, 1.0))
    physical, _ = baseline4.to_physical(np.array([[[500, 1000, 11_000]]], np.uint16))
    np.testing.assert_allclose(physical[0, 0], [-0.05, 0.0, 1.0], atol=1e-6)


def test_the_input_is_not_changed() -> None:
    dn = numbers()
    before = dn.copy()
    preprocessing = landsat(normalisation="patch_standardise")
    preprocessing(dn)
    np.testing.assert_array_equal(dn, before)
    physical, valid = preprocessing.to_physical(dn)
    kept = physical.copy()
    preprocessing.normalise(physical, valid)
    np.testing.assert_array_equal(physical, kept)


def test_patch_statistics_ignore_gain_offset_and_nodata() -> None:
    preprocessing = landsat(normalisation="patch_standardise", clip=(-1.0, 2.0))
    rng = np.random.default_rng(3)
    reflectance = rng.uniform(0.1, 0.3, (3, 32, 32)).astype(np.float32)
    valid = rng.random((32, 32)) > 0.3
    reflectance[:, ~valid] = 0
    gain, offset = rng.uniform(0.5, 2, (3, 1, 1)), rng.uniform(-0.1, 0.1, (3, 1, 1))
    other_sensor = (reflectance * gain + offset).astype(np.float32) * valid
    one, other = (preprocessing.normalise(image, valid) for image in (reflectance, other_sensor))
    np.testing.assert_allclose(one, other, atol=2e-3)
    np.testing.assert_allclose(one[:, valid].mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(one[:, valid].std(axis=1), 1, atol=1e-3)
    # A brighter border without data changes nothing.
    border = reflectance.copy()
    border[:, ~valid] = 1.9
    np.testing.assert_array_equal(preprocessing.normalise(border, valid), one)


@pytest.mark.parametrize("value", [0.0, 0.123, 0.4])
def test_constant_and_empty_patches_stay_finite(value: float) -> None:
    preprocessing = landsat(normalisation="patch_standardise")
    flat = np.full((3, 8, 8), value, np.float32)
    np.testing.assert_allclose(preprocessing.normalise(flat, np.ones((8, 8), bool)), 0, atol=1e-3)
    assert not preprocessing.normalise(flat, np.zeros((8, 8), bool)).any()


def test_faint_noise_is_not_blown_up_to_contrast() -> None:
    water = (0.05 + np.random.default_rng(0).normal(0, 1e-5, (3, 32, 32))).astype(np.float32)
    scaled = landsat(normalisation="patch_standardise").normalise(water, np.ones((32, 32), bool))
    assert np.abs(scaled).max() < 0.1


@pytest.mark.parametrize("normalisation", ["range", "standardise"])
def test_denormalise_undoes_normalise_inside_the_clip_range(normalisation: str) -> None:
    preprocessing = landsat(
        normalisation=normalisation, clip=(0.0, 1.0), scaled_to=(-1, 1), mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3)
    )
    physical, valid = preprocessing.to_physical(numbers())
    back = preprocessing.denormalise(preprocessing.normalise(physical, valid))
    np.testing.assert_allclose(back, np.clip(physical, 0, 1), atol=1e-6)
    with pytest.raises(InvalidRecipe, match="cannot be undone"):
        landsat(normalisation="patch_standardise").denormalise(back)


def test_the_same_reflectance_looks_the_same_from_another_instrument() -> None:
    reflectance = np.random.default_rng(0).uniform(0.02, 0.9, (3, 8, 8)).astype(np.float32)
    trained = landsat()
    from_landsat, _ = trained(np.rint((reflectance + 0.1) / 2e-5).astype(np.uint16))
    sentinel = trained.for_instrument("sentinel2_l2a", offset=-0.1)
    assert sentinel.bands == BANDS
    from_sentinel, _ = sentinel(np.rint(reflectance * 10_000 + 1000).astype(np.uint16))
    np.testing.assert_allclose(from_landsat, from_sentinel, atol=5e-4)


def test_native_names_are_matched_by_what_they_see() -> None:
    trained = Preprocessing(instrument="sentinel2_l1c", bands=("B04", "B08"))
    assert trained.for_instrument("landsat8_l1").bands == ("red", "nir")


def test_an_instrument_that_cannot_serve_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="cannot read sentinel1_grd"):
        landsat().for_instrument("sentinel1_grd")
    with pytest.raises(UnknownBand, match="nir"):
        landsat().for_instrument("rgb_8bit")
    with pytest.raises(InvalidRecipe, match="no instrument 'modis'"):
        landsat().for_instrument("modis")


def test_own_nodata_value_counts() -> None:
    dn = numbers((3, 4, 4))
    dn[:, 0, 0] = 7_777
    _, valid = landsat(nodata=7_777)(dn)
    assert not valid[0, 0]
    assert valid.sum() == 15


def test_wrong_channel_count_is_said() -> None:
    with pytest.raises(InvalidRecipe, match=r"\(2, 4, 16, 16\); expected \(…, 3, height, width\)"):
        landsat()(numbers((2, 4, 16, 16)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalisation": "standardise"}, "needs a mean"),
        ({"clip": (0.4, 0.0)}, "must rise"),
        ({"scaled_to": (1.0, 1.0)}, "must rise"),
        ({"instrument": "modis"}, "no instrument"),
        ({"std_floor": 0.0}, "greater than 0"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        landsat(**fields)


def test_survives_a_model_card() -> None:
    preprocessing = landsat(normalisation="standardise", mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3), offset=-0.1)
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


def test_a_card_of_a_network_on_blocks_of_before_opens() -> None:
    stored = landsat(texture=True).model_dump()
    assert Preprocessing.model_validate({**stored, "texture_block": 2}) == landsat(texture=True)


def test_texture_follows_the_bands_and_leaves_them_as_they_are() -> None:
    dn = numbers((2, 3, 64, 64))
    dn[1, :, :20] = 0
    plain, valid = landsat(clip=(0.0, 1.2))(dn)
    with_texture = landsat(clip=(0.0, 1.2), texture=True)
    both, same_valid = with_texture(dn)
    assert both.shape == (2, with_texture.channels, 64, 64)
    assert both.dtype == np.float32
    assert landsat().channels == 3
    np.testing.assert_array_equal(both[:, :3], plain)
    np.testing.assert_array_equal(same_valid, valid)
    np.testing.assert_array_equal(both[0], with_texture(dn[0])[0])
    assert not both[1, :, :20].any()
    assert with_texture.for_instrument("sentinel2_l2a").channels == 5


@pytest.mark.parametrize(("instrument", "bands"), [("landsat8_l1", ("red",)), ("sentinel1_grd", ("VV", "VH"))])
def test_texture_needs_bands_of_reflectance_to_compare(instrument: str, bands: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="texture is measured between bands of reflectance"):
        Preprocessing(instrument=instrument, bands=bands, texture=True)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64])
def test_larger_pixels_are_means_of_what_was_observed(dtype: type) -> None:
    picture = np.random.default_rng(0).integers(1, 60_000, (2, 3, 50, 60)).astype(dtype)
    valid = np.ones((2, 50, 60), bool)
    valid[0, :, :7] = False
    means, known = coarser(picture, valid, Fraction(2))
    expected = picture.reshape(2, 3, 25, 2, 30, 2).mean(axis=(-3, -1))
    np.testing.assert_allclose(means[1], expected[1], atol=0.51)
    np.testing.assert_allclose(means[0, ..., 4:], expected[0, ..., 4:], atol=0.51)
    np.testing.assert_allclose(means[0, ..., 3], picture[0, :, :, 7].reshape(3, 25, 2).mean(-1), atol=0.51)
    assert not means[0, ..., :3].any()
    assert known[1].all()
    assert known[0].any(axis=0).tolist() == [False] * 3 + [True] * 27  # a half is enough


def test_missing_numbers_do_not_spread() -> None:
    picture = np.ones((1, 8, 8), np.float32)
    picture[:, :, :3] = np.nan
    means, known = coarser(picture, np.isfinite(picture[0]), Fraction(4, 3))
    assert np.isfinite(means).all()
    np.testing.assert_allclose(means[:, known], 1, rtol=1e-6)
    assert known.shape == (6, 6)


@pytest.mark.parametrize("block", [Fraction(2), Fraction(4, 3), Fraction(5, 3)])
def test_pixels_stay_where_they_are_on_the_way_to_larger_ones_and_back(block: Fraction) -> None:
    rows, columns = np.mgrid[:59, :83].astype(np.float32)
    ramp = np.stack([rows, columns])
    means, known = coarser(ramp, np.ones((59, 83), bool), block)
    back = resized(means, block)[:, :59, :83]
    assert known.all()
    np.testing.assert_allclose(back[:, 4:-8, 4:-8], ramp[:, 4:-8, 4:-8], atol=1e-3)


def test_a_network_on_larger_pixels_sees_the_picture_of_them() -> None:
    dn = numbers((2, 3, 16, 16))
    dn[0, :, :4] = 0
    preprocessing = landsat(texture=True)
    seen, known = preprocessing(dn, Fraction(2))
    means = dn.reshape(2, 3, 8, 2, 8, 2).mean(axis=(-3, -1)).round().astype(dn.dtype)
    expected, valid = preprocessing(means)
    np.testing.assert_allclose(seen, expected, atol=2e-3)
    np.testing.assert_array_equal(known, valid)
