from collections.abc import Callable

import numpy as np
import pytest
import torch

from cloud_assets.errors import InvalidData, InvalidModel
from cloud_assets.families import load_predictor
from cloud_assets.families.segmentation.predictor import decide
from cloud_assets.inference.back_ends import class_probability
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.predictor import reflect_pad
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.preprocessing import coarser, resized

Bundle = Callable[..., ModelBundle]


def digital_numbers(count: int, height: int = 32, width: int = 32, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 5000, (count, bands, height, width)).astype(np.uint16)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 45), (1, 1), (5, 3), (64, 33)])
def test_any_size(make_bundle: Bundle, height: int, width: int) -> None:
    answer = load_predictor(make_bundle()).predict(digital_numbers(2, height, width))
    assert answer["mask"].shape == (2, height, width)
    assert answer["mask"].dtype == np.uint8
    assert answer["cloud_probability"].dtype == np.float32
    assert answer["class_probability"].shape == (2, 2, height, width)


def test_a_mask_does_not_depend_on_its_company(make_bundle: Bundle) -> None:
    predictor = load_predictor(make_bundle())
    dn = digital_numbers(5)
    together = predictor.predict(dn)
    for index in range(5):
        alone = predictor.predict(dn[index : index + 1])
        for name in together:
            np.testing.assert_array_equal(alone[name][0], together[name][index])


def test_no_patches_give_no_masks(make_bundle: Bundle) -> None:
    answer = load_predictor(make_bundle()).predict(digital_numbers(0))
    assert answer["mask"].shape == (0, 32, 32)


def test_it_agrees_with_the_bare_network(make_bundle: Bundle) -> None:
    bundle = make_bundle()
    dn = digital_numbers(2)
    pixels = torch.from_numpy(np.clip(dn / 10000, 0, 0.4).astype(np.float32) / np.float32(0.4))
    with torch.inference_mode():
        expected = torch.sigmoid(bundle.network()(pixels))[:, 0].numpy()
    answer = load_predictor(bundle).predict(dn)
    np.testing.assert_allclose(answer["cloud_probability"], expected, atol=0.02)  # bf16 where the processor has it
    np.testing.assert_array_equal(answer["mask"], answer["cloud_probability"] >= 0.5)


def test_nodata_is_255_and_nowhere_else(make_bundle: Bundle) -> None:
    dn = digital_numbers(1)
    dn[0, :, :, :7] = 0
    mask = load_predictor(make_bundle()).predict(dn)["mask"]
    assert (mask[0, :, :7] == 255).all()
    assert (mask[0, :, 7:] != 255).all()


def test_the_average_over_flips_commutes_with_flips(make_bundle: Bundle) -> None:
    predictor = load_predictor(make_bundle(details={"cloud_classes": [1], "test_time_augmentation": True}))
    plain = load_predictor(make_bundle())
    dn = digital_numbers(1)
    flipped = np.ascontiguousarray(dn[..., ::-1])
    np.testing.assert_allclose(
        predictor.predict(flipped)["cloud_probability"],
        predictor.predict(dn)["cloud_probability"][..., ::-1],
        atol=1e-6,
    )
    difference = plain.predict(flipped)["cloud_probability"] - plain.predict(dn)["cloud_probability"][..., ::-1]
    assert np.abs(difference).max() > 1e-4


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 45), (1, 1), (2, 64)])
def test_a_mirrored_border_is_what_a_mirrored_patch_gives(make_bundle: Bundle, height: int, width: int) -> None:
    dn = digital_numbers(2, height, width)
    dn[1, :, 0] = 0
    bordered = load_predictor(make_bundle(details={"cloud_classes": [1], "mirrored_border": 20})).predict(dn)
    margins = ((0, 0), (0, 0), (20, 20), (20, 20))
    mirrored = load_predictor(make_bundle()).predict(np.pad(dn, margins, mode="reflect"))
    for name, values in bordered.items():
        np.testing.assert_array_equal(values, mirrored[name][..., 20 : 20 + height, 20 : 20 + width])
    assert (bordered["mask"][1, 0] == 255).all()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (1, 32, 32, 3), (1, 3, 0, 5)])
def test_a_wrong_shape_is_told(make_bundle: Bundle, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidData, match=r"3, height, width\), bands B04, B03, B02 of sentinel2_l1c"):
        load_predictor(make_bundle()).predict(np.ones(shape, np.uint16))


@pytest.mark.parametrize(("block", "height", "width"), [(2, 64, 96), (4 / 3, 64, 64), (4 / 3, 61, 35), (2, 1, 3)])
def test_a_network_on_larger_pixels_answers_as_on_a_picture_of_them(
    make_bundle: Bundle, block: float, height: int, width: int
) -> None:
    network = EfficientNetUNet(encoder="efficientnet-b0", block=block)
    side = network.coarsening
    on_blocks = make_bundle(network=network, details={"cloud_classes": [1], "mirrored_border": 32})
    details = {"cloud_classes": [1], "mirrored_border": int(32 / side)}
    plain = on_blocks.with_card(network=EfficientNetUNet(encoder="efficientnet-b0"), details=details)
    dn = digital_numbers(2, height, width)
    larger = coarser(dn, np.ones((2, height, width), bool), side)[0]
    expected = resized(load_predictor(plain).predict(larger)["cloud_probability"], side)[:, :height, :width]
    answer = load_predictor(on_blocks).predict(dn)
    np.testing.assert_allclose(answer["cloud_probability"], expected, atol=1e-6)
    assert answer["mask"].shape == (2, height, width)


def test_decisions_by_hand() -> None:
    # Columns: clear, thick, thin, shadow; cloud where thick + thin reach 0.5.
    probability = np.array(
        [[0.6, 0.3, 0.1, 0.0], [0.4, 0.2, 0.3, 0.1], [0.1, 0.0, 0.3, 0.6], [0.5, 0.26, 0.24, 0.0]], np.float32
    ).T[None, :, None]
    valid = np.ones((1, 1, 4), bool)
    assert decide(probability, valid, [1, 2], 0.5).tolist() == [[[0, 2, 3, 1]]]
    assert decide(probability, valid, [1, 2], 0.3).tolist() == [[[1, 2, 2, 1]]]
    valid[0, 0, 1] = False
    assert decide(probability, valid, [1, 2], 0.5).tolist() == [[[0, 255, 3, 1]]]


def test_one_logit_is_the_probability_of_cloud() -> None:
    both = class_probability(torch.tensor([[[[0.0]]], [[[2.0]]]]))
    np.testing.assert_allclose(both[:, 1].flatten(), [0.5, 0.880797], rtol=1e-5)
    np.testing.assert_allclose(both.sum(dim=1).flatten(), 1)


def test_mirrored_margins() -> None:
    pixels = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    assert reflect_pad(pixels, 1) is pixels
    assert reflect_pad(pixels, 4)[0, 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1], [3, 4, 5, 4]]
    assert reflect_pad(pixels, 4, 1)[0, 0, :, :6].tolist() == [[4, 3, 4, 5, 4, 3], [1, 0, 1, 2, 1, 0]] * 2
    assert reflect_pad(pixels, 4, 1).shape == (1, 1, 4, 8)


def test_a_card_without_threshold_cannot_decide(make_bundle: Bundle) -> None:
    with pytest.raises(InvalidModel, match="no decision threshold"):
        load_predictor(make_bundle(threshold=None))
