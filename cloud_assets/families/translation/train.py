"""Training of translation models on co-registered radar and optical patches."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidRecipe, TrainingFailed
from cloud_assets.families.translation.batches import Pairs, TrainingPairs, WholePairs
from cloud_assets.families.translation.module import TranslationModule
from cloud_assets.families.translation.recipe import Translation, TranslationSection
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.session import Plan, require_rows, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.networks.pretrained import load_weights, read_weights
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.statistics import band_positions, band_statistics, fitted_preprocessing

_SUBSTITUTES = 16  # training patches that replace an empty validation split
_SCALED_TO = (-1.0, 1.0)
_SMALLEST_RESPONSE = 0.02
_LARGEST_FALL = 6.0


def train(recipe: Translation, run: TrainingRun) -> ModelBundle:
    """Trains a translation model and keeps its radar-to-optical generator; see :func:`train_model`.

    Raises:
        TrainingFailed: If the generator never responded to its input.
    """
    return train_model(recipe, run, _plan)


def _plan(recipe: Translation, run: TrainingRun) -> Plan:
    training, validation = (run.splits.indices(split) for split in ("train", "validation"))
    require_rows(run, "train", training, "can be trained on")
    pairs = _pairs(recipe, run)
    radar, target = pairs.scaling
    if recipe.loss.identity and len(radar.bands) != len(target.bands):
        raise InvalidRecipe(
            f"identity loss asks a generator to leave pictures of its own output alone, so input and output need the "
            f"same number of bands; here they have {len(radar.bands)} and {len(target.bands)} "
            f"({', '.join(radar.bands)}; {', '.join(target.bands)}). Set identity to 0."
        )
    judged = validation if len(validation) else training[:: max(1, len(training) // _SUBSTITUTES)][:_SUBSTITUTES]
    samples = training[:: max(1, len(training) // max(1, recipe.statistics_patches))]
    optimisation, multiple = recipe.optimisation, recipe.network.size_multiple
    # Instance normalisation looks at one picture, batch normalisation at as many as in training: with fewer it would
    # miss how much pictures differ, and everything unlike the average would come out far too bright or dark.
    together = optimisation.batch_size if recipe.network.normalisation == "batch" else 1
    module = TranslationModule(
        recipe, len(radar.bands), target, WholePairs(pairs, samples, batch_size=together, multiple=multiple)
    )
    if recipe.weights != "none":
        load_weights(module.networks["generator"], read_weights(Path(recipe.weights).expanduser()), recipe.weights)
    elif recipe.start_at_mean:
        _start_at_mean(module, pairs, training)
    monitor = None if recipe.collapse_patience is None else CollapseMonitor(recipe.collapse_patience)
    section = TranslationSection(
        target=target,
        input_role=pairs.roles[0],
        output_role=pairs.roles[1],
        validated_on="validation" if len(validation) else "training patches, for want of others",
    )
    return Plan(
        module=module,
        training=TrainingPairs(
            pairs,
            training,
            # Spread evenly, for neighbours in the store are of one place.
            training[np.linspace(0, len(training) - 1, min(recipe.pairs, len(training))).astype(np.int64)],
            Augmenter(recipe.augmentation),
            is_paired=recipe.pairing == "paired",
            batch_size=optimisation.batch_size,
            crop=recipe.crop,
            multiple=multiple,
            seed=optimisation.seed,
        ),
        validation=WholePairs(pairs, judged, multiple=multiple),
        samples=len(training),
        network=recipe.network,
        preprocessing=radar,
        out_channels=len(target.bands) + int(recipe.loss.ndvi > 0),
        patch_size=recipe.crop or run.store.roles[pairs.roles[0]].shape[1],
        section=section,
        callbacks=[] if monitor is None else [monitor],
        # The monitor's reason for stopping is in the card.
        finish=None
        if monitor is None
        else lambda bundle: bundle.with_card(details=section.model_copy(update={"ended": monitor.reason}).details()),
    )


def _start_at_mean(module: TranslationModule, pairs: Pairs, rows: npt.NDArray[np.int64]) -> None:
    """Lets the generator begin with the training patches' mean colour, by the bias of its last layer."""
    statistics = band_statistics(pairs.store, rows, role=pairs.roles[1], clip=pairs.target.clip)
    mean = np.array([statistics.mean[channel] for channel in pairs.channels[1]], np.float32)
    last = [layer for layer in module.networks["generator"].modules() if isinstance(layer, nn.Conv2d)][-1]
    if last.bias is not None:
        scaled = pairs.target.normalise(mean[:, None, None], np.ones((1, 1), bool)).ravel()
        with torch.no_grad():
            last.bias[: len(mean)] = torch.from_numpy(np.arctanh(scaled.clip(-0.999, 0.999)))


def _pairs(recipe: Translation, run: TrainingRun) -> Pairs:
    """The run's pairs with the scaling of both sensors; a role's unit tells which one is radar."""
    roles = run.store.roles
    units = {name: INSTRUMENTS[role.instrument].unit for name, role in roles.items()}
    radar = [name for name, unit in units.items() if unit == "dB"]
    optical = [name for name, unit in units.items() if unit == "reflectance"]
    if len(radar) != 1 or len(optical) != 1:
        found = ", ".join(f"{name} ({unit})" for name, unit in units.items())
        raise InvalidRecipe(
            f"{run.task}: a translation model needs one role of backscatter (dB) and one of reflectance; these patches "
            f"have {found}. Cut them with roles sar and optical."
        )
    scaling = (
        fitted_preprocessing(run.store, role=radar[0], clip=recipe.input_clip, scaled_to=_SCALED_TO),
        fitted_preprocessing(
            run.store, role=optical[0], bands=recipe.bands, clip=recipe.output_clip, scaled_to=_SCALED_TO
        ),
    )
    channels = (band_positions(roles[radar[0]], None), band_positions(roles[optical[0]], recipe.bands))
    return Pairs(run.store, (radar[0], optical[0]), channels, scaling)


class CollapseMonitor(Callback):
    """Ends a training whose generator stops answering to its input, or whose error grows and stays large.

    Collapsed: pictures of different places differ by less than 2 % of what the true ones differ by. Diverged: PSNR lies
    6 dB below what it was. Either has to last. The best weights so far are kept, as always.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.collapsed = self.diverged = 0
        self.best, self.has_answered, self.reason = -np.inf, False, ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the validation metrics."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        response, psnr = metrics.get("val_response", 1.0), metrics["val_psnr"]
        self.best = max(self.best, psnr)
        self.collapsed = self.collapsed + 1 if response < _SMALLEST_RESPONSE else 0
        self.diverged = self.diverged + 1 if psnr < self.best - _LARGEST_FALL else 0
        self.has_answered |= response >= _SMALLEST_RESPONSE
        if self.collapsed >= self._patience:
            what = f"pictures of different places differ by only {response:.1%} of what true ones differ by"
            self._end(trainer, f"mode collapse: for {self._patience} epochs, {what}")
        elif self.diverged >= self._patience:
            what = f"PSNR is {psnr:.1f} dB, {self.best:.1f} dB was reached before"
            self._end(trainer, f"divergence: for {self._patience} epochs, {what}")

    def _end(self, trainer: Trainer, reason: str) -> None:
        advice = "Lower the learning rate or the weight of the adversarial loss, or use pairs."
        if not self.has_answered:
            raise TrainingFailed(f"{reason}, and it never was otherwise: there are no good weights to keep. {advice}")
        self.reason = f"{reason}; training ended after epoch {trainer.current_epoch}, the best weights were kept"
        logging.getLogger(__name__).warning("%s. %s", self.reason, advice)
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {name: vars(self)[name] for name in ("collapsed", "diverged", "best", "has_answered", "reason")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on watching."""
        vars(self).update(state_dict)
