"""The paired difference of two models, from what their evaluations keep."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cloud_assets.families.anomaly.normal_split import ANOMALOUS, NORMAL
from cloud_assets.reports.comparison import model_difference
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.reports.statistics import metric_interval
from cloud_assets_tests.reports.test_evaluation import make_evaluation


def evaluation(**tables: pd.DataFrame) -> Evaluation:
    return make_evaluation(tables=tables)


def pictures(separation: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    anomalous = np.arange(60) < 25
    hardness = np.random.default_rng(9).normal(size=60)
    score = hardness + separation * anomalous + 0.1 * rng.normal(size=60)
    names = [f"{number:02d}" for number in range(60)]
    truth = np.where(anomalous, ANOMALOUS, NORMAL)
    return pd.DataFrame({"patch_id": names, "truth": truth, "distance_to_threshold": score})


def auroc(table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["truth"] == ANOMALOUS, table["distance_to_threshold"]))


def test_the_difference_of_auroc_is_that_of_the_metrics() -> None:
    better, worse = pictures(2.0, seed=1), pictures(0.8, seed=2)
    shuffled = worse.sample(frac=1, random_state=0)
    found = model_difference(evaluation(per_patch=better), evaluation(per_patch=shuffled), "auroc")
    assert found is not None
    assert found.estimate == pytest.approx(auroc(better) - auroc(worse))
    assert 0 < found.low < found.estimate < found.high
    assert str(found.unit) == "pictures"
    same = model_difference(evaluation(per_patch=better), evaluation(per_patch=better), "auroc")
    assert same is not None
    assert (same.low, same.high) == (0, 0)


def test_scenes_count_by_their_samples() -> None:
    table = pd.DataFrame({"group": list("abc"), "samples": [1, 1, 8], "accuracy": [0.0, 0.0, 1.0]})
    interval = metric_interval(table, "accuracy")
    assert interval is not None
    assert interval.estimate == pytest.approx(0.8)


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"per_scene": pd.DataFrame({"group": ["a", "b"], "psnr": [1.0, 2.0]})},
        {"per_patch": pictures(1.0).assign(truth=NORMAL)},
        {"per_patch": pictures(1.0).drop(columns="truth")},
    ],
)
def test_what_cannot_be_compared_has_no_interval(tables: Any) -> None:
    assert model_difference(evaluation(**tables), evaluation(**tables), "auroc") is None


def test_other_scenes_have_no_interval() -> None:
    first, second = (pd.DataFrame({"group": list(names), "psnr": [1.0, 2.0]}) for names in ("ab", "ac"))
    assert model_difference(evaluation(per_scene=first), evaluation(per_scene=second), "psnr") is None
