"""Evaluation of a translation model on its test split, beside a constant colour and a linear regression."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cloud_assets.bands import vegetation_positions
from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.batches import Pairs
from cloud_assets.families.translation.figures import CAPTIONS, translation_figures
from cloud_assets.families.translation.metrics import TranslationScores, with_gain
from cloud_assets.families.translation.recipe import TranslationEvaluation, TranslationSection
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.patches.store import PatchStore
from cloud_assets.progress import progress_bar
from cloud_assets.reports.evaluation import Evaluation, EvaluationRun, Findings, evaluation_of

HEADLINE = (
    "psnr_gain", "psnr", "ssim", "ms_ssim", "rmse", "mae", "r2", "sam", "ndvi_rmse", "ndvi_correlation",
)  # fmt: skip
MODEL, MEAN_COLOUR, LINEAR = "model", "mean colour", "linear regression"
_CLIP = (-25.0, 0.0)  # backscatter is clipped to this before the regression, dB

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Rule = Callable[[Floats], Floats]  # (N, 2, H, W) backscatter in dB -> (N, K, H, W) reflectance


def evaluate(recipe: TranslationEvaluation, run: EvaluationRun) -> Evaluation:
    """Evaluates a model; see :meth:`Family.evaluate`."""
    predictor, card, store = run.predictor, run.card, run.store
    pairs = Pairs.of(store, card)
    target = pairs.target
    test, validation = run.test_rows(needs_masks=False), run.splits.indices("validation")
    rules: dict[str, Rule] = {MODEL: lambda radar: predictor.predict(radar)["reflectance"]}
    rules |= baselines(pairs, run.splits.indices("train"), recipe)
    tested = _scored(recipe, pairs, rules, test, "Testing", run.progress)
    if not tested[MODEL].pixels:
        raise NoUsablePatches(f"{card.task}/{card.variant}: no test pixel has both sensors: look at the splits.")
    metrics = _metrics(tested)
    validated = _scored(recipe, pairs, rules, validation, "Validating", run.progress) if len(validation) else None
    per_patch = _patch_table(store, tested)
    found = Findings(
        test=metrics[MODEL],
        validation=_metrics(validated)[MODEL] if validated and validated[MODEL].pixels else {},
        rules={name: values for name, values in metrics.items() if name != MODEL},
        stated_rules={"baseline": MEAN_COLOUR, "linear": LINEAR},
        tables={
            "per_band": _band_table(metrics, target.bands),
            "per_scene": _scene_table(per_patch),
            "per_patch": per_patch,
        },
        figures=translation_figures(recipe, predictor, pairs, tested[MODEL], per_patch),
        captions=CAPTIONS,
        notes=_notes(recipe, card, metrics, len(test)),
        headline=HEADLINE,
        model={"predicts": f"{', '.join(target.bands)} ({target.instrument})"},
    )
    return evaluation_of(recipe, run, found)


def baselines(pairs: Pairs, rows: Rows, recipe: TranslationEvaluation) -> dict[str, Rule]:
    """The training patches' mean colour everywhere, and a linear regression on VV, VH, their local means and variances.

    The regression is fitted on about as many pixels as the recipe says, spread evenly over the patches.
    """
    rng = np.random.default_rng(0)
    share = max(1, -(-recipe.baseline_pixels // max(len(rows), 1)))
    sums, count = np.zeros(len(pairs.target.bands)), 0
    inputs, outputs = [], []
    for row in rows:
        radar = pairs.backscatter(row[None])[0]
        reflectance, valid = (part[0] for part in pairs.reflectance(row[None]))
        if not valid.any():
            continue
        sums += reflectance[:, valid].sum(axis=1, dtype=np.float64)
        count += int(valid.sum())
        chosen = rng.permutation(np.flatnonzero(valid))[:share]
        inputs.append(_features(radar, recipe.baseline_window)[chosen])
        outputs.append(reflectance.reshape(len(reflectance), -1)[:, chosen].T)
    if count == 0:
        raise NoUsablePatches("the training split holds no valid pixel, so there is no mean colour to compare with.")
    colour = (sums / count).astype(np.float32)[:, None, None]
    regression = make_pipeline(StandardScaler(), LinearRegression())
    regression.fit(np.concatenate(inputs), np.concatenate(outputs))

    def linear(radar: Floats) -> Floats:
        made = [np.clip(regression.predict(_features(patch, recipe.baseline_window)), 0, 1).T for patch in radar]
        return np.stack(made).reshape(len(radar), -1, *radar.shape[2:]).astype(np.float32)

    return {
        MEAN_COLOUR: lambda radar: np.broadcast_to(colour, (len(radar), len(colour), *radar.shape[2:])),
        LINEAR: linear,
    }


def _features(radar: Floats, window: int) -> Floats:
    """Backscatter, its local mean and variance, (pixels, 3 C) of (C, H, W) in dB; no data counts as darkest."""
    clipped = np.clip(np.nan_to_num(radar, nan=_CLIP[0], neginf=_CLIP[0]), *_CLIP).astype(np.float32)
    means = np.stack([uniform_filter(band, window, mode="reflect") for band in clipped])
    squares = np.stack([uniform_filter(np.square(band), window, mode="reflect") for band in clipped])
    found = np.concatenate([clipped, means, np.maximum(squares - np.square(means), 0)])
    return found.reshape(len(found), -1).T


def _scored(
    recipe: TranslationEvaluation, pairs: Pairs, rules: Mapping[str, Rule], rows: Rows, title: str, progress: bool
) -> dict[str, TranslationScores]:
    """Scores of model and baselines, by their names, on the same pixels."""
    profile = pairs.target.profile
    vegetation = vegetation_positions(profile, pairs.target.bands)
    names = [profile.find(band).name for band in pairs.target.bands]
    scores = {rule: TranslationScores(names, recipe.data_range, recipe.display_stretch, vegetation) for rule in rules}
    with progress_bar(title, len(rows), "patches", progress) as bar:
        for start in range(0, len(rows), recipe.batch_size):
            batch = rows[start : start + recipe.batch_size]
            radar = pairs.backscatter(batch)
            true, valid = pairs.reflectance(batch)
            for name, rule in rules.items():
                scores[name].update(batch, rule(radar), true, valid)
            bar.update(len(batch))
    return scores


def _metrics(scores: Mapping[str, TranslationScores]) -> dict[str, dict[str, float]]:
    """Metrics with gains, by what predicted."""
    plain = {name: one.metrics() for name, one in scores.items()}
    return {name: with_gain(metrics, plain[MEAN_COLOUR]) for name, metrics in plain.items()}


def _band_table(found: Mapping[str, Mapping[str, float]], bands: tuple[str, ...]) -> pd.DataFrame:
    """One row a band: RMSE, MAE, R² and correlation of the model and of the baselines."""
    rows = []
    for band in bands:
        row: dict[str, str | float] = {"band": band}
        for name, metrics in found.items():
            prefix = "" if name == MODEL else f"{name}: "
            row |= {f"{prefix}{metric}": metrics[f"{metric}_{band}"] for metric in ("rmse", "mae", "r2", "correlation")
                    if f"{metric}_{band}" in metrics}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def _patch_table(store: PatchStore, tested: Mapping[str, TranslationScores]) -> pd.DataFrame:
    """One row a test patch with data, lowest gain over the mean colour first."""
    model, constant = tested[MODEL], tested[MEAN_COLOUR]
    rows = store.index.iloc[model.rows]
    table = pd.DataFrame(
        {
            "patch_id": rows["patch_id"].to_numpy(),
            "group": rows["group"].to_numpy(),
            "psnr_gain": np.subtract(model.patch_psnr, constant.patch_psnr),
            "psnr": model.patch_psnr,
            "ssim": model.sums["ssim"],
            "mean_colour_psnr": constant.patch_psnr,
            "linear_psnr": tested[LINEAR].patch_psnr,
            "store_row": model.rows,
        }
    )
    return table.sort_values("psnr_gain", ignore_index=True)


def _scene_table(per_patch: pd.DataFrame) -> pd.DataFrame:
    """One row a test scene: means over its patches, lowest gain first."""
    metrics = ["psnr_gain", "psnr", "ssim", "mean_colour_psnr", "linear_psnr"]
    scenes = per_patch.groupby("group")
    table = scenes[metrics].mean().reset_index()
    table.insert(1, "patches", scenes.size().to_numpy())
    return table.sort_values("psnr_gain", ignore_index=True)


def _notes(
    recipe: TranslationEvaluation, card: ModelCard, found: Mapping[str, Mapping[str, float]], patches: int
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
