"""Trains tiny anomaly models on pictures of dark stripes; bright blobs are the anomalies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import load_predictor
from cloud_assets.families.anomaly.batches import Pictures
from cloud_assets.families.anomaly.normal_split import ANOMALOUS, NormalSplit, classes_of
from cloud_assets.families.anomaly.recipe import (
    AnomalyRecipe,
    Reconstruction,
    SyntheticAnomalies,
    ThresholdRule,
    WhiteSmoothness,
)
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.specifications import ConvAutoencoder, UNet
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.any_family import train_by
from cloud_assets_tests.patch_arrays import store_arrays

QUICK = Optimisation(max_epochs=2, steps_per_epoch=8, batch_size=4, learning_rate=3e-3, precision="32", patience=None)


def pictures(count: int, seed: int) -> np.ndarray:
    """8-bit pictures (N, 3, 32, 32) of dark stripes."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (count, 1, 1, 1))
    stripes = 40 + 20 * np.sin(np.arange(32) / 3 + phase) + rng.normal(0, 2, (count, 3, 32, 32))
    return np.clip(stripes, 1, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    normal, cloudy = pictures(24, 0), pictures(8, 1)
    cloudy[:, :, 8:24, 8:24] = np.random.default_rng(2).integers(180, 255, (8, 1, 16, 16))
    return store_arrays(
        tmp_path_factory.mktemp("anomaly") / "store",
        np.concatenate([normal, cloudy]),
        bands=("red", "green", "blue"),
        instrument="rgb_8bit",
        labels=["noncloud"] * 24 + ["cloud"] * 8,
    )


@pytest.fixture(scope="module")
def splits(store: PatchStore) -> Splits:
    return NormalSplit().split(store)


RECIPES: dict[str, AnomalyRecipe] = {
    "reconstruction": Reconstruction(network=ConvAutoencoder(width=8), optimisation=QUICK),
    "synthetic": SyntheticAnomalies(
        network=UNet(width=4, depth=2),
        optimisation=QUICK.model_copy(update={"steps_per_epoch": 40, "learning_rate": 1e-2}),
        picture_size=None,
        crop=32,
        simulated_normals=8,
        simulated_fraction=0.25,
    ),
}


STRETCHABLE = WhiteSmoothness(
    optimisation=Optimisation(max_epochs=2, steps_per_epoch=30, batch_size=4, learning_rate=0.1, threads=1)
)


def coloured(count: int, seed: int) -> np.ndarray:
    """8-bit pictures (N, 3, 32, 32) whose bands have little to do with each other."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(0, 1, (count, 3, 8, 8)) + 0.5 * rng.normal(0, 1, (count, 1, 8, 8))
    return np.clip(40 + 8 * fields.repeat(4, axis=2).repeat(4, axis=3), 1, 90).astype(np.uint8)


def test_gain_and_offset_of_a_band_change_no_score_of_likeness(tmp_path: Path) -> None:
    images = np.concatenate([coloured(24, 0), coloured(8, 1)])
    images[24:, :, 6:22, 6:22] = 100  # white and smooth
    labels = ["noncloud"] * 24 + ["cloud"] * 8
    store = store_arrays(
        tmp_path / "store", images, bands=("red", "green", "blue"), instrument="rgb_8bit", labels=labels
    )
    splits = NormalSplit().split(store)
    bundle = train_by(STRETCHABLE, TrainingRun("anomaly", "any", store, splits, tmp_path / "run", progress=False))
    bundle.save(tmp_path / "model")
    predictor = load_predictor(ModelBundle.open(tmp_path / "model"))
    answer = predictor.predict(images)
    assert answer["score"][24:].min() > answer["score"][:24].max()
    assert answer["is_anomaly"][24:].all()
    assert answer["error_map"][24:, 8:20, 8:20].mean() > 2 * answer["error_map"][24:, 24:].mean()
    stretched = images * np.array([2, 1, 2], np.uint8)[:, None, None] + np.array([5, 99, 0], np.uint8)[:, None, None]
    again = predictor.predict(stretched)
    np.testing.assert_allclose(answer["score"], again["score"], atol=1e-3)
    np.testing.assert_allclose(answer["error_map"], again["error_map"], atol=1e-3)
    # What is usual is the median of each number, and what shows nothing is neither usual nor cloudy.
    even = predictor.predict(np.full((1, 3, 32, 32), 255, np.uint8))["score"]
    assert even == pytest.approx(2)
    rows = splits.indices("train")
    numbers = predictor._network.measure(torch.from_numpy(predictor.network_input(images[rows]))).numbers
    assert torch.allclose(predictor._network.centre, numbers.median(dim=0).values, atol=0.1)


@pytest.fixture(scope="module", params=RECIPES)
def bundle(
    request: pytest.FixtureRequest, store: PatchStore, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> ModelBundle:
    run = TrainingRun("anomaly", request.param, store, splits, tmp_path_factory.mktemp(request.param), progress=False)
    return train_by(RECIPES[request.param], run)


def test_the_card_holds_the_threshold_and_what_it_promises(bundle: ModelBundle) -> None:
    card = bundle.card
    assert card.family == "anomaly"
    assert card.threshold is not None
    assert "false alarms promised" in card.threshold.method
    assert card.details["promised_false_alarm_rate"] == 0.1
    assert len(card.training.history) == 2


def test_the_model_survives_saving_and_finds_blobs(
    bundle: ModelBundle, store: PatchStore, splits: Splits, tmp_path: Path
) -> None:
    bundle.save(tmp_path / "model")
    predictor = load_predictor(ModelBundle.open(tmp_path / "model"))
    rows = splits.indices("test")
    answer = predictor.predict(store.array()[rows])
    is_cloud = classes_of(splits, rows) == ANOMALOUS
    assert answer["score"][is_cloud].min() > answer["score"][~is_cloud].max()
    assert answer["error_map"].shape == (len(rows), 32, 32)
    inside = answer["error_map"][is_cloud][:, 8:24, 8:24].mean()
    assert inside > 1.5 * answer["error_map"][is_cloud][:, :6].mean()


def test_large_pictures_are_reduced_the_same_way_in_training_and_prediction(tmp_path: Path) -> None:
    images = np.repeat(np.repeat(pictures(12, 3), 2, axis=2), 2, axis=3)
    images[:, :, :, :8] = 0  # no data
    labels = ["noncloud"] * 10 + ["cloud"] * 2
    store = store_arrays(
        tmp_path / "store", images, bands=("red", "green", "blue"), instrument="rgb_8bit", labels=labels
    )
    reduced = Pictures(store, np.arange(12), (0, 1, 2), size=32).read(0)
    assert reduced.shape == (3, 32, 32)
    assert not reduced[:, :, :4].any()
    assert abs(float(reduced[:, :, 4:].mean()) - float(images[0, :, :, 8:].mean())) < 1

    recipe = RECIPES["synthetic"].model_copy(update={"picture_size": 32})
    run = TrainingRun("anomaly", "reduced", store, NormalSplit().split(store), tmp_path / "run", progress=False)
    bundle = train_by(recipe, run)
    assert bundle.card.details["input_size"] == 32
    answer = load_predictor(bundle).predict(images[:1])
    assert answer["error_map"].shape == (1, 64, 64)
    assert np.isnan(answer["error_map"][0, :, :8]).all()


@pytest.mark.parametrize("name", RECIPES)
def test_training_is_reproducible(name: str, store: PatchStore, splits: Splits, tmp_path: Path) -> None:
    optimisation = RECIPES[name].optimisation.model_copy(update={"max_epochs": 1})
    recipe = RECIPES[name].model_copy(update={"optimisation": optimisation})
    runs = (TrainingRun("anomaly", "again", store, splits, tmp_path / place, progress=False) for place in ("a", "b"))
    first, second = (train_by(recipe, run).version for run in runs)
    assert first == second


@pytest.mark.parametrize("by", ["splits", "labels"])
def test_a_cloud_among_the_training_pictures_is_refused(
    store: PatchStore, splits: Splits, tmp_path: Path, by: str
) -> None:
    table = splits.table.copy()
    cloudy = table.index[table["classes"] == ANOMALOUS][0]
    table.loc[cloudy, "split"] = "train"
    if by == "labels":  # the splits lie, the store does not
        table.loc[cloudy, "classes"] = "noncloud"
    run = TrainingRun("anomaly", "x", store, Splits(table, splits.details), tmp_path, progress=False)
    with pytest.raises(InvalidRecipe, match="not cloud-free"):
        train_by(RECIPES["reconstruction"], run)


def test_a_threshold_by_f1_needs_labelled_anomalies(store: PatchStore, tmp_path: Path) -> None:
    recipe: Any = RECIPES["reconstruction"].model_copy(update={"threshold": ThresholdRule(method="f1")})
    splits = NormalSplit(anomalies_in=("validation", "test")).split(store)
    bundle = train_by(recipe, TrainingRun("anomaly", "f1", store, splits, tmp_path / "a", progress=False))
    assert "best F1" in bundle.card.threshold.method
    with pytest.raises(InvalidRecipe, match="anomalies_in"):
        train_by(
            recipe, TrainingRun("anomaly", "f1", store, NormalSplit().split(store), tmp_path / "b", progress=False)
        )
