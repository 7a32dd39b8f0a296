"""What a trained model says of training patches, for a smaller network to learn (Hinton et al. 2015, arXiv:1503.02531).

Answers are kept in 8 bits: ``CERTAIN`` stands for a probability of 1, 255 for pixels that the teacher has not seen.
"""

from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.errors import InvalidModel
from cloud_assets.families.segmentation.batches import PatchSource
from cloud_assets.families.segmentation.predictor import SegmentationPredictor
from cloud_assets.inference.back_ends import choose_back_end
from cloud_assets.inference.bundle import ModelBundle, shipped_bundle
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.shipped import SHIPPED
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import band_positions
from cloud_assets.progress import progress_bar

CERTAIN: Final = 250
_AT_ONCE = 8


def teacher_of(run: TrainingRun, name: str, classes: tuple[str, ...]) -> ModelBundle:
    """The model of a recipe's ``distil.teacher``: what the run brings along, or the one of that name.

    Raises:
        InvalidModel: If it is none, or tells other classes apart than the network that learns from it.
    """
    bundle = run.teacher or (shipped_bundle(name) if name in SHIPPED else ModelBundle.open(Path(name).expanduser()))
    if len(classes) > 2 and bundle.card.classes != classes:
        raise InvalidModel(
            f"distil.teacher {name} tells {', '.join(bundle.card.classes) or 'no classes'} apart, not "
            f"{', '.join(classes)}: name another teacher, or set classes: binary."
        )
    return bundle


def teacher_answers(
    teacher: ModelBundle, source: PatchSource, path: Path, classes: int, device: str, *, progress: bool
) -> npt.NDArray[np.uint8]:
    """A teacher's probabilities of the classes of some patches, (rows of the store, H, W, classes); kept in a file.

    Raises:
        UnknownBand: If the patches lack a band of the teacher.
    """
    store = source.store
    if path.is_file():
        return cast("npt.NDArray[np.uint8]", np.load(path, mmap_mode="r"))
    path.parent.mkdir(parents=True, exist_ok=True)
    role = store.roles[IMAGES]
    preprocessing = teacher.card.preprocessing.for_instrument(role.instrument, nodata=role.nodata)
    channels = band_positions(role, preprocessing.bands)
    # One orientation: four cost four times as much and say nearly the same.
    plain = teacher.with_card(
        preprocessing=preprocessing, details={**teacher.card.details, "test_time_augmentation": False}
    )
    megapixels = len(source) * float(np.prod(store.masks.shape[1:])) / 1e6
    network = cast("nn.Module", choose_back_end(plain, device=device, megapixels=megapixels))
    predictor = SegmentationPredictor(plain, device, network)
    unfinished = path.with_suffix(".unfinished")
    answers = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (*store.masks.shape, classes))
    with progress_bar("Asking the teacher", len(source), "patches", progress) as bar:
        for start in range(0, len(source), _AT_ONCE):
            rows = source.indices[start : start + _AT_ONCE]
            answer = predictor.predict(store.array()[rows][:, list(channels)])
            cloud = answer["cloud_probability"]
            probability = answer["class_probability"] if classes > 2 else np.stack([1 - cloud, cloud], axis=1)
            answers[rows] = np.rint(probability.transpose(0, 2, 3, 1) * CERTAIN)
            bar.update(len(rows))
    answers.flush()
    unfinished.replace(path)
    return answers


def distance(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean cross entropy of logits (N, K or 1, H, W) and a teacher's answers (N, H, W, K); 0 where there are none."""
    is_seen = answers[..., 0] <= CERTAIN
    probability = answers.movedim(-1, 1).float() / CERTAIN
    if logits.shape[1] == 1:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[:, 0], probability[:, 1].clamp(0, 1), reduction="none"
        )
    else:
        entropy = -(probability * logits.log_softmax(dim=1)).sum(dim=1)
    return torch.where(is_seen, entropy, 0.0).sum() / is_seen.sum().clamp(min=1)
