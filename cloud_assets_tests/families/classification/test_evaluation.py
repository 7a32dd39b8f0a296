"""Evaluating coverage classes: known answers, rivals without a classifier, honest notes."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.classification.coverage_labels import CoverageClasses, label_windows
from cloud_assets.families.classification.metrics import (
    Answers,
    bright_shares,
    class_table,
    classify_by_mask,
    confusion_counts,
    decision_metrics,
    fit_brightness,
    probability_metrics,
)
from cloud_assets.families.classification.recipe import ClassificationEvaluation
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.networks.specifications import Classifier, UNet
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets_tests.any_family import evaluate_by
from cloud_assets_tests.families.conftest import make_card
from cloud_assets_tests.patch_arrays import store_arrays

CLASSES = CoverageClasses()
RECIPE = ClassificationEvaluation(windows=40, baseline_windows=40, mistakes=3)


def classifier_card(**changes: Any) -> ModelCard:
    from cloud_assets.patches.preprocessing import Preprocessing

    content: dict[str, Any] = {
        "family": "classification",
        "network": Classifier(backbone="test_resnet"),
        "out_channels": 4,
        "threshold": None,
        "preprocessing": Preprocessing(instrument="sentinel2_l1c", bands=("nir", "red", "green", "blue")),
        "details": {"input_size": 32, "minimum_valid": 0.2, "boundaries": [25.0, 50.0, 75.0]},
    }
    return make_card(CLASSES.names, **{**content, **changes})


class CountingClassifier:
    """Reads the cover off the first band, which is 100 under cloud; off by some classes, with a stated confidence."""

    def __init__(self, shift: int = 0, confidence: float = 0.9, refuses: bool = False) -> None:
        self.card = classifier_card()
        self.shift, self.confidence, self.refuses = shift, confidence, refuses

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        cover = 100 * (dn[:, 0] == 100).mean(axis=(1, 2))
        classes = np.clip(CLASSES.classify(cover) + self.shift, 0, 3)
        probability = np.full((len(dn), 4), (1 - self.confidence) / 3, np.float32)
        probability[np.arange(len(dn)), classes] = self.confidence
        if self.refuses:
            classes, probability = np.full(len(dn), 255), probability * np.nan
        return {"class": classes.astype(np.uint8), "class_probability": probability}


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchStore, Splits]:
    """Patches with 0 to 100 % of bright cloud, which nir marks with 100; every third one lies on bright snow."""
    count, size = 24, 32
    images = np.full((count, 4, size, size), 1000, np.uint16)
    masks = np.zeros((count, size, size), np.uint8)
    for number in range(count):
        if number % 3 == 2:
            images[number] = 7000
        width = round(size * (number % 8) / 7)
        images[number, :3, :, :width] = 6000
        images[number, 3, :, :width] = 100
        masks[number, :, :width] = 1 + number % 2
    splits = ["train"] * 8 + ["validation"] * 8 + ["test"] * 8
    store = store_arrays(
        tmp_path_factory.mktemp("cover") / "store", images, masks, bands=("red", "green", "blue", "nir"),
        instrument="sentinel2_l1c", official_splits=splits, is_synthetic=True, notes=("Made up.",),
    )  # fmt: skip
    return store, GroupedSplit().split(store)


def judge(predictor: Any, cover: tuple[PatchStore, Splits], **references: ModelBundle) -> Evaluation:
    return evaluate_by(RECIPE, predictor, *cover, **references)


def test_perfect_classifier_scores_perfectly(cover: tuple[PatchStore, Splits], tmp_path: Path) -> None:
    evaluation = judge(CountingClassifier(), cover)
    metrics = evaluation.metrics
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "quadratic_weighted_kappa", "auroc"):
        assert metrics[name] == pytest.approx(1.0), name
        assert metrics[f"validation_{name}"] == pytest.approx(1.0)
    assert metrics["mean_absolute_class_error"] == 0
    assert metrics["expected_calibration_error"] == pytest.approx(0.1, abs=1e-6)
    assert metrics["samples"] == 40
    assert "mistakes" not in evaluation.figures
    assert {"confusion_matrix", "cloud_cover", "roc", "confidence", "learning_curves"} == set(evaluation.figures)
    assert evaluation.tables["per_scene"]["samples"].sum() == 40
    evaluation.save(tmp_path / "evaluation")
    assert Evaluation.open(tmp_path / "evaluation").metrics == metrics


def test_mistakes_are_counted_and_shown(cover: tuple[PatchStore, Splits]) -> None:
    evaluation = judge(CountingClassifier(shift=1), cover)
    samples = evaluation.tables["per_sample"]
    overcast = (samples["true_class"] == "overcast").mean()
    assert evaluation.metrics["accuracy"] == pytest.approx(overcast)
    assert evaluation.metrics["mean_absolute_class_error"] == pytest.approx(1 - overcast)
    assert evaluation.metrics["within_one_class"] == 1
    assert samples["class_error"].iloc[0] == 1
    assert "mistakes" in evaluation.figures


def test_brightness_rule_is_fitted_on_training_and_always_reported(cover: tuple[PatchStore, Splits]) -> None:
    evaluation = judge(CountingClassifier(), cover)
    baselines = evaluation.tables["baselines"].set_index("baseline")
    assert list(baselines.index) == ["share of bright pixels", "most frequent class"]
    # Right on dark ground, wrong on snow.
    assert 0.5 < baselines["accuracy"].iloc[0] < 0.95
    assert evaluation.metrics["baseline_accuracy"] == baselines["accuracy"].iloc[0]
    notes = " ".join(evaluation.notes)
    assert "No segmentation champion" in notes
    assert "Made up." in notes


def test_brightness_threshold_lies_between_ground_and_cloud(tmp_path: Path) -> None:
    images = np.full((8, 3, 16, 16), 1500, np.uint16)
    masks = np.zeros((8, 16, 16), np.uint8)
    for number in range(8):
        images[number, :, :, : 2 * number], masks[number, :, : 2 * number] = 4500, 1
    store = store_arrays(tmp_path / "store", images, masks, bands=("red", "green", "blue"), instrument="sentinel2_l1c")
    windows = label_windows(store, np.arange(8), CLASSES, count=30)
    threshold = fit_brightness(store, windows, CLASSES)
    assert 0.15 < threshold <= 0.45
    assert (CLASSES.classify(bright_shares(store, windows, threshold)[:, 0]) == windows.labels).all()


def segmentation_bundle(**changes: Any) -> ModelBundle:
    from cloud_assets.patches.preprocessing import Preprocessing

    content: dict[str, Any] = {
        "network": UNet(width=2, depth=1),
        "in_channels": 3,
        "out_channels": 1,
        "preprocessing": Preprocessing(instrument="sentinel2_l1c", bands=("red", "green", "blue")),
        "details": {"cloud_classes": [1]},
    }
    card = make_card(**{**content, **changes})
    return ModelBundle(card, card.network.build(card.in_channels, card.out_channels).state_dict())


def test_champions_mask_is_a_rival(cover: tuple[PatchStore, Splits], monkeypatch: pytest.MonkeyPatch) -> None:
    class TrueMasks:
        """Recognises cloud by its colour."""

        card = segmentation_bundle().card

        def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
            assert dn.shape[1] == 3
            return {"mask": (dn[:, 0] == 6000).astype(np.uint8)}

    monkeypatch.setattr("cloud_assets.families.classification.metrics.load_predictor", lambda bundle: TrueMasks())
    bundle = segmentation_bundle()
    evaluation = judge(CountingClassifier(shift=1), cover, masks=bundle)
    baselines = evaluation.tables["baselines"].set_index("baseline")["accuracy"]
    assert baselines["coverage of masks's mask"] == 1.0
    assert evaluation.metrics["baseline_accuracy"] == 1.0
    assert any(bundle.version in note for note in evaluation.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {"instrument": "landsat8_l1", "bands": ("red", "green", "blue")}},
        {"preprocessing": {"instrument": "sentinel2_l1c", "bands": ("red", "swir16", "blue")}},
    ],
)
def test_champion_that_cannot_serve_is_noted(cover: tuple[PatchStore, Splits], changes: dict[str, Any]) -> None:
    from cloud_assets.patches.preprocessing import Preprocessing

    changes = {name: Preprocessing(**value) for name, value in changes.items()}
    evaluation = judge(CountingClassifier(), cover, masks=segmentation_bundle(**changes))
    assert len(evaluation.tables["baselines"]) == 2
    assert any(note.startswith("No baseline from the champion of masks") for note in evaluation.notes)


def test_windows_of_masks_are_cut_from_one_prediction(cover: tuple[PatchStore, Splits]) -> None:
    store, splits = cover
    windows = label_windows(store, splits.indices("test"), CLASSES, count=30)
    found = classify_by_mask(segmentation_bundle(), store, windows, CLASSES, title="", progress=False)
    assert found.shape == (30,)
    card = classifier_card()
    bundle = ModelBundle(card, card.network.build(4, 4).state_dict())
    with pytest.raises(NoUsablePatches, match="makes no masks"):
        classify_by_mask(bundle, store, windows, CLASSES, title="", progress=False)


def test_refused_samples_are_not_scored(cover: tuple[PatchStore, Splits]) -> None:
    with pytest.raises(NoUsablePatches, match="refused all 40"):
        judge(CountingClassifier(refuses=True), cover)


def test_absent_class_is_noted_and_its_curve_left_out(tmp_path: Path) -> None:
    images = np.full((12, 4, 16, 16), 1000, np.uint16)
    masks = np.zeros((12, 16, 16), np.uint8)
    masks[::2], images[::2, 3], images[::2, :3] = 1, 100, 6000
    splits = ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    store = store_arrays(
        tmp_path / "store", images, masks, bands=("red", "green", "blue", "nir"), instrument="sentinel2_l1c",
        official_splits=splits,
    )  # fmt: skip
    evaluation = judge(CountingClassifier(), (store, GroupedSplit().split(store)))
    assert "auroc_scattered" not in evaluation.metrics
    assert evaluation.metrics["auroc_clear"] == 1
    assert any("without metrics: scattered, broken" in note for note in evaluation.notes)


def test_metrics_have_their_known_values() -> None:
    truth = np.array([0, 0, 1, 1, 2, 3])
    answers = Answers(truth, np.array([0, 1, 1, 1, 3, 1]))
    metrics = decision_metrics(answers, 4)
    assert metrics["accuracy"] == pytest.approx(3 / 6)
    assert metrics["balanced_accuracy"] == metrics["recall"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert metrics["precision"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert metrics["mean_absolute_class_error"] == pytest.approx((0 + 1 + 0 + 0 + 1 + 2) / 6)
    assert metrics["within_one_class"] == pytest.approx(5 / 6)
    # Quadratic kappa by its definition: 1 - observed / expected squared distance.
    observed = ((truth - answers.predicted) ** 2).mean()
    expected = ((truth[:, None] - answers.predicted[None]) ** 2).mean()
    assert metrics["quadratic_weighted_kappa"] == pytest.approx(1 - observed / expected)
    assert confusion_counts(answers, 4).tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    table = class_table(answers, CLASSES.names)
    assert table["samples"].tolist() == [2, 2, 1, 1]
    assert table["predicted"].tolist() == [1, 4, 0, 1]
    assert np.isnan(table["precision"][2])


def test_one_class_alone_has_no_kappa_and_no_curves() -> None:
    same = Answers(np.zeros(5, np.int64), np.zeros(5, np.int64), np.tile(np.float32([1, 0, 0, 0]), (5, 1)))
    assert "quadratic_weighted_kappa" not in decision_metrics(same, 4)
    assert set(probability_metrics(same, CLASSES.names, 10)) == {"expected_calibration_error", "log_loss"}


def test_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    truth = np.arange(100) % 4
    said = np.where(np.arange(100) < 60, truth, (truth + 1) % 4)
    probability = np.full((100, 4), 0.05, np.float32)
    probability[np.arange(100), said] = 0.85
    metrics = probability_metrics(Answers(truth, said, probability), CLASSES.names, 10)
    assert metrics["expected_calibration_error"] == pytest.approx(0.25, abs=1e-5)
    assert metrics["auroc"] == pytest.approx(np.mean([metrics[f"auroc_{name}"] for name in CLASSES.names]))
