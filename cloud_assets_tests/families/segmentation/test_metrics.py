import numpy as np
import numpy.typing as npt
import pytest

from cloud_assets.families.segmentation.metrics import SegmentationScores, cloud_metrics
from cloud_assets.reports.statistics import confusion_counts, ratios, scene_table

Codes = npt.NDArray[np.uint8]


def by_hand(truth: Codes, mask: Codes) -> dict[str, float]:
    """Metrics written down from their definitions, pixel by pixel, without any library."""
    tp = fp = fn = tn = 0
    for true, predicted in zip(truth.ravel().tolist(), mask.ravel().tolist(), strict=True):
        if true == 255 or predicted == 255:
            continue
        cloud, found = true in (1, 2), predicted in (1, 2)
        tp, fp = tp + (cloud and found), fp + (not cloud and found)
        fn, tn = fn + (cloud and not found), tn + (not cloud and not found)
    return {
        "iou": tp / (tp + fp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "specificity": tn / (tn + fp),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
    }


def random_codes(seed: int, codes: tuple[int, ...], shape: tuple[int, ...] = (6, 20, 20)) -> Codes:
    return np.random.default_rng(seed).choice(codes, shape).astype(np.uint8)


def scored(truth: Codes, mask: Codes, has_kinds: bool, batch: int = 2) -> SegmentationScores:
    scores = SegmentationScores(has_kinds)
    probability = np.isin(mask, (1, 2)).astype(np.float32)
    for start in range(0, len(truth), batch):
        part = slice(start, start + batch)
        scores.update(np.arange(len(truth))[part], truth[part], mask[part], probability[part])
    return scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("has_kinds", [True, False])
def test_metrics_agree_with_their_definitions(seed: int, has_kinds: bool) -> None:
    truth = random_codes(seed, (0, 1, 2, 3, 255))
    mask = random_codes(seed + 100, (0, 1, 2, 3, 255) if has_kinds else (0, 1, 255))
    metrics = scored(truth, mask, has_kinds).metrics()
    for name, value in by_hand(truth, mask).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(3))
def test_each_class_has_its_iou(seed: int) -> None:
    truth, mask = random_codes(seed, (0, 1, 2, 3, 255)), random_codes(seed + 50, (0, 1, 2, 3))
    metrics = scored(truth, mask, has_kinds=True).metrics()
    labelled = truth != 255
    expected = []
    for code, name in enumerate(("clear", "thick_cloud", "thin_cloud", "cloud_shadow")):
        true, found = (truth == code) & labelled, (mask == code) & labelled
        expected.append((true & found).sum() / (true | found).sum())
        assert metrics[f"iou_{name}"] == pytest.approx(expected[-1])
        share = np.isin(mask[true], (1, 2)).mean()
        assert metrics[f"found_as_cloud_{name}"] == pytest.approx(share)
    assert metrics["miou"] == pytest.approx(np.mean(expected))


def test_batches_make_no_difference() -> None:
    truth, mask = random_codes(1, (0, 1, 2, 3, 255)), random_codes(2, (0, 1, 2, 3, 255))
    assert scored(truth, mask, True, batch=1).metrics() == scored(truth, mask, True, batch=6).metrics()


def test_an_absent_class_is_left_out_and_named() -> None:
    truth, mask = random_codes(3, (0, 1, 255)), random_codes(4, (0, 1, 2, 3))
    scores = scored(truth, mask, has_kinds=True)
    metrics = scores.metrics()
    assert scores.absent_classes() == ["thin cloud", "cloud shadow"]
    assert not {"iou_thin_cloud", "iou_cloud_shadow", "found_as_cloud_thin_cloud"} & set(metrics)
    assert metrics["miou"] == pytest.approx((metrics["iou_clear"] + metrics["iou_thick_cloud"]) / 2)
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.parametrize(
    ("true", "found", "expected"),
    [
        (0, 0, {"accuracy": 1.0, "specificity": 1.0}),
        (0, 1, {"iou": 0.0, "f1": 0.0, "precision": 0.0, "accuracy": 0.0, "specificity": 0.0}),
        (1, 1, {"iou": 1.0, "f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}),
        (1, 0, {"iou": 0.0, "f1": 0.0, "recall": 0.0, "accuracy": 0.0}),
    ],
)
def test_scenes_of_one_class_have_the_metrics_that_are_defined(
    true: int, found: int, expected: dict[str, float]
) -> None:
    counts = confusion_counts(np.full((8, 8), bool(true)), np.full((8, 8), bool(found)))
    assert cloud_metrics(counts) == expected


def test_nothing_labelled_gives_no_metric() -> None:
    truth = np.full((2, 8, 8), 255, np.uint8)
    assert scored(truth, np.zeros_like(truth), True).metrics() == {}


def test_labelled_pixels_without_data_are_counted_but_not_scored() -> None:
    truth, mask = np.ones((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)
    mask[0, 0] = 255
    scores = scored(truth, mask, False)
    assert scores.unpredicted == 4
    assert scores.counts.tolist() == [12, 0, 0, 0]


def test_average_precision_and_auroc_are_those_of_all_pixels() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth = random_codes(5, (0, 1, 255), (3, 30, 30))
    probability = np.clip(rng.normal(0.3 + 0.3 * (truth == 1), 0.2), 0, 1).astype(np.float32)
    scores = SegmentationScores(False)
    scores.update(np.arange(3), truth, (probability > 0.5).astype(np.uint8), probability)
    labelled = truth != 255
    true, values = truth[labelled] == 1, probability[labelled]
    metrics = scores.metrics()
    assert metrics["average_precision"] == pytest.approx(average_precision_score(true, values), abs=2e-3)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(true, values), abs=2e-3)


def test_ratios_of_many_scenes_are_those_of_scikit_learn() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (40, 4))
    counts[:4] = [[0, 0, 0, 9], [0, 3, 0, 9], [0, 0, 4, 0], [5, 0, 0, 0]]
    together = ratios(counts)
    for row, one in enumerate(counts):
        single = cloud_metrics(one)
        for name, values in together.items():
            assert values[row] == pytest.approx(single.get(name, np.nan), nan_ok=True), (name, one)


def test_the_scene_table_adds_up_patches_and_shows_the_worst_first() -> None:
    counts = np.array([[5, 0, 0, 5], [5, 5, 0, 0], [0, 0, 0, 10], [1, 0, 9, 0]])
    table = scene_table(["good", "good", "clear", "bad"], counts)
    assert table["group"].tolist() == ["bad", "good", "clear"]
    good = table.set_index("group").loc["good"]
    assert good[["tp", "fp", "fn", "tn", "patches", "valid_pixels"]].tolist() == [10, 5, 0, 5, 2, 20]
    assert good["iou"] == pytest.approx(10 / 15)
    assert good["cloud_truth_percentage"] == 50
    assert good["cloud_predicted_percentage"] == 75
    assert np.isnan(table.set_index("group").loc["clear", "iou"])
