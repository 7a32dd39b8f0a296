"""The models that come with the package: whole, small, good at what they promise, and a start for other trainings."""

import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.errors import InvalidModel
from cloud_assets.families import FAMILIES, load_predictor
from cloud_assets.families.segmentation.metrics import fit_brightness_threshold
from cloud_assets.families.segmentation.recipe import Segmentation, SegmentationSection
from cloud_assets.inference.bundle import ModelBundle, shipped_bundle
from cloud_assets.inference.predictor import Predictor
from cloud_assets.networks.pretrained import read_weights
from cloud_assets.networks.shipped import SHIPPED, SIMULATION, SIMULATION_MODEL, SIMULATION_WEIGHTS
from cloud_assets.networks.specifications import EfficientNetUNet
from cloud_assets.patches.cutting import cut_patches
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.statistics import confusion_counts, ratios
from cloud_assets.tasks.cloudsen12_segmentation import TASK as CLOUDSEN12
from cloud_assets.tasks.landsat_segmentation import TASK as LANDSAT

ROOT = Path(__file__).resolve().parents[2]
NETWORK = EfficientNetUNet(encoder="efficientnet-b2", encoder_weights=SIMULATION)
UNSEEN_SEED = 4_000_037
FOUR_ORIENTATIONS, MIRRORED_BORDER = "test_time_augmentation", "mirrored_border"


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return shipped_bundle(SIMULATION)


@pytest.fixture(scope="module", params=["simulation", "simulation-fast"])
def either(request: pytest.FixtureRequest) -> ModelBundle:
    return shipped_bundle(request.param)


def iou(predict: Callable[[np.ndarray], np.ndarray], store: PatchStore) -> float:
    """Of cloud against the rest, from a function that makes masks (N, H, W) of digital numbers (N, C, H, W)."""
    counts = np.zeros(4, np.int64)
    for start in range(0, len(store), 8):
        truth, mask = store.masks[start : start + 8], predict(store.array()[start : start + 8])
        scored = (truth != UNLABELLED) & (mask != UNLABELLED)
        counts += confusion_counts(*(np.isin(codes, (THICK_CLOUD, THIN_CLOUD))[scored] for codes in (truth, mask)))
    return float(ratios(counts)["iou"])


def quick(bundle: ModelBundle, **details: object) -> Predictor:
    """In one orientation: four times as fast."""
    return load_predictor(bundle.with_card(details={**bundle.card.details, FOUR_ORIENTATIONS: False, **details}), "cpu")


def masks(bundle: ModelBundle) -> Callable[[np.ndarray], np.ndarray]:
    predictor = quick(bundle)
    return lambda dn: predictor.predict(dn)["mask"]


def test_it_is_packed_and_small() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert data["cloud_assets.networks"] == [f"{SIMULATION_MODEL.name}/*"]
    assert SIMULATION_WEIGHTS.stat().st_size < 25e6


def test_its_card_says_where_it_comes_from(either: ModelBundle) -> None:
    card = either.card
    assert card.is_synthetic_training_data
    assert card.network.build(card.in_channels, card.out_channels, pretrained=False) is not None
    assert "/" not in card.training.recipe["network"]["encoder_weights"]
    assert card.details[MIRRORED_BORDER] == 32


def test_it_finds_simulated_clouds_better_than_a_brightness_threshold_that_knows_the_truth(
    either: ModelBundle, tmp_path: Path
) -> None:
    recipe = LANDSAT.variants["unet"]
    assert isinstance(recipe, Segmentation)
    store = simulated_store(
        tmp_path, instrument="landsat8_l1", bands=("red", "green", "blue", "nir"), size=128, count=24,
        seed=UNSEEN_SEED, recipe=recipe.simulation, progress=False,
    )  # fmt: skip
    brightness = fit_brightness_threshold(store, np.arange(len(store)), 1000)
    assert brightness is not None
    assert iou(masks(either), store) > iou(brightness.mask, store) + 0.05


def test_with_a_mirrored_border_the_edge_of_a_patch_is_nearer_to_what_its_true_surroundings_give(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    store = simulated_store(
        tmp_path, instrument="landsat8_l1", bands=("red", "green", "blue", "nir"), size=256, count=16,
        seed=UNSEEN_SEED, recipe=LANDSAT.variants["unet"].simulation, progress=False,  # type: ignore[union-attr]
    )  # fmt: skip
    whole, inner = store.array(), store.array()[..., 64:192, 64:192]
    known = quick(bundle, **{MIRRORED_BORDER: 0}).predict(whole)["cloud_probability"][:, 64:192, 64:192]
    is_edge = np.ones((128, 128), bool)
    is_edge[16:-16, 16:-16] = False
    differences = {
        border: np.abs(quick(bundle, **{MIRRORED_BORDER: border}).predict(inner)["cloud_probability"] - known)
        for border in (0, 32)
    }
    assert differences[32][:, is_edge].mean() < 0.9 * differences[0][:, is_edge].mean()


def test_it_finds_real_clouds_as_tightly_or_generously_as_asked_for(
    either: ModelBundle, real_data: Path, tmp_path: Path
) -> None:
    store = cut_patches(Cloud38().catalog(real_data), LANDSAT.patches, tmp_path / "patches")
    strict = FAMILIES["segmentation"].at_operating_point(either, "strict")
    assert iou(masks(strict), store) > 0.85
    assert iou(masks(either), store) > 0.83


def test_there_is_a_faster_and_a_slower_way_to_use_it() -> None:
    ways = {name: shipped_bundle(name).card for name in SHIPPED}
    assert {name: card.details[FOUR_ORIENTATIONS] for name, card in ways.items()} == {
        "simulation": False, "simulation-fast": False, "simulation-large": True,
    }  # fmt: skip
    assert {name: card.network.coarsening for name, card in ways.items()} == {
        "simulation": Fraction(4, 3), "simulation-fast": 2, "simulation-large": 1,
    }  # fmt: skip


def test_its_card_offers_operating_points(either: ModelBundle) -> None:
    points = SegmentationSection.of(either.card).operating_points
    assert points is not None
    assert either.card.threshold is not None
    assert points["balanced"].threshold == either.card.threshold.value
    assert points["sensitive"].recall > points["balanced"].recall > points["strict"].recall
    assert points["sensitive"].precision < points["balanced"].precision < points["strict"].precision


def test_one_logit_of_cloud_starts_with_the_answers_of_the_four_classes(bundle: ModelBundle, tmp_path: Path) -> None:
    bands = ("red", "green", "blue", "nir")
    store = simulated_store(
        tmp_path / "patches", instrument="sentinel2_l1c", bands=bands, size=128, count=12, seed=UNSEEN_SEED
    )
    pixels, valid = bundle.card.preprocessing.for_instrument("sentinel2_l1c")(store.array())
    with torch.inference_mode():
        given = torch.from_numpy(pixels)
        four = bundle.with_card(network=NETWORK).network()(given).softmax(1)[:, [THICK_CLOUD, THIN_CLOUD]].sum(1)
        one = NETWORK.build(6, 1).eval()(given)[:, 0].sigmoid()
    same = ((four > 0.5) == (one > 0.5)).numpy()[valid]
    assert 0.1 < (four > 0.5).numpy()[valid].mean() < 0.9
    assert same.mean() > 0.95


def test_a_training_can_start_from_it(bundle: ModelBundle) -> None:
    started = NETWORK.build(6, 4).state_dict()
    shipped = bundle.network().state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in shipped.items())
    assert {tensor.dtype for tensor in started.values() if tensor.is_floating_point()} == {torch.float32}


def test_other_classes_get_a_last_layer_of_their_own() -> None:
    torch.manual_seed(0)
    fresh = EfficientNetUNet(encoder="efficientnet-b2").build(6, 3).state_dict()
    torch.manual_seed(0)
    started = NETWORK.build(6, 3).state_dict()
    weights = read_weights(SIMULATION_WEIGHTS)
    for name, tensor in started.items():
        head = name.startswith("segmentation_head.")
        assert torch.equal(tensor, fresh[name] if head else weights[name].to(tensor.dtype)), name


def test_other_bands_and_encoders_are_refused_with_advice() -> None:
    with pytest.raises(InvalidModel, match=r"not for efficientnet-b2 on 13\. Set encoder_weights: none"):
        NETWORK.build(13, 1)
    with pytest.raises(InvalidModel, match=r"not for efficientnet-b0 on 6\."):
        EfficientNetUNet(encoder="efficientnet-b0", encoder_weights=SIMULATION).build(6, 1)


@pytest.mark.parametrize("task", [CLOUDSEN12, LANDSAT], ids=lambda task: task.name)
def test_the_tasks_start_from_it_on_its_bands_and_scale(task: object, bundle: ModelBundle) -> None:
    recipe = task.variants["unet_efficientnet_b2"]  # type: ignore[attr-defined]
    assert recipe.network == NETWORK
    assert recipe.clip == bundle.card.preprocessing.clip
    assert recipe.normalisation == bundle.card.preprocessing.normalisation
    assert recipe.texture == bundle.card.preprocessing.texture
    assert recipe.mirrored_border == bundle.card.details[MIRRORED_BORDER]
    assert task.patches.bands == ("red", "green", "blue", "nir")  # type: ignore[attr-defined]
