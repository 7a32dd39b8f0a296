from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.segmentation.metrics import SegmentationScores
from cloud_assets.families.segmentation.recipe import SegmentationEvaluation
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.splits import GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets_tests.any_family import evaluate_by
from cloud_assets_tests.families.conftest import BANDS, RulePredictor, make_card, red_is_probability
from cloud_assets_tests.patch_arrays import store_arrays

Data = tuple[PatchStore, Splits]


def evaluate(data: Data, predictor: RulePredictor | None = None) -> Evaluation:
    recipe = SegmentationEvaluation(worst_patches=1, typical_patches=1)
    return evaluate_by(recipe, predictor or RulePredictor(red_is_probability), *data)


def expected_metrics(data: Data, split: str) -> Mapping[str, float]:
    """The same patches in one go."""
    store, splits = data
    rows = splits.indices(split)
    dn = store.array()[rows]
    answer = RulePredictor(red_is_probability).predict(dn)
    scores = SegmentationScores(False)
    scores.update(rows, store.masks[rows], answer["mask"], answer["cloud_probability"])
    return scores.metrics()


def test_both_splits_are_measured_and_told_apart(random_store: Data, random_evaluation: Evaluation) -> None:
    metrics = random_evaluation.metrics
    for name, value in expected_metrics(random_store, "test").items():
        assert metrics[name] == pytest.approx(value), name
    for name, value in expected_metrics(random_store, "validation").items():
        assert metrics[f"validation_{name}"] == pytest.approx(value), name
    assert {"baseline_iou", "all_cloud_iou"} <= set(metrics)
    assert metrics["all_cloud_recall"] == 1


def test_tables_add_up(random_store: Data, random_evaluation: Evaluation) -> None:
    evaluation = random_evaluation
    store, splits = random_store
    scored = (store.masks != 255) & (store.array() != 0).any(axis=1)
    pixels = int(scored[splits.indices("test")].sum())
    for name in ("per_scene", "per_patch"):
        assert evaluation.tables[name][["tp", "fp", "fn", "tn"]].to_numpy().sum() == pixels
    assert set(evaluation.tables["per_scene"]["group"]) == {"008", "009", "010", "011"}
    assert evaluation.tables["per_patch"]["wrong_percentage"].is_monotonic_decreasing
    assert evaluation.tables["splits"]["patches"].tolist() == [12, 4, 8]
    assert evaluation.tables["baselines"]["baseline"].tolist() == ["brightness threshold", "all cloud", "all clear"]


def test_a_perfect_model_is_perfect_and_clear_scenes_are_allowed(tmp_path: Path) -> None:
    masks = np.zeros((6, 8, 8), np.uint8)
    masks[[0, 2, 4], :4] = 1
    images = np.repeat(np.where(masks, 40_000, 8_000)[:, None], 4, axis=1).astype(np.uint16)
    official = ["train", "train", "validation", "validation", "test", "test"]
    store = store_arrays(
        tmp_path / "store", images, masks, bands=BANDS, instrument="landsat8_l1", official_splits=official
    )
    evaluation = evaluate((store, GroupedSplit(classes="none").split(store)))
    for name in ("iou", "f1", "precision", "recall", "accuracy", "miou", "average_precision", "auroc", "baseline_iou"):
        assert evaluation.metrics[name] == 1, name
    assert evaluation.tables["per_scene"]["iou"].isna().tolist() == [False, True]


def test_a_test_split_without_cloud_still_makes_a_report(tmp_path: Path) -> None:
    masks = np.zeros((3, 8, 8), np.uint8)
    images = np.full((3, 4, 8, 8), 8_000, np.uint16)
    store = store_arrays(
        tmp_path / "store",
        images,
        masks,
        bands=BANDS,
        instrument="landsat8_l1",
        official_splits=["train", "validation", "test"],
    )
    evaluation = evaluate((store, GroupedSplit(classes="none").split(store)))
    assert evaluation.metrics["accuracy"] == 1
    assert "iou" not in evaluation.metrics
    assert "baseline_accuracy" not in evaluation.metrics
    assert any("no brightness baseline" in note for note in evaluation.notes)
    evaluation.save(tmp_path / "evaluation")
    assert (tmp_path / "evaluation" / "report.html").stat().st_size > 10_000


def test_the_model_gets_its_own_bands_in_its_own_order(random_store: Data) -> None:
    card = make_card(in_channels=2, preprocessing=Preprocessing(instrument="landsat8_l1", bands=("B5", "red")))
    predictor = RulePredictor(lambda dn: dn[:, 1] / 50_000, card)
    assert evaluate(random_store, predictor).metrics["iou"] == pytest.approx(
        expected_metrics(random_store, "test")["iou"], abs=2e-3
    )
    assert predictor.seen_bands == {2}


def test_kinds_of_cloud_are_measured_if_the_model_tells_them_apart(random_store: Data) -> None:
    card = make_card(classes=("clear", "thick_cloud", "thin_cloud", "cloud_shadow"))
    metrics = evaluate(random_store, RulePredictor(red_is_probability, card)).metrics
    assert {"iou_thick_cloud", "iou_thin_cloud", "iou_cloud_shadow", "miou", "baseline_miou"} <= set(metrics)
    assert metrics["iou_thin_cloud"] == 0
    assert metrics["all_clear_miou"] == pytest.approx(metrics["all_clear_iou_clear"] / 4)


def test_batches_and_repetitions_change_nothing(random_store: Data, random_evaluation: Evaluation) -> None:
    again = evaluate(random_store)
    assert again.metrics == random_evaluation.metrics
    for name in ("precision_recall", "cloud_cover", "confusion_matrix"):
        assert again.figures[name] == random_evaluation.figures[name]


def test_a_saved_evaluation_comes_back_the_same(random_evaluation: Evaluation, tmp_path: Path) -> None:
    random_evaluation.save(tmp_path / "evaluation")
    opened = Evaluation.open(tmp_path / "evaluation")
    assert opened.data_version == random_evaluation.data_version
    assert opened.figures == random_evaluation.figures
    for name, table in random_evaluation.tables.items():
        pd.testing.assert_frame_equal(opened.tables[name], table, check_exact=True)


def test_every_figure_and_table_has_a_caption(random_evaluation: Evaluation) -> None:
    assert set(random_evaluation.figures) == {
        "worst_patches", "scenes", "confusion_matrix", "precision_recall", "cloud_cover", "reliability",
        "learning_curves", "typical_patches",
    }  # fmt: skip
    assert {*random_evaluation.figures, *random_evaluation.tables} <= set(random_evaluation.captions)


def test_notes_tell_what_a_reader_has_to_know(random_evaluation: Evaluation) -> None:
    notes = " ".join(random_evaluation.notes)
    assert "bootstrap over 4 scenes, few scenes" in notes
    assert "official stitched-scene score was left out" in notes
    assert "trained with other splits" in notes
    assert "mean reflectance of at least" in notes


def test_missing_bands_are_named(random_store: Data) -> None:
    card = make_card(in_channels=1, preprocessing=Preprocessing(instrument="landsat8_l1", bands=("swir16",)))
    with pytest.raises(NoUsablePatches, match=r"swir16.*red, green, blue, nir"):
        evaluate(random_store, RulePredictor(red_is_probability, card))


def test_nothing_to_test_is_an_error(random_store: Data, tmp_path: Path) -> None:
    store, splits = random_store
    only_training = Splits(splits.table[splits.table["split"] != "test"], splits.details)
    with pytest.raises(NoUsablePatches, match="test split is empty"):
        evaluate((store, only_training))
    unlabelled = store_arrays(
        tmp_path / "unlabelled",
        store.array(),
        np.full_like(store.masks, 255),
        bands=BANDS,
        instrument="landsat8_l1",
    )
    with pytest.raises(NoUsablePatches, match="no labelled pixel"):
        evaluate((unlabelled, Splits(splits.table, {})))


def test_a_real_bundle_goes_through(random_store: Data, tiny_bundle: object) -> None:
    bundle = tiny_bundle()  # type: ignore[operator]
    evaluation = evaluate_by(SegmentationEvaluation(), bundle, *random_store)
    assert evaluation.model_version == bundle.version
    assert 0 <= evaluation.metrics["accuracy"] <= 1
