"""Training of translation models on co-registered radar and optical patches."""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.translation.batches import PairSource, TrainingPairs, WholePairs
from cloud_assets.families.translation.card_section import TranslationSection
from cloud_assets.families.translation.module import TranslationModule
from cloud_assets.families.translation.monitor import CollapseMonitor, SamplePictures
from cloud_assets.families.translation.recipe import Translation
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.session import Plan, require_rows, train_model
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.patches.augmenter import Augmenter
from cloud_assets.patches.statistics import band_positions, band_statistics, fitted_preprocessing

_SUBSTITUTES = 16
"""Training patches that replace an empty validation split."""
_SCALED_TO = (-1.0, 1.0)


def train(recipe: Translation, run: TrainingRun) -> ModelBundle:
    """Trains a translation model and keeps its radar-to-optical generator; see :func:`train_model`.

    Raises:
        TrainingFailed: If the generator never responded to its input.
    """
    return train_model(recipe, run, _plan)


def _plan(recipe: Translation, run: TrainingRun) -> Plan:
    training, validation = (run.splits.indices(split) for split in ("train", "validation"))
    require_rows(run, "train", training, "can be trained on")
    source = _source(recipe, run, training)
    in_channels, out_channels = len(source.channels[0]), len(source.channels[1])
    if recipe.loss.identity and in_channels != out_channels:
        raise InvalidRecipe(
            f"identity loss asks a generator to leave pictures of its own output alone, so input and output need the "
            f"same number of bands; here they have {in_channels} and {out_channels} "
            f"({', '.join(source.scaling[0].bands)}; {', '.join(source.scaling[1].bands)}). Set identity to 0."
        )
    substitutes = training[:: max(1, len(training) // _SUBSTITUTES)][:_SUBSTITUTES]
    judged = replace(source, indices=validation if len(validation) else substitutes)
    optimisation = recipe.optimisation
    multiple = recipe.network.size_multiple
    samples = replace(source, indices=training[:: max(1, len(training) // max(1, recipe.statistics_patches))])
    # Instance normalisation looks at one picture, batch normalisation at as many as in training: with fewer it would
    # miss how much pictures differ, and everything unlike the average would come out far too bright or dark.
    together = optimisation.batch_size if recipe.network.normalisation == "batch" else 1
    module = TranslationModule(
        recipe, in_channels, source.scaling[1], WholePairs(samples, batch_size=together, multiple=multiple)
    )
    if recipe.start_at_mean:
        _start_at_mean(module, source)
    monitor = None if recipe.collapse_patience is None else CollapseMonitor(recipe.collapse_patience)
    section = TranslationSection(
        target=source.scaling[1],
        input_role=source.roles[0],
        output_role=source.roles[1],
        validated_on="validation" if len(validation) else "training patches, for want of others",
    )
    return Plan(
        module=module,
        training=TrainingPairs(
            source,
            Augmenter(recipe.augmentation),
            is_paired=recipe.pairing == "paired",
            batch_size=optimisation.batch_size,
            crop=recipe.crop,
            multiple=multiple,
            seed=optimisation.seed,
        ),
        validation=WholePairs(judged, multiple=multiple),
        samples=len(training),
        network=recipe.network,
        preprocessing=source.scaling[0],
        out_channels=out_channels + int(recipe.loss.ndvi > 0),
        patch_size=recipe.crop or run.store.roles[source.roles[0]].shape[1],
        section=section,
        callbacks=[*([] if monitor is None else [monitor]), SamplePictures(run)],
        finish=None if monitor is None else partial(_with_reason, section, monitor),
    )


def _with_reason(section: TranslationSection, monitor: CollapseMonitor, bundle: ModelBundle) -> ModelBundle:
    """The bundle with the monitor's reason for stopping in its card."""
    return bundle.with_card(details=section.model_copy(update={"ended": monitor.reason}).details())


def _start_at_mean(module: TranslationModule, source: PairSource) -> None:
    """Lets the generator begin with the training patches' mean colour, by the bias of its last layer."""
    role = source.roles[1]
    statistics = band_statistics(source.store, source.indices, role=role, clip=source.scaling[1].clip)
    mean = np.array([statistics.mean[channel] for channel in source.channels[1]], np.float32)
    last = [layer for layer in module.networks["generator"].modules() if isinstance(layer, nn.Conv2d)][-1]
    if last.bias is not None:
        scaled = source.scaling[1].normalise(mean[:, None, None], np.ones((1, 1), bool)).ravel()
        with torch.no_grad():
            last.bias[: len(mean)] = torch.from_numpy(np.arctanh(scaled.clip(-0.999, 0.999)))


def _source(recipe: Translation, run: TrainingRun, indices: npt.NDArray[np.int64]) -> PairSource:
    """The training pairs with the scaling of both sensors; a role's unit tells which one is radar."""
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
    return PairSource(run.store, indices, (radar[0], optical[0]), channels, scaling)
