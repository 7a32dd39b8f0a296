"""Training of the fifth family."""

import torch

from cloud_assets.inference.bundle import ModelBundle, ModelCard, TrainingRecord
from cloud_assets.learning.session import software_versions
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.statistics import fitted_preprocessing
from cloud_assets_tests.families.fifth_family.family import CoverRecipe, CoverSection
from cloud_assets_tests.families.fifth_family.predictor import CoverPredictor, covers, truth_of


def train(recipe: CoverRecipe, run: TrainingRun) -> ModelBundle:
    rows = run.splits.indices("train")
    preprocessing = fitted_preprocessing(run.store, rows)
    torch.manual_seed(recipe.optimisation.seed)
    network = recipe.network.build(preprocessing.channels, 1)
    record = TrainingRecord(
        recipe=recipe.model_dump(mode="json"), seed=recipe.optimisation.seed, epochs_run=1, best_epoch=0,
        history=({"val_loss": 0.5},), patches_version=run.store.data_version, splits_version=run.splits.data_version,
        fingerprint=fingerprint(recipe, run.store, run.splits), seconds=0.1, device="cpu",
    )  # fmt: skip
    card = ModelCard(
        task=run.task, variant=run.variant, family=recipe.family, network=recipe.network,
        in_channels=preprocessing.channels, out_channels=1, preprocessing=preprocessing,
        patch_size=run.store.roles[IMAGES].shape[1], training=record, software=software_versions(),
        details=CoverSection(offset=0.0).details(),
    )  # fmt: skip
    run.on_epoch(0, record.history[0])
    bundle = ModelBundle(card, network.state_dict())
    found = covers(CoverPredictor(bundle), run.store, rows)
    return bundle.with_card(details=CoverSection(offset=float((truth_of(run.store, rows) - found).mean())).details())
