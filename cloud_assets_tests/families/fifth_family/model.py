"""Training, prediction, evaluation and doubts of the fifth family."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import ModelCard, TrainingRecord
from cloud_assets.inference.network_predictor import NetworkPredictor
from cloud_assets.inference.predictor import Predictor, check_input
from cloud_assets.learning.provenance import software_versions
from cloud_assets.learning.training_run import TrainingRun, fingerprint
from cloud_assets.patches.recipe import IMAGES
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.statistics import band_positions, fitted_preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.doubts import Doubts, without_masks
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets_tests.families.fifth_family.family import CoverRecipe, CoverSection


class CoverPredictor(NetworkPredictor):
    """Mean of a network's output plus an offset."""

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        super().__init__(bundle, device, network)
        self._offset = CoverSection.of(bundle.card).offset

    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        return {"cover": self._in_batches(self.network_input(dn), self._cover, ())}

    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return self.card.preprocessing(check_input(dn, self.card))[0]

    def _cover(self, batch: Tensor) -> Tensor:
        return self._network(batch).float().sigmoid().mean(dim=(1, 2, 3)) + self._offset


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
    found = _covers(CoverPredictor(bundle), run.store, rows)
    return bundle.with_card(details=CoverSection(offset=float((_truth(run.store, rows) - found).mean())).details())


def evaluate(predictor: Predictor, model_version: str, store: PatchStore, splits: Splits) -> Evaluation:
    rows = splits.indices("test")
    errors = np.abs(_covers(predictor, store, rows) - _truth(store, rows))
    skills = pd.DataFrame({"group": store.index["group"].to_numpy()[rows], "skill": 1 - errors})
    return Evaluation(
        task=predictor.card.task,
        variant=predictor.card.variant,
        metrics={"skill": float(skills["skill"].mean()), "baseline_skill": 0.0},
        model_version=model_version,
        patches_version=store.data_version,
        splits_version=splits.data_version,
        is_synthetic=store.is_synthetic,
        tables={"per_scene": skills},
    )


def doubts(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64]) -> Doubts:
    found, truth = _covers(predictor, store, rows), _truth(store, rows)
    table = pd.DataFrame({"store_row": rows, "suspicion": np.abs(found - truth), "label": truth, "model": found})
    return without_masks(store, table, "label", "model")


def _covers(predictor: Predictor, store: PatchStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    channels = band_positions(store.roles[IMAGES], predictor.card.bands)
    return predictor.predict(store.array()[rows][:, channels])["cover"].astype(np.float64)


def _truth(store: PatchStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return store.index["cloud_percentage"].to_numpy(dtype=np.float64)[rows] / 100
