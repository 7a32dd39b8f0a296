"""Evaluation of the fifth family."""

import numpy as np
import pandas as pd

from cloud_assets.reports.evaluation import Evaluation, EvaluationRun
from cloud_assets_tests.families.fifth_family.family import CoverEvaluator
from cloud_assets_tests.families.fifth_family.predictor import covers, truth_of


def evaluate(evaluator: CoverEvaluator, run: EvaluationRun) -> Evaluation:
    predictor, store, splits = run.predictor, run.store, run.splits
    rows = splits.indices("test")
    errors = np.abs(covers(predictor, store, rows) - truth_of(store, rows))
    skills = pd.DataFrame({"group": store.index["group"].to_numpy()[rows], "skill": 1 - errors})
    return Evaluation(
        task=predictor.card.task,
        variant=predictor.card.variant,
        metrics={"skill": float(skills["skill"].mean()), "baseline_skill": 0.0},
        model_version=run.model_version,
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=store.is_synthetic,
        tables={"per_scene": skills},
    )
