import numpy as np
import pytest
import torch

from cloud_assets.learning.focal_dice_loss import FocalDiceLoss
from cloud_assets.learning.recipe import FocalDice


def focal_dice_by_hand(probability: np.ndarray, truth: np.ndarray, share: float = 0.25, gamma: float = 2.0) -> float:
    """Lin et al. 2017, equation 4 without alpha; Dice over the whole batch."""
    right = np.where(truth == 1, probability, 1 - probability)
    focal = np.mean(-((1 - right) ** gamma) * np.log(right))
    dice = 1 - 2 * np.sum(probability * truth) / np.sum(probability + truth)
    return float(share * focal + (1 - share) * dice)


def test_binary_loss_is_that_of_the_papers_over_the_labelled_pixels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 1, 8, 8)).astype(np.float32)
    truth = rng.integers(0, 2, (3, 8, 8))
    truth[rng.random(truth.shape) < 0.3] = 255
    labelled = truth != 255
    probability = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
    expected = focal_dice_by_hand(probability[labelled], truth[labelled])
    loss = FocalDiceLoss(FocalDice(), 2)(torch.from_numpy(logits), torch.from_numpy(truth))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (4, 4)])
def test_a_batch_without_labels_costs_nothing(classes: int, channels: int) -> None:
    logits = torch.randn(2, channels, 4, 4, requires_grad=True)
    loss = FocalDiceLoss(FocalDice(), classes)(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_a_perfect_prediction_costs_less_than_a_wrong_one(classes: int) -> None:
    truth = torch.arange(64).reshape(1, 8, 8) % classes
    if classes == 2:
        logits = (truth.unsqueeze(1).float() - 0.5) * 40
    else:
        logits = torch.nn.functional.one_hot(truth, classes).permute(0, 3, 1, 2).float() * 40 - 20
    loss = FocalDiceLoss(FocalDice(), classes)
    assert float(loss(logits, truth)) < 1e-3
    assert float(loss(-logits, truth)) > 0.5


def test_class_weights_shift_the_loss_towards_a_class() -> None:
    truth = torch.arange(16).reshape(1, 4, 4) % 2
    always_clear = torch.full((1, 1, 4, 4), -2.0)
    even = FocalDiceLoss(FocalDice(focal=1, class_weights=(1, 1)), 2)(always_clear, truth)
    for_cloud = FocalDiceLoss(FocalDice(focal=1, class_weights=(1, 3)), 2)(always_clear, truth)
    assert float(for_cloud) > float(even)
    logits = torch.nn.functional.one_hot(torch.zeros_like(truth), 4).permute(0, 3, 1, 2).float() * 4
    even = FocalDiceLoss(FocalDice(class_weights=(1, 1, 1, 1)), 4)(logits, truth)
    unweighted = FocalDiceLoss(FocalDice(), 4)(logits, truth)
    for_missed = FocalDiceLoss(FocalDice(class_weights=(1, 5, 1, 1)), 4)(logits, truth)
    assert float(even) == pytest.approx(float(unweighted))
    assert float(for_missed) > float(even)
