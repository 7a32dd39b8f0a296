import numpy as np
import pytest
import torch

from cloud_assets.errors import InvalidData
from cloud_assets.families import load_predictor
from cloud_assets.inference.bundle import ModelBundle, ModelCard, TrainingRecord
from cloud_assets.networks.specifications import ResNetGenerator
from cloud_assets.patches.preprocessing import Preprocessing

BANDS = ("B04", "B03", "B02", "B08")


def make_bundle(ndvi: bool = False) -> ModelBundle:
    target = Preprocessing(instrument="sentinel2_l1c", bands=BANDS, clip=(0, 1), scaled_to=(-1, 1))
    record = TrainingRecord(
        recipe={}, seed=0, epochs_run=1, best_epoch=0, history=({"val_psnr": 20.0},), patches_version="p",
        splits_version="s", fingerprint="f", seconds=1.0, device="cpu",
    )  # fmt: skip
    card = ModelCard(
        task="sar_to_optical",
        variant="tiny",
        family="translation",
        network=ResNetGenerator(width=4, blocks=1),
        in_channels=2,
        out_channels=4 + ndvi,
        preprocessing=Preprocessing(instrument="sentinel1_grd", bands=("VV", "VH"), clip=(-25, 0), scaled_to=(-1, 1)),
        training=record,
        details={"target": target.model_dump(mode="json"), "input_role": "sar", "output_role": "optical"},
    )
    torch.manual_seed(0)
    return ModelBundle(card, card.network.build(2, 4 + ndvi).state_dict())


def radar(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-24, -2, (1, 2, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (5, 3)])
def test_any_size(shape: tuple[int, int]) -> None:
    answer = load_predictor(make_bundle()).predict(radar(*shape))
    assert answer["reflectance"].shape == (1, 4, *shape)
    assert answer["reflectance"].dtype == np.float32
    assert ((answer["reflectance"] >= 0) & (answer["reflectance"] <= 1)).all()
    assert set(answer) == {"reflectance"}


def test_a_further_output_is_ndvi() -> None:
    answer = load_predictor(make_bundle(ndvi=True)).predict(radar(32, 32))
    assert answer["reflectance"].shape == (1, 4, 32, 32)
    assert answer["ndvi"].shape == (1, 32, 32)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_no_reflectance_where_there_is_no_radar(value: float) -> None:
    dn = radar(32, 32)
    dn[0, 0, 4:9, 7:11] = value
    answer = load_predictor(make_bundle()).predict(dn)["reflectance"]
    missing = np.zeros((32, 32), bool)
    missing[4:9, 7:11] = True
    np.testing.assert_array_equal(np.isnan(answer), np.broadcast_to(missing, answer.shape))


def test_linear_power_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"linear power.*log10"):
        load_predictor(make_bundle()).predict(10 ** (radar(32, 32) / 10))


def test_wrong_number_of_bands_is_refused() -> None:
    with pytest.raises(InvalidData, match="VV, VH"):
        load_predictor(make_bundle()).predict(radar(32, 32)[:, :1])


def test_a_patch_s_answer_does_not_depend_on_its_company() -> None:
    predictor = load_predictor(make_bundle())
    first, second = radar(32, 32), radar(32, 32)[..., ::-1] - 1
    together = predictor.predict(np.concatenate([first, second]))["reflectance"]
    np.testing.assert_array_equal(together[:1], predictor.predict(first)["reflectance"])
