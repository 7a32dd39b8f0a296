"""The segmentation loss: focal plus Dice, by segmentation-models-pytorch; unlabelled pixels take no part."""

from typing import cast

from segmentation_models_pytorch.losses import BINARY_MODE, MULTICLASS_MODE, DiceLoss, FocalLoss
from torch import Tensor, nn

from cloud_assets.bands import UNLABELLED
from cloud_assets.errors import InvalidRecipe
from cloud_assets.learning.recipe import FocalDice


class FocalDiceLoss(nn.Module):
    """``focal`` times the focal loss plus the rest times the Dice loss; two classes need one logit.

    Raises:
        InvalidRecipe: If there is not one weight a class.
    """

    def __init__(self, recipe: FocalDice, classes: int) -> None:
        super().__init__()
        weights = recipe.class_weights
        if weights is not None and (len(weights) != classes or min(weights) < 0 or sum(weights) <= 0):
            raise InvalidRecipe(f"class_weights needs {classes} weights of at least 0, not all 0; got {weights}.")
        self.share = recipe.focal
        self.is_binary = classes == 2
        mode = BINARY_MODE if self.is_binary else MULTICLASS_MODE
        # For one logit a class weight is the focal loss's alpha; two equal weights are no weights.
        alpha = weights[1] / sum(weights) if weights and self.is_binary else None
        per_class = list(weights) if weights and not self.is_binary else None
        self.focal = FocalLoss(mode, alpha=alpha, gamma=recipe.gamma, ignore_index=UNLABELLED, class_weights=per_class)
        self.dice = DiceLoss(mode, ignore_index=UNLABELLED, class_weights=per_class)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of a batch; exactly 0, with a gradient of 0, without a labelled pixel.

        Args:
            logits: (N, 1, H, W) for two classes, else (N, K, H, W).
            truth: (N, H, W) int64 class indices, 255 unlabelled.
        """
        logits = logits.float()
        if not bool((truth != UNLABELLED).any()):
            return logits.sum() * 0.0
        target = truth.unsqueeze(1) if self.is_binary else truth
        focal, dice = self.focal(logits, target), self.dice(logits, target)
        return cast("Tensor", self.share * focal + (1 - self.share) * dice)
