"""A segmentation model for whole scenes: windows go through the network, are blended, and only then decided."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cloud_assets.errors import InvalidModel
from cloud_assets.families.segmentation.predictor import class_probability, decide
from cloud_assets.imagery.tiling.pipeline import Infer, Outputs
from cloud_assets.inference.back_ends import BackEnd
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.mirrored_padding import reflect_pad
from cloud_assets.patches.preprocessing import Preprocessing

PROBABILITY = "probability"
"""Name of what :meth:`SceneSegmenter.infer` gives; of two classes only the second one's probability is kept."""

_AS_IT_IS: tuple[tuple[int, ...], ...] = ((),)
_FLIPPED: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class SceneSegmenter:
    """Runs a segmentation model over windows.

    Args:
        bundle: The model.
        back_end: What runs its network.
        test_time_augmentation: Average over flips; None: as the model's card says.

    Raises:
        InvalidModel: If the card names no threshold or no cloud classes.
    """

    def __init__(self, bundle: ModelBundle, back_end: BackEnd, test_time_augmentation: bool | None = None) -> None:
        card = bundle.card
        if card.threshold is None or not card.details.get("cloud_classes"):
            raise InvalidModel(
                f"{card.task}/{card.variant}: the model card names no decision threshold or no cloud classes; is it "
                "the card of a segmentation model? Train the model again."
            )
        self.card = card
        self.version = bundle.version
        self.back_end = back_end
        self._cloud_classes: list[int] = list(card.details["cloud_classes"])
        self._threshold = card.threshold.value
        is_augmented = card.details.get("test_time_augmentation", False)
        self._flips = _FLIPPED if is_augmented or test_time_augmentation else _AS_IT_IS
        if test_time_augmentation is False:
            self._flips = _AS_IT_IS

    def infer(self, preprocessing: Preprocessing) -> Infer:
        """What the pipeline calls for each batch of windows.

        Args:
            preprocessing: The card's own, made to fit the instrument of the scene.

        Returns:
            (N, C, H, W) digital numbers -> {"probability": (N, K, H, W) float32}, K being 1 for two classes.
        """
        multiple = self.card.network.size_multiple

        def run(dn: npt.NDArray[Any]) -> Outputs:
            pixels = reflect_pad(preprocessing(dn)[0], multiple)
            views = [
                np.flip(_kept(self.back_end(np.ascontiguousarray(np.flip(pixels, axes)))), axes) for axes in self._flips
            ]
            mean = views[0] if len(views) == 1 else np.stack(views).mean(axis=0)
            return {PROBABILITY: mean[..., : dn.shape[2], : dn.shape[3]]}

        return run

    def decided(
        self, probability: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """What the blended values of a part of the scene come to.

        Args:
            probability: (K, H, W) as :meth:`infer` gives them, blended.
            valid: (H, W).

        Returns:
            (H, W) cloud codes, 255 for nodata; and (H, W) probability of any cloud, 0 to 1, NaN for nodata.
        """
        classes = np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability
        mask = decide(classes[np.newaxis], valid[np.newaxis], self._cloud_classes, self._threshold)[0]
        cloud = (
            classes[self._cloud_classes].sum(axis=0)
            if len(self._cloud_classes) > 1
            else classes[self._cloud_classes[0]]
        )
        return mask, np.where(valid, cloud, np.float32(np.nan))


def _kept(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    probability: npt.NDArray[np.float32] = class_probability(torch.from_numpy(logits)).numpy()
    return probability[:, 1:] if probability.shape[1] == 2 else probability
