from itertools import pairwise

import numpy as np
import pytest
import rasterio
import torch
from scipy import ndimage

from cloud_assets.errors import InvalidData, InvalidRecipe, InvalidScene
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.imagery.tiling import Tiling
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.networks.shipped import SIMULATION_MODEL
from cloud_assets.networks.specifications import UNet
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_bundle

SMALL = SceneOptions(window=64, overlap=16)


def scene(height: int = 150, width: int = 190) -> np.ndarray:
    dn = landsat_dn(cloudy_reflectance(height, width))
    rows, columns = np.mgrid[:height, :width]
    dn[:, rows + 2 * columns < height // 2] = 0
    return dn


def test_brightness_threshold_is_found_again_pixel_by_pixel(make_models):
    dn = scene()
    found = predict_array(make_models(), dn, RGBN, instrument="landsat8_l1", options=SMALL)
    valid = (dn != 0).any(axis=0)
    reflectance = dn * 2e-5 - 0.1
    expected = np.where(valid, np.where(reflectance.mean(axis=0) >= 0.3, 1, 0), 255)
    is_close_call = np.abs(reflectance.mean(axis=0) - 0.3) < 1e-4
    np.testing.assert_array_equal(found["mask"][~is_close_call], expected[~is_close_call])
    assert np.isnan(found["cloud_probability"][~valid]).all()
    assert ((found["cloud_probability"][valid] >= 0) & (found["cloud_probability"][valid] <= 1)).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (65, 63), (40, 129)])
def test_any_height_and_width_gives_a_mask_of_that_size(make_models, size):
    found = predict_array(make_models(), scene(*size), RGBN, instrument="landsat8_l1", options=SMALL)
    assert found["mask"].shape == found["cloud_probability"].shape == size


def test_a_constant_model_gives_a_constant_map_without_seams(make_models):
    models = make_models(logits=lambda pixels: np.full((len(pixels), 1, *pixels.shape[2:]), 0.3, np.float32))
    dn = scene()
    probability = predict_array(models, dn, RGBN, instrument="landsat8_l1", options=SMALL)["cloud_probability"]
    seen = probability[(dn != 0).any(axis=0)]
    assert seen.max() - seen.min() < 1e-6
    assert seen.mean() == pytest.approx(1 / (1 + np.exp(-0.3)), abs=1e-6)


@pytest.mark.parametrize("megapixels", [0.001, 0.02, 5.0])
@pytest.mark.parametrize("window", [64, 96, 512])
def test_the_mask_depends_neither_on_the_batch_nor_on_the_window(make_models, megapixels, window):
    """A model that looks at one pixel at a time must give the same mask however the scene is cut."""
    options = SceneOptions(window=window, overlap=16, batch_megapixels=megapixels)
    found = predict_array(make_models(), scene(), RGBN, instrument="landsat8_l1", options=options)
    expected = predict_array(make_models(), scene(), RGBN, instrument="landsat8_l1", options=SMALL)
    np.testing.assert_allclose(found["cloud_probability"], expected["cloud_probability"], atol=1e-6)


@pytest.mark.parametrize("border", [0, 8, 20])
@pytest.mark.parametrize("augment", [False, True])
def test_one_window_gives_what_the_predictor_gives(border, augment):
    """The scenes' path and the predictor of evaluation and serving are one model."""
    details = {"cloud_classes": [1], "mirrored_border": border, "test_time_augmentation": augment}
    bundle = make_bundle(network=UNet(width=4, depth=2), details=details)
    dn = scene(60, 50)
    options = SceneOptions(window=128, overlap=2 * border, back_end="torch")
    found = predict_array(bundle, dn, RGBN, instrument="landsat8_l1", options=options)
    expected = SegmentationPredictor(bundle, "cpu").predict(dn[np.newaxis])
    np.testing.assert_array_equal(found["mask"], expected["mask"][0])
    valid = (dn != 0).any(axis=0)
    np.testing.assert_allclose(found["cloud_probability"][valid], expected["cloud_probability"][0][valid], atol=1e-6)


def test_the_model_that_comes_with_the_package_sees_a_small_scene_as_it_sees_a_patch():
    """Its card has a mirrored border, test-time augmentation and texture, which is measured before mirroring."""
    bundle = ModelBundle.open(SIMULATION_MODEL)
    dn = landsat_dn(cloudy_reflectance(96, 64))
    options = SceneOptions(window=192, back_end="torch", device="cpu")
    found = predict_array(bundle, dn, RGBN, instrument="landsat8_l1", options=options)
    expected = SegmentationPredictor(bundle, "cpu").predict(dn[np.newaxis])
    np.testing.assert_allclose(found["cloud_probability"], expected["cloud_probability"][0], atol=1e-5)
    np.testing.assert_array_equal(found["mask"], expected["mask"][0])


def test_many_windows_give_what_the_predictor_gives_where_their_edges_are_far():
    details = {"cloud_classes": [1], "mirrored_border": 8, "test_time_augmentation": True}
    bundle = make_bundle(network=UNet(width=4, depth=1), details=details)
    dn = scene(150, 190)
    options = SceneOptions(window=64, overlap=32, back_end="torch")
    found = predict_array(bundle, dn, RGBN, instrument="landsat8_l1", options=options)["cloud_probability"]
    expected = SegmentationPredictor(bundle, "cpu").predict(dn[np.newaxis])["cloud_probability"][0]
    valid = (dn != 0).any(axis=0)
    difference = np.abs(found - expected)[valid]
    assert difference.max() < 0.02
    assert np.mean(difference) < 1e-3


def test_steps_across_window_borders_are_as_elsewhere_on_a_real_scene(real_data, make_models):
    """With a model that, as convolutions do, takes what lies beyond its window for black."""

    def brightness_of_the_surroundings(pixels):
        means = ndimage.uniform_filter(pixels.mean(axis=1, keepdims=True), (0, 0, 9, 9), mode="constant")
        return ((means - 0.15) * 20).astype(np.float32)

    (path,) = (real_data / "scenes").glob("*.tif")
    with rasterio.open(path) as raster:
        dn = raster.read(window=((0, 288), (0, 448)))
    models = make_models(logits=brightness_of_the_surroundings)

    def predicted(window: int, overlap: int) -> np.ndarray:
        options = SceneOptions(window=window, overlap=overlap)
        return predict_array(models, dn, RGBN, instrument="landsat8_l1", options=options)["cloud_probability"]

    def steps(overlap: int) -> float:
        """Mean step at the windows' borders, next to that at the same places without any border."""
        axis = Tiling.plan(288, 448, 96, overlap).horizontal
        borders = [(left + axis.size + right) // 2 - 1 for left, right in pairwise(axis.starts)]
        columns = [column + shift for column in borders for shift in range(-8, 9)]
        at_borders, elsewhere = (np.abs(np.diff(p))[:, columns].mean() for p in (predicted(96, overlap), whole))
        return float(at_borders / elsewhere)

    whole = predicted(512, 0)
    assert steps(32) < 1.02
    assert steps(0) > 1.5, "the measure must see borders where there are some"


def test_four_classes_keep_their_codes(make_models):
    def one_class_a_quarter(pixels):
        logits = np.zeros((len(pixels), 4, *pixels.shape[2:]), np.float32)
        band = np.clip((pixels.mean(axis=1) * 4).astype(int), 0, 3)
        np.put_along_axis(logits, band[:, np.newaxis], 20.0, axis=1)
        return logits

    models = make_models(
        make_bundle(classes=("clear", "thick cloud", "thin cloud", "cloud shadow")), logits=one_class_a_quarter
    )
    reflectance = np.repeat(np.array([0.1, 0.35, 0.6, 0.9]), 40)[np.newaxis, np.newaxis] * np.ones((4, 70, 1))
    dn = landsat_dn(reflectance)
    found = predict_array(models, dn, RGBN, instrument="landsat8_l1", options=SMALL)
    np.testing.assert_array_equal(found["mask"][35, [20, 60, 100, 140]], [0, 1, 2, 3])
    assert found["cloud_probability"][35, 60] > 0.99
    assert found["cloud_probability"][35, 140] < 0.01


def test_bands_come_in_any_order_and_more_than_needed(make_models):
    dn = scene()
    swapped = np.concatenate([dn[[3, 1, 2, 0]], dn[:1]])
    names = ("nir", "B3", "blue", "red", "swir16")
    found = predict_array(make_models(), swapped, names, instrument="landsat8_l1", options=SMALL)
    expected = predict_array(make_models(), dn, RGBN, instrument="landsat8_l1", options=SMALL)
    np.testing.assert_array_equal(found["mask"], expected["mask"])


def test_a_model_reads_another_instrument_by_its_reflectance(make_models):
    reflectance = cloudy_reflectance(80, 80)
    as_sentinel2 = np.rint(reflectance * 1e4).astype(np.uint16)
    found = predict_array(make_models(), as_sentinel2, RGBN, instrument="sentinel2_l1c", options=SMALL)
    expected = predict_array(make_models(), landsat_dn(reflectance), RGBN, instrument="landsat8_l1", options=SMALL)
    np.testing.assert_allclose(found["cloud_probability"], expected["cloud_probability"], atol=2e-3)


def test_the_offset_of_training_products_is_not_taken_for_the_scenes(make_models):
    """A reader hands out the profile's digital numbers, whatever offset the training data had."""
    shifted = Preprocessing(instrument="landsat8_l1", bands=RGBN, clip=(0, 1), offset=-0.3)
    found = predict_array(
        make_models(make_bundle(preprocessing=shifted)), scene(), RGBN, instrument="landsat8_l1", options=SMALL
    )
    expected = predict_array(make_models(), scene(), RGBN, instrument="landsat8_l1", options=SMALL)
    np.testing.assert_array_equal(found["mask"], expected["mask"])


def test_nodata_takes_no_part_in_patch_statistics(make_models):
    """Half a window of nodata must not change what the other half looks like to the network."""
    card = Preprocessing(instrument="landsat8_l1", bands=RGBN, clip=(0, 1), normalisation="patch_standardise")
    seen = []

    def note(pixels):
        seen.append(pixels.copy())
        return np.zeros((len(pixels), 1, *pixels.shape[2:]), np.float32)

    dn = landsat_dn(cloudy_reflectance(64, 64))
    dn[:, :, :32] = 0
    models = make_models(make_bundle(preprocessing=card), logits=note)
    predict_array(models, dn, RGBN, instrument="landsat8_l1", options=SceneOptions(window=64, overlap=0))
    half = seen[0][0][:, :, 32:]
    np.testing.assert_allclose(half.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(half.std(axis=(1, 2)), 1, atol=1e-3)
    assert (seen[0][0][:, :, :32] == 0).all()


def test_test_time_augmentation_averages_over_flips(make_models):
    """A model that answers by position inside the window is made symmetric."""

    def brighter_to_the_right(pixels):
        columns = np.linspace(-4, 4, pixels.shape[3], dtype=np.float32)
        return np.broadcast_to(columns, (len(pixels), 1, *pixels.shape[2:])).copy()

    options = SceneOptions(window=64, overlap=0, test_time_augmentation=True)
    models = make_models(options=options, logits=brighter_to_the_right)
    found = predict_array(models, scene(64, 64) + 1, RGBN, instrument="landsat8_l1", options=options)
    np.testing.assert_allclose(found["cloud_probability"], 0.5, atol=1e-6)


def test_torchs_threads_are_as_before(make_models):
    before = torch.get_num_threads()
    predict_array(make_models(), scene(), RGBN, instrument="landsat8_l1", options=SMALL)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("bands", "instrument", "error", "message"),
    [
        (RGBN, "spot", InvalidScene, "no instrument 'spot'"),
        (RGBN[:3], "landsat8_l1", InvalidData, "3 different band names"),
        (("red", "red", "blue", "nir"), "landsat8_l1", InvalidData, "different band names"),
        (("red", "green", "blue", "swir16"), "landsat8_l1", InvalidData, r"B5 \(nir\)"),
        (("B04", "B03", "B02", "B08"), "sentinel2_l2a", InvalidScene, "holds surface reflectance"),
    ],
)
def test_wrong_input_is_named(make_models, bands, instrument, error, message):
    with pytest.raises(error, match=message):
        predict_array(make_models(), scene(), bands, instrument=instrument, options=SMALL)


def test_another_level_can_be_accepted(make_models):
    options = SceneOptions(window=64, overlap=16, accept_other_level=True)
    found = predict_array(make_models(options=options), scene(), RGBN, instrument="sentinel2_l2a", options=options)
    assert found["mask"].shape == (150, 190)


def test_radar_is_no_input_for_a_model_of_reflectance(make_models):
    with pytest.raises(InvalidRecipe, match="cannot read sentinel1_grd"):
        predict_array(make_models(), np.zeros((2, 64, 64), np.float32), ("VV", "VH"), instrument="sentinel1_grd")


@pytest.mark.parametrize(("overlap", "message"), [(64, "must be smaller"), (63, "predict every pixel 4096 times")])
def test_an_overlap_of_more_than_half_a_window_is_refused(overlap, message):
    with pytest.raises(ValueError, match=message):
        SceneOptions(window=64, overlap=overlap)


def test_windows_that_are_smaller_than_the_models_border_are_refused():
    bundle = make_bundle(details={"cloud_classes": [1], "mirrored_border": 32})
    with pytest.raises(InvalidRecipe, match="too small for the border of 32 pixels"):
        predict_array(bundle, scene(), RGBN, instrument="landsat8_l1", options=SceneOptions(window=32, overlap=0))


def test_operating_points_move_the_threshold_and_older_cards_say_that_they_have_none(make_models):
    points = {
        name: {"threshold": value, "precision": 0.9, "recall": 0.9, "measured_on": "fakes"}
        for name, value in (("sensitive", 0.2), ("balanced", 0.5), ("strict", 0.9))
    }
    card = make_bundle().card
    bundle = make_bundle().with_card(details={**card.details, "operating_points": points})
    dn = scene()
    shares = []
    for point in ("sensitive", None, "balanced", "strict"):
        options = SMALL.model_copy(update={"operating_point": point})
        answer = predict_array(
            make_models(bundle, options=options), dn, RGBN, instrument="landsat8_l1", options=options
        )
        shares.append(int((answer["mask"] == 1).sum()))
    assert shares[0] > shares[1] == shares[2] > shares[3] > 0
    with pytest.raises(InvalidRecipe, match=r"offers no operating point 'strict' \(there are: none\)"):
        predict_array(make_models(options=options), dn, RGBN, instrument="landsat8_l1", options=options)


def test_reflectance_and_digital_numbers_have_one_mask(make_models):
    reflectance = cloudy_reflectance(64, 96)
    models = make_models()
    from_numbers = predict_array(models, landsat_dn(reflectance), RGBN, instrument="landsat8_l1")
    from_reflectance = predict_array(models, reflectance.astype(np.float32), RGBN, instrument="landsat8_l1")
    np.testing.assert_array_equal(from_reflectance["mask"], from_numbers["mask"])
