"""Training classifiers: labels that belong to the pixels, losses that know the order, parts that stay frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cloud_assets.errors import InvalidRecipe, NoUsablePatches
from cloud_assets.families.classification.batches import (
    COVER_CELLS,
    TrainingWindows,
    ValidationWindows,
    WindowSource,
    cover_map,
)
from cloud_assets.families.classification.coverage_labels import CoverageClasses, cloud_percentage, label_windows
from cloud_assets.families.classification.predictor import ClassificationPredictor
from cloud_assets.families.classification.recipe import Classification, ClassificationLoss, Unfreezing
from cloud_assets.families.classification.train import corn_loss, cover_loss
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.classifiers import STAGES
from cloud_assets.networks.specifications import Classifier
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.statistics import fitted_preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.patch_arrays import store_arrays

BANDS = ("red", "green", "blue")
CLASSES = CoverageClasses()


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchStore, Splits]:
    """Patches with 0 to 100 % of bright cloud on dark ground, from the left."""
    count, size = 36, 40
    rng = np.random.default_rng(0)
    images = rng.integers(300, 900, (count, 3, size, size)).astype(np.uint16)
    masks = np.zeros((count, size, size), np.uint8)
    for number in range(count):
        width = round(size * (number % 12) / 11)
        images[number, :, :, :width] += 2500
        masks[number, :, :width] = 1 + number % 2
    splits = ["train"] * 12 + ["validation"] * 12 + ["test"] * 12
    store = store_arrays(
        tmp_path_factory.mktemp("cover") / "store", images, masks, bands=BANDS, instrument="sentinel2_l1c",
        official_splits=splits,
    )  # fmt: skip
    return store, GroupedSplit().split(store)


def recipe(**changes: Any) -> Classification:
    settings = {
        "network": Classifier(backbone="test_resnet", input_size=32),
        "optimisation": Optimisation(
            max_epochs=4, steps_per_epoch=10, batch_size=8, learning_rate=5e-3, precision="32", threads=1,
            scheduler="constant", weight_decay=0.0,
        ),
        "augmentation": Augmentation.none(),
        "training_windows": 60,
        "validation_windows": 30,
    }  # fmt: skip
    return Classification(**{**settings, **changes})


@pytest.fixture
def train(cover: tuple[PatchStore, Splits], tmp_path: Path) -> Callable[..., ModelBundle]:
    def make(name: str = "run", **changes: Any) -> ModelBundle:
        return train_by(recipe(**changes), TrainingRun("cover", "tiny", *cover, tmp_path / name, progress=False))

    return make


@pytest.mark.parametrize("head", ["categorical", "ordinal"])
def test_tiny_network_learns_to_tell_cover(
    train: Callable[..., ModelBundle], cover: tuple[PatchStore, Splits], head: str
) -> None:
    bundle = train(network=Classifier(backbone="test_resnet", input_size=32, head=head))  # type: ignore[arg-type]
    store, splits = cover
    assert bundle.card.out_channels == (3 if head == "ordinal" else 4)
    assert bundle.card.metrics["val_balanced_accuracy"] > 0.6
    rows = splits.indices("test")
    found = ClassificationPredictor(bundle, "cpu").predict(store.array()[rows])["class"]
    wanted = CLASSES.classify(store.index["cloud_percentage"].iloc[rows])
    assert abs(found - wanted).mean() < 0.5


def test_same_seed_same_weights(cover: tuple[PatchStore, Splits], tmp_path: Path) -> None:
    optimisation = recipe().optimisation.model_copy(update={"max_epochs": 1})
    mixed = recipe(optimisation=optimisation, simulated_fraction=0.5, simulated_patches=2, simulated_size=64)
    runs = (TrainingRun("cover", "tiny", *cover, tmp_path / place, progress=False) for place in ("a", "b"))
    first, second = (train_by(mixed, run).version for run in runs)
    assert first == second


def window_batches(cover: tuple[PatchStore, Splits], augmentation: Augmentation, size: int = 40) -> TrainingWindows:
    store, splits = cover
    windows = label_windows(store, splits.indices("train"), CLASSES, count=40, scale=(0.5, 1.0))
    source = WindowSource(store, windows, [0, 1, 2])
    return TrainingWindows(
        source, None, 0.0, fitted_preprocessing(store), Augmenter(augmentation), CLASSES, size=size, batch_size=8,
        minimum_valid=0.2, seed=0,
    )  # fmt: skip


def test_labels_stay_exact_where_pixels_only_move(cover: tuple[PatchStore, Splits]) -> None:
    store, splits = cover
    windows = label_windows(store, splits.indices("train"), CLASSES, count=40, scale=(0.5, 1.0))
    moving = Augmentation(brightness=0, contrast=0, colour=0, band_gain=0)
    seen = np.concatenate([window_batches(cover, moving)[number][1] for number in range(5)])
    assert sorted(seen.tolist()) == sorted(windows.labels.tolist())


def test_labels_follow_the_pixels_where_some_go(cover: tuple[PatchStore, Splits]) -> None:
    batches = window_batches(cover, Augmentation(zoom=0.5, brightness=0, contrast=0, colour=0, band_gain=0))
    images, labels, _ = zip(*(batches[number] for number in range(10)), strict=True)
    # Cloud is brighter than 0.5 of the clip range here, ground darker: the share of bright pixels is the cover.
    pixels = np.concatenate(images)
    shares = 100 * (pixels.mean(axis=1) > 0.45).mean(axis=(1, 2))
    seen = (pixels > 0).any(axis=1).mean(axis=(1, 2))
    inner = (abs(shares[:, None] - [25, 50, 75]) > 6).all(axis=1) & (seen == 1)
    assert inner.sum() > 10
    assert np.array_equal(CLASSES.classify(shares[inner]), np.concatenate(labels)[inner])


def test_batch_depends_on_its_number_only(cover: tuple[PatchStore, Splits]) -> None:
    first, second = window_batches(cover, Augmentation()), window_batches(cover, Augmentation())
    _ = first[0]
    for one, other in zip(first[3], second[3], strict=True):
        assert np.array_equal(one, other)


def test_validation_sees_what_prediction_sees(cover: tuple[PatchStore, Splits]) -> None:
    store, splits = cover
    windows = label_windows(store, splits.indices("validation"), CLASSES, count=1)
    checks = ValidationWindows(
        WindowSource(store, windows, [2, 1, 0]), fitted_preprocessing(store), size=24, batch_size=5
    )
    images = np.concatenate([checks[number][0] for number in range(len(checks))])
    labels = np.concatenate([checks[number][1] for number in range(len(checks))])
    assert images.shape == (12, 3, 24, 24)
    assert labels.tolist() == CLASSES.classify(cloud_percentage(store.masks[windows.rows])).tolist()


def test_simulated_windows_have_their_share(cover: tuple[PatchStore, Splits], tmp_path: Path) -> None:
    simulated_recipe = recipe(
        simulated_fraction=0.5, simulated_patches=4, simulated_size=32,
        optimisation=Optimisation(max_epochs=1, steps_per_epoch=2, batch_size=4, precision="32", threads=1),
    )  # fmt: skip
    run = TrainingRun("cover", "tiny", *cover, tmp_path / "run", progress=False, cache=tmp_path / "cache")
    assert train_by(simulated_recipe, run).card.training.epochs_run == 1
    assert len(list((tmp_path / "cache").glob("simulated_*"))) == 1


def test_class_without_any_window_is_named(tmp_path: Path) -> None:
    masks = np.zeros((9, 20, 20), np.uint8)
    masks[::2] = 1
    images = np.full((9, 3, 20, 20), 900, np.uint16)
    splits = ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    store = store_arrays(
        tmp_path / "store", images, masks, bands=BANDS, instrument="sentinel2_l1c", official_splits=splits
    )
    run = TrainingRun("cover", "tiny", store, GroupedSplit().split(store), tmp_path / "run", progress=False)
    with pytest.raises(NoUsablePatches, match=r"scattered \(25-50 %\) or broken"):
        train_by(recipe(), run)


def test_corn_loss_is_that_of_the_chain_of_questions() -> None:
    logits = torch.tensor([[0.3, -0.2, 1.0], [2.0, 0.5, -1.0], [-1.0, 0.1, 0.2]])
    labels = torch.tensor([0, 2, 3])
    # Class 0 answers one question (no), class 2 three (yes, yes, no), class 3 three (yes, yes, yes).
    asked = [(0, 0, 0.0), (1, 0, 1.0), (1, 1, 1.0), (1, 2, 0.0), (2, 0, 1.0), (2, 1, 1.0), (2, 2, 1.0)]
    terms = [F.binary_cross_entropy_with_logits(logits[row, col], torch.tensor(yes)) for row, col, yes in asked]
    assert corn_loss(logits, labels, torch.ones(4)).item() == pytest.approx(torch.stack(terms).mean().item())
    weights = torch.tensor([3.0, 1.0, 1.0, 0.0])
    weighted = (3 * terms[0] + terms[1] + terms[2] + terms[3]) / 6
    assert corn_loss(logits, labels, weights).item() == pytest.approx(weighted.item())


def test_schedules_free_the_last_parts_first() -> None:
    def frozen(schedule: str) -> list[int]:
        return [Unfreezing(schedule=schedule, epochs=2).frozen_stages(epoch, STAGES) for epoch in range(10)]  # type: ignore[arg-type]

    assert frozen("none") == [0] * 10
    assert frozen("head_first") == [4, 4] + [0] * 8
    assert frozen("gradual") == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]


def test_frozen_parts_do_not_move(train: Callable[..., ModelBundle]) -> None:
    short = {
        "max_epochs": 1,
        "steps_per_epoch": 3,
        "batch_size": 8,
        "precision": "32",
        "threads": 1,
        "learning_rate": 0.1,
    }
    torch.manual_seed(0)
    start = Classifier(backbone="test_resnet", input_size=32).build(3, 4).state_dict()
    frozen = train("frozen", unfreezing=Unfreezing(schedule="head_first", epochs=1), optimisation=Optimisation(**short))
    moved = {
        name for name, tensor in frozen.state_dict().items()
        if name in start and not torch.equal(tensor, start[name])
    }  # fmt: skip
    assert moved == {"backbone.fc.weight", "backbone.fc.bias"}
    freed = train("freed", optimisation=Optimisation(**short))
    assert not torch.equal(freed.state_dict()["backbone.conv1.0.weight"], start["backbone.conv1.0.weight"])


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        recipe(network=Classifier(head="ordinal"), loss=ClassificationLoss(label_smoothing=0.1))
    with pytest.raises(ValueError, match="window_scale"):
        recipe(window_scale=(0.9, 0.5))


def test_cover_maps_tell_each_cells_share(cover: tuple[PatchStore, Splits]) -> None:
    mask = np.zeros((64, 32), np.uint8)
    mask[:32, :16] = 1
    mask[:32, 16:] = 255
    cloudy, labelled = cover_map(mask)
    assert cloudy.shape == (COVER_CELLS, COVER_CELLS)
    assert cloudy.mean() == pytest.approx(0.25, abs=0.01)
    assert labelled[:7, 9:].max() == 0
    assert cloudy[:7, :7].min() == 1
    _, labels, maps = window_batches(cover, Augmentation())[0]
    for label, (cloud, known) in zip(labels, maps, strict=True):
        assert abs(100 * cloud.sum() / known.sum() - (25 * label + 12.5)) < 16


def test_cover_loss_is_that_of_the_labelled_cells() -> None:
    covers = torch.zeros(1, 2, 2, 2)
    covers[0, 0, 0, 0], covers[0, 1, 0] = 1.0, torch.tensor([1.0, 0.5])
    logits = torch.tensor([[[[2.0, -1.0], [50.0, -50.0]]]])
    sure, unsure = F.softplus(torch.tensor(-2.0)), F.softplus(torch.tensor(-1.0))
    assert cover_loss(logits, covers).item() == pytest.approx(((sure + 0.5 * unsure) / 1.5).item())
    assert cover_loss(logits, torch.zeros(1, 2, 2, 2)).item() == 0


def test_cover_map_leaves_the_network_as_it_is(train: Callable[..., ModelBundle]) -> None:
    plain, helped = train("plain"), train("helped", loss=ClassificationLoss(cover_map=1.0))
    assert plain.state_dict().keys() == helped.state_dict().keys()
    assert plain.version != helped.version
    with pytest.raises(InvalidRecipe, match="convolutional"):
        train("vit", network=Classifier(backbone="test_vit"), loss=ClassificationLoss(cover_map=1.0))
