"""Evaluation of a translation model on its test split, beside a constant colour and a linear regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import vegetation_positions
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.baselines import LINEAR, MEAN_COLOUR, fit_baselines
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.families.translation.gallery import CAPTIONS, translation_figures
from cloud_assets.families.translation.metrics import TranslationScores, with_gain
from cloud_assets.families.translation.pairs import Pairs
from cloud_assets.reports.evaluation import EvaluationRun, Findings, evaluation_of

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.families.translation.baselines import Baseline
    from cloud_assets.families.translation.evaluation import TranslationEvaluation
    from cloud_assets.inference.bundle import ModelCard
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.preprocessing import Preprocessing
    from cloud_assets.patches.store import PatchStore
    from cloud_assets.reports.evaluation import Evaluation

HEADLINE = (
    "psnr_gain", "psnr", "ssim", "ms_ssim", "rmse", "mae", "r2", "sam", "ndvi_rmse", "ndvi_correlation",
)  # fmt: skip
MODEL = "model"


@dataclass(frozen=True)
class Scored:
    """Scores of one split."""

    scores: Mapping[str, TranslationScores]
    """By what predicted: the model, and the baselines by their names."""

    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics with gains, by what predicted."""
        plain = {name: scores.metrics() for name, scores in self.scores.items()}
        return {name: with_gain(metrics, plain[MEAN_COLOUR]) for name, metrics in plain.items()}


def evaluate(recipe: TranslationEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    predictor, card, store, splits = run.predictor, run.card, run.store, run.splits
    pairs = Pairs(store, card)
    target = pairs.target
    test, validation = run.test_rows(needs_masks=False), splits.indices("validation")
    baselines = fit_baselines(
        pairs, splits.indices("train"), pixels=recipe.baseline_pixels, window=recipe.baseline_window
    )
    scorer = _Scorer(recipe, predictor, pairs, baselines, target, run.progress)
    tested = scorer.score(test, "Testing")
    if not tested.scores[MODEL].pixels:
        raise NoUsablePatches(f"{card.task}/{card.variant}: no pixel of the test split was seen by both sensors.")
    metrics = tested.metrics()
    validated = scorer.score(validation, "Validating") if len(validation) else None
    per_patch = _patch_table(store, tested)
    found = Findings(
        test=metrics[MODEL],
        validation=validated.metrics()[MODEL] if validated and validated.scores[MODEL].pixels else {},
        rules={name: values for name, values in metrics.items() if name != MODEL},
        stated_rules={"baseline": MEAN_COLOUR, "linear": LINEAR},
        tables={
            "per_band": _band_table(metrics, target.bands),
            "per_scene": _scene_table(per_patch),
            "per_patch": per_patch,
        },
        figures=translation_figures(recipe, predictor, pairs, tested.scores[MODEL], per_patch),
        captions=CAPTIONS,
        notes=_notes(recipe, card, metrics, len(test)),
        headline=HEADLINE,
        model={"predicts": f"{', '.join(target.bands)} ({target.instrument})"},
    )
    return evaluation_of(recipe, run, found)


class _Scorer:
    """Predicts splits and scores model and baselines on the same pixels."""

    def __init__(
        self,
        recipe: TranslationEvaluation,
        predictor: Predictor,
        pairs: Pairs,
        baselines: Mapping[str, Baseline],
        target: Preprocessing,
        progress: bool,
    ) -> None:
        self._recipe, self._predictor, self._pairs = recipe, predictor, pairs
        self._baselines, self._target, self._progress = baselines, target, progress

    def score(self, indices: npt.NDArray[np.int64], title: str) -> Scored:
        """Scores a split."""
        from tqdm import tqdm

        profile = self._target.profile
        vegetation = vegetation_positions(profile, self._target.bands)
        names = [profile.find(band).name for band in self._target.bands]
        scores = {
            name: TranslationScores(names, self._recipe.data_range, self._recipe.display_stretch, vegetation)
            for name in (MODEL, *self._baselines)
        }
        with tqdm(total=len(indices), desc=title, unit="patch", disable=not self._progress) as bar:
            for start in range(0, len(indices), self._recipe.batch_size):
                rows = indices[start : start + self._recipe.batch_size]
                radar = self._pairs.backscatter(rows)
                true, valid = self._pairs.reflectance(rows)
                scores[MODEL].update(rows, self._predictor.predict(radar)["reflectance"], true, valid)
                for name, baseline in self._baselines.items():
                    scores[name].update(rows, baseline.predict(radar), true, valid)
                bar.update(len(rows))
        return Scored(scores)


def _band_table(found: Mapping[str, Mapping[str, float]], bands: tuple[str, ...]) -> pd.DataFrame:
    """One row a band: RMSE, MAE, R² and correlation of the model and of the baselines."""
    import pandas as pd

    rows = []
    for band in bands:
        row: dict[str, str | float] = {"band": band}
        for name, metrics in found.items():
            prefix = "" if name == MODEL else f"{name}: "
            row |= {f"{prefix}{metric}": metrics[f"{metric}_{band}"] for metric in ("rmse", "mae", "r2", "correlation")
                    if f"{metric}_{band}" in metrics}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def _patch_table(store: PatchStore, tested: Scored) -> pd.DataFrame:
    """One row a test patch with data, lowest gain over the mean colour first."""
    import pandas as pd

    model, constant = tested.scores[MODEL], tested.scores[MEAN_COLOUR]
    rows = store.index.iloc[model.rows]
    table = pd.DataFrame(
        {
            "patch_id": rows["patch_id"].to_numpy(),
            "group": rows["group"].to_numpy(),
            "psnr_gain": np.subtract(model.patch_psnr, constant.patch_psnr),
            "psnr": model.patch_psnr,
            "ssim": model.patch_ssim,
            "mean_colour_psnr": constant.patch_psnr,
            "linear_psnr": tested.scores[LINEAR].patch_psnr,
            "store_row": model.rows,
        }
    )
    return table.sort_values("psnr_gain", ignore_index=True)


def _scene_table(per_patch: pd.DataFrame) -> pd.DataFrame:
    """One row a test scene: means over its patches, lowest gain first."""
    grouped = per_patch.groupby("group").agg(
        patches=("psnr", "size"),
        psnr_gain=("psnr_gain", "mean"),
        psnr=("psnr", "mean"),
        ssim=("ssim", "mean"),
        mean_colour_psnr=("mean_colour_psnr", "mean"),
        linear_psnr=("linear_psnr", "mean"),
    )
    return grouped.reset_index().sort_values("psnr_gain", ignore_index=True)


def _notes(
    recipe: TranslationEvaluation,
    card: ModelCard,
    found: Mapping[str, Mapping[str, float]],
    patches: int,
) -> list[str]:
    constant, linear, model = found[MEAN_COLOUR], found[LINEAR], found[MODEL]
    low, high = recipe.display_stretch
    notes = [
        f"PSNR and SSIM are of reflectance with data_range {recipe.data_range:g}; display_… are of pictures stretched "
        f"from reflectance {low:g} (black) to {high:g} (white), data_range 1. Spectral angle (sam) in degrees.",
        f"PSNR alone proves nothing: the mean colour of the training patches scores {constant['psnr']:.2f} dB on these "
        f"{patches} test patches, the linear regression on VV, VH and their local means and variances "
        f"{linear['psnr_gain']:+.2f} dB more, the model {model['psnr_gain']:+.2f} dB more (psnr_gain).",
        "wasserstein is the mean over bands of the distance between the distributions of made and true reflectance.",
    ]
    if (recoloured := model.get("recoloured_psnr_gain")) is not None:
        notes.append(
            f"With the best straight line for each band, fitted to these very test pixels, the model would gain "
            f"{recoloured:+.2f} dB: {recoloured - model['psnr_gain']:.2f} dB are lost to wrong levels and contrasts of "
            "colours, the rest of the way is structure that it does not see."
        )
    if model.get("correlation", 0) < 0:
        notes.append(
            f"What it sees is upside down (correlation {model['correlation']:+.2f}): it paints bright what is dark. "
            "Unpaired training allows that, for a cycle comes back all the same; paired training does not."
        )
    if model["psnr_gain"] <= 0:
        notes.append("The model is no better than one constant colour: it must not be used for anything.")
    section = TranslationSection.of(card)
    if section.ended:
        notes.append(f"The training was stopped by its monitor: {section.ended}.")
    if section.validated_on != "validation":
        notes.append(f"The best epoch was chosen on {section.validated_on}.")
    if "ndvi_rmse" not in model:
        notes.append("No NDVI: the model does not predict both red and near infrared.")
    if "ms_ssim" not in model:
        notes.append("No multi-scale SSIM: its five scales need patches of at least 176 pixels.")
    return notes
