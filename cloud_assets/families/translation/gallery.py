"""Selection of the figures and patches of a translation report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_assets.bands import vegetation_positions
from cloud_assets.errors import UnknownBand
from cloud_assets.families.translation.figures import (
    Example,
    band_histograms,
    example_panels,
    ndvi_scatter,
    quality_curve,
)
from cloud_assets.families.translation.metrics import ndvi

if TYPE_CHECKING:
    import pandas as pd

    from cloud_assets.bands import Instrument
    from cloud_assets.families.translation.evaluation import TranslationEvaluation
    from cloud_assets.families.translation.metrics import TranslationScores
    from cloud_assets.families.translation.pairs import Pairs
    from cloud_assets.inference.predictor import Predictor

CAPTIONS = {
    "examples": "Test patches from the lowest to the highest gain over the mean colour. Radar: VV red and blue, VH "
    "green, -25 to 0 dB. Made and true pictures share one stretch a patch. Error: mean absolute error over the bands.",
    "histograms": "Reflectance of all test pixels: a model that hedges makes narrower distributions than the truth.",
    "ndvi": "NDVI of made against true pictures, test pixels, colour by their number (logarithmic).",
    "quality": "From the training record in the model card; validation split.",
    "baselines": "The training patches' mean colour, and linear regression on VV, VH, their local means and variances.",
    "per_band": "Reflectance; R² is 0 for the test split's own mean.",
    "per_scene": "Test scenes, lowest gain first.",
    "per_patch": "Test patches, lowest gain first.",
}
_COMPOSITES = {
    "true colour": ("red", "green", "blue"),
    "NIR, red, green": ("nir", "red", "green"),
    "SWIR, NIR, red edge": ("swir16", "nir", "rededge071"),
}


def translation_figures(
    recipe: TranslationEvaluation,
    predictor: Predictor,
    pairs: Pairs,
    scores: TranslationScores,
    per_patch: pd.DataFrame,
) -> dict[str, bytes | None]:
    """Draws all figures of a report.

    Returns:
        PNG images by name; None for those that the data do not allow.
    """
    places = np.unique(np.linspace(0, len(per_patch) - 1, min(recipe.examples, len(per_patch))).astype(int))
    examples = [_example(predictor, pairs, row) for row in per_patch.iloc[places].to_dict("records")]
    record = predictor.card.training
    return {
        "examples": example_panels(examples),
        "histograms": band_histograms(scores.histograms, pairs.bands),
        "ndvi": ndvi_scatter(scores.ndvi_histogram),
        "quality": quality_curve(record.history, record.best_epoch),
    }


def _example(predictor: Predictor, pairs: Pairs, row: Mapping[Any, Any]) -> Example:
    rows = np.array([row["store_row"]], np.int64)
    radar = pairs.backscatter(rows)
    true, valid = pairs.reflectance(rows)
    made = predictor.predict(radar)["reflectance"]
    profile = pairs.target.profile
    composites = {
        heading: channels
        for heading, names in _COMPOSITES.items()
        if (channels := _channels(profile, pairs.bands, names)) is not None
    }
    vegetation = vegetation_positions(profile, pairs.bands)
    return Example(
        title=f"{row['patch_id']}: gain {row['psnr_gain']:+.2f} dB, PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}",
        radar=radar[0].astype(np.float32),
        made=made[0],
        true=true[0],
        valid=valid[0],
        composites=composites,
        ndvi=None if vegetation is None else (ndvi(made[0], vegetation), ndvi(true[0], vegetation)),
    )


def _channels(profile: Instrument, bands: tuple[str, ...], wanted: tuple[str, ...]) -> list[int] | None:
    own = [profile.find(band).name for band in bands]
    try:
        return [own.index(profile.find(name).name) for name in wanted]
    except (UnknownBand, ValueError):
        return None
