"""Cloud masks as a family of models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.family import Family
from cloud_assets.families.segmentation.products import PRODUCTS, segment
from cloud_assets.families.segmentation.recipe import Segmentation, SegmentationEvaluation, SegmentationSection
from cloud_assets.inference.bundle import Threshold
from cloud_assets.inference.drift_reference import rounded

if TYPE_CHECKING:
    from cloud_assets.datasets.scene import Grid
    from cloud_assets.families.scene_product import ProductSettings
    from cloud_assets.families.segmentation.predictor import SegmentationPredictor
    from cloud_assets.imagery.tiling import WindowReader
    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.inference.device import Parallelism
    from cloud_assets.inference.predictor import Predictor
    from cloud_assets.patches.store import PatchStore


class SegmentationFamily(Family):
    """See :class:`Family`."""

    name = "segmentation"
    recipe = Segmentation
    evaluator = SegmentationEvaluation
    card_section = SegmentationSection
    stac_task = "semantic-segmentation"
    products = PRODUCTS
    not_served = frozenset({"class_probability"})

    def predict_picture(
        self, predictor: "Predictor", reader: "WindowReader", grid: "Grid", how: "ProductSettings", share: "Parallelism"
    ) -> dict[str, npt.NDArray[Any]]:
        """``mask`` (H, W) and ``cloud_probability`` (H, W), NaN for nodata; predicted window by window."""
        mask = np.empty((grid.height, grid.width), np.uint8)
        probability = np.empty(mask.shape, np.float32)
        segments = cast("SegmentationPredictor", predictor)
        for block in segment(reader, grid, segments, how, share):
            mask[block.window.slices] = block.mask
            probability[block.window.slices] = block.cloud_probability
        return {"mask": segments.outlined(mask, segments.outline_radius()), "cloud_probability": probability}

    def at_operating_point(self, bundle: "ModelBundle", point: str) -> "ModelBundle":
        """The model with the threshold and the outline that its card names for a purpose."""
        card, section = bundle.card, SegmentationSection.of(bundle.card)
        offered = section.operating_points or {}
        if point not in offered:
            raise InvalidRecipe(
                f"{card.task}/{card.variant} offers no operating point {point!r} (there are: "
                f"{', '.join(offered) or 'none'}). Train it again with this version, or leave it out."
            )
        chosen = offered[point]
        method = f"{point}: precision {chosen.precision:.3f}, recall {chosen.recall:.3f} on {chosen.measured_on}"
        own = section.model_copy(update={"outline_metres": chosen.outline_metres})
        return bundle.with_card(
            threshold=Threshold(value=chosen.threshold, method=method, unit="cloud probability"),
            details={**card.details, **own.details()},
        )

    def answer_features(self, answer: Mapping[str, npt.NDArray[Any]], place: int = 0) -> dict[str, float]:
        """``cloud_fraction`` and ``confidence``, the mean of how far 2 p is from 1, over the valid pixels."""
        mask = answer["mask"][place]
        valid = mask != UNLABELLED
        if not valid.any():
            return {}
        probability = answer["cloud_probability"][place][valid].astype(np.float64)
        cloudy = np.isin(mask[valid], (THICK_CLOUD, THIN_CLOUD))
        return rounded(cloud_fraction=float(cloudy.mean()), confidence=float(np.abs(2 * probability - 1).mean()))

    def labelled_rows(self, store: "PatchStore") -> npt.NDArray[np.int64]:
        """Rows with a labelled pixel."""
        return np.flatnonzero(store.index["cloud_percentage"].notna())


FAMILY = SegmentationFamily()
